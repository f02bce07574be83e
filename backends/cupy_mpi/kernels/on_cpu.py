"""kernels.cu on a processor: compiled as C++ with on_cpu.h, which stands for CUDA, and run block by block.

It is slow, and made for checking: the very text that a GPU would run computes with a program's own launches.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .cublas import order, order_of_conjugate
from .launch import HALVES, Array, Changing, Kernel, Table, kernels_in

FLAGS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-fwrapv", "-U_FORTIFY_SOURCE", "-fno-stack-protector", "-w")

ENTRY = """
extern "C" const char *on_cpu_{number}(const unsigned *shape, int backwards, void **arguments)
{{
    return on_cpu::launch({name}, shape, backwards, arguments);
}}
"""


class NoCompilerError(Exception):
    """There is no C++ compiler here, or it does not compile the kernels; the text says which."""


class OnCpu:
    """Kernels of a CUDA text for arrays of one type; with `backwards` threads and blocks come the last first."""

    def __init__(self, source: str, dtype: type, backwards: bool = False) -> None:
        self.dtype, self.backwards = np.dtype(dtype), backwards
        self.about = "the kernels are in CUDA, the processor stands for a device: this is slow, and for checking"
        self._library = ctypes.CDLL(str(_built(source)))
        self._numbers = {name: number for number, name in enumerate(kernels_in(source))}
        self._rooms = [np.empty(0, self.dtype)]

    def has(self, kernel: str) -> bool:
        """Whether the text defines it."""
        return kernel in self._numbers

    def launcher(self, kernel: str) -> Callable[..., None]:
        """What launches a kernel; ValueError where threads of a block part before a barrier."""
        function = self._library[f"on_cpu_{self._numbers[kernel]}"]
        function.restype = ctypes.c_char_p

        def launch(blocks: tuple[int, ...], threads: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            shape = (ctypes.c_uint * 6)(*_three(blocks), *_three(threads))
            pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
            wrong = function(shape, int(self.backwards), pointers)
            if wrong:
                raise ValueError(f"{kernel}: {wrong.decode()}")

        return launch

    def passed(self, value: Any) -> Any:
        """As C types of the same sizes."""
        if isinstance(value, Table):
            return (ctypes.c_longlong * len(value.numbers))(*value.numbers)
        if isinstance(value, tuple):
            return (ctypes.c_int * len(value))(*value)
        if isinstance(value, int):
            return ctypes.c_longlong(value)
        if isinstance(value, float):
            return (ctypes.c_float if self.dtype == np.float32 else ctypes.c_double)(value)
        return ctypes.c_void_p(None if value is None else value.ctypes.data)

    def changing(self, numbers: Changing, told: dict[str, Any]) -> Array:
        """As they are for the call at hand."""
        values = numbers.of(*(told[name] for name in numbers.told), *numbers.fixed)
        return np.array(values, np.int64 if isinstance(values[0], int) else self.dtype)

    def address(self, array: Array) -> int:
        """Of NumPy's array."""
        return int(array.ctypes.data)

    def product(
        self, left: Array, right: Array, out: Array, conjugate: tuple[bool, bool] = (False, False), given: bool = False
    ) -> None:
        """NumPy's, of what cuBLAS takes; of halves in f32."""
        for each, turned in ((left, conjugate[0]), (right, conjugate[1]), (out, False)):
            (order_of_conjugate if turned else order)(each)
        if left.dtype.name in HALVES:
            _round(np.matmul(_wide(left), _wide(right)), out)
        else:
            np.matmul(left.conj() if conjugate[0] else left, right.conj() if conjugate[1] else right, out=out)

    def transformer(self, lengths: tuple[int, ...], count: int, backward: bool) -> Callable[[Array, Array], None]:
        """NumPy's, in the order of cuFFT's, which spoils what it transforms back."""
        half, axes = (*lengths[:-1], lengths[-1] // 2 + 1), tuple(range(1, len(lengths) + 1))

        def run(memory: Array, of_spectra: Array) -> None:
            values = memory[: count * prod(lengths)].reshape(count, *lengths)
            pairs = of_spectra.view(f"c{2 * of_spectra.itemsize}")
            spectra = np.moveaxis(pairs[: count * prod(half)].reshape(*half, count), -1, 0)
            if backward:
                values[...] = np.fft.irfftn(spectra, lengths, axes) * prod(lengths)
                spectra.fill(np.nan)
            else:
                spectra[...] = np.fft.rfftn(values, axes=axes)

        return run

    def library(self, call: Any) -> None:
        """None: the program's own kernels are to be checked."""

    def room(self, elements: int) -> Array:
        """Not-a-numbers, so that what is read before it is written is found; what was given before stays."""
        if self._rooms[-1].size < elements:
            self._rooms.append(np.full(elements, np.nan, self.dtype))
        return self._rooms[-1]

    def passable(self, array: Array) -> bool:
        """Contiguous elements of the program's type, or indices, or masks."""
        return bool(array.flags.c_contiguous) and array.dtype in (self.dtype, np.int32, np.uint8)

    def otherwise(self, kernel: Kernel, arrays: tuple[Array | None, ...], told: dict[str, Any]) -> None:
        """On the arrays themselves: they are NumPy's."""
        kernel(*arrays, **told)


def _wide(halves: Array) -> Array:
    """In f32; bf16 are the upper 16 bits of it."""
    return (
        halves.astype(np.float32) if halves.dtype == np.float16 else (halves.astype(np.uint32) << 16).view(np.float32)
    )


def _round(found: Array, out: Array) -> None:
    """To nearest, ties to even, where the result is one of halves."""
    if out.dtype == np.uint16:
        bits = found.view(np.uint32)
        found = np.where(np.isnan(found), 0x7FC0, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    with np.errstate(over="ignore"):
        out[...] = found


def _three(extents: tuple[int, ...]) -> tuple[int, ...]:
    return (*extents, 1, 1)[:3]


def find_compiler() -> tuple[str, ...]:
    """The words that start a C++ compiler; none where there is none."""
    if named := os.environ.get("CXX", ""):
        return tuple(shlex.split(named))
    return next(((found,) for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), ())


def _built(source: str) -> Path:
    """The library of a text, in a cache beside those of the kernels in C."""
    compiler = find_compiler()
    if not compiler:
        raise NoCompilerError("there is no C++ compiler: neither $CXX nor c++, g++ or clang++")
    header = Path(__file__).with_name("on_cpu.h").read_text(encoding="utf-8")
    entries = (ENTRY.format(number=number, name=name) for number, name in enumerate(kernels_in(source)))
    text = f"{header}\nnamespace {{\n{source}\n}}\n{''.join(entries)}"
    digest = hashlib.sha256("\0".join((*compiler, *FLAGS, text)).encode()).hexdigest()[:24]
    base = os.environ.get("DLC_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/dlc"
    path = Path(base).expanduser() / f"on_cpu-{digest}.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dlc-", dir=path.parent) as folder:
            written = Path(folder) / "kernels.cpp"
            written.write_text(text, encoding="utf-8")
            _checked(*compiler, *FLAGS, str(written), "-o", f"{folder}/kernels.so")
            os.replace(f"{folder}/kernels.so", path)
    return path


def _checked(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise NoCompilerError(f"`{command[0]}` does not compile the kernels: {told}")
