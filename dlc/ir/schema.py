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
    def weights_by(self) -> Callable[[Mapping[str, Attr]], tuple[str, ...]] | None: ...  # noqa: D102
    @property
    def variadic_results(self) -> bool: ...  # noqa: D102
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
    """Role -> value of a forward node: operands (x0, x1, … of a variadic one), weights, statistics, results (y0, y1, …
    where their number is open), saved.

    None where the node has another number of inputs or outputs than the operator declares. A weight whose attribute is
    `no` is absent; beside a number (`scalar`) an operator has one operand.
    """
    weights = weight_roles(op, node)
    count = len(node.inputs) - len(weights) - len(op.statistics)
    operands = tuple(f"x{index}" for index in range(count)) if op.variadic else op.operands
    operands = operands[:1] if node.has("scalar") else operands
    names, outputs = (*operands, *weights, *op.statistics), (*result_roles(op, node), *op.saved)
    if len(names) != len(node.inputs) or len(outputs) != len(node.outputs):
        return None
    return dict(zip((*names, *outputs), (*node.inputs, *node.outputs), strict=True))


def weight_roles(op: Schema, node: Node) -> tuple[str, ...]:
    """The roles of the weights that a node has."""
    if op.weights_by is not None:
        return op.weights_by(dict(node.attrs))
    return tuple(role for role in op.weights if not (node.has(role) and node.attr(role) is False))


def result_roles(op: Schema, node: Node) -> tuple[str, ...]:
    """The roles of a node's results: `y`, or y0, y1, … where their number is open."""
    if not op.variadic_results:
        return op.results
    return tuple(f"y{index}" for index in range(len(node.outputs) - len(op.saved)))


def needed(gradient: GradientSchema, known: Mapping[str, str]) -> Iterator[str]:
    """The roles that a backward node reads, `dy` (the gradients of the results) among them."""
    for role in gradient.needs:
        if role == "dy":
            yield role
        else:
            yield from _meant(role, known)


def given(gradient: GradientSchema, known: Mapping[str, str]) -> Iterator[str]:
    """The roles whose gradients a backward node gives."""
    for role in gradient.gives:
        yield from _meant(role, known)


def _meant(role: str, known: Mapping[str, str]) -> Iterator[str]:
    """The roles that a declared name stands for: itself, if the node has it; `x` for all variadic operands, `weights`
    for all weights whose number the attributes decide."""
    if role in known:
        yield role
    elif role == "x":
        yield from (name for name in known if name[:1] == "x" and name[1:].isdigit())
    elif role == "weights":
        yield from (name for name in known if name.startswith(("weight_", "bias_")))
