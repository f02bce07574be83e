"""What a step does with gradients that are summed: regularise, clip, update, and give weights back whole.

A weight that is sharded over ranks is updated shard by shard: a view of it, or, under ZeRO 3, all that a rank holds.
Norms of whole tensors are sums over the ranks that hold different parts of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dlc.ir.graph import Attrs, Node
from dlc.ir.mesh import REPLICATED, Mesh, Placement
from dlc.ir.program import Buffer, Collective, Compute, Instruction
from dlc.ir.tensor import tensor
from passes.differentiate import operator_of
from passes.lowering.forms import Form
from passes.lowering.role import Buffers
from passes.lowering.setting import PIPELINE, Setting
from passes.lowering.shards import Shards
from passes.lowering.totals import Totals

BY_NORMS = ("lars", "lamb")
"""Update rules with a rate for each weight tensor, by norms of the whole tensor."""


@dataclass(slots=True)
class Updates:
    """Makes the segment `update` of a role. `weights` are those that it holds; it updates those in `own`."""

    setting: Setting
    buffers: Buffers
    totals: Totals
    shards: Shards
    own: frozenset[str]

    def lower(self, nodes: Sequence[Node]) -> tuple[Instruction, ...]:
        """The instructions of these nodes, and the weights given back behind the last update of each bucket."""
        made: list[Instruction] = []
        begun = {total.value: at for at, bucket in enumerate(self.totals.flying) for total in bucket.members}
        for node in sorted(nodes, key=lambda node: _turn(node, begun)) if begun else nodes:
            made.extend(self._node(node))
        made.extend(i for value in self.totals.of for i in self.totals.wait(value))
        made.extend(self._gathered())
        return tuple(made)

    def unscale(self, nodes: Sequence[Node]) -> tuple[Instruction, ...]:
        """Gradients of a scaled loss divided by its scale, or dropped where any on any rank is not finite."""
        return tuple(instruction for node in nodes for instruction in self._unscale(node))

    def _unscale(self, node: Node) -> Iterator[Instruction]:
        graph, everywhere = self.setting.graph, (REPLICATED,) * len(self.setting.mesh.axes)
        told = [graph.value(name) for name in node.inputs if graph.value(name).kind != "gradient"]
        for value in told:
            self.buffers.add(Buffer(value.name, value.type, value.kind, placement=everywhere))
        yield from self._over_all(node, tuple(value.name for value in told))

    def _node(self, node: Node) -> Iterator[Instruction]:
        graph = self.setting.graph
        weights = [name for name in node.inputs if graph.value(name).kind == "weight"]
        mine = [name for name in weights if name in self.own]
        if weights and not mine:
            return
        if node.stage == "clip":
            yield from self._clip(node)
            return
        inputs, rest = list(mine), node.inputs[len(weights) :]
        gradients = [name for at, name in enumerate(rest[: len(weights)]) if weights[at] in self.own] if weights else []
        states = rest[len(weights) :]
        for name in gradients or ():
            yield from self.totals.wait(name)
        if not weights:  # running averages: statistics, then the sums that move them
            yield from self._averages(node)
            return
        operands = (
            *(self.updated(name) for name in inputs),
            *(self.totals.final(name)[0] for name in gradients),
            *(self._state(name, mine, weights) for name in states),
        )
        op = operator_of(node)
        tables = tuple(self._norms(node, operands, gradients)) if node.op in BY_NORMS else ()
        yield from tables
        extra = tuple(i.outputs[0] for i in tables if isinstance(i, Compute))
        runtime = op.runtime if node.stage == "update" else ()
        yield Compute(node.address, (node.op, node.stage, ""), (*operands, *extra), (), (), node.attrs, runtime)

    def _averages(self, node: Node) -> Iterator[Instruction]:
        if not all(name in self.buffers.buffers for name in node.inputs):
            return
        for name in node.inputs:
            if name in self.totals.of:
                yield from self.totals.wait(name)
        yield Compute(node.address, (node.op, node.stage, ""), node.inputs, (), (), node.attrs, ())

    def updated(self, weight: str) -> str:
        """What an update of a weight works on: its shard where it is sharded while it is whole itself."""
        total = self.totals.of[f"{weight}@grad"]
        if total.shard is None or weight in self.shards.of:
            return weight
        name, type_ = f"{weight}.shard", self.setting.graph.type(weight)
        return self.buffers.add(Buffer(name, type_, "weight", view_of=weight, placement=total.shard))

    def _placement(self, weight: str) -> Placement:
        total = self.totals.of[f"{weight}@grad"]
        return total.shard if total.shard is not None else self.setting.homes[weight].placement

    def _state(self, name: str, mine: Sequence[str], weights: Sequence[str]) -> str:
        """The buffer of a state: placed as its weight, or this role's part of a vector of all weights."""
        value, weight = self.setting.graph.value(name), name.partition("@")[0]
        if f"{weight}@grad" in self.totals.of:
            return self.buffers.add(Buffer(name, value.type, "state", placement=self._placement(weight)))
        here = sum(self.setting.bytes(each, self.setting.homes[each]) for each in mine)
        whole, type_ = sum(self.setting.graph.type(each).bytes for each in weights), value.type
        if "element" in type_.names:
            type_ = type_.with_extent("element", -(-type_.extent("element") * here // whole))
        return self.buffers.add(Buffer(name, type_, "state"))

    def _clip(self, node: Node) -> Iterator[Instruction]:
        """By value each shard by itself; by norm with the squares of all shards summed over all ranks.

        `copies` says for each gradient how many ranks have the same of it, so that it counts once; that of a weight
        which several stages use counts on its owner's, where it is whole.
        """
        if node.attr("kind") == "norm" and (self.setting.mesh.ranks > 1 or self.setting.staged):
            yield from self._over_all(node)
            return
        finals = [self.totals.final(name)[0] for name in self._held(node)]
        for name in self._held(node):
            yield from self.totals.wait(name)
        yield Compute(node.address, ("clip", "clip", ""), tuple(finals), (), (), node.attrs)

    def _held(self, node: Node) -> list[str]:
        """The gradients among what a node reads of which this role updates the weights."""
        return [name for name in node.inputs if name in self.totals.of and name.partition("@")[0] in self.own]

    def _over_all(self, node: Node, more: tuple[str, ...] = ()) -> Iterator[Instruction]:
        """A kernel on all gradients, then what else it takes, and last a number summed over those of all ranks."""
        names = self._held(node)
        for name in names:
            yield from self.totals.wait(name)
        finals = [self.totals.final(name) for name in names]
        operands, table = tuple(name for name, _ in finals), f"{node.address}.squares"
        attrs: Attrs = (*node.attrs, ("copies", tuple(_copies(form, self.setting.mesh) for _, form in finals)))
        call = Compute(table, ("sums", node.op, ""), operands, (), (), attrs)
        yield from self._summed(call, self.setting.mesh.names, True)
        yield Compute(node.address, (node.op, node.stage, ""), (*operands, *more, table), (), (), attrs)

    def _norms(self, node: Node, operands: tuple[str, ...], gradients: Sequence[str]) -> Iterator[Instruction]:
        """The squared norms of a weight and of its step, where ranks hold different parts of it."""
        placement = self._placement(gradients[0].partition("@")[0])
        axes = tuple(n for n, at in zip(self.setting.mesh.names, placement, strict=True) if at != REPLICATED)
        if axes:
            name = f"{node.address}.squares"
            call = Compute(name, ("sums", node.op, ""), operands, (), (), node.attrs, ("step",))
            yield from self._summed(call, axes, False)

    def _summed(self, call: Compute, axes: tuple[str, ...], all_: bool) -> Iterator[Instruction]:
        """A small table of sums over parts, and its allreduces: within the stage, then over the stages.

        In double precision, whatever the weights': sums of squares grow large, and a rank has a few of them.
        """
        name = call.address
        table = self.buffers.add(Buffer(name, tensor("f64", element=1 if all_ else 2), "saved"))
        yield replace(call, outputs=(table,))
        size = self.buffers.buffers[table].type.bytes
        groups = [tuple(axis for axis in axes if self.setting.mesh.extent(axis) > 1)]
        for group in [*filter(None, groups), *([(PIPELINE,)] if all_ and self.setting.staged else [])]:
            algorithm = self.setting.algorithm("allreduce", size, group) if group != (PIPELINE,) else "tree"
            title = "+".join(group)
            yield Collective(
                f"{name}.{title}", "allreduce", title, algorithm, table, size, reason="squares of all parts"
            )

    def _gathered(self) -> Iterator[Instruction]:
        """Weights whose shards were updated are made whole again, bucket by bucket."""
        for bucket in self.totals.buckets:
            weights = [t.value.partition("@")[0] for t in bucket.members if t.shard is not None]
            weights = [name for name in weights if name not in self.shards.of]
            if weights:
                size = sum(self.setting.bytes(name, self.setting.homes[name]) for name in weights)
                algorithm, group = self.setting.algorithm("allgather", size, bucket.axes), "+".join(bucket.axes)
                name = f"{bucket.name}.weights"
                yield Collective(name, "allgather", group, algorithm, name, size, reason="updated in shards")


def _turn(node: Node, begun: Mapping[str, int]) -> tuple[bool, int]:
    """What all wait for comes first; then updates as the sums that they read began, so that the first hide the last."""
    if node.stage != "update":
        return False, 0
    return True, max((begun.get(name, -1) for name in node.inputs), default=-1)


def _copies(form: Form, mesh: Mesh) -> int:
    """How many ranks of a stage hold the same of a value."""
    count = 1
    for extent, at in zip(mesh.extents, form.placement, strict=True):
        count *= extent if at == REPLICATED or at == "+" else 1
    return count
