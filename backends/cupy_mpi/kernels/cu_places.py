"""Where the elements of arrays lie, for kernels that go through up to four axes with strides of their own."""

from __future__ import annotations

from typing import NamedTuple

from .launch import Array

AXES = 4
"""So many axes kernels go through."""

MOST = 2**31
"""Elements of which kernels count the places in ints."""

TO_LOGICAL = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2), "CHWN": (3, 0, 1, 2)}
"""Layout -> where the axes batch, channel, height, width stand in memory."""


class View(NamedTuple):
    """Extents, how many elements lie between neighbours along each axis, and the first element."""

    extents: tuple[int, ...]
    strides: tuple[int, ...]
    begin: int = 0

    def ordered(self, order: tuple[int, ...]) -> View:
        """With axis i being axis order[i] of this."""
        return View(tuple(self.extents[at] for at in order), tuple(self.strides[at] for at in order), self.begin)

    def cut(self, axis: int, start: int, extent: int, step: int = 1) -> View:
        """So many elements along an axis from one on, `step` apart."""
        extents, strides = list(self.extents), list(self.strides)
        begin, extents[axis], strides[axis] = self.begin + start * strides[axis], extent, strides[axis] * step
        return View(tuple(extents), tuple(strides), begin)

    def spread(self, rank: int, axes: tuple[int, ...] | None) -> View:
        """With as many axes, of extent 1 where it had none; it has `axes`, by default the last ones."""
        known = len(self.extents)
        kept = tuple(range(rank - known, rank)) if axes is None or known == rank else axes
        extents, strides = [1] * rank, [0] * rank
        for at, extent, stride in zip(kept, self.extents, self.strides, strict=True):
            extents[at], strides[at] = extent, stride
        return View(tuple(extents), tuple(strides), self.begin)

    def repeated(self) -> tuple[int, ...]:
        """The strides, 0 along axes of extent 1."""
        return tuple(0 if extent == 1 else stride for extent, stride in zip(self.extents, self.strides, strict=True))


def logical(array: Array, layout: str = "NCHW") -> View:
    """An array in logical order: images [batch, channel, height, width]."""
    found = View(array.shape, tuple(stride // array.itemsize for stride in array.strides))
    return found.ordered(TO_LOGICAL[layout]) if array.ndim == AXES else found


def four(values: tuple[int, ...], filled: int) -> tuple[int, ...]:
    """As many numbers as there are axes, with others in front."""
    return (filled,) * (AXES - len(values)) + values


def countable(*arrays: Array) -> bool:
    """Whether kernels can go through these arrays: few axes, elements that ints count, none but real numbers."""
    return all(array.ndim <= AXES and array.size < MOST and array.dtype.kind == "f" for array in arrays)
