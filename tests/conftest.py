"""Tests run side by side: BLAS threads that share cores wait for one another, many times longer than they compute.

Where a test is about something else than kernels in C, its programs need not be compiled.

Hundreds of tests start `dlc` as a process, which takes 0.3 s with Python's bytecode at hand and 1.7 s without. Where
Python is told to write none beside the sources (containers often do), it stands in `build/bytecode`.
"""

import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when NumPy is imported, which no plugin of ours does before
os.environ.setdefault("DLC_KERNELS", "numpy")

if sys.dont_write_bytecode and sys.pycache_prefix is None:
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(__file__).parents[1] / "build" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

pytest_plugins = ("tests.bytecode",)
