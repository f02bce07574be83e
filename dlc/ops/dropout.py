"""`dropout(p)`: each element is zero with probability p, else divided by 1 − p; in evaluation y = x.

The mask depends on the seed, the op's address, the step and the sample's position in the global batch, never on the
plan (reliability.md, Philox4x32-10). It counts elements in logical order, so the op is computed in the default layout.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number
from dlc.ops.counting import elementwise
from dlc.ops.indexing import AXES, Attributes, Indexing, Types, indexed, named
from dlc.ops.operands import floating
from dlc.ops.operator import Gradient, Inferred, Operator, Parameter


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x -> y and the mask of kept elements, u8 of the same axes. The training pass adds the attribute `key`."""
    (x,) = operands
    floating("dropout", x)
    return Inferred((x,), attrs=(("p", number(attrs, "p")),), saved=(("mask", x.with_dtype("u8")),))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Every axis; the mask depends on an element's place in its sample."""
    names = named(types["y"])
    return indexed(types, dict.fromkeys(types, names), positions=tuple(axis for axis in names if axis != "batch"))


DROPOUT = Operator(
    "dropout",
    _infer,
    elementwise,
    parameters=(Parameter("p", "number", required=True, minimum=0, below=1),),
    saved=("mask",),
    gradients=(Gradient("dx", ("dy", "mask"), ("x",)),),
    runtime=("step", "position"),
    splits=AXES,
    indexing=_indexing,
)
