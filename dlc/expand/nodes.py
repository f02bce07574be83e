"""The Graph under construction: nodes in the order in which they are expanded, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from dlc.diagnostics import Span
from dlc.expand.count import MOST_OPS, TooManyOpsError
from dlc.expand.evaluate import Tensor
from dlc.ir.graph import Graph, Kind, Node, Value
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops import weight_norm
from dlc.ops.operator import Inferred, Operator, Weight

STEPS_PER_OP = 3
"""How many blocks and iterations may be expanded for each op that may be made: a bound for what holds no op."""


class Nodes:
    """Collects nodes and values, and stops where there are too many."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.places: dict[str, Span | None] = {}  # address -> where it was written
        self.blocks: dict[str, str] = {}  # address -> the block of the spec that it is an instance of
        self.inputs: list[str] = []
        self.batch: int | None = None
        self.messages = 0  # how many were reported while it was made
        self._steps = 0

    def step(self, span: Span) -> None:
        """Count one block or iteration."""
        self._steps += 1
        if self._steps > STEPS_PER_OP * MOST_OPS:
            raise TooManyOpsError(span)

    @property
    def count(self) -> tuple[int, int, int]:
        """How many nodes, values and blocks there are."""
        return len(self.nodes), len(self.values), len(self.blocks)

    def since(
        self, count: tuple[int, int, int]
    ) -> tuple[tuple[Node, ...], tuple[Value, ...], tuple[tuple[str, str], ...]]:
        """The nodes, values and blocks that were added since there were so many."""
        latest = islice(reversed(self.values.values()), len(self.values) - count[1])
        return tuple(self.nodes[count[0] :]), tuple(latest)[::-1], tuple(islice(self.blocks.items(), count[2], None))

    def input(self, name: str, type_: TensorType) -> Tensor:
        """A network input."""
        self._keep(name, type_, "input")
        self.inputs.append(name)
        self.batch = type_.extent(BATCH)
        return Tensor(name, type_)

    def weight(self, name: str) -> Value | None:
        """The weight of that name, if it is there yet."""
        value = self.values.get(name)
        return value if value is not None and value.kind == "weight" else None

    def clash(self, op: Operator, address: str, inferred: Inferred) -> str | None:
        """The first name that the op would give to something and that is taken; None where all are free."""
        roles = [weight.role for weight in inferred.weights] + [role for role, _ in inferred.saved]
        names = (*_results(op, address, inferred), *(f"{address}.{role}" for role in roles))
        return next((name for name in names if name in self.places or name in self.values), None)

    def add(
        self, op: Operator, address: str, operands: Sequence[str], inferred: Inferred, span: Span
    ) -> tuple[Tensor, ...]:
        """Append a node, with its weights, results and by-products; its results."""
        if len(self.nodes) >= MOST_OPS:
            raise TooManyOpsError(span)
        weights = self._weights(op, address, inferred)
        names = _results(op, address, inferred)
        results = tuple(Tensor(name, type_) for name, type_ in zip(names, inferred.results, strict=True))
        for result in results:
            self._keep(result.name, result.type, "activation")
        saved = {f"{address}.{role}": type_ for role, type_ in inferred.saved}
        for name, type_ in saved.items():
            self._keep(name, type_, "saved")
        outputs = (*(result.name for result in results), *saved)
        inputs = (*operands, *weights)
        self.append(Node(address, op.name, "forward", inputs, outputs, inferred.attrs, span))
        return results

    def wrap(self, wrapper: Operator, address: str, layer: Inferred, span: Span) -> Inferred:
        """Append a node below a layer's address that makes its weight; the layer as it reads that."""
        weight = next(weight for weight in layer.weights if weight.role == "weight")
        below = f"{address}.{wrapper.name}"
        parts = weight_norm.parts(weight)
        operands = [self._own(below, part) for part in parts]
        (made,) = self.add(wrapper, below, operands, wrapper.infer(tuple(part.type for part in parts), {}), span)
        others = tuple(other for other in layer.weights if other is not weight)
        return replace(layer, weights=others, tied=((weight.role, made.name),), tied_types=(made.type,))

    def append(self, node: Node) -> None:
        """Append a node whose values are there."""
        self.places[node.address] = node.span
        self.nodes.append(node)

    def _weights(self, op: Operator, address: str, inferred: Inferred) -> list[str]:
        """The names of the op's weights, then of its statistics; a tied weight is its owner's."""
        names: dict[str, str] = dict(inferred.tied)
        for weight in inferred.weights:
            names[weight.role] = self._own(address, weight)
        if op.weights_by is not None:
            return list(names.values())
        return [names[role] for role in (*op.weights, *op.statistics) if role in names]

    def _own(self, address: str, weight: Weight) -> str:
        """Keep a weight or statistic of an op; its name."""
        name = f"{address}.{weight.role}"
        self.values[name] = Value(name, weight.type, "weight" if weight.trained else "statistic", weight.init, address)
        return name

    def _keep(self, name: str, type_: TensorType, kind: Kind) -> None:
        self.values[name] = Value(name, type_, kind)

    def graph(self, name: str, outputs: Sequence[tuple[str, str]]) -> Graph:
        """The finished Graph; `outputs` are names in the spec and their values."""
        return Graph(
            name,
            "network",
            tuple(self.nodes),
            tuple(self.values.values()),
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
            batch=self.batch or 1,
            blocks=tuple(self.blocks.items()),
        )


def _results(op: Operator, address: str, inferred: Inferred) -> tuple[str, ...]:
    """The values that a node computes: the first bears its address, the others their roles below it."""
    roles = tuple(f"y{index}" for index in range(len(inferred.results))) if op.variadic_results else op.results
    return (address, *(f"{address}.{role}" for role in roles[1:]))
