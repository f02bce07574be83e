"""NumPy's BLAS beside kernels that have threads of their own.

Threads of two libraries that wait for work on the same cores take them from each other: products of BLAS in two
threads make a step of LeNet-5 ten times slower (docs/decisions/0028).
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

LIBRARIES = ("openblas", "mkl_rt")
"""Parts of the names of libraries that can be told."""

SETTERS = (
    *(f"{first}openblas_set_num_threads{last}" for first in ("scipy_", "") for last in ("64_", "")),
    "MKL_Set_Num_Threads",
)
"""Their functions, under all the names that they have."""


def work_alone() -> bool:
    """From now on the thread that calls BLAS computes alone; False where there is no library that can be told."""
    told = False
    for path in _loaded():
        with suppress(OSError):
            library = ctypes.CDLL(path)
            setter = next((getattr(library, name) for name in SETTERS if hasattr(library, name)), None)
            if setter is not None:
                setter(ctypes.c_int(1))
                told = True
    return told


def _loaded() -> list[str]:
    """The paths of the libraries that this process has loaded, as Linux tells them."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if line.count("/"))
    return [path for path in paths if any(name in Path(path).name for name in LIBRARIES)]
