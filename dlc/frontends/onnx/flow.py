"""A value on its way through a statement: an expression of the spec, its type, and the weights that its ops own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dlc.frontends.onnx.arguments import NOWHERE, call, name, number
from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.messages import MESSAGES
from dlc.ops import LAYERS, SIGNS, operator
from dlc.ops.operator import Inferred, OperandError, Operator
from dlc.syntax import ast

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array

_LAYERS = {op.name: op for op in LAYERS}


class UncoveredError(Exception):
    """What a node asks for has no counterpart in dlc; the text says what."""


@dataclass(frozen=True, slots=True)
class Flow:
    """`ops` are the names of the ops in the expression, in text order; `weights` by address below the statement.

    `at` is where the model has the batch among the axes of this value, None where it has none: dlc has it first.
    """

    expression: ast.Expr
    type: TensorType
    at: int | None
    ops: tuple[str, ...] = ()
    weights: tuple[tuple[str, Array], ...] = ()

    @property
    def sample(self) -> tuple[Axis, ...]:
        """The axes behind the batch."""
        return self.type.axes[1:]

    @property
    def extents(self) -> tuple[int, ...]:
        """Their extents."""
        return self.type.shape[1:]

    @property
    def rank(self) -> int:
        """How many axes it has in the model."""
        return len(self.type.axes) - (self.at is None)

    def position(self, axis: int) -> int:
        """An axis of the model, counted from the end where it is negative, as a position of dlc; never the batch."""
        if not -self.rank <= axis < self.rank:
            raise UncoveredError(f"there is no axis {axis} among {self.rank}")
        place = axis % self.rank
        if place == self.at:
            raise UncoveredError("it works along the batch")
        return place + 1 if self.at is None or place < self.at else place

    def require_rows(self, axis: int) -> int:
        """The position of an axis of the model from which on all axes are joined: none of them is the batch."""
        position = self.position(axis)
        if self.at is not None and self.at > axis % self.rank:
            raise UncoveredError("it works along the batch")
        return position

    def apply(self, op: str, weights: Mapping[str, Array | None] | None = None, /, **args: Attr | None) -> Flow:
        """`… -> op(args)`; arguments that are None are left away, and so are weights."""
        found, given = _operator(op), {key: value for key, value in args.items() if value is not None}
        inferred = infer(found, (self.type,), given)
        chain = linked(self.expression, call(found, given))
        made = Flow(chain, inferred.results[0], self.at, (*self.ops, op), self.weights)
        return made.owning(op, inferred, weights or {})

    def owning(self, op: str, inferred: Inferred, weights: Mapping[str, Array | None]) -> Flow:
        """The same with the weights of its last op, which must be of the types that the op declares."""
        number_ = self.ops.count(op)
        address = op if number_ == 1 else f"{op}_{number_}"
        given = {role: array for role, array in weights.items() if array is not None}
        declared = {weight.role: weight.type.shape for weight in inferred.weights}
        if declared != {role: array.shape for role, array in given.items()}:
            shapes = {role: array.shape for role, array in given.items()}
            raise UncoveredError(f"its weights have the shapes {shapes}, `{op}` has {declared}")
        return replace(self, weights=(*self.weights, *((f"{address}.{role}", a) for role, a in given.items())))


def joined(op: str, *flows: Flow, **args: Attr) -> Flow:
    """`op(a, b, …, args)`: an op of several values."""
    found = _operator(op)
    inferred = infer(found, tuple(flow.type for flow in flows), args)
    expression = call(found, args, tuple(flow.expression for flow in flows))
    at = flows[0].at if flows else None
    return Flow(expression, inferred.results[0], at, (*_ops(*flows), op), _weights(*flows))


def parted(op: str, flow: Flow, **args: Attr) -> tuple[Flow, tuple[TensorType, ...]]:
    """An op of several results: the statement's right side, and the types of its results."""
    inferred = infer(_operator(op), (flow.type,), args)
    chain = linked(flow.expression, call(_operator(op), args))
    return Flow(chain, inferred.results[0], flow.at, (*flow.ops, op), flow.weights), inferred.results


def combined(sign: str, left: Flow | float, right: Flow | float) -> Flow:
    """`left + right` and the like, of values and numbers, one of them a value; the batch is where the wider has it."""
    flows = [side for side in (left, right) if isinstance(side, Flow)]
    args: dict[str, Attr] = {}
    for side in (left, right):
        if not isinstance(side, Flow):
            args = {"scalar": side, "scalar_first": side is left}
    inferred = infer(_operator(SIGNS[sign]), tuple(flow.type for flow in flows), args)
    sides = [side.expression if isinstance(side, Flow) else number(side) for side in (left, right)]
    expression = ast.Binary(sign, sides[0], sides[1], NOWHERE, NOWHERE)
    at = max(flows, key=lambda flow: len(flow.type.axes)).at
    return Flow(expression, inferred.results[0], at, (*_ops(*flows), SIGNS[sign]), _weights(*flows))


def linked(expression: ast.Expr, stage: ast.Call) -> ast.Chain:
    """`… -> stage`."""
    link = ast.Link(stage, None, None, NOWHERE)
    if isinstance(expression, ast.Chain):
        return ast.Chain(expression.head, (*expression.links, link), NOWHERE)
    return ast.Chain(expression, (link,), NOWHERE)


def named(text: str, type_: TensorType, at: int | None) -> Flow:
    """A value that a statement or an input has given a name."""
    return Flow(name(text), type_, at)


def infer(op: Operator, operands: tuple[TensorType, ...], args: Mapping[str, Attr]) -> Inferred:
    """What an op makes of its operands; UncoveredError with the op's own words where it refuses them."""
    defaults = {parameter.name: parameter.default for parameter in op.parameters if parameter.default is not None}
    try:
        return op.infer(operands, {**defaults, **args})
    except OperandError as error:
        raise UncoveredError(MESSAGES[error.code].sentence.format(**error.values)) from None


def exists(op: str) -> bool:
    """Whether this version of dlc has that operator."""
    return op in _LAYERS


def _operator(name_: str) -> Operator:
    op = operator(name_)
    if op is None:
        raise UncoveredError(f"this version of dlc has no operator `{name_}`")
    return op


def _ops(*flows: Flow) -> tuple[str, ...]:
    return tuple(op for flow in flows for op in flow.ops)


def _weights(*flows: Flow) -> tuple[tuple[str, Array], ...]:
    return tuple(weight for flow in flows for weight in flow.weights)
