"""Which forms each pass of an op reads and writes, and how it calls its kernel: once for all nodes that are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from dlc.ir import schema
from dlc.ir.graph import Attrs, Graph, Node
from dlc.ir.mesh import PARTIAL, Mesh, Placement, parts
from dlc.ir.plan import OpPlan, Plan
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.indexing import (
    Exchange,
    Indexing,
    Partition,
    gradient_placement,
    indexing_of,
    local_attrs,
    needed_placement,
    operand_placement,
    result_placement,
)
from dlc.ops.operator import Gradient, Operator, Shapes, Workspace
from passes.context import Context
from passes.differentiate import operator_of, roles
from passes.layouts import DEFAULT_LAYOUT, is_image
from passes.lowering.forms import Form, Margin, local, margin

FORWARD_LIKE = ("forward", "loss", "metric")


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum over ranks inside a pass: `elements` values on each rank, over these mesh axes, `times` in a row.

    With `largest` the first one is no sum: the largest of all ranks are found.
    """

    axes: tuple[str, ...]
    elements: int
    times: int
    largest: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class NodeKind:
    """How nodes that are alike are computed: the forms they read and write, and the call of the kernel.

    `view` says that no kernel runs, `sums` what is summed inside the pass.
    """

    inputs: tuple[Form, ...]
    outputs: tuple[Form, ...]
    kernel: tuple[str, str, str]
    attrs: Attrs
    runtime: tuple[str, ...]
    layout: str
    workspaces: tuple[Workspace, ...]
    reason: str
    view: bool = False
    sums: tuple[Sum, ...] = ()


@dataclass(slots=True, eq=False)
class OpKind:
    """Forward ops that are alike under one partition, and the kinds of their passes as far as they are known."""

    node: Node
    operator: Operator
    types: dict[str, TensorType]
    indexing: Indexing
    partition: Partition
    layout: str
    planned: OpPlan | None
    passes: dict[object, NodeKind] = field(default_factory=dict)


