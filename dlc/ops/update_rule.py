"""Update rules: operators that write a weight and their own states in place, once for each weight and step.

One that is `joint` does so once a step, for all weights together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops.attributes import number
from dlc.ops.counting import touched
from dlc.ops.operator import Cost, Inferred, Operator, Parameter, Shapes

WEIGHT_DECAY = Parameter("weight_decay", "number", default=0.0, minimum=0)
"""λ: λw is added to the gradient (Tikhonov); adamw subtracts ηλw instead."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An update rule: its operator, and the states that it keeps of each weight, in the kernel's order.

    States begin at zero, have the weight's type and lie between steps in values of kind `state`. A `joint` rule has
    one node over all weights, their gradients and its states, whose names and types follow from the type of all
    weights as one vector.
    """

    operator: Operator
    states: Callable[[Mapping[str, Attr]], tuple[str, ...]]
    joint: Callable[[Mapping[str, Attr], TensorType], tuple[tuple[str, TensorType], ...]] | None = None

    @property
    def name(self) -> str:
        """As in the train block: `sgd`."""
        return self.operator.name

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its arguments, as in the train block."""
        return self.operator.parameters


def rule(
    name: str,
    parameters: tuple[Parameter, ...],
    states: Callable[[Mapping[str, Attr]], tuple[str, ...]],
    work: Callable[[Mapping[str, Attr]], tuple[int, int]],
) -> Rule:
    """A rule whose `work` gives its operations and its depth for one weight, weight decay apart."""

    def infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
        """Weight, gradient, states -> weight, states."""
        weight, _gradient, *kept = operands
        return Inferred((weight, *kept), attrs=tuple((p.name, attrs[p.name]) for p in parameters))

    def cost(_pass: str, shapes: Shapes) -> Cost:
        operations, depth = work(shapes.attrs)
        decay = 2 if number(shapes.attrs, "weight_decay") else 0
        elements = shapes.inputs[0].elements
        return Cost(0, (operations + decay) * elements, depth + decay, touched(shapes))

    operator = Operator(
        name,
        infer,
        cost,
        operands=("weight", "gradient"),
        parameters=parameters,
        runtime=("lr", "step"),
        splits=(),
        role="optimizer",
    )
    return Rule(operator, states)
