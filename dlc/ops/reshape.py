"""`reshape(shape, axes = …)`: the numbers of each sample, in their order, under other axes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from dlc.ir.graph import Attr
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.ops.attributes import extents
from dlc.ops.counting import renamed
from dlc.ops.indexing import AXES, joined
from dlc.ops.operands import distinct, features
from dlc.ops.operator import Gradient, Inferred, OperandError, Operator, Parameter

NAMES = {
    1: ("feature",),
    2: ("seq", "width"),
    3: ("channel", "height", "width"),
    4: ("channel", "depth", "height", "width"),
}
"""What the axes of a sample are called where no names are given, by their number."""


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, …] -> y [batch, *shape]; E0304 where the counts differ, E0301 and E0313 for names that do not fit."""
    (x,) = operands
    features("reshape", x)
    shape = extents(attrs, "shape")
    kept = x.axes[: x.batched]
    found, written = prod(x.shape[len(kept) :]), f"[{', '.join(map(str, shape))}]"
    if prod(shape) != found:
        raise OperandError("E0304", argument="shape", shape=written, needed=prod(shape), found=found)
    axes = (Axis(name, extent) for name, extent in zip(sample_axes("reshape", shape, attrs), shape, strict=True))
    result = distinct("reshape", TensorType(x.dtype, (*kept, *axes)))
    given = (("axes", attrs["axes"]),) if "axes" in attrs else ()
    return Inferred((result,), attrs=(("shape", shape), *given))


def sample_axes(op: str, shape: tuple[int, ...], attrs: Mapping[str, Attr]) -> tuple[str, ...]:
    """The names of the axes of a sample, one for each number of the shape: the argument `axes`, else by their number.

    E0301 for another number of names, E0307 where the batch is among them.
    """
    given = attrs.get("axes")
    if given is None:
        if len(shape) not in NAMES:
            needed = "`axes = [NAME, …]` where its shape has more than four numbers"
            raise OperandError("E0301", argument="shape", op=op, needed=needed, found=len(shape))
        return NAMES[len(shape)]
    names = tuple(str(name) for name in given) if isinstance(given, tuple) else (str(given),)
    if len(names) != len(shape):
        needed = f"{len(shape)} names, one for each number of its shape"
        raise OperandError("E0301", argument="axes", op=op, needed=needed, found=len(names))
    if BATCH in names:
        raise OperandError("E0307", argument="axes", op=op)
    return names


RESHAPE = Operator(
    "reshape",
    _infer,
    renamed,
    parameters=(Parameter("shape", "shape", required=True, minimum=1), Parameter("axes", "axes")),
    gradients=(Gradient("dx", ("dy",), ("x",)),),
    view=True,
    splits=AXES,
    indexing=joined,
)
