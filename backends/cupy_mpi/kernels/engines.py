"""Where the kernels of a program run: on a GPU, or with `--emulate` on the processor in one of two ways."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .gpu import Gpu
from .launch import Array, Kernel, Kernels
from .on_cpu import OnCpu


def kernels_of(source: Path, dtype: type, device: Any) -> Kernels:
    """The kernels of kernels.cu; `device` is the runtime's module of that name."""
    if device.STAND_IN == "numpy":
        return Kernels(Twins())
    text = source.read_text(encoding="utf-8")
    return Kernels(OnStandIns(text, dtype, device) if device.STAND_IN else Gpu(text, dtype, device))


class Twins:
    """NumPy's kernels for all calls, on what stands for arrays of the device."""

    about = "each kernel is NumPy's in place of the one in CUDA"

    def has(self, kernel: str) -> bool:
        """None."""
        return False

    def passable(self, array: Array) -> bool:
        """None."""
        return False

    def launcher(self, kernel: str) -> Callable[..., None]:
        """Nothing is launched."""
        raise KeyError(kernel)

    def passed(self, value: Any) -> Any:
        """Nothing is launched."""
        return value

    def product(self, left: Array, right: Array, out: Array) -> None:
        """Kernels have products of their own."""
        raise NotImplementedError

    def room(self, elements: int) -> Array:
        """Nothing is launched."""
        raise NotImplementedError

    def otherwise(self, kernel: Kernel, arrays: tuple[Array | None, ...], told: dict[str, Any]) -> None:
        """The kernel, on what the arrays hold."""
        kernel(*map(_values, arrays), **told)


class OnStandIns(OnCpu):
    """The CUDA text on the processor, for what stands for arrays of the device."""

    def __init__(self, source: str, dtype: type, device: Any) -> None:
        super().__init__(source, dtype)
        self._device = device

    def launcher(self, kernel: str) -> Callable[..., None]:
        """What launches a kernel, and keeps the launch where a graph is made."""
        return partial(self._device.TAPE.add, super().launcher(kernel))

    def product(self, left: Array, right: Array, out: Array) -> None:
        """NumPy's, kept as well."""
        self._device.TAPE.add(super().product, *map(_values, (left, right, out)))

    def passed(self, value: Any) -> Any:
        """As C types of the same sizes."""
        return ctypes.c_void_p(value.data.ptr) if self._device.on_device(value) else super().passed(value)

    def room(self, elements: int) -> Array:
        """On the device."""
        return self._device.cp.ndarray(super().room(elements))

    def otherwise(self, kernel: Kernel, arrays: tuple[Array | None, ...], told: dict[str, Any]) -> None:
        """The kernel, on what the arrays hold."""
        self._device.GRAPHS.cross()
        kernel(*map(_values, arrays), **told)


def _values(array: Array | None) -> Any:
    return getattr(array, "values", array)
