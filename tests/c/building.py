"""Builds generated C for tests and benchmarks, and calls it on NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.source import CFunction, file_text
from backends.numpy_mpi.c.target import AVX2, AVX512, PLAIN, Target
from backends.numpy_mpi.kernels.native import FLAGS, find_compiler
from tests import kept

COMPILER = find_compiler()
FEATURES = {"avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl"), "avx2": ("avx2", "fma"), "plain": ()}
JUNK = 7.25
"""What results and scratch hold before a call."""


def runnable() -> list[Target]:
    """The targets whose instructions this processor has, widest first; none without a compiler."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return [target for target in (AVX512, AVX2, PLAIN) if COMPILER and flags.issuperset(FEATURES[target.name])]


def each_target() -> list[Any]:
    """The same as parameters of a test: compiling takes long, so all but the widest are slow ones."""
    return [pytest.param(t, id=t.name, marks=[pytest.mark.slow] if at else []) for at, t in enumerate(runnable())]


def build(functions: Sequence[CFunction], target: Target, dtypes: Sequence[str], folder: Path) -> ctypes.CDLL:
    """One file of all functions as `kernels.c` in the folder, compiled with every warning an error.

    The compiler takes most of these tests' time: what it has made of the same text before is used again.
    """
    path, text = folder / "kernels.c", file_text(target, tuple(dtypes), functions)
    path.write_text(text, encoding="utf-8")
    command = [*COMPILER, *FLAGS, *target.flags, "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
    digest = hashlib.sha256("\0".join((*command, _version(), text)).encode()).hexdigest()[:24]
    built = kept.find(f"{digest}.so")
    if built is None:
        made = path.with_suffix(".so")
        subprocess.run([*command, str(path), "-o", str(made)], check=True)
        built = kept.keep(f"{digest}.so", made.read_bytes())
    return ctypes.CDLL(str(built))


@cache
def _version() -> str:
    return subprocess.run([*COMPILER, "--version"], capture_output=True, text=True, check=True).stdout


def call(library: ctypes.CDLL, function: CFunction, arrays: Sequence[Any], numbers: Sequence[int]) -> None:
    """Call with scratch of just the size that is asked for; writes behind its end, or a result's, are found."""
    scratch = np.full(function.scratch(numbers[0], 2) + 16, JUNK, arrays[0].dtype)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, scratch)]
    getattr(library, function.name)(*pointers, *map(ctypes.c_long, numbers))
    assert (scratch[-16:] == JUNK).all(), f"{function.name} wrote behind its scratch"


def threads(library: ctypes.CDLL, count: int) -> None:
    """How many threads calls use from now on."""
    library.omp_set_num_threads(count)
