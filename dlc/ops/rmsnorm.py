"""`rmsnorm(eps = 2⁻²³)`: y = scale·x/√(mean(x²) + eps) over the last axis (Zhang and Sennrich, 2019).

PyTorch's default eps is the distance from 1 to the next number of x's type; here it is that of f32 whatever the
precision, so that a precision changes rounding and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number
from dlc.ops.indexing import AXES
from dlc.ops.layernorm import row_cost, rows
from dlc.ops.operands import features, floating
from dlc.ops.operator import Gradient, Inferred, Operator, Parameter, Weight


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, …, width] -> y; scale [width] begins at one; the reciprocal root of each row is saved."""
    (x,) = operands
    floating("rmsnorm", x)
    features("rmsnorm", x)
    return Inferred(
        (x,),
        attrs=(("eps", number(attrs, "eps")),),
        weights=(Weight("scale", TensorType(x.dtype, x.axes[-1:]), Init("constant", value=1.0)),),
        saved=(("rstd", TensorType(x.dtype, x.axes[:-1])),),
    )


RMSNORM = Operator(
    "rmsnorm",
    _infer,
    row_cost,
    parameters=(Parameter("eps", "number", default=2.0**-23, minimum=0),),
    weights=("scale",),
    saved=("rstd",),
    gradients=(
        Gradient("dx", ("dy", "x", "scale", "rstd"), ("x",)),
        Gradient("dw", ("dy", "x", "rstd"), ("scale",)),
    ),
    splits=AXES,
    indexing=rows,
)
