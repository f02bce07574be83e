"""What shape rules ask of their operands; each answers or raises the user's mistake as an `OperandError`."""

from __future__ import annotations

from dlc.diagnostics import similar
from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.operator import OperandError

FLOATING = ("f64", "f32", "tf32", "f16", "bf16")
INTEGERS = ("i64", "i32")


def floating(op: str, *types: TensorType) -> None:
    """Refuse operands that do not hold floating-point numbers, and mixtures of precisions (E0305)."""
    for index, type_ in enumerate(types):
        if type_.dtype not in FLOATING:
            raise OperandError("E0305", operand=index, op=op, needed="floating-point numbers", found=type_)
        if type_.dtype != types[0].dtype:
            raise OperandError("E0305", operand=index, op=op, needed=f"{types[0].dtype} here too", found=type_)


def integral(op: str, type_: TensorType, operand: int = 0) -> None:
    """Refuse an operand that does not hold integers (E0305)."""
    if type_.dtype not in INTEGERS:
        raise OperandError("E0305", operand=operand, op=op, needed="integers", found=type_)


def features(op: str, x: TensorType) -> int:
    """The extent of the last axis, which must not be the batch (E0301)."""
    if not x.axes or x.axes[-1].name == BATCH:
        raise OperandError("E0301", operand=0, op=op, needed="an axis besides the batch", found=x)
    return x.axes[-1].extent


def channels(op: str, x: TensorType) -> int:
    """The extent of axis 1, that of channels; axis 0 must be the batch (E0301)."""
    if len(x.axes) < 2 or x.axes[0].name != BATCH:
        raise OperandError("E0301", operand=0, op=op, needed="the batch and an axis of channels", found=x)
    return x.axes[1].extent


def axis_position(op: str, x: TensorType, axis: Attr, argument: str = "axis") -> int:
    """Where the axis of that name stands (E0306), never the batch (E0307); a position is taken as it is."""
    if isinstance(axis, int):
        return axis
    if not isinstance(axis, str):
        raise TypeError(f"an axis has a name or a position, not {axis!r}")
    if axis == BATCH:
        raise OperandError("E0307", argument=argument, op=op)
    if axis in x.names:
        return x.names.index(axis)
    near = similar(axis, x.names)
    helps = (f"`axis = {x.names[-1]}` goes along the last one",) if argument == "axis" else ()
    helps = (f"there is an axis with a similar name: `{near}`",) if near else helps
    raise OperandError("E0306", argument=argument, axis=axis, type=x, helps=helps)


def axis_positions(op: str, x: TensorType, axes: Attr, argument: str = "axis") -> tuple[int, ...]:
    """The same of several axes, none of them twice (E0313)."""
    listed: tuple[Attr, ...] = axes if isinstance(axes, tuple) else (axes,)
    found = tuple(axis_position(op, x, axis, argument) for axis in listed)
    for at in found:
        if found.count(at) > 1:
            raise OperandError("E0313", argument=argument, op=op, axis=x.names[at])
    return found


def distinct(op: str, result: TensorType) -> TensorType:
    """A result whose axes have different names (E0313)."""
    for name in result.names:
        if result.names.count(name) > 1:
            raise OperandError("E0313", op=op, axis=name)
    return result
