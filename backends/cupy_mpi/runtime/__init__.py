"""What emitted programs on GPUs have in place of the runtime's own modules of the same names, and besides them."""
