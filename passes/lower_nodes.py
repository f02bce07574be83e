"""Nodes to instructions: layouts of operands, conversions, workspaces, and the sums over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256

from dlc.ir.graph import Attr, Attrs, Graph, Node
from dlc.ir.plan import Bucket, Plan
from dlc.ir.program import Collective, Compute, Copy, Instruction, Segment, Wait
from dlc.ops.operator import Operator, Workspace
from passes.context import Context
from passes.differentiate import operator_of, roles
from passes.lower_buffers import DEFAULT_LAYOUT, Buffers, is_image
from passes.lower_groups import GROUP_PHASES, spans_shards
from passes.options import local_shapes

FORWARD_LIKE = ("forward", "loss", "metric")


@dataclass(slots=True)
class Lowering:
    """Makes the instructions of one segment after another; `held` are the conversions already made."""

    graph: Graph
    plan: Plan
    context: Context
    buffers: Buffers
    infers: bool = False
    held: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)  # value -> the value that stands for it in inference
    _largest: int = field(init=False)  # samples on the rank that has most
    _spanning: dict[Attr, bool] = field(default_factory=dict)  # group -> whether it lies on several ranks

    def __post_init__(self) -> None:
        self._largest = max(stop - start for start, stop in self.plan.shards)

    def inference(self) -> Lowering:
        """The same over the same buffers, in inference mode: no dropout, running averages in batch norm."""
        return Lowering(self.graph, self.plan, self.context, self.buffers, infers=True)

    def segment(self, name: str, nodes: tuple[Node, ...], outputs: tuple[tuple[str, str], ...] = ()) -> Segment:
        """The instructions of these nodes, and of the outputs' conversions to logical order."""
        made = [instruction for node in nodes for instruction in self._node(node)]
        for _, value in outputs:
            made.extend(self._fetch(value, DEFAULT_LAYOUT)[1])
        return Segment(name, tuple(made))

    def _node(self, node: Node) -> Iterator[Instruction]:
        op = operator_of(node)
        if op.view and node.stage in ("forward", "dx"):
            yield from self._view(node)
        elif self.infers and node.op == "dropout":
            yield from self._pass_by(node)
        elif not self.infers and self._is_phased(node):
            yield from self._phases(node, op)
        else:
            yield from self._compute(node, op)

    def _is_phased(self, node: Node) -> bool:
        """Whether it is a batch norm's pass over groups that lie on several ranks."""
        if node.op != "bn" or node.stage not in GROUP_PHASES:
            return False
        group = node.attr("group")
        if group not in self._spanning:
            self._spanning[group] = spans_shards(group, self.plan.shards, self.context)
        return self._spanning[group]

    def _view(self, node: Node) -> Iterator[Instruction]:
        source, conversions = self._fetch(node.inputs[0], DEFAULT_LAYOUT)
        yield from conversions
        self.buffers.define(node.outputs[0], DEFAULT_LAYOUT, view_of=source)

    def _pass_by(self, node: Node) -> Iterator[Instruction]:
        """Dropout in inference: its readers take its input, but views and outputs are tied to its own buffer."""
        (result,) = node.outputs[:1]
        views = (reader for reader in self.graph.nodes if result in reader.inputs and operator_of(reader).view)
        if any(views) or result in dict(self.graph.outputs).values():
            call = self._call(node, operator_of(node))
            yield from call.conversions
            yield Copy(call.inputs[0], call.outputs[0], node.address)
        else:
            (source,) = node.inputs[:1]
            self.aliases[result] = self.aliases.get(source, source)  # one dropout may follow another

    def _compute(self, node: Node, op: Operator) -> Iterator[Instruction]:
        call = self._call(node, op)
        yield from call.conversions
        yield Compute(
            node.address,
            (node.op, self._stage(node), call.algorithm),
            call.inputs,
            call.outputs,
            self.buffers.workspaces(node.address, self._workspaces(node, op, call)),
            self._attrs(node),
            _runtime(node, op),
            call.layout,
            self._reason(node, call),
        )

    def _call(self, node: Node, op: Operator) -> _Call:
        """Where the operands of a node are, in the layout that the plan gives its op."""
        layout = self.layout(node)
        conversions, inputs = list[Instruction](), list[str]()
        for name in node.inputs:
            buffer, made = self._fetch(name, layout)
            inputs.append(buffer)
            conversions.extend(made)
        kept = node.outputs[:1] if self.infers and node.op == "bn" else node.outputs
        outputs = tuple(self.buffers.define(name, layout) for name in kept)
        touched = any(is_image(self.graph.type(name)) for name in (*node.inputs, *node.outputs))
        algorithm = self._algorithm(node, op)
        return _Call(tuple(conversions), tuple(inputs), outputs, algorithm, layout if touched else "")

    def layout(self, node: Node) -> str:
        """The layout of a node: its op's, or that of the value whose gradients it sums."""
        if node.stage == "sum":
            producer = self.graph.producer(node.base)
            return self.layout(producer) if producer else DEFAULT_LAYOUT
        if node.stage in FORWARD_LIKE or node.stage in ("dx", "dw", "statistics"):
            return self._planned(node) or DEFAULT_LAYOUT
        return DEFAULT_LAYOUT

    def _planned(self, node: Node) -> str:
        op = self.graph.node(node.base)
        return self.plan.op(op.address).layout if op.stage == "forward" and not operator_of(op).view else ""

    def _algorithm(self, node: Node, op: Operator) -> str:
        return self.plan.op(node.base).algorithm(node.stage) if op.algorithms else ""

    def _stage(self, node: Node) -> str:
        """The pass under which backends list the kernel."""
        if self.infers and node.op == "bn":
            return "inference"
        return "forward" if node.stage in FORWARD_LIKE else node.stage

    def _fetch(self, name: str, layout: str) -> tuple[str, tuple[Instruction, ...]]:
        """The buffer of a value in a layout, and the conversion that fills it if that has not been made yet."""
        name = self.aliases.get(name, name)
        buffer, costs = self.buffers.converted(name, layout)
        if not costs or buffer in self.held:
            return buffer, ()
        self.held.add(buffer)
        home = self.buffers.home(name)
        attrs: Attrs = (("source", home), ("target", layout))
        convert = Compute(
            buffer, ("convert", "forward", ""), (name,), (buffer,), (), attrs, (), layout, f"from {home} to {layout}"
        )
        return buffer, (convert,)

    def _workspaces(self, node: Node, op: Operator, call: _Call) -> tuple[Workspace, ...]:
        """What the algorithm needs for the largest shard."""
        found = next((a for a in op.algorithms if a.name == call.algorithm), None)
        if found is None:
            return ()
        return found.workspaces(
            node.stage, local_shapes(self.graph, node, self._largest), call.layout or DEFAULT_LAYOUT
        )

    def _attrs(self, node: Node) -> Attrs:
        if node.op != "dropout":
            return node.attrs
        key = stream_key(self.context.training.seed, node.base)
        return (*(pair for pair in node.attrs if pair[0] != "key"), ("key", key))

    def _reason(self, node: Node, call: _Call) -> str:
        if node.stage == "sum":
            return f"the gradients of {len(node.inputs)} uses"
        if not operator_of(node).algorithms:
            return ""
        op = self.plan.op(node.base)
        layout = f" in {call.layout}" if call.layout else ""
        return f"{call.algorithm}{layout}, {op.reason}"

    def _phases(self, node: Node, op: Operator) -> Iterator[Instruction]:
        """Batch norm whose groups span ranks: partial sums, a collective, and on with the whole sums."""
        call = self._call(node, op)
        yield from call.conversions
        known = dict(zip(_names(self.graph, node, op), (*call.inputs, *call.outputs), strict=True))
        for phase in GROUP_PHASES[node.stage]:
            for role, type_ in phase.tables(self.graph, node):
                known[role] = self.buffers.table(f"{node.address}.{role}", type_)
            yield Compute(
                node.address,
                (node.op, phase.name, ""),
                tuple(known[role] for role in phase.needs),
                tuple(known[role] for role in phase.gives),
                (),
                node.attrs,
                ("count", "position"),
                call.layout,
                "its groups span ranks",
            )
            for role, type_ in phase.tables(self.graph, node):
                yield Collective(
                    f"{node.address}.{role}",
                    "allreduce",
                    "data",
                    "butterfly",
                    known[role],
                    type_.bytes,
                    reason="a group's sums over its ranks",
                )


