"""Fourier transforms by cuFFT, called by its C interface: plans are made once, with memory that they are given, so that
what runs them allocates nothing and can be captured in a graph."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from .launch import Array
from .libraries import loaded

LIBRARIES = ("libcufft.so.12", "libcufft.so.11", "libcufft.so.10")

FUNCTIONS = {
    ("float32", False): ("cufftExecR2C", 0x2A),
    ("float32", True): ("cufftExecC2R", 0x2C),
    ("float64", False): ("cufftExecD2Z", 0x6A),
    ("float64", True): ("cufftExecZ2D", 0x6C),
}
"""(type of the values, whether backward) -> the function that runs a plan, and the type of the plan."""

Lengths = tuple[int, ...]


class Cufft:
    """Plans on the current device for values of a type, which work in one memory. `cp` is CuPy."""

    def __init__(self, cp: Any, dtype: str, library: Any = None) -> None:
        self._cp, self._dtype, self._library = cp, dtype, library or _library()
        self._plans: dict[tuple[Lengths, int, bool], Callable[[Array, Array], None]] = {}
        self._work: list[Array] = []

    def plan(self, lengths: Lengths, count: int, backward: bool) -> Callable[[Array, Array], None]:
        """What transforms (values, spectra): see `Transform` in launch.py."""
        key = (lengths, count, backward)
        if key not in self._plans:
            self._plans[key] = self._made(*key)
        return self._plans[key]

    def _made(self, lengths: Lengths, count: int, backward: bool) -> Callable[[Array, Array], None]:
        function, kind = FUNCTIONS[self._dtype, backward]
        plan, size = ctypes.c_int(), ctypes.c_size_t()
        self._checked("cufftCreate", ctypes.byref(plan))
        self._checked("cufftSetAutoAllocation", plan, 0)
        ints = ctypes.c_int * len(lengths)
        half = (*lengths[:-1], lengths[-1] // 2 + 1)
        area = 1
        for length in lengths:
            area *= length
        # extents in memory, how far neighbours lie apart, and the beginnings of two transforms
        values, spectra = (ints(*lengths), 1, area), (ints(*half), count, 1)
        layout = (*spectra, *values) if backward else (*values, *spectra)
        told = (len(lengths), ints(*lengths), *layout, kind, count, ctypes.byref(size))
        self._checked("cufftMakePlanMany", plan, *told)
        self._checked("cufftSetWorkArea", plan, ctypes.c_void_p(self._room(size.value).data.ptr))
        streams: list[int] = []

        def run(values: Array, spectra: Array) -> None:
            stream = self._cp.cuda.get_current_stream().ptr
            if streams != [stream]:
                self._checked("cufftSetStream", plan, ctypes.c_void_p(stream))
                streams[:] = [stream]
            source, target = (spectra, values) if backward else (values, spectra)
            self._checked(function, plan, ctypes.c_void_p(source.data.ptr), ctypes.c_void_p(target.data.ptr))

        return run

    def _room(self, size: int) -> Array:
        """For all plans, which follow each other on one stream; what was given to a plan before stays."""
        if not self._work or self._work[-1].size < size:
            self._work.append(self._cp.empty(max(size, 1), "uint8"))
        return self._work[-1]

    def _checked(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} ends with status {status}")


def _library() -> Any:
    return loaded("cuFFT", LIBRARIES, "cupy.cuda.cufft")
