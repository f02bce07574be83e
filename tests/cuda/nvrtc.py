"""NVIDIA's compiler for programs that run, as a library: it makes code for a GPU on machines that have none."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from functools import cache
from pathlib import Path
from typing import Any

from backends.cupy_mpi.kernels.launch import kernels_in

ARCHITECTURES = ("sm_80", "sm_90")
MISSING = "NVRTC is not installed: `pip install dlc[cuda-check]` has it"


@cache
def library() -> ctypes.CDLL | None:
    """The library of the wheel nvidia-cuda-nvrtc, or of the system; None where there is none."""
    wheels = (sorted(Path(folder).glob("nvidia/*/lib/libnvrtc.so.*")) for folder in sys.path)
    found = next((str(each) for several in wheels for each in several), None) or find_library("nvrtc")
    try:
        return ctypes.CDLL(found) if found else None
    except OSError:
        return None


def compiled(source: str, architecture: str, options: Sequence[str] = ()) -> bytes:
    """The code of a text, and of the instances of templates that it lists, for an architecture.

    AssertionError with the compiler's words where it says any.
    """
    lib = library()
    assert lib is not None
    program = ctypes.c_void_p()
    assert not lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    for name in (each for each in kernels_in(source) if "<" in each):
        assert not lib.nvrtcAddNameExpression(program, name.encode())
    told = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17", *(each.encode() for each in options)]
    status = lib.nvrtcCompileProgram(program, len(told), (ctypes.c_char_p * len(told))(*told))
    said = _read(lib, program, "ProgramLog").rstrip(b"\0").decode()
    assert not status, said
    assert not said, said
    return _read(lib, program, "CUBIN")


def _read(lib: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(lib, f"nvrtcGet{what}")(program, text)
    return text.raw
