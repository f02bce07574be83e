"""What the verifier asks of an operator: the part of `dlc.ops.operator.Operator` that a Graph must agree with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from dlc.ir.graph import Attr, Attrs, Node
from dlc.ir.tensor import TensorType


class WeightSchema(Protocol):
    """A weight or statistic that an operator owns."""

    @property
    def role(self) -> str: ...  # noqa: D102
    @property
    def type(self) -> TensorType: ...  # noqa: D102


class GradientSchema(Protocol):
    """One backward node: what it needs and gives, by role."""

    @property
    def suffix(self) -> str: ...  # noqa: D102
    @property
    def needs(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def gives(self) -> tuple[str, ...]: ...  # noqa: D102


class Result(Protocol):
    """What an operator makes of its operands."""

    @property
    def results(self) -> tuple[TensorType, ...]: ...  # noqa: D102
    @property
    def attrs(self) -> Attrs: ...  # noqa: D102
    @property
    def weights(self) -> tuple[WeightSchema, ...]: ...  # noqa: D102
    @property
    def saved(self) -> tuple[tuple[str, TensorType], ...]: ...  # noqa: D102


class Schema(Protocol):
    """An operator as declared."""

    @property
    def infer(self) -> Callable[[tuple[TensorType, ...], Mapping[str, Attr]], Result]: ...  # noqa: D102
    @property
    def operands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def variadic(self) -> bool: ...  # noqa: D102
    @property
    def weights(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def statistics(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def results(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def saved(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def gradients(self) -> tuple[GradientSchema, ...]: ...  # noqa: D102
    @property
    def identity_gradient(self) -> bool: ...  # noqa: D102


Operators = Callable[[str], Schema | None]
"""Looks up an operator by name; None where there is none."""


def roles(op: Schema, node: Node) -> dict[str, str] | None:
    """Role -> value of a forward node: operands (x0, x1, … of a variadic one), weights, statistics, results, saved.

    None where the node has another number of inputs or outputs than the operator declares. A weight whose attribute is
    `no` is absent; beside a number (`scalar`) an operator has one operand.
    """
    weights = tuple(role for role in op.weights if not (node.has(role) and node.attr(role) is False))
    count = len(node.inputs) - len(weights) - len(op.statistics)
    operands = tuple(f"x{index}" for index in range(count)) if op.variadic else op.operands
    operands = operands[:1] if node.has("scalar") else operands
    names, outputs = (*operands, *weights, *op.statistics), (*op.results, *op.saved)
    if len(names) != len(node.inputs) or len(outputs) != len(node.outputs):
        return None
    return dict(zip((*names, *outputs), (*node.inputs, *node.outputs), strict=True))


def given(gradient: GradientSchema, known: Mapping[str, str]) -> Iterator[str]:
    """The roles whose gradients a backward node gives; a name that is no role stands for all variadic operands."""
    for role in gradient.gives:
        if role in known:
            yield role
        elif role == "x":
            yield from (name for name in known if name[:1] == "x" and name[1:].isdigit())
