"""Windows that slide over the last two axes of a value: what convolutions and pools share.

A window covers (extent - 1)·dilation + 1 positions; `same` pads (extent - 1)·dilation in all, half of it before,
rounded down, the rest after, whatever the stride.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.operator import OperandError

Pair = tuple[int, int]

SPATIAL = ("height", "width")


@dataclass(frozen=True, slots=True)
class Windows:
    """A sliding window, an entry a spatial axis: extents, strides, (before, after) pads and dilations."""

    window: Pair
    stride: Pair
    pad: tuple[Pair, Pair]
    dilation: Pair = (1, 1)
    ceil: bool = False

    @property
    def reach(self) -> Pair:
        """How many positions a window covers, dilation included."""
        return (self.dilation[0] * (self.window[0] - 1) + 1, self.dilation[1] * (self.window[1] - 1) + 1)

    @property
    def taps(self) -> int:
        """How many elements a window reads."""
        return self.window[0] * self.window[1]

    def padded(self, extents: Pair) -> Pair:
        """The extents with both pads."""
        return (extents[0] + sum(self.pad[0]), extents[1] + sum(self.pad[1]))

    def output(self, extents: Pair) -> Pair:
        """How many windows there are along each axis; OperandError E0302 where none fits."""
        padded, reach = self.padded(extents), self.reach
        if padded[0] < reach[0] or padded[1] < reach[1]:
            raise self._does_not_fit(extents)
        height, width = (
            count_windows(extents[axis], reach[axis], self.stride[axis], self.pad[axis], self.ceil) for axis in (0, 1)
        )
        return (height, width)

    def _does_not_fit(self, extents: Pair) -> OperandError:
        notes = []
        if self.dilation != (1, 1):
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


def count_windows(extent: int, reach: int, stride: int, pad: Pair, ceil: bool = False) -> int:
    """How many windows fit along one axis.

    With `ceil` a last window may hang over the end, if it starts inside the input or its leading pad (PyTorch's rule).
    """
    room = extent + sum(pad) - reach
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= extent + pad[0] else count


def windows(args: Mapping[str, Attr]) -> Windows:
    """The windows that an op's arguments describe: `window`, `stride`, `pad`, `dilation`, `ceil`, where it has them."""
    window = pair(args, "window")
    stride = pair(args, "stride", default=window)
    dilation = pair(args, "dilation", default=(1, 1))
    return Windows(window, stride, _pads(args.get("pad", 0), window, dilation), dilation, bool(args.get("ceil", False)))


def pair(args: Mapping[str, Attr], name: str, default: Pair | None = None) -> Pair:
    """An argument as one int for each of the two spatial axes; OperandError E0310 for another number of ints."""
    value = args.get(name, default)
    if isinstance(value, int):
        return (value, value)
    match value:
        case (int(height),):
            return (height, height)
        case (int(height), int(width)):
            return (height, width)
        case tuple():
            raise _count(name, len(value))
    raise ValueError(f"{name} is {value!r}, not one or two ints")


def _pads(pad: Attr, window: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """`pad` as (before, after) an axis: from a number, two numbers, two pairs, `same` or `valid`."""
    match pad:
        case "valid":
            return ((0, 0), (0, 0))
        case "same":
            height, width = ((extent - 1) * step for extent, step in zip(window, dilation, strict=True))
            return ((height // 2, height - height // 2), (width // 2, width - width // 2))
        case ((int(top), int(bottom)), (int(left), int(right))):
            return ((top, bottom), (left, right))
    height, width = pair({"pad": pad}, "pad")
    return ((height, height), (width, width))


def _count(name: str, given: int) -> OperandError:
    return OperandError("E0310", argument=name, argument_name=name, given=given, needed=len(SPATIAL))


def by(extents: Pair) -> str:
    """`5x5`: as extents are written in a spec."""
    return f"{extents[0]}x{extents[1]}"


def spatial(op: str, x: TensorType) -> Pair:
    """Height and width of an operand with axes batch, channel, height, width; OperandError E0311 for other axes."""
    if len(x.axes) != 4 or not x.batched:
        notes = ("windows over one or three axes are in the language, this version of dlc cannot compile them yet",)
        raise OperandError("E0311", operand=0, notes=notes if len(x.axes) in (3, 5) else (), op=op, type=str(x))
    return (x.shape[2], x.shape[3])


def slid(x: TensorType, extents: Pair, channels: int | None = None) -> TensorType:
    """The type of x after a window went over it: new spatial extents, and channels where they change."""
    batch, channel, height, width = x.axes
    return TensorType(
        x.dtype,
        (
            batch,
            Axis(channel.name, channel.extent if channels is None else channels),
            Axis(height.name, extents[0]),
            Axis(width.name, extents[1]),
        ),
    )
