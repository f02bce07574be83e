"""`reconstruction(prediction, target)`: Σ (prediction − target)² over a sample's elements, the mean over the batch.

The target may have another shape, with as many elements a sample: `reconstruction(decoded, data.image)` for a decoder
that ends in a linear map. It is `mse` times the elements of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.compared import comparison
from dlc.ops.indexing import Attributes, Indexing, Types, indexed, regrouped
from dlc.ops.labelled import scalar
from dlc.ops.operands import floating
from dlc.ops.operator import Inferred, OperandError


def _infer(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """Two values with as many elements a sample -> a number."""
    prediction, target = operands
    floating("reconstruction", prediction, target)
    if prediction.elements != target.elements:
        needed = f"a target of {prediction.elements // prediction.shape[0]} elements a sample"
        notes = (f"`prediction` is {prediction}",)
        raise OperandError("E0301", operand=1, op="reconstruction", needed=needed, found=target, notes=notes)
    return Inferred((scalar(prediction),))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """What both operands can be split along alike; it takes the mean over the samples alone."""
    prediction, target, whole = regrouped(types["prediction"], types["target"])
    return indexed(types, {"prediction": prediction, "target": target}, whole=whole)


RECONSTRUCTION = replace(comparison("reconstruction"), infer=_infer, indexing=_indexing)