@dataclass(slots=True)
class Kinds:
    """Finds the kind of each node. `mesh` is that of a stage, types are those of a microbatch."""

    graph: Graph
    plan: Plan
    context: Context
    mesh: Mesh
    types: dict[str, TensorType]
    numbers: dict[str, int]  # value -> number of its type
    _ops: dict[str, OpKind] = field(default_factory=dict)
    _known: dict[object, OpKind] = field(default_factory=dict)
    _planned: dict[str, OpPlan] = field(default_factory=dict)
    _reaches: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._planned = {op.address: op for op in self.plan.ops}

    def planned(self, address: str) -> OpPlan | None:
        """The plan's decisions for an op; None where it makes none."""
        return self._planned.get(address)

    def settle(self, node: Node, partition: Partition) -> OpKind:
        """The kind of a forward node under a partition, from now on that of the op."""
        decided = self._planned.get(node.address)
        passes = decided and (decided.layout, decided.passes, decided.microbatch)
        numbers = tuple(self.numbers[name] for name in (*node.inputs, *node.outputs))
        attrs = tuple(pair for pair in node.attrs if pair[0] != "key")
        key = (node.op, node.stage, attrs, numbers, partition, passes)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._new(node, partition, decided)
        self._ops[node.address] = found
        return found

    def op(self, address: str) -> OpKind:
        """The kind of a forward op that is settled."""
        return self._ops[address]

    def indexing(self, node: Node) -> tuple[dict[str, str], Indexing]:
        """The roles of a forward node and its iteration space, before anything is settled."""
        by_role = roles(node)
        types = {role: self.types[name] for role, name in by_role.items()}
        return by_role, indexing_of(operator_of(node), types, dict(node.attrs))

    def of(self, node: Node, inference: bool = False) -> NodeKind:
        """The kind of a node of an op: forward, loss, metric, dx, dw, dt or statistics."""
        kind = self._ops[node.base]
        told = node.attr("reached") if kind.operator.variadic_results and node.has("reached") else None
        key = (node.stage, told, inference)
        found = kind.passes.get(key)
        if found is None:
            found = kind.passes[key] = self._pass(kind, node, inference)
        return found

    def _new(self, node: Node, partition: Partition, decided: OpPlan | None) -> OpKind:
        by_role, indexing = self.indexing(node)
        operator = operator_of(node)
        for along in dict.fromkeys(filter(None, partition)):
            count = prod(n for n, axis in zip(self.mesh.extents, partition, strict=True) if axis == along)
            if along == BATCH and BATCH not in indexing.whole:
                continue  # ranks may have no samples
            if along not in indexing.axes or not indexing.fits(along, count):
                raise ValueError(f"{node.address} cannot be split along {along} into {count} parts")
        types = {role: self.types[name] for role, name in by_role.items()}
        layout = decided.layout if decided and not operator.view else ""
        return OpKind(node, operator, types, indexing, partition, layout or DEFAULT_LAYOUT, decided)

    def _pass(self, kind: OpKind, node: Node, inference: bool) -> NodeKind:
        ins, outs = self._forms(kind, node)
        shaped = [name for name in (*node.inputs, *node.outputs) if is_image(self.types[name])]
        stage = "forward" if node.stage in FORWARD_LIKE else node.stage
        algorithm = kind.planned.algorithm(node.stage) if kind.operator.algorithms and kind.planned else ""
        normal = inference and node.op == "bn"
        view = kind.operator.view and node.stage in ("forward", "dx")
        runtime = kind.operator.runtime
        return NodeKind(
            ins,
            outs[:1] if normal else outs,
            (node.op, "inference" if normal else stage, algorithm),
            self._attrs(kind, node),
            (*runtime, *self._told(kind)),
            kind.layout if shaped else "",
            self._workspaces(kind, node, ins, outs, algorithm),
            self._reason(kind, algorithm, bool(shaped)),
            view,
            () if normal else tuple(self._sums(kind, node.stage)),
        )

    def _forms(self, kind: OpKind, node: Node) -> tuple[tuple[Form, ...], tuple[Form, ...]]:
        """The forms in which a pass reads its inputs, and those in which its outputs are born."""
        if node.stage in FORWARD_LIKE:
            names = tuple(kind.types)
            inputs, outputs = names[: len(node.inputs)], names[len(node.inputs) :]
            return (
                tuple(self._operand(kind, role) for role in inputs),
                tuple(self._born(kind, role) for role in outputs),
            )
        if node.stage == "statistics":
            saved = kind.operator.saved
            return (
                tuple(self._operand(kind, role) for role in (next(iter(kind.types)), *saved)),
                tuple(self._form(kind, role, self._statistic(kind, role)) for role in kind.operator.statistics),
            )
        gradient = next(each for each in kind.operator.gradients if each.suffix == node.stage)
        given = schema.given(gradient, _names(kind))
        return tuple(self._needs(kind, gradient, node)), tuple(self._gradient(kind, role) for role in given)

    def _needs(self, kind: OpKind, gradient: Gradient, node: Node) -> Iterator[Form]:
        """The forms of what a backward pass reads, the gradients of the results that have one among them."""
        results = schema.result_roles(kind.operator, kind.node)
        reached = node.attr("reached") if kind.operator.variadic_results else tuple(range(len(results)))
        assert isinstance(reached, tuple)
        for role in schema.needed(gradient, _names(kind)):
            if role != "dy":
                yield self._operand(kind, role)
                continue
            for y in (results[at] for at in reached if isinstance(at, int)):
                yield self._form(kind, y, needed_placement(kind.indexing, y, kind.types[y], kind.partition))

    def _operand(self, kind: OpKind, role: str) -> Form:
        """The form in which an operand, weight, result or saved value is read; what is saved is born so, too."""
        where = operand_placement(kind.indexing, role, kind.types[role], kind.partition)
        return self._form(kind, role, where, self._margins(kind, role, where))

    def _born(self, kind: OpKind, role: str) -> Form:
        """The form of a result or saved value: nobody but the ranks of a part read what that part has saved."""
        return self._operand(kind, role) if role in kind.operator.saved else self._form(kind, role, _result(kind, role))

    def _gradient(self, kind: OpKind, role: str) -> Form:
        where = gradient_placement(kind.indexing, role, kind.types[role], kind.partition)
        return self._form(kind, role, where, self._margins(kind, role, where))

    def _form(self, kind: OpKind, role: str, where: Placement, margins: tuple[Margin, ...] = ()) -> Form:
        return Form(where, kind.layout if is_image(kind.types[role]) else "", margins)

    def _margins(self, kind: OpKind, role: str, where: Placement) -> tuple[Margin, ...]:
        if not kind.indexing.halos or (role not in kind.operator.operands and not kind.operator.variadic):
            return ()
        type_, y, found = kind.types[role], kind.types[schema.result_roles(kind.operator, kind.node)[0]], []
        runs = dict(zip(kind.indexing.tensors[role], type_.axes, strict=True))
        results = dict(zip(kind.indexing.tensors["y"], y.shape, strict=True))
        for along, halo in kind.indexing.halos.items():
            if along in runs and along in results:
                count = parts(where, self.mesh, runs[along].name)
                found.append(margin(runs[along].name, halo, runs[along].extent, results[along], count))
        return tuple(each for each in found if each is not None)

    def _statistic(self, kind: OpKind, role: str) -> Placement:
        """Of the sums behind running averages: parts of a sum where samples are split, else as the table."""
        held = operand_placement(kind.indexing, role, kind.types[role], kind.partition)
        return tuple(PARTIAL if along == BATCH else at for at, along in zip(held, kind.partition, strict=True))

    def _sums(self, kind: OpKind, stage: str) -> list[Sum]:
        """The exchanges of a pass that this partition needs."""
        stage, found = "forward" if stage in FORWARD_LIKE else stage, []
        batch = next((t.extent(BATCH) for t in kind.types.values() if t.batched), 1)
        for exchange in kind.indexing.exchanges:
            axes = exchange.over(kind.partition, self.mesh, batch) if exchange.stage == stage else ()
            if axes:
                found.append(Sum(axes, self._elements(kind, exchange), exchange.times, exchange.largest))
        return found

    def _elements(self, kind: OpKind, exchange: Exchange) -> int:
        """How many elements of an exchange the rank with most of them has."""
        found, extents = exchange.elements, dict(kind.indexing.extents)
        for axis in exchange.along:
            cut = zip(self.mesh.extents, kind.partition, strict=True)
            count = prod(extent for extent, along in cut if along == axis)
            if count > 1:
                found = found // extents[axis] * -(-extents[axis] // count)
        return found

    def _attrs(self, kind: OpKind, node: Node) -> Attrs:
        """The attributes of a part: counts of what it has, and what its place changes.

        `once` names the mesh axes along which the first rank alone adds the bias, `averaged` what its means are
        divided by, `parts` into how many parts it goes through its samples.
        """
        counts: dict[str, int] = {}
        for extent, along in zip(self.mesh.extents, kind.partition, strict=True):
            counts[along] = counts.get(along, 1) * extent
        attrs = local_attrs(kind.indexing, dict(node.attrs), counts)
        summed = self._summed(kind)
        added = any(role in kind.types for role in kind.indexing.once)
        if summed and added and node.stage == "forward":
            attrs["once"] = summed
        means = prod(counts.get(axis, 1) for axis in kind.indexing.averaged)
        if means > 1:
            attrs["averaged"] = means
        if kind.planned and kind.planned.microbatch > 1:
            attrs["parts"] = kind.planned.microbatch
        return tuple(attrs.items())

    def _summed(self, kind: OpKind) -> tuple[str, ...]:
        """The mesh axes along which the op's result is a partial sum."""
        y = schema.result_roles(kind.operator, kind.node)[0]
        cut = zip(self.mesh.names, kind.partition, strict=True)
        return tuple(name for name, along in cut if along and along not in kind.indexing.tensors[y])

    def _told(self, kind: OpKind) -> tuple[str, ...]:
        """What a kernel is told of its part when it runs: where it begins along axes besides the batch (`origin`), and
        which of the pads along split axes it has, those at the outer borders (`pads`)."""
        split = {along for along in kind.partition if along and along != BATCH}
        origin = ("origin",) if split.intersection(kind.indexing.positions) else ()
        return (*origin, *(("pads",) if split.intersection(kind.indexing.halos) else ()))

    def _workspaces(
        self, kind: OpKind, node: Node, ins: tuple[Form, ...], outs: tuple[Form, ...], algorithm: str
    ) -> tuple[Workspace, ...]:
        found = next((a for a in kind.operator.algorithms if a.name == algorithm), None)
        if found is None:
            return ()
        passes = kind.planned.microbatch if kind.planned else 1
        shapes = Shapes(
            tuple(self._local(name, form, passes) for name, form in zip(node.inputs, ins, strict=True)),
            tuple(self._local(name, form, passes) for name, form in zip(node.outputs, outs, strict=True)),
            dict(node.attrs),
        )
        return found.workspaces(node.stage, shapes, kind.layout)

    def _local(self, name: str, form: Form, passes: int) -> TensorType:
        type_ = local(self.types[name], form, self.mesh)
        return type_.with_extent(BATCH, -(-type_.extent(BATCH) // passes)) if passes > 1 and type_.batched else type_

    def _reason(self, kind: OpKind, algorithm: str, shaped: bool) -> str:
        if not kind.operator.algorithms or kind.planned is None:
            return ""
        return f"{algorithm}{f' in {kind.layout}' if shaped else ''}, {kind.planned.reason}"


def _result(kind: OpKind, role: str) -> Placement:
    return result_placement(kind.indexing, role, kind.types[role], kind.partition)


def _names(kind: OpKind) -> dict[str, str]:
    """The roles of a kind, as `dlc.ir.schema` asks for them."""
    return dict.fromkeys(kind.types, "")
