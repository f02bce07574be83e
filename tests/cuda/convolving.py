"""Convolutions in CUDA beside their NumPy twins: the arrays of one are drawn, and its passes compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.ir.tensor import Axis, TensorType
from dlc.ops.operator import Operator
from tests.cuda.calling import compare, empty
from tests.kernels.calling import Op, image


def compare_convolution(
    operator: Operator,
    algorithm: str,
    dtype: str,
    shape: tuple[int, ...],
    layout: str = "NCHW",
    bound: float = 64,
    fused: bool = False,
    **args: Any,
) -> None:
    """x has that shape (batch, channels, …). `fused` are those with a ReLU behind, or the gradient of one before."""
    op = Op(operator, (image("f64", *shape) if len(shape) == 4 else signal(*shape),), args, layout, algorithm)
    rng = np.random.default_rng(sum(shape))
    biased = "bias" in op.types
    drawn = {role: rng.normal(0, 1, op.types[role].shape).astype(np.float32).astype(float) for role in op.types}
    batch = shape[0]
    known = {role: op.store(role, array[:batch] if op.types[role].batched else array) for role, array in drawn.items()}
    calls: dict[str, tuple[list[str], list[str]]] = {
        "forward": (["x", "weight", *["bias"] * biased], ["y"]),
        "dx": (["dy", "weight", *["x"] * fused], ["dx"]),
        "dw": (["dy", "x"], ["dweight", *["dbias"] * biased]),
    }
    for stage, (needs, gives) in calls.items():
        if fused and stage == "dw":
            continue
        arrays = [*(known[role] for role in needs), *(empty(*known[role].shape) for role in gives)]
        workspaces = [np.zeros(each.type.shape) for each in op.workspaces(stage)]
        told = dict(op.inferred.attrs) | op.layout_keyword()
        compare(("conv_relu" if fused else operator.name, stage, algorithm), dtype, arrays, bound, workspaces, **told)


def signal(*shape: int) -> Any:
    """The type of a sequence, or of a volume."""
    names = {3: ("batch", "channel", "width"), 5: ("batch", "channel", "depth", "height", "width")}[len(shape)]
    return TensorType("f64", tuple(Axis(name, extent) for name, extent in zip(names, shape, strict=True)))
