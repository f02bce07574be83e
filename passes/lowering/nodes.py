"""Nodes to instructions: kernels on the forms that they read, the sums inside them, and what is computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dlc.ir.graph import Attrs, Graph, Node
from dlc.ir.mesh import PARTIAL
from dlc.ir.program import Buffer, Collective, Compute
from dlc.ir.tensor import NARROW, TensorType, tensor
from passes.differentiate import operator_of, roles
from passes.lowering.forms import Form, local
from passes.lowering.groups import GROUP_PHASES
from passes.lowering.kinds import FORWARD_LIKE, NodeKind
from passes.lowering.role import Buffers
from passes.lowering.setting import Setting
from passes.lowering.shards import Shards
from passes.lowering.totals import Totals
from passes.lowering.values import Run, Values
from passes.streams import stream_key

EARLY = (*FORWARD_LIKE, "statistics")
"""Passes of the forward segment: what they read is there."""


@dataclass(slots=True)
class Nodes:
    """Makes the instructions of one chunk of a role; without `totals` in inference mode.

    `runs` has the run of each op that is computed again, `again` the nodes of a run that are.
    """

    setting: Setting
    buffers: Buffers
    values: Values
    totals: Totals | None
    shards: Shards
    runs: Mapping[str, Run] = field(default_factory=dict)
    again: Mapping[int, tuple[Node, ...]] = field(default_factory=dict)
    _repeated: set[int] = field(default_factory=set)

    def lower(self, node: Node) -> None:
        """Append the instructions of one node."""
        if node.stage == "sum":
            self._sum(node)
            return
        run = self.runs.get(node.base)
        if run is not None and self.totals is not None and node.stage not in EARLY:
            self._repeat(run)
        self.values.run = run
        self._node(node)
        self.values.run = None

    def _repeat(self, run: Run) -> None:
        """Once in a backward pass: what the run's gradients read, computed again."""
        if run.index in self._repeated:
            return
        self._repeated.add(run.index)
        run.forms.clear()
        self.values.run = run
        for node in self.again[run.index]:
            self._node(node)

    def _node(self, node: Node) -> None:
        kind = self.setting.kinds.of(node, self.totals is None)
        if kind.view:
            source = self.values.fetch(node.inputs[0], kind.inputs[0])
            self.values.define(node.outputs[0], kind.outputs[0], view_of=source)
        elif self.totals is None and node.op == "dropout":  # in inference it hands on what it is given
            source = self.values.fetch(node.inputs[0], kind.inputs[0])
            self.values.put(node.outputs[0], kind.outputs[0], source)
        else:
            self._compute(node, kind)

    def _compute(self, node: Node, kind: NodeKind) -> None:
        values, totals, gathered = self.values, self.totals, set[str]()
        inputs = tuple(
            self._input(node, name, form, gathered) for name, form in zip(node.inputs, kind.inputs, strict=True)
        )
        mine = tuple(name for name in node.outputs if totals is not None and name in totals.by_part)
        if totals is not None and mine:
            values.out.extend(totals.prepare(mine))
        outputs = tuple(
            totals.place(name, form, values) if totals is not None and name in mine else values.define(name, form)
            for name, form in zip(node.outputs, kind.outputs, strict=False)
        )
        workspaces: tuple[str, ...] = ()
        if kind.workspaces:
            workspaces = self.buffers.workspaces(self._owned(node.address), kind.workspaces)
        if kind.sums and node.op == "bn":
            self._phases(node, kind, inputs, outputs)
        else:
            tables = self._tables(node, kind, inputs) if kind.sums else ()
            attrs = kind.attrs if node.op != "dropout" else self._keyed(node, kind.attrs)
            values.out.append(
                Compute(
                    node.address,
                    kind.kernel,
                    inputs + tables,
                    outputs,
                    workspaces,
                    attrs,
                    kind.runtime,
                    kind.layout,
                    kind.reason,
                )
            )
        if totals is not None:
            for name in mine:
                values.out.extend(totals.add(name, values))

    def _owned(self, name: str) -> str:
        return self.buffers.named(name, self.values.chunk)

    def _input(self, node: Node, name: str, form: Form, gathered: set[str]) -> str:
        if name in self.shards.of:
            whole = self.shards.gather(name, node.address, gathered, self.values.out)
            self.values.put(name, self.setting.homes[name], whole)
        return self.values.fetch(name, form)

    def _keyed(self, node: Node, attrs: Attrs) -> Attrs:
        key = stream_key(self.setting.context.training.seed, node.base)
        return (*(pair for pair in attrs if pair[0] != "key"), ("key", key))

    def _sum(self, node: Node) -> None:
        """Gradients that meet at a fan-out: as at its home, but parts of sums where all of them are."""
        values, home = self.values, self.setting.homes[node.base]
        born = [values.born[name].placement for name in node.inputs]
        at = zip(home.placement, *born, strict=True)
        form = Form(tuple(PARTIAL if all(x == PARTIAL for x in parts) else where for where, *parts in at), home.layout)
        sources = tuple(values.fetch(name, form) for name in node.inputs)
        target = values.define(node.outputs[0], form)
        reason = f"the gradients of {len(node.inputs)} uses"
        values.out.append(
            Compute(node.address, ("sum", "sum", ""), sources, (target,), layout=form.layout, reason=reason)
        )

    def _phases(self, node: Node, kind: NodeKind, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Batch norm whose groups span ranks: partial sums, a collective, and on with the whole sums."""
        known = dict(zip(_names(self.setting.graph, node), (*inputs, *outputs), strict=True))
        (each,) = kind.sums
        saved = node.inputs[-1] if node.stage == "dx" else node.outputs[-1]
        form = kind.inputs[-1] if node.stage == "dx" else kind.outputs[-1]
        rows, channels = local(self.setting.type(saved), form, self.setting.mesh).shape
        table = tensor(self.setting.type(saved).dtype, row=rows, channel=channels)
        for phase in GROUP_PHASES[node.stage]:
            for role in phase.summed:
                known[role] = self._table(f"{node.address}.{role}", table)
            needs, gives = (tuple(known[role] for role in names) for names in (phase.needs, phase.gives))
            kernel, runtime = (node.op, phase.name, ""), ("count", "position")
            self.values.out.append(
                Compute(
                    node.address, kernel, needs, gives, (), kind.attrs, runtime, kind.layout, "its groups span ranks"
                )
            )
            for role in phase.summed:
                self._exchange(known[role], each.axes, f"{node.address}.{role}")

    def _tables(self, node: Node, kind: NodeKind, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """What the ranks sum, or find the largest of, before a kernel can go on: a table a round, of no means."""
        tables: tuple[str, ...] = ()
        attrs = tuple(pair for pair in kind.attrs if pair[0] not in ("averaged", "parts"))
        for each in kind.sums:
            for time in range(each.times):
                name = f"{node.address}.sums{len(tables)}"
                dtype = self.setting.type(node.inputs[0]).dtype
                table = self._table(name, tensor("f32" if dtype in NARROW else dtype, element=each.elements))
                kernel = ("sums", node.op, f"{kind.kernel[1]}{len(tables)}")
                self.values.out.append(
                    Compute(name, kernel, inputs + tables, (table,), (), attrs, kind.runtime, kind.layout)
                )
                self._exchange(table, each.axes, name, each.largest and not time)
                tables = (*tables, table)
        return tables

    def _table(self, name: str, type_: TensorType) -> str:
        return self.buffers.add(Buffer(self._owned(name), type_, "saved"))

    def _exchange(self, table: str, axes: tuple[str, ...], name: str, largest: bool = False) -> None:
        size = self.buffers.buffers[table].type.bytes
        algorithm = self.setting.algorithm("allreduce", size, axes)
        reason = f"{'the largest' if largest else 'sums'} of the whole over its parts"
        attrs: Attrs = (("largest", True),) if largest else ()
        self.values.out.append(
            Collective(name, "allreduce", "+".join(axes), algorithm, table, size, reason=reason, attrs=attrs)
        )


def runs_of(
    setting: Setting, nodes: Sequence[Node], kept: frozenset[str]
) -> tuple[dict[str, Run], dict[int, tuple[Node, ...]]]:
    """The runs of consecutive ops that are computed again, by op, and the nodes that are, by run.

    `nodes` are those of a chunk in order; `kept` are values that are read elsewhere.
    """
    groups: list[list[Node]] = []
    last = False
    for node in nodes:
        decided = setting.kinds.planned(node.address)
        now = node.stage == "forward" and decided is not None and decided.recompute
        if now and (not last or (decided is not None and decided.checkpoint)):
            groups.append([])
        if now:
            groups[-1].append(node)
        last = now
    if not groups:
        return {}, {}
    readers = setting.graph.consumers()
    runs: dict[str, Run] = {}
    again: dict[int, tuple[Node, ...]] = {}
    for index, group in enumerate(groups):
        run = Run(index, _passing(group, readers, kept))
        runs.update(dict.fromkeys((node.address for node in group), run))
        again[index] = _needed_again(group, run.values, readers)
    return runs, again


def _passing(group: Sequence[Node], readers: Mapping[str, Sequence[Node]], kept: frozenset[str]) -> frozenset[str]:
    """The values of a run that no forward node outside it reads; a value that a lasting one is a view of lasts too."""
    inside = {node.address for node in group}
    passing: set[str] = set()
    for node in reversed(group):
        for name in node.outputs:
            outside = any(r.stage in EARLY and r.base not in inside for r in readers[name])
            views = (r for r in readers[name] if r.address in inside and operator_of(r).view)
            if not outside and name not in kept and all(r.outputs[0] in passing for r in views):
                passing.add(name)
    return frozenset(passing)


def _needed_again(
    group: Sequence[Node], passing: frozenset[str], readers: Mapping[str, Sequence[Node]]
) -> tuple[Node, ...]:
    """The nodes of a run whose lost results the backward pass reads, or other such nodes."""
    needed = {name for name in passing if any(reader.stage not in EARLY for reader in readers[name])}
    found: list[Node] = []
    for node in reversed(group):
        if needed.intersection(node.outputs):
            needed.update(passing.intersection(node.inputs))
            found.append(node)
    return tuple(reversed(found))


def _names(graph: Graph, node: Node) -> tuple[str, ...]:
    """The roles of the inputs and outputs of a batch norm's node, in order; `d` before a role names its gradient."""
    if node.stage == "forward":
        return tuple(roles(node))
    gradient = next(each for each in operator_of(node).gradients if each.suffix == node.stage)
    return (*gradient.needs, *(f"d{role}" for role in gradient.gives))
