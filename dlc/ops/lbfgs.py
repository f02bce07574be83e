"""`lbfgs(history = 10)`: a quasi-Newton method over all weights at once, one gradient a step, no line search.

w ← w + t·d with d = −H·g; H is made of the last `history` pairs of steps and changes of the gradient (J. Nocedal,
*Updating Quasi-Newton Matrices with Limited Storage*, Mathematics of Computation 1980). t is the rate, in the first
step min(1, 1/Σ|g|) of it. As PyTorch's LBFGS with max_iter = 1, its tolerances included. The program's one node takes
all weights, all their gradients, and the states.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.attributes import integer
from dlc.ops.counting import lg, touched
from dlc.ops.operator import Cost, Inferred, Operator, Parameter, Shapes
from dlc.ops.update_rule import Rule

PROGRESS = 5
"""Numbers that say how far the method is: begun, pairs kept, next slot, scale of H₀, last step's length."""


def _states(arguments: Mapping[str, Attr], weights: TensorType) -> tuple[tuple[str, TensorType], ...]:
    """The pairs, y·s of each, the last gradient and direction, and how far the method is."""
    dtype, pairs = weights.dtype, Axis("pair", integer(arguments, "history"))
    many = TensorType(dtype, (pairs, *weights.axes))
    return (
        ("steps", many),
        ("changes", many),
        ("curvatures", TensorType(dtype, (pairs,))),
        ("gradient", weights),
        ("direction", weights),
        ("progress", TensorType(dtype, (Axis("entry", PROGRESS),))),
    )


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Weights, gradients, states -> all but the gradients."""
    states = len(_states(attrs, operands[-2]))
    count = (len(operands) - states) // 2
    return Inferred((*operands[:count], *operands[2 * count :]), attrs=(("history", integer(attrs, "history")),))


def _cost(_pass: str, shapes: Shapes) -> Cost:
    """For each pair two products of 2 operations an element and two updates of 2; about a dozen besides."""
    history, elements = integer(shapes.attrs, "history"), shapes.inputs[-2].elements
    return Cost(0, (8 * history + 14) * elements, 2 * history * (lg(elements) + 3) + 14, touched(shapes))


LBFGS = Rule(
    Operator(
        "lbfgs",
        _infer,
        _cost,
        variadic=True,
        parameters=(Parameter("history", "int", default=10, minimum=1),),
        runtime=("lr",),
        splits=(),
        role="optimizer",
    ),
    states=lambda _: (),
    joint=_states,
)
