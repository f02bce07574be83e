"""Types of tensors: an element type and named axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

DTYPE_BYTES = {"f64": 8, "f32": 4, "tf32": 4, "f16": 2, "bf16": 2, "i64": 8, "i32": 4, "u8": 1, "bool": 1}
NARROW = ("f16", "bf16")
"""Element types of two bytes: what is summed of them is summed in f32, and weights have copies in f32."""

BATCH = "batch"


class Axis(NamedTuple):
    """A named axis and its extent; the axis named `batch` counts samples.

    A tuple, since types are made, compared and hashed in great numbers.
    """

    name: str
    extent: int

    def __str__(self) -> str:
        return f"{self.name} = {self.extent}"


@dataclass(frozen=True, slots=True)
class TensorType:
    """`f32[batch = 32, channel = 3, height = 32, width = 32]`: logical order, whatever the layout in memory."""

    dtype: str
    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.axes))}]"

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents, in logical order."""
        return tuple([axis.extent for axis in self.axes])  # twice as fast as of a generator

    @property
    def names(self) -> tuple[str, ...]:
        """The axes' names, in logical order."""
        return tuple([axis.name for axis in self.axes])

    @property
    def elements(self) -> int:
        """How many elements it has; a scalar has one."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in memory, without padding."""
        return self.elements * DTYPE_BYTES[self.dtype]

    @property
    def batched(self) -> bool:
        """Whether it holds something of every sample: then it is split where the batch is."""
        return BATCH in self.names

    def extent(self, name: str) -> int:
        """The extent of the axis of that name; KeyError where there is none."""
        for axis in self.axes:
            if axis.name == name:
                return axis.extent
        raise KeyError(name)

    def with_extent(self, name: str, extent: int) -> TensorType:
        """The same type with another extent for one axis, where it has that axis."""
        return TensorType(self.dtype, tuple([Axis(name, extent) if a.name == name else a for a in self.axes]))

    def with_dtype(self, dtype: str) -> TensorType:
        """The same axes, other elements."""
        return TensorType(dtype, self.axes)


def tensor(dtype: str, **extents: int) -> TensorType:
    """`tensor("f32", batch=32, channel=3)`."""
    return TensorType(dtype, tuple(Axis(name, extent) for name, extent in extents.items()))
