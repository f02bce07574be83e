"""`sum` and `clip`: what a step does with gradients between the backward pass and the updates.

`sum` adds the gradients that reach a value from several sides. `clip` works in place on all gradients of the step:
`norm` scales them by min(1, τ/(‖g‖ + 1e-6)), the norm being that of all of them together, as PyTorch's
clip_grad_norm_; `value` limits each element to [−τ, τ] (cost-models.md §3).
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number, word
from dlc.ops.counting import lg, touched
from dlc.ops.operator import Cost, Inferred, Operator, Parameter, Shapes


def _infer_sum(operands: tuple[TensorType, ...], _attrs: Mapping[str, Attr]) -> Inferred:
    """Gradients of one type -> their sum."""
    return Inferred((operands[0],))


def _sum_cost(_pass: str, shapes: Shapes) -> Cost:
    """A reduction of n values for each element: W = n − 1, D = ⌈lg n⌉."""
    terms = len(shapes.inputs)
    return Cost(0, (terms - 1) * shapes.inputs[0].elements, lg(terms), touched(shapes))


def _infer_clip(_operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Gradients, changed in place: no results."""
    return Inferred((), attrs=(("kind", word(attrs, "kind")), ("bound", number(attrs, "bound"))))


def _clip_cost(_pass: str, shapes: Shapes) -> Cost:
    """By norm: square, add and scale each element; by value: compare twice."""
    elements = sum(gradient.elements for gradient in shapes.inputs)
    if shapes.attrs["kind"] == "norm":
        return Cost(0, 3 * elements, lg(elements) + 5, touched(shapes))
    return Cost(0, 2 * elements, 2, touched(shapes))


SUM = Operator("sum", _infer_sum, _sum_cost, variadic=True, elementwise=True, splits=(), role="optimizer")

CLIP = Operator(
    "clip",
    _infer_clip,
    _clip_cost,
    variadic=True,
    parameters=(
        Parameter("kind", "choice", required=True, choices=("norm", "value")),
        Parameter("bound", "number", required=True, minimum=0),
    ),
    results=(),
    splits=(),
    role="optimizer",
)
