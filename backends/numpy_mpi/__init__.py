"""The NumPy + MPI backend: kernels, runtime and templates of emitted programs."""
