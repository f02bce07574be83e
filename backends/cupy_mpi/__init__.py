"""The CuPy + MPI backend: CUDA kernels with what launches them, and how emitted programs work on a device."""