@dataclass(frozen=True, slots=True)
class _Call:
    """A node's operands in place: what must be converted first, the buffers, the algorithm and the layout."""

    conversions: tuple[Instruction, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    algorithm: str
    layout: str


def stream_key(seed: int, address: str) -> tuple[int, int]:
    """The key of an op's stream of random numbers, as the kernels' `philox.key` makes it."""
    digest = sha256(f"{seed}:{address}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def reduced(segment: Segment, plan: Plan, hidden: bool) -> Segment:
    """The segment with each bucket's collective behind the instruction that completes it.

    Where computing can hide communication, collectives only begin there and are waited for at the segment's end.
    """
    written: dict[str, int] = {}
    for at, instruction in enumerate(segment.instructions):
        if isinstance(instruction, Compute):
            for name in instruction.outputs:
                written.setdefault(name, at)
    complete: dict[int, list[Bucket]] = {}
    for bucket in plan.buckets:  # loss and metrics are complete before the backward pass begins
        last = max((written[name] for name in bucket.members if name in written), default=0)
        complete.setdefault(last, []).append(bucket)
    made = list[Instruction]()
    for at, instruction in enumerate(segment.instructions):
        made.append(instruction)
        made.extend(_sum_of(bucket, hidden) for bucket in complete.get(at, ()))
    if hidden:
        made.extend(Wait(bucket.name) for bucket in plan.buckets)
    return replace(segment, instructions=tuple(made))


def _sum_of(bucket: Bucket, hidden: bool) -> Collective:
    return Collective(
        bucket.name,
        "allreduce",
        bucket.group,
        bucket.algorithm,
        bucket.name,
        bucket.bytes,
        blocking=not hidden,
        reason=str(bucket.reason),
    )


def _names(graph: Graph, node: Node, op: Operator) -> tuple[str, ...]:
    """The roles of a node's inputs and outputs, in order; `d` before a role names its gradient."""
    if node.stage == "forward":
        return tuple(roles(node))
    gradient = next(g for g in op.gradients if g.suffix == node.stage)
    return (*gradient.needs, *(f"d{role}" for role in gradient.gives))


def _runtime(node: Node, op: Operator) -> tuple[str, ...]:
    """The runtime values of an op; those of an update rule belong to it, batch norm's update has none."""
    return () if node.stage == "update" and op.role != "optimizer" else op.runtime
