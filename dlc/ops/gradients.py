"""`sum`, `unscale`, `regularise` and `clip`: what a step does with gradients before the updates.

`sum` adds the gradients that reach a value from several sides. `unscale` divides all gradients by the loss scale, in
place, and adapts that: where any is infinite or not a number, the step is skipped. `regularise` adds λ₂·w and
λ₁·sign(w) to the gradient of each weight w, in place: the gradients of λ₂/2·Σw² and of λ₁·Σ|w|, which are no part of
the loss that is shown. `clip` works in place on all gradients of the step: `norm` scales them by
min(1, τ/(‖g‖ + 1e-6)), the norm being that of all of them together, as PyTorch's clip_grad_norm_; `value` limits each
element to [−τ, τ] (cost-models.md §3).
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


def _infer_unscale(_operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Gradients, the loss scale and counts of steps, changed in place: no results."""
    return Inferred((), attrs=(("dynamic", attrs["dynamic"]),))


def _unscale_cost(_pass: str, shapes: Shapes) -> Cost:
    """Test and divide each element."""
    return Cost(0, 2 * sum(operand.elements for operand in shapes.inputs), 2, touched(shapes))


def _infer_regularise(_operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """Weights and their gradients, which are changed in place: no results."""
    return Inferred((), attrs=tuple((name, number(attrs, name)) for name in ("l1", "l2") if name in attrs))


def _regularise_cost(_pass: str, shapes: Shapes) -> Cost:
    """Multiply and add, for L1 the sign too."""
    elements = sum(operand.elements for operand in shapes.inputs) // 2
    operations = 3 * ("l1" in shapes.attrs) + 2 * ("l2" in shapes.attrs)
    return Cost(0, operations * elements, operations, touched(shapes))


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

UNSCALE = Operator("unscale", _infer_unscale, _unscale_cost, variadic=True, results=(), splits=(), role="optimizer")

REGULARISE = Operator(
    "regularise",
    _infer_regularise,
    _regularise_cost,
    variadic=True,
    parameters=(Parameter("l1", "number", above=0), Parameter("l2", "number", above=0)),
    results=(),
    splits=(),
    role="optimizer",
)

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
