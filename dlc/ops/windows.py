"""Windows that slide over the axes behind batch and channel, one to three of them: what convolutions and pools share.

A window covers (extent - 1)·dilation + 1 positions; `same` pads (extent - 1)·dilation in all, half of it before,
rounded down, the rest after, whatever the stride. Axes count by their position, whatever their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.ops.operator import OperandError

Extents = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

SPLITS = ("batch", "channel", "depth", "height", "width", "length")
"""The axes that an op with windows may be split along, besides those that it sums over."""

WINDOW_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""What the axes of a weight's window are called, by how many there are."""


@dataclass(frozen=True, slots=True)
class Windows:
    """A sliding window, an entry a spatial axis: extents, strides, (before, after) pads and dilations."""

    window: Extents
    stride: Extents
    pad: Pads
    dilation: Extents
    ceil: bool = False

    @property
    def reach(self) -> Extents:
        """How many positions a window covers, dilation included."""
        return tuple((extent - 1) * step + 1 for extent, step in zip(self.window, self.dilation, strict=True))

    @property
    def taps(self) -> int:
        """How many elements a window reads."""
        return prod(self.window)

    @property
    def dilated(self) -> bool:
        """Whether its elements stand apart."""
        return any(step > 1 for step in self.dilation)

    @property
    def pads(self) -> bool:
        """Whether anything is padded."""
        return any(map(any, self.pad))

    def padded(self, extents: Extents) -> Extents:
        """The extents with both pads."""
        return tuple(extent + sum(pad) for extent, pad in zip(extents, self.pad, strict=True))

    def output(self, extents: Extents) -> Extents:
        """How many windows there are along each axis; OperandError E0302 where none fits."""
        if any(padded < reach for padded, reach in zip(self.padded(extents), self.reach, strict=True)):
            raise self._does_not_fit(extents)
        along = zip(extents, self.reach, self.stride, self.pad, strict=True)
        return tuple(count_windows(*axis, self.ceil) for axis in along)

    def _does_not_fit(self, extents: Extents) -> OperandError:
        notes = []
        if self.dilated:
            notes.append(f"with dilation {by(self.dilation)} the {by(self.window)} window covers {by(self.reach)}")
        if self.padded(extents) != extents:
            notes.append(f"with its pads the input is {by(self.padded(extents))}")
        return OperandError(
            "E0302",
            argument="window",
            label=f"the input is {by(extents)} here",
            notes=tuple(notes),
            window=by(self.window),
            input=by(extents),
        )


def count_windows(extent: int, reach: int, stride: int, pad: tuple[int, int], ceil: bool = False) -> int:
    """How many windows fit along one axis.

    With `ceil` a last window may hang over the end, if it starts inside the input or its leading pad (PyTorch's rule).
    """
    room = extent + sum(pad) - reach
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= extent + pad[0] else count


def windows(args: Mapping[str, Attr], axes: int) -> Windows:
    """The windows over so many axes that an op's arguments describe.

    These are `window`, `stride`, `pad`, `dilation` and `ceil`, where it has them; OperandError E0310 where one of them
    has another number of extents.
    """
    window = per_axis(args, "window", axes)
    stride = per_axis(args, "stride", axes, default=window)
    dilation = per_axis(args, "dilation", axes, default=1)
    pads = _pads(args.get("pad", 0), window, dilation)
    return Windows(window, stride, pads, dilation, bool(args.get("ceil", False)))


def per_axis(args: Mapping[str, Attr], name: str, axes: int, default: Attr | None = None) -> Extents:
    """An argument as one int for each of the spatial axes; OperandError E0310 for another number of ints."""
    value = args.get(name, default)
    if isinstance(value, int):
        return (value,) * axes
    if not isinstance(value, tuple):
        raise ValueError(f"{name} is {value!r}, not one int or several")
    _count(name, value, axes)
    return tuple(item for item in value if isinstance(item, int))


def _pads(pad: Attr, window: Extents, dilation: Extents) -> Pads:
    """`pad` as (before, after) an axis: from a number, a number or a pair for each axis, `same` or `valid`."""
    if pad == "valid":
        return ((0, 0),) * len(window)
    if pad == "same":
        totals = ((extent - 1) * step for extent, step in zip(window, dilation, strict=True))
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(pad, tuple) and any(isinstance(item, tuple) for item in pad):
        _count("pad", pad, len(window))
        return tuple(_both_sides(item) for item in pad)
    return tuple((both, both) for both in per_axis({"pad": pad}, "pad", len(window)))


def _both_sides(pad: object) -> tuple[int, int]:
    match pad:
        case (int(before), int(after)):
            return (before, after)
    raise ValueError(f"pad is {pad!r} along an axis, not two ints")


def _count(name: str, value: tuple[object, ...], axes: int) -> None:
    """Refuse an argument that has not one entry for each axis (E0310)."""
    if len(value) != axes:
        needed = "1 spatial axis" if axes == 1 else f"{axes} spatial axes"
        helps = ("a number alone goes for every axis",)
        raise OperandError("E0310", argument=name, argument_name=name, given=len(value), needed=needed, helps=helps)


def by(extents: Extents) -> str:
    """`5x5`: as extents are written in a spec."""
    return "x".join(map(str, extents))


def spatial(op: str, x: TensorType) -> Extents:
    """The extents behind batch and channel; OperandError E0311 unless there are one to three of them."""
    if not 3 <= len(x.axes) <= 5 or x.axes[0].name != BATCH:
        raise OperandError("E0311", operand=0, op=op, type=str(x))
    return x.shape[2:]


def slid(x: TensorType, extents: Extents, channels: int | None = None) -> TensorType:
    """The type of x after a window went over it: new spatial extents, and channels where they change."""
    batch, channel, *axes = x.axes
    resized = (Axis(axis.name, extent) for axis, extent in zip(axes, extents, strict=True))
    return TensorType(x.dtype, (batch, Axis(channel.name, channel.extent if channels is None else channels), *resized))
