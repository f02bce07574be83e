"""Invariants of a training graph: its gradients are the chain rule of its forward pass, nothing less and nothing more.

The parts of each gradient are worked out again from the operators' declarations, by themselves of the pass that built
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dlc.ir.graph import Graph, Node, Value
from dlc.ir.schema import GradientSchema, Operators, Schema, given, needed, result_roles, roles
from dlc.ir.tensor import NARROW, TensorType

BACKWARD = ("dx", "dw", "dt")


def gradient_type(value: Value) -> TensorType:
    """The type of a value's gradient: its own, but sums over samples and ranks, as for weights, are no narrower than
    f32."""
    return value.type.with_dtype("f32") if value.kind == "weight" and value.type.dtype in NARROW else value.type


@dataclass(frozen=True, slots=True)
class Use:
    """A node whose result has a gradient, with its operator and roles: each declared gradient, the roles that it gives,
    and the backward node if it exists."""

    node: Node
    op: Schema
    known: dict[str, str]
    gradients: tuple[tuple[GradientSchema, tuple[str, ...], Node | None], ...]


@dataclass(slots=True)
class Chain:
    """`parts` maps a value to the values that make up its gradient, one for each use that leads to the loss, `uses` are
    the nodes whose result has one, backwards."""

    graph: Graph
    operators: Operators
    trained: set[str] = field(default_factory=set)  # values that depend on a weight
    parts: dict[str, list[str]] = field(default_factory=dict)
    backward: dict[str, Node] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backward.update({node.address: node for node in self.graph.nodes if node.stage in BACKWARD})
        self.trained.update(value.name for value in self.graph.of_kind("weight"))
        for node in self.graph.nodes:
            if node.stage in ("forward", "loss") and self.trained.intersection(node.inputs):
                self.trained.update(node.outputs)
        if self.graph.loss is not None:
            self.parts[self.graph.loss] = [f"{self.graph.loss}@seed"]
        for node in reversed(self.graph.nodes):
            op = self.operators(node.op)
            if op is None or node.stage not in ("forward", "loss") or not self.arriving(node, op):
                continue
            known = roles(op, node)
            if known is not None:
                self._use(Use(node, op, known, tuple(self.gradients(node, op, known))))

    def _use(self, use: Use) -> None:
        self.uses.append(use)
        if self.is_identity(use.node, use.op):
            self._reach(use.node.inputs, (self.whole(use.node.outputs[0]),) * len(use.node.inputs))
        for _, roles_, backward in use.gradients:
            if backward is not None:
                self._reach(tuple(use.known[role] for role in roles_), backward.outputs)

    def arriving(self, node: Node, op: Schema) -> tuple[str, ...]:
        """The gradients of those results of a node that have one."""
        results = node.outputs[: len(result_roles(op, node))]
        return tuple(self.whole(name) for name in results if name in self.parts)

    def is_identity(self, node: Node, op: Schema) -> bool:
        """Whether the gradient of the result is that of every operand."""
        return op.identity_gradient and len({self.graph.type(name) for name in (*node.inputs, *node.outputs)}) == 1

    def gradients(
        self, node: Node, op: Schema, known: dict[str, str]
    ) -> Iterator[tuple[GradientSchema, tuple[str, ...], Node | None]]:
        """Those of a node; none where the gradient of the result is handed on."""
        if self.is_identity(node, op):
            return
        for gradient in op.gradients:
            yield gradient, tuple(given(gradient, known)), self.backward.get(f"{node.address}@{gradient.suffix}")

    def whole(self, name: str) -> str:
        """The value that holds the whole gradient of a value that has one."""
        return self.parts[name][0] if len(self.parts[name]) == 1 else f"{name}@grad"

    def _reach(self, names: tuple[str, ...], parts: tuple[str, ...]) -> None:
        for name, part in zip(names, parts, strict=False):
            if name in self.trained:
                self.parts.setdefault(name, []).append(part)


def rules_hold(graph: Graph, operators: Operators) -> Iterator[str]:
    """The faults of the first broken rule of a training graph."""
    if graph.stage == "training":
        chain = Chain(graph, operators)
        yield from next((faults for rule in RULES if (faults := tuple(rule(chain)))), ())


def gradients_are_needed(chain: Chain) -> Iterator[str]:
    """Every backward node gives a gradient that leads to a weight: there is none for inputs alone."""
    used = set[str]()
    for use in chain.uses:
        for _, roles_, backward in use.gradients:
            if backward is not None and any(use.known[role] in chain.trained for role in roles_):
                used.add(backward.address)
    for node in chain.graph.nodes:
        if node.stage in BACKWARD and node.address not in used:
            yield f"`{node.address}` computes gradients that lead to no weight"


def gradients_are_complete(chain: Chain) -> Iterator[str]:
    """Every use on the way from a weight to the loss has its backward node."""
    for use in chain.uses:
        at = use.node.address
        for gradient, roles_, backward in use.gradients:
            if backward is None and any(use.known[role] in chain.trained for role in roles_):
                yield f"`{at}` has no node `{at}@{gradient.suffix}` and its operands need it"


def gradients_read_their_needs(chain: Chain) -> Iterator[str]:
    """A backward node reads what its operator declares, and the whole gradient of its result."""
    for use in chain.uses:
        read = {"dy": chain.arriving(use.node, use.op), **{role: (name,) for role, name in use.known.items()}}
        for gradient, roles_, backward in use.gradients:
            needs = tuple(name for role in needed(gradient, use.known) for name in read[role])
            if backward is not None and backward.inputs != needs:
                yield f"`{backward.address}` reads {list(backward.inputs)} in place of {list(needs)}"
            if backward is not None and len(backward.outputs) != len(roles_):
                yield f"`{backward.address}` gives {len(backward.outputs)} gradients for {list(roles_)}"


def fan_outs_are_summed(chain: Chain) -> Iterator[str]:
    """Where several gradients reach a value they are summed, all of them and each once; and nowhere else."""
    sums = {node.outputs: node for node in chain.graph.nodes if node.stage == "sum"}
    for name, parts in chain.parts.items():
        if len(parts) < 2:
            continue
        node = sums.pop((f"{name}@grad",), None)
        if node is None:
            yield f"{len(parts)} gradients reach `{name}` and are not summed"
        elif sorted(node.inputs) != sorted(parts):
            yield f"`{node.address}` sums {list(node.inputs)} in place of {parts}"
    for node in sums.values():
        yield f"`{node.address}` sums what is no fan-out's gradients"


def gradients_have_their_types(chain: Chain) -> Iterator[str]:
    """A gradient has the type of the value that it is the gradient of, but in f32 where that is a narrower weight."""
    for name, parts in chain.parts.items():
        whole, wanted = (f"{name}@grad",) if len(parts) > 1 else (), gradient_type(chain.graph.value(name))
        for part in (*parts, *whole):
            if not chain.graph.has_value(part) or chain.graph.type(part) != wanted:
                found = chain.graph.type(part) if chain.graph.has_value(part) else "missing"
                yield f"the gradient `{part}` is {found}, `{name}` is {chain.graph.type(name)}"


def weights_are_updated_once(chain: Chain) -> Iterator[str]:
    """Once updates are there, each weight that the loss depends on has one, which reads its whole gradient."""
    updates = defaultdict[str, list[tuple[Node, str]]](list)
    for node in chain.graph.nodes:
        if node.stage == "update":
            for name, gradient in _pairs(chain.graph, node):
                updates[name].append((node, gradient))
    if not any(node.stage == "update" for node in chain.graph.nodes):
        return
    for weight in chain.graph.of_kind("weight"):
        its = updates[weight.name]
        if weight.name in chain.parts and len(its) != 1:
            yield f"{len(its)} nodes update the weight `{weight.name}`"
        if weight.name not in chain.parts and its:
            yield f"`{its[0][0].address}` updates `{weight.name}`, which has no gradient"
        if weight.name in chain.parts and len(its) == 1 and its[0][1] != chain.whole(weight.name):
            yield f"`{its[0][0].address}` does not read the gradient `{chain.whole(weight.name)}`"


def regularised_gradients_are_whole(chain: Chain) -> Iterator[str]:
    """Where weights are regularised, all that the loss depends on are, each once and beside its whole gradient."""
    for node in chain.graph.nodes:
        if node.stage != "regularise":
            continue
        found = sorted(_pairs(chain.graph, node))
        trained = (weight.name for weight in chain.graph.of_kind("weight") if weight.name in chain.parts)
        if found != sorted((name, chain.whole(name)) for name in trained):
            yield f"`{node.address}` does not read each trained weight and its whole gradient"


def _pairs(graph: Graph, node: Node) -> Iterator[tuple[str, str]]:
    """(weight, gradient) for each weight that a node reads: weights stand first, then their gradients in this order."""
    weights = [name for name in node.inputs if graph.value(name).kind == "weight"]
    return zip(weights, node.inputs[len(weights) :], strict=False)


RULES: tuple[Callable[[Chain], Iterator[str]], ...] = (
    gradients_are_needed,
    gradients_are_complete,
    gradients_read_their_needs,
    fan_outs_are_summed,
    gradients_have_their_types,
    weights_are_updated_once,
    regularised_gradients_are_whole,
)
"""In the order in which they are checked: later ones build on earlier ones."""
