"""Where the kernels of a program run: on a GPU, or with `--emulate` on the processor in one of two ways."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from .calls import Kernels
from .gpu import Gpu
from .launch import Array, Binding, Changing, Kernel
from .on_cpu import OnCpu
from .preparing import follows

CHOICES = "choices"
"""The folder beside kernels.cu for what was timed on devices."""


def kernels_of(source: Path, dtype: type, device: Any, rounding: str = "") -> Kernels | Twins:
    """The kernels of kernels.cu; `device` is the runtime's module of that name.

    `rounding` is what the precision lets a GPU round operands of products to: on a processor they stay as they are.
    """
    if device.STAND_IN == "numpy":
        return Twins(device)
    text = source.read_text(encoding="utf-8")
    if device.STAND_IN:
        return Kernels(OnStandIns(text, dtype, device))
    return Kernels(Gpu(text, dtype, device, rounding, source.with_name(CHOICES)))


class Twins:
    """NumPy's kernels for all calls, on what stands for arrays of the device: nothing is launched."""

    about = "each kernel is NumPy's in place of the one in CUDA"

    def __init__(self, device: Any) -> None:
        self._device = device

    def replace(self, otherwise: Kernel, binding: Binding) -> Kernel:
        """The kernel of NumPy's, whatever there is in CUDA."""
        return self.on_processor(otherwise)

    def in_parts(self, otherwise: Kernel) -> Kernel:
        """Of what the arrays hold."""

        def run(kernel: Kernel, parts: int, inputs: int, arrays: Sequence[Array], *rooms: Array, **told: Any) -> None:
            by_parts = partial(otherwise, kernel.twin, parts, inputs)  # type: ignore[attr-defined]
            given = tuple(map(_values, arrays))
            self._launch(lambda *every, **told: by_parts(every[: len(given)], *every[len(given) :], **told),
                         (*given, *map(_values, rooms)), told)  # fmt: skip

        run.__name__ = otherwise.__name__
        return run

    def replace_rows(self, otherwise: Kernel, binding: Binding) -> Kernel:
        """The kernel of NumPy's, of rows of arrays."""

        def kernel(*rows: tuple[Any, ...], **told: Any) -> None:
            given = tuple(tuple(map(_values, row)) for row in rows)
            self._launch(lambda *_, **told: otherwise(*given, **told), tuple(chain.from_iterable(given)), told)

        kernel.__name__ = otherwise.__name__
        return kernel

    def on_processor(self, otherwise: Kernel) -> Kernel:
        """The kernel, on what the arrays hold."""

        def kernel(*arrays: Any, **told: Any) -> None:
            self._launch(otherwise, tuple(map(_values, arrays)), told)

        kernel.__name__ = otherwise.__name__
        kernel.twin = otherwise  # type: ignore[attr-defined]
        return kernel

    def _launch(self, kernel: Kernel, arrays: tuple[Any, ...], told: dict[str, Any]) -> None:
        """As a device does: when a graph has it, each time that it is launched, with the numbers of that step."""
        following = {name: follows(value) for name, value in told.items() if follows(value)}
        for name in following:
            told[name].follow()
        known = {name: value for name, value in told.items() if name not in following}

        def launched() -> None:
            self._device.cp.touch(written=arrays)  # which of them are only read is not known here
            now = {name: self._device.RANK.numbers.now(field) for name, field in following.items()}
            kernel(*arrays, **known, **now)

        self._device.cp.launch(launched)


class OnStandIns(OnCpu):
    """The CUDA text on the processor, for what stands for arrays of the device."""

    def __init__(self, source: str, dtype: type, device: Any) -> None:
        super().__init__(source, dtype)
        self._device = device

    def launcher(self, kernel: str) -> Callable[..., None]:
        """What launches a kernel, and keeps the launch where a graph is made."""
        return partial(self._device.cp.launch, super().launcher(kernel))

    def changing(self, numbers: Changing, told: dict[str, Any]) -> Array:
        """In the block that the runtime keeps up to date."""
        array: Array = self._device.RANK.numbers.place(numbers, told, self.dtype)
        return array

    def product(
        self, left: Array, right: Array, out: Array, conjugate: tuple[bool, bool] = (False, False), given: bool = False
    ) -> None:
        """NumPy's, kept as well."""
        self._device.cp.launch(super().product, *map(_values, (left, right, out)), conjugate)

    def transformer(self, lengths: tuple[int, ...], count: int, backward: bool) -> Callable[[Array, Array], None]:
        """NumPy's, kept as well."""
        run = super().transformer(lengths, count, backward)

        def kept(values: Array, spectra: Array) -> None:
            self._device.cp.launch(run, _values(values), _values(spectra))

        return kept

    def passed(self, value: Any) -> Any:
        """As C types of the same sizes."""
        return ctypes.c_void_p(value.data.ptr) if self._device.on_device(value) else super().passed(value)

    def address(self, array: Array) -> int:
        """On the device."""
        return int(array.data.ptr)

    def room(self, elements: int) -> Array:
        """On the device."""
        return self._device.cp.ndarray(super().room(elements))

    def otherwise(self, kernel: Kernel, arrays: tuple[Array | None, ...], told: dict[str, Any]) -> None:
        """The kernel, on what the arrays hold."""
        self._device.RANK.graphs.aside(kernel, *map(_values, arrays), **told)


def _values(array: Array | None) -> Any:
    return getattr(array, "values", array)
