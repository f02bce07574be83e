"""What holds for all roles of one job: meshes, types of a microbatch, homes of values, and prices of moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dlc.cluster.fabric import Fabric
from dlc.cost.communication import processing
from dlc.cost.redistribution import Redistributions
from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement
from dlc.ir.plan import Plan
from dlc.ir.storage import of_microbatch
from dlc.ir.tensor import TensorType
from dlc.ops import optimizer
from dlc.ops.indexing import Partition
from passes.context import Context
from passes.layouts import DEFAULT_LAYOUT, is_image
from passes.lowering.forms import Form, local, whole
from passes.lowering.kinds import FORWARD_LIKE, Kinds
from passes.lowering.stages import Staged, staged

PIPELINE = "pipeline"


@dataclass(frozen=True, slots=True)
class Step:
    """One move of a redistribution: a collective over a group, or a slice, and the placement behind it."""

    kind: str
    group: str
    algorithm: str
    bytes: int
    after: Placement


@dataclass(slots=True)
class Setting:
    """`mesh` is that of one stage (at its first ranks); `homes` has the form in which each forward value is kept."""

    graph: Graph
    plan: Plan
    context: Context
    mesh: Mesh
    devices: int
    chunks: int
    cut: Staged
    kinds: Kinds
    fabric: Fabric
    redistributions: Redistributions
    homes: dict[str, Form] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)  # how many nodes read a value
    _moves: dict[tuple[int, Placement, Placement], tuple[Step, ...]] = field(default_factory=dict)
    _bytes: dict[tuple[int, Form], int] = field(default_factory=dict)
    _cheapest: dict[tuple[str, int, tuple[str, ...]], str] = field(default_factory=dict)

    @property
    def staged(self) -> bool:
        """Whether there is a pipeline."""
        return self.devices > 1

    @property
    def many(self) -> bool:
        """Whether gradients add up over several microbatches, or several batches."""
        return self.plan.microbatches > 1 or self.batches > 1

    @property
    def batches(self) -> int:
        """Batches behind one update."""
        return self.context.training.accumulate

    @property
    def joint(self) -> bool:
        """Whether the optimizer sees all weights as one vector."""
        return optimizer(self.context.training.optimizer.kind).joint is not None

    def type(self, name: str) -> TensorType:
        """The type of a value in a microbatch."""
        return self.kinds.types[name]

    def bytes(self, name: str, form: Form) -> int:
        """Bytes that the rank with most of a value holds of it, in a microbatch."""
        key = (self.kinds.numbers[name], form)
        found = self._bytes.get(key)
        if found is None:
            found = self._bytes[key] = local(self.kinds.types[name], form, self.mesh).bytes
        return found

    def moves(self, name: str, source: Placement, target: Placement) -> tuple[Step, ...]:
        """The cheapest way of a value from one placement to another."""
        key = (self.kinds.numbers[name], source, target)
        found = self._moves.get(key)
        if found is None:
            path = self.redistributions.path(self.kinds.types[name], source, target)
            found = tuple(Step(m.kind, "+".join(m.axes), m.algorithm, m.bytes, m.after) for m in path)
            self._moves[key] = found
        return found

    def algorithm(self, kind: str, size: int, axes: tuple[str, ...]) -> str:
        """The cheapest algorithm of a collective."""
        key = (kind, size, axes)
        found = self._cheapest.get(key)
        if found is None:
            found = self._cheapest[key] = self.fabric.cheapest(kind, size, axes)[0]
        return found


def setting(graph: Graph, plan: Plan, context: Context) -> Setting:
    """The setting of a job. ValueError for a plan whose partitions or microbatches do not fit its graph."""
    if plan.batch % plan.microbatches:
        raise ValueError(f"a batch of {plan.batch} does not divide into {plan.microbatches} microbatches")
    axes = tuple((name, extent) for name, extent in plan.mesh if name != PIPELINE and extent > 1)
    mesh, devices = Mesh(axes), dict(plan.mesh).get(PIPELINE, 1)
    cut = staged(graph, plan, devices * plan.chunks)
    graph = cut.graph
    types, numbers = _types(graph, plan.microbatches)
    kinds = Kinds(graph, plan, context, mesh, types, numbers)
    device = context.cluster.device_of(0)
    fabric = Fabric(context.cluster, mesh, processing(device, context.profile), context.request.allreduce)
    redistributions = Redistributions(fabric, device)
    found = Setting(graph, plan, context, mesh, devices, plan.chunks, cut, kinds, fabric, redistributions)
    _settle(found)
    return found


def _types(graph: Graph, microbatches: int) -> tuple[dict[str, TensorType], dict[str, int]]:
    """The types of values in a microbatch, and small numbers for them. Groups of samples are cut as the batch is."""
    known: dict[int, TensorType] = {}
    distinct: dict[TensorType, int] = {}
    numbers_of: dict[int, int] = {}
    types: dict[str, TensorType] = {}
    numbers: dict[str, int] = {}
    for value in graph.values:
        at = id(value.type)
        if at not in known:
            known[at] = of_microbatch(value.type, microbatches)
            numbers_of[at] = distinct.setdefault(known[at], len(distinct))
        types[value.name], numbers[value.name] = known[at], numbers_of[at]
    return types, numbers


def _settle(found: Setting) -> None:
    """The partition of every op, then the home of every value: what most of its readers want, the first on ties.

    An op that the plan does not decide about follows its first operand.
    """
    votes: dict[str, dict[Form, int]] = {}
    undecided: list[Node] = []
    nodes = [node for node in found.graph.nodes if node.stage in FORWARD_LIKE]
    for node in nodes:
        decided = found.kinds.planned(node.address)
        if decided is None:
            undecided.append(node)
            continue
        over = {split.over: split.axis for split in decided.partition}
        partition = tuple(over.get(name, "") for name in found.mesh.names)
        found.kinds.settle(node, partition)
        _vote(found, node, votes)
    for node in undecided:
        found.kinds.settle(node, _following(found, node, votes))
        _vote(found, node, votes)
    for name, forms in votes.items():
        kept = found.graph.value(name).kind in ("weight", "statistic", "constant")  # placed as their op has them
        found.homes[name] = next(iter(forms)) if kept else max(forms, key=lambda form: forms[form])
    for node in nodes:
        for name, form in zip(node.outputs, found.kinds.of(node).outputs, strict=False):
            found.homes.setdefault(name, Form(whole(form.placement), form.layout))
    for node in found.graph.nodes:
        found.uses.update(dict.fromkeys(node.inputs, 1))


def _vote(found: Setting, node: Node, votes: dict[str, dict[Form, int]]) -> None:
    for name, form in zip(node.inputs, found.kinds.of(node).inputs, strict=True):
        forms = votes.setdefault(name, {})
        forms[form.plain] = forms.get(form.plain, 0) + 1


def _following(found: Setting, node: Node, votes: dict[str, dict[Form, int]]) -> Partition:
    """The partition of an op that follows its first operand's home, as far as its iteration space has those axes."""
    by_role, indexing = found.kinds.indexing(node)
    role, name = next(iter(by_role.items()))
    forms = votes.get(name)
    producer = found.graph.producer(name)
    if forms:
        home = max(forms, key=lambda form: forms[form]).placement
    elif producer is not None and producer.stage in FORWARD_LIKE:
        home = whole(found.kinds.of(producer).outputs[producer.outputs.index(name)].placement)
    else:
        return ("",) * len(found.mesh.axes)
    runs = dict(zip(found.type(name).names, indexing.tensors[role], strict=True))
    return tuple(runs.get(at, "") if at != REPLICATED else "" for at in home)


def logical(found: Setting, name: str) -> Form:
    """The form of an output for the user: logical order, in the parts that ranks have; who collects it joins them."""
    home = found.homes[name]
    placement = tuple(REPLICATED if at == PARTIAL else at for at in home.placement)
    return Form(placement, DEFAULT_LAYOUT if is_image(found.type(name)) else "")
