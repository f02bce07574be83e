"""kernels.cu on a GPU: compiled for it by NVRTC when the first kernel is launched; CuPy keeps what was compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .choices import Choices
from .cublas import WORKSPACE, Cublas
from .cublaslt import CublasLt, Finished, LtError
from .cudnn import Cudnn, UnavailableError, load
from .cufft import Cufft
from .launch import Array, Changing, Kernel, Table, kernels_in


class Gpu:
    """The kernels of a CUDA text for arrays of one element type. `device` is the runtime's module of that name.

    `rounding` is for products: see `Cublas`. What libraries are found to do best is kept in `folder`.
    """

    def __init__(self, source: str, dtype: type, device: Any, rounding: str = "", folder: Path | None = None) -> None:
        self.dtype, self._device, self._cp = np.dtype(dtype), device, device.cp
        self.about = "the kernels are in CUDA; products of matrices are cuBLAS's"
        self._names, self._rounding, self._folder = kernels_in(source), rounding, folder
        self._source = source
        self._module: Any = None
        self._rooms: list[Array] = []
        self._workspace: Array | None = None
        self._cublas: Cublas | None = None
        self._cublaslt: CublasLt | None = None
        self._cufft: Cufft | None = None
        self._cudnn: Cudnn | None = None
        self._missing = set[type]()

    def has(self, kernel: str) -> bool:
        """Whether the text defines it."""
        return kernel in self._names

    def launcher(self, kernel: str) -> Callable[..., None]:
        """What launches a kernel on the current stream."""
        if self._module is None:
            instances = [name for name in self._names if "<" in name]
            self._module = self._cp.RawModule(
                code=self._source, options=("-std=c++17",), name_expressions=instances or None
            )
        function = self._module.get_function(kernel)

        def launch(blocks: tuple[int, ...], threads: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            function(blocks, threads, arguments)

        return launch

    def passed(self, value: Any) -> Any:
        """As NumPy's numbers of the same sizes; an array is where it begins, so that no call keeps one alive."""
        if isinstance(value, Table):
            return np.array(value.numbers, np.int64)
        if isinstance(value, tuple):
            return np.array(value, np.int32)  # CuPy passes it by value, as a struct
        if isinstance(value, int):
            return np.int64(value)
        if isinstance(value, float):
            return self.dtype.type(value)
        return np.uint64(0 if value is None else value.data.ptr)

    def changing(self, numbers: Changing, told: dict[str, Any]) -> Array:
        """In the block that the runtime keeps up to date."""
        array: Array = self._device.RANK.numbers.place(numbers, told, self.dtype)
        return array

    def address(self, array: Array) -> int:
        """On the device."""
        return int(array.data.ptr)

    def product(
        self, left: Array, right: Array, out: Array, conjugate: tuple[bool, bool] = (False, False), given: bool = False
    ) -> None:
        """cuBLAS's."""
        if self._cublas is None:
            self._cublas = Cublas(self._cp, rounding=self._rounding, workspace=self._working())
        self._cublas.product(left, right, out, conjugate, given)

    def transformer(self, lengths: tuple[int, ...], count: int, backward: bool) -> Callable[[Array, Array], None]:
        """A plan of cuFFT's."""
        if self._cufft is None:
            self._cufft = Cufft(self._cp, self.dtype.name)
        return self._cufft.plan(lengths, count, backward)

    def library(self, call: Any) -> Callable[[], None] | None:
        """cuBLASLt's or cuDNN's, where it is there; that it is not is said once."""
        try:
            return self._by_library(call) if type(call) not in self._missing else None
        except (LtError, UnavailableError) as error:
            self._missing.add(type(call))
            print(f"{error}; until then the program's own kernels are called", file=sys.stderr)
            return None

    def _by_library(self, call: Any) -> Callable[[], None] | None:
        if isinstance(call, Finished):
            if self._cublaslt is None:
                self._cublaslt = CublasLt(self._cp, self._working(), self._rounding)
            return self._cublaslt.prepared(call)
        if self._cudnn is None:
            self._cudnn = Cudnn(
                self._cp, load(), bool(self._rounding), Choices(self._folder, self._name(), self._device.RANK.agreement)
            )
        return self._cudnn.prepared(call)

    def _working(self) -> Array:
        """What cuBLAS and cuBLASLt work in, one after the other on one stream."""
        if self._workspace is None:
            self._workspace = self._cp.empty(WORKSPACE, "uint8")
        return self._workspace

    def _name(self) -> str:
        """Of the device, as the driver has it."""
        runtime = self._cp.cuda.runtime
        return str(runtime.getDeviceProperties(runtime.getDevice())["name"].decode())

    def room(self, elements: int) -> Array:
        """One array for all calls, which follow each other on one stream; what was given before stays."""
        if not self._rooms or self._rooms[-1].size < elements:
            self._rooms.append(self._cp.empty(elements, self.dtype))
        return self._rooms[-1]

    def passable(self, array: Array) -> bool:
        """Contiguous elements of the program's type, or indices, or masks."""
        return bool(array.flags.c_contiguous) and array.dtype in (self.dtype, np.int32, np.uint8)

    def otherwise(self, kernel: Kernel, arrays: tuple[Array | None, ...], told: dict[str, Any]) -> None:
        """On copies of the processor; what has changed goes back. It is no part of a graph."""
        self._device.RANK.graphs.aside(self._on_copies, kernel, arrays, told)

    def _on_copies(self, kernel: Kernel, arrays: tuple[Array | None, ...], told: dict[str, Any]) -> None:
        given = [self._device.host(each) if self._device.on_device(each) else each for each in arrays]
        before = [None if each is None else each.tobytes() for each in given]
        kernel(*given, **told)
        for array, now, old in zip(arrays, given, before, strict=True):
            if now is not None and now.tobytes() != old:
                self._device.copy(array, now)
