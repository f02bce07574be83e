"""A training graph as the search sees it: ops and homes of values as variables, tensors as edges, all in kinds.

Two ops are of one kind where operator, attributes, types, gradients and the rules that reach them are the same:
repeated blocks of a network are priced and solved once. A value with several readers has a home, a variable of its own:
the form in which it is kept between its producer and its readers; so every edge joins two variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlc.ir import schema
from dlc.ir.graph import Attrs, Graph, Node
from dlc.ir.tensor import TensorType
from dlc.ops.indexing import Indexing, indexing_of
from dlc.ops.operator import Operator
from passes.add_updates import weight_gradients
from passes.differentiate import operator_of, roles
from passes.layouts import offered
from passes.options import Rules
from passes.planning.chains import Chain, chains

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

FORWARD = ("forward", "loss", "metric")


@dataclass(frozen=True, slots=True)
class Operands:
    """One pass of an op: its node, and the role of the op's tensor that each input and output is shaped and placed as.

    The gradient of a tensor is placed as the tensor, so `dy` has the role of y, the gradient of x that of x.
    """

    node: Node
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpKind:
    """Ops that are alike; `example` is the first of them.

    `weights` are the roles of trained weights that such an op owns, `kept` those of its results and saved values that
    the backward pass reads; `passes` begins with the forward one.
    """

    index: int
    example: Node
    operator: Operator
    types: Mapping[str, TensorType]
    indexing: Indexing
    passes: tuple[Operands, ...]
    layouts: tuple[str, ...]
    weights: tuple[str, ...]
    constants: tuple[str, ...]
    kept: tuple[str, ...]
    results: tuple[str, ...]
    chains: Mapping[str, Chain] = field(default_factory=dict)  # pass -> the chain whose saving it bears


@dataclass(frozen=True, slots=True)
class HomeKind:
    """Homes that are alike: of values of one type, with or without a gradient that so many readers add to."""

    index: int
    type: TensorType
    gradients: int


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """Tensors that are alike on their way from one variable to another; the role is "" at a home.

    `gradient` says that one comes back. A `weight` is lent by the op that owns it to another one, once a step.
    """

    index: int
    source: int
    source_role: str
    target: int
    target_role: str
    type: TensorType
    gradient: bool
    weight: bool = False


Kind = OpKind | HomeKind


@dataclass(frozen=True, slots=True)
class Crossing:
    """Values that later ops read, of one role of a kind of variable: value i is held by `variables[i]`, made by op
    `begins[i]` and last read by op `ends[i]`, a later one. The role is "" at a home."""

    kind: int
    role: str
    variables: Integers
    begins: Integers
    ends: Integers


@dataclass(frozen=True, slots=True)
class Network:
    """Variables (the ops in `addresses`, then the homes of the values in `homes`) by kind, and the edges between.

    `makers` are the ops that make what the variables stand for: an op itself, or the producer of a home's value.
    """

    graph: Graph
    addresses: tuple[str, ...]
    homes: tuple[str, ...]
    variables: tuple[int, ...]  # the kind of each variable
    kinds: tuple[Kind, ...]
    edges: tuple[tuple[int, int, int], ...]  # (variable, variable, edge kind)
    edge_kinds: tuple[EdgeKind, ...]
    crossings: tuple[Crossing, ...]
    kept: frozenset[str]  # values that the backward pass reads
    makers: Integers


def network(graph: Graph, rules: Rules) -> Network:
    """The variables and edges of a training graph."""
    return _Builder(graph, rules).build()


@dataclass(slots=True)
class _Builder:
    graph: Graph
    rules: Rules
    kinds: list[Kind] = field(default_factory=list)
    known: dict[object, int] = field(default_factory=dict)
    edge_kinds: list[EdgeKind] = field(default_factory=list)
    known_edges: dict[object, int] = field(default_factory=dict)
    variables: list[int] = field(default_factory=list)
    edges: list[tuple[int, int, int]] = field(default_factory=list)
    crossings: dict[tuple[int, str], list[tuple[int, int, int]]] = field(default_factory=dict)
    makers: list[int] = field(default_factory=list)  # of the homes' values
    chains: Mapping[tuple[str, str], Chain] = field(init=False)

    def __post_init__(self) -> None:
        self.chains = chains(self.graph)

    def build(self) -> Network:
        import numpy as np

        graph = self.graph
        ops = [node for node in graph.nodes if node.stage in FORWARD]
        passes: dict[str, list[Node]] = {node.address: [node] for node in ops}
        for node in graph.nodes:
            if node.stage in ("dx", "dw", "dt", "statistics") and node.base in passes:
                passes[node.base].append(node)
        kept = frozenset(name for group in passes.values() for node in group[1:] for name in node.inputs)
        trained = {name for name, _ in weight_gradients(graph)}
        owners = self._owners(ops)
        known = [roles(node) for node in ops]
        for node, by_role in zip(ops, known, strict=True):
            self.variables.append(self._op(node, passes[node.address], by_role, kept, trained, owners))
        homes = self._edges(ops, known, owners)
        return Network(
            graph,
            tuple(node.address for node in ops),
            homes,
            tuple(self.variables),
            tuple(self.kinds),
            tuple(self.edges),
            tuple(self.edge_kinds),
            tuple(
                Crossing(kind, role, *np.array(found, dtype=np.int64).T)
                for (kind, role), found in self.crossings.items()
            ),
            kept,
            np.array([*range(len(ops)), *self.makers], dtype=np.int64),
        )

    def _owners(self, ops: list[Node]) -> dict[str, int]:
        """Weight -> the op that owns it: the first that reads it."""
        found: dict[str, int] = {}
        for index, node in enumerate(ops):
            for name in node.inputs:
                if self.graph.value(name).kind in ("weight", "statistic", "constant"):
                    found.setdefault(name, index)
        return found

    def _op(
        self,
        node: Node,
        passes: list[Node],
        by_role: dict[str, str],
        kept: frozenset[str],
        trained: set[str],
        owners: dict[str, int],
    ) -> int:
        graph, here = self.graph, len(self.variables)
        types = tuple((role, graph.type(name)) for role, name in by_role.items())
        own = tuple(role for role, name in by_role.items() if owners.get(name) == here)
        weights = tuple(role for role in own if by_role[role] in trained)
        constants = tuple(role for role in own if by_role[role] not in trained)
        outputs = set(node.outputs)
        read = tuple(role for role, name in by_role.items() if name in outputs and name in kept)
        address = node.address if node.stage == "forward" else ""
        after = tuple((each.stage, each.attrs) for each in passes[1:])
        borne: dict[str, Chain] = {
            made.stage: self.chains[made.base, made.stage] for made in passes if (made.base, made.stage) in self.chains
        }
        ruled = _ruled(self.rules, address)
        key = (node.op, node.stage, node.attrs, types, weights, constants, read, ruled, after, tuple(borne.items()))
        if key not in self.known:
            operator = operator_of(node)
            self.known[key] = len(self.kinds)
            self.kinds.append(
                OpKind(
                    self.known[key],
                    node,
                    operator,
                    dict(types),
                    indexing_of(operator, dict(types), dict(node.attrs)),
                    tuple(_operands(operator, node, by_role, made) for made in passes),
                    offered(graph, node, self.rules.named_layout(address)) if node.stage == "forward" else ("",),
                    weights,
                    constants,
                    read,
                    schema.result_roles(operator, node),
                    borne,
                )
            )
        return self.known[key]

    def _edges(self, ops: list[Node], known: list[dict[str, str]], owners: dict[str, int]) -> tuple[str, ...]:
        graph = self.graph
        made = {name: index for index, node in enumerate(ops) for name in node.outputs}
        readers: dict[str, list[tuple[int, str]]] = {}
        for index, node in enumerate(ops):
            inputs = set(node.inputs)
            for role, name in known[index].items():
                if name in made and name in inputs and made[name] != index:
                    readers.setdefault(name, []).append((index, role))
                elif owners.get(name, index) != index:
                    self._lend(name, owners[name], known, index, role)
        gradients = _with_gradients(graph)
        homes = list[str]()
        for name, reads in readers.items():
            source = made[name]
            source_role = next(role for role, value in known[source].items() if value == name)
            flows = name in gradients
            last = max(target for target, _ in reads)
            if len(reads) == 1:
                (target, role) = reads[0]
                self._cross(source, source_role, source, last)
                self._edge(source, source_role, target, role, graph.type(name), flows and _returns(ops[target]))
                continue
            homes.append(name)
            self.makers.append(source)
            back = sum(_returns(ops[target]) for target, _ in reads) if flows else 0
            home = self._home(graph.type(name), back)
            self._cross(home, "", source, last)
            self._edge(source, source_role, home, "", graph.type(name), flows)
            for target, role in reads:
                self._edge(home, "", target, role, graph.type(name), flows and _returns(ops[target]))
        return tuple(homes)

    def _cross(self, variable: int, role: str, begin: int, end: int) -> None:
        self.crossings.setdefault((self.variables[variable], role), []).append((variable, begin, end))

    def _home(self, type_: TensorType, gradients: int) -> int:
        key = ("home", type_, gradients)
        if key not in self.known:
            self.known[key] = len(self.kinds)
            self.kinds.append(HomeKind(self.known[key], type_, gradients))
        self.variables.append(self.known[key])
        return len(self.variables) - 1

    def _lend(self, name: str, owner: int, known: list[dict[str, str]], borrower: int, role: str) -> None:
        owned = next(role for role, value in known[owner].items() if value == name)
        self._edge(owner, owned, borrower, role, self.graph.type(name), True, weight=True)

    def _edge(
        self, source: int, source_role: str, target: int, role: str, type_: TensorType, back: bool, weight: bool = False
    ) -> None:
        kinds = self.variables[source], self.variables[target]
        key = (*kinds, source_role, role, type_, back, weight)
        if key not in self.known_edges:
            index = self.known_edges[key] = len(self.edge_kinds)
            self.edge_kinds.append(EdgeKind(index, kinds[0], source_role, kinds[1], role, type_, back, weight))
        self.edges.append((source, target, self.known_edges[key]))


RULED = ("algorithm", "layout", "partition", "microbatch", "recompute")


def _ruled(rules: Rules, address: str) -> tuple[object, ...]:
    """What the pins and forbids that reach an op say."""
    pins = ((key, rules.pins[address, key].value) for key in RULED if (address, key) in rules.pins)
    forbids = ((key, rule.value) for key in RULED for rule in rules.forbids.get((address, key), ()))
    return (*pins, "forbid", *forbids)


def _returns(reader: Node) -> bool:
    """Whether a reader adds to the gradient of what it reads; metrics do not."""
    return reader.stage != "metric"


def _with_gradients(graph: Graph) -> frozenset[str]:
    """The values through which the loss depends on a weight."""
    reached = {value.name for value in graph.of_kind("weight")}
    for node in graph.nodes:
        if node.stage in ("forward", "loss") and reached.intersection(node.inputs):
            reached.update(node.outputs)
    return frozenset(reached)


def _operands(operator: Operator, forward: Node, by_role: Mapping[str, str], node: Node) -> Operands:
    """The roles that one pass of an op reads and writes."""
    if node is forward:
        names = {name: role for role, name in by_role.items()}
        return Operands(node, tuple(names[n] for n in node.inputs), tuple(names[n] for n in node.outputs))
    if node.stage == "statistics":
        operand = next(iter(by_role))
        return Operands(node, (operand, *operator.saved), operator.statistics)
    gradient = next(each for each in operator.gradients if each.suffix == node.stage)
    results = schema.result_roles(operator, forward)
    reached = [results[at] for at in _reached(node.attrs)] if operator.variadic_results else list(results)
    inputs = [part for role in schema.needed(gradient, by_role) for part in (reached if role == "dy" else [role])]
    return Operands(node, tuple(inputs), tuple(schema.given(gradient, by_role)))


def _reached(attrs: Attrs) -> Iterator[int]:
    found = dict(attrs)["reached"]
    assert isinstance(found, tuple)
    return (at for at in found if isinstance(at, int))
