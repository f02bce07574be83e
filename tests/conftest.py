"""Tests run side by side: BLAS threads that share cores wait for one another, many times longer than they compute.

Where a test is about something else than kernels in C, its programs need not be compiled."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when NumPy is imported, which no plugin of ours does before
os.environ.setdefault("DLC_KERNELS", "numpy")
