"""Roles, segments and entries of a Program whose plan splits more than the batch, or splits it into microbatches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dlc.cost.makespan import Cell
from dlc.ir.check import makes
from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import Mesh, shards
from dlc.ir.plan import Plan
from dlc.ir.program import (
    Buffer,
    Collective,
    CommunicationGroup,
    Compute,
    Entry,
    Instruction,
    Load,
    Program,
    Receive,
    Role,
    Segment,
    Send,
    Wait,
)
from dlc.ir.tensor import BATCH, tensor
from passes.context import Context
from passes.lowering import schedule
from passes.lowering.forms import Form, whole
from passes.lowering.fuse import fused_program
from passes.lowering.lowered import Lowered, with_packs
from passes.lowering.nodes import Nodes, runs_of
from passes.lowering.overlap import overlapped
from passes.lowering.role import Buffers
from passes.lowering.setting import PIPELINE, Setting, logical, setting
from passes.lowering.stages import Stage
from passes.lowering.totals import Totals, totals
from passes.lowering.updates import Updates
from passes.lowering.values import Values
from passes.lowering.weights import Tied, Weights, tied_weights
from passes.lowering.widen import widened, widened_output

UPDATE_STAGES = ("regularise", "clip", "update")
WRAP = "pipeline.wrap"
"""The group of messages between the last device and the first, where these are neighbours the other way, too."""


def lower_general(graph: Graph, plan: Plan, context: Context) -> Lowered:
    """One role for each device of the pipeline, whose ranks are a mesh; one role without a pipeline."""
    found = setting(graph, plan, context)
    rows = schedule.cells(plan, found.devices, context.hides)
    tied = tied_weights(found)
    made = [_Device(found, device, rows[device], tied) for device in range(found.devices)]
    roles = tuple(device.role() for device in made)
    outputs = {name: buffer for device in made for name, buffer in device.outputs.items()}
    program = Program(
        graph.name,
        plan.batch,
        context.compute,
        roles,
        tuple(_groups(roles, Mesh(plan.mesh), found)),
        tuple((name, outputs[name]) for name, _ in graph.outputs if name in outputs),
        graph.loss,
        graph.metrics,
    )
    scalars = (*(value for _, value in graph.metrics), *((graph.loss,) if graph.loss else ()))
    program = overlapped(program, context, plan.kernels == "c")
    handed_on = tuple(tuple(_made(outputs.values(), device, role)) for device, role in zip(made, roles, strict=True))

    def lowered(program: Program) -> Lowered:
        whole = fused_program(program, plan.kernels == "c") if fuses(plan, context) else program
        return Lowered(whole, handed_on, scalars, plan, context)

    return with_packs(program, lowered) if context.packs(plan.kernels) else lowered(program)


def fuses(plan: Plan, context: Context) -> bool:
    """Whether kernels of a program are fused."""
    return context.fuses(plan.kernels)


def gains(plan: Plan, context: Context) -> bool:
    """Whether fused kernels are faster than those they are of."""
    return context.gains_by_fusion(plan.kernels)


def _made(outputs: Iterable[str], device: _Device, role: Role) -> Iterator[str]:
    """The outputs that a role hands on, and those of others that it makes once more for its own use."""
    own = frozenset(device.outputs.values())
    held = {buffer.name for buffer in role.buffers}
    return (name for name in outputs if name in own or (name in held and makes(role, "predict", name)))


def _groups(roles: Sequence[Role], mesh: Mesh, setting: Setting) -> Iterator[CommunicationGroup]:
    """The groups that the roles communicate in, in the order of their first use.

    Those of hierarchical sums know how the first stage's nest, as whose their prices are.
    """
    instructions = [i for role in roles for segment in role.segments for i in segment.instructions]
    sums = [i for i in instructions if isinstance(i, Collective) and i.kind == "allreduce"]
    nested = {i.group for i in sums if i.algorithm.startswith("hierarchical")}
    for name in dict.fromkeys(i.group for i in instructions if isinstance(i, Collective | Send | Receive)):
        axes = (PIPELINE,) if name == WRAP else tuple(name.split("+"))
        yield CommunicationGroup(name, mesh.groups(axes), setting.fabric.levels(axes) if name in nested else ())


@dataclass(slots=True)
class _Device:
    """One role while it is made: its chunks' stages, and what they share."""

    setting: Setting
    index: int
    cells: tuple[Cell, ...]
    tied: tuple[Tied, ...]
    buffers: Buffers = field(default_factory=Buffers)
    segments: list[Segment] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The (virtual) stages of this device, by chunk."""
        return self.setting.cut.stages[self.index :: self.setting.devices]

    def role(self) -> Role:
        """All of it, each array by itself."""
        found, stages = self.setting, self.stages
        separate = any(cell.phase == "W" for cell in self.cells)
        sums = totals(found, stages, self.buffers, separate)
        own = Weights(found, self.buffers, sums, stages, self.tied, self.index)
        held = own.hold()
        self._train(sums, own, held, separate)
        self._infer(own, held)
        names = tuple(segment.name for segment in self.segments)
        first = self.index * found.mesh.ranks
        ranks = tuple(range(first, first + found.mesh.ranks))
        mesh = Mesh(found.mesh.axes, first)
        name = f"stage{self.index}" if found.staged else "worker"
        entries = self._entries(names)
        samples = _shards(found, mesh, stages)
        made = Role(name, ranks, samples, self.buffers.all(), tuple(self.segments), entries, mesh)
        if found.context.widens:
            made = widened(made, self.outputs.values(), halves=found.context.cluster.device_of(0).kind != "cpu")
            self.outputs = {title: widened_output(made, buffer) for title, buffer in self.outputs.items()}
        return made

    def _entries(self, names: tuple[str, ...]) -> tuple[Entry, ...]:
        found = self.setting
        count, chunks, staged = found.plan.microbatches, found.chunks, found.staged
        return (
            schedule.train(self.cells, names, chunks, staged, found.batches),
            schedule.infer("eval_step", ("load", "predict", "evaluate"), names, count, chunks, staged),
            Entry("eval_totals", ()),
            schedule.infer("predict", ("load_inputs", "predict"), names, count, chunks, staged),
        )

    def _train(self, sums: Totals, own: Weights, held: dict[str, dict[Form, str]], separate: bool) -> None:
        spread, held = own.spread(held) if self.setting.many else ((), held)
        self._add("begin", (*sums.begin(), *spread))
        chunks = [self._chunk(chunk, sums, own, held) for chunk in range(len(self.stages))]
        for chunk in chunks:
            self._add(self._title("load", chunk), chunk.load())
            self._add(self._title("forward", chunk), chunk.forward())
        for chunk in reversed(chunks):
            self._add(self._title("backward", chunk), chunk.backward(separate))
            if separate:
                self._add(self._title("weights", chunk), chunk.weights())
        self._add("reduce", (*sums.reduce(), *own.reduce()))
        nodes = [node for node in self.setting.graph.nodes if node.stage in UPDATE_STAGES]
        updates = Updates(self.setting, self.buffers, sums, own.shards, own.updated)
        self._add("unscale", updates.unscale([node for node in self.setting.graph.nodes if node.stage == "unscale"]))
        self._add("update", (*updates.lower(nodes), *own.lend()))

    def _infer(self, own: Weights, held: dict[str, dict[Form, str]]) -> None:
        needed = _leading_to_results(self.setting.graph)
        for chunk in (self._chunk(at, None, own, held) for at in range(len(self.stages))):
            self._add(self._title("load_inputs", chunk), chunk.load(("input",)))
            self._add(self._title("predict", chunk), chunk.predict(needed, self.outputs))
            self._add(self._title("evaluate", chunk), chunk.evaluate())

    def _chunk(self, at: int, sums: Totals | None, own: Weights, held: dict[str, dict[Form, str]]) -> _Chunk:
        stage = self.stages[at]
        kept = frozenset((*stage.gives, *(value for _, value in self.setting.graph.outputs)))
        runs, again = runs_of(self.setting, stage.forward, kept)
        values = Values(self.setting, self.buffers, at, {name: dict(forms) for name, forms in held.items()})
        values.born.update((name, next(iter(forms))) for name, forms in held.items())
        return _Chunk(
            self.setting, stage, values, Nodes(self.setting, self.buffers, values, sums, own.shards, runs, again)
        )

    def _title(self, segment: str, chunk: _Chunk) -> str:
        return f"{segment}{chunk.values.chunk}" if self.setting.staged else segment

    def _add(self, name: str, instructions: Sequence[Instruction]) -> None:
        """A segment, and one that waits for what it sends without blocking."""
        if not instructions:
            return
        self.segments.append(Segment(name, tuple(instructions)))
        sent = tuple(Wait(i.name) for i in instructions if isinstance(i, Send) and not i.blocking)
        if sent:
            self.segments.append(Segment(f"{name}.sent", sent))


@dataclass(slots=True)
class _Chunk:
    """One stage on its device, in training or in inference."""

    setting: Setting
    stage: Stage
    values: Values
    nodes: Nodes

    def load(self, kinds: tuple[str, ...] = ("input", "field")) -> tuple[Instruction, ...]:
        """What the data set gives to this stage, at its home."""
        graph, made = self.setting.graph, dict[str, str]()
        for node in self.stage.forward:
            for name in node.inputs:
                if name not in made and graph.value(name).kind in kinds:
                    made[name] = self.values.define(name, self.setting.homes[name])
        return (Load(tuple(made.values())),) if made else ()

    def forward(self) -> tuple[Instruction, ...]:
        """Receive, compute, send."""
        return self._between(self.stage.takes, self.stage.forward, self.stage.gives, 1)

    def backward(self, separate: bool) -> tuple[Instruction, ...]:
        """Receive gradients, compute, send; without the gradients by weights where these come apart."""
        nodes = [node for node in self.stage.backward if not (separate and self._apart(node))]
        made = self._between(self.stage.takes_back, nodes, self.stage.gives_back, -1)
        sums = self.nodes.totals
        return (*made, *sums.end()) if sums is not None and not separate else made

    def weights(self) -> tuple[Instruction, ...]:
        """The gradients by weights."""
        made = self._between((), [node for node in self.stage.backward if self._apart(node)], (), -1)
        sums = self.nodes.totals
        return (*made, *sums.end()) if sums is not None else made

    def _apart(self, node: Node) -> bool:
        """Whether a node comes behind the rest: whole buckets of gradients do that live for one microbatch only."""
        sums = self.nodes.totals
        beside = () if sums is None else sums.beside(node.outputs)
        return self._may_wait(node) and all(self._may_wait(other) for other in beside)

    def _may_wait(self, node: Node) -> bool:
        """Whether a node may come behind the rest: what is computed again is there in the backward pass only."""
        graph = self.setting.graph
        of_weights = all(graph.value(name.partition("@grad")[0]).kind == "weight" for name in node.outputs)
        gradients = [name for name in node.inputs if graph.value(name).kind == "gradient"]
        by_slot = all(self.setting.type(name).batched for name in gradients)  # others are there once
        return node.stage == "dw" and of_weights and by_slot and node.base not in self.nodes.runs

    def predict(self, needed: frozenset[str], outputs: dict[str, str]) -> tuple[Instruction, ...]:
        """The forward pass as far as outputs, loss and metrics need it, and the outputs for the user."""
        self.load()
        nodes = [node for node in self.stage.forward if node.stage == "forward" and node.address in needed]
        producer = self.setting.graph.producer

        def crosses(name: str) -> bool:
            made = producer(name)
            return made is not None and made.address in needed

        made = self._between([*filter(crosses, self.stage.takes)], nodes, [*filter(crosses, self.stage.gives)], 1)
        addresses = {node.address for node in nodes}
        for title, value in self.setting.graph.outputs:
            node = producer(value)
            if (node is not None and node.address in addresses) or (node is None and value in self.values.born):
                outputs[title] = self.values.fetch(value, logical(self.setting, value))
        return (*made, *self._taken())

    def evaluate(self) -> tuple[Instruction, ...]:
        """Loss and metrics of a batch, summed over the ranks and added to the totals of an evaluation."""
        graph, values = self.setting.graph, self.values
        nodes = [node for node in self.stage.forward if node.stage in ("loss", "metric")]
        if not nodes:
            return ()
        for node in nodes:
            self.nodes.lower(node)
        names = [name for name in (graph.loss, *(value for _, value in graph.metrics)) if name in values.born]
        sums = [values.fetch(name, Form(whole(values.born[name].placement))) for name in names if name]
        totals_ = Buffer("totals", tensor("f64", entry=len(sums)), "bucket")
        values.buffers.add(totals_)
        values.out.append(Compute("totals", ("totals", "forward", ""), tuple(sums), ("totals",), runtime=("count",)))
        return self._taken()

    def _between(
        self, takes: Sequence[str], nodes: Sequence[Node], gives: Sequence[str], step: int
    ) -> tuple[Instruction, ...]:
        """Receives, nodes and sends; forward to the next stage (step 1), gradients to the one before (-1)."""
        here, values = self.stage.index, self.values
        for name in takes:
            form = self._sent(name)
            buffer = values.define(name, form)
            group, peer = _way(here - step, here, self.setting.devices)
            title, size = f"{name}.{min(here - step, here)}", self.setting.bytes(name, form)
            values.out.append(Receive(title, group, -peer, buffer, size))
        for node in nodes:
            self.nodes.lower(node)
        sends = [(name, values.fetch(name, self._sent(name))) for name in gives]
        for name, buffer in sends:
            group, peer = _way(here, here + step, self.setting.devices)
            size = self.setting.bytes(name, self._sent(name))
            values.out.append(Send(f"{name}.{min(here, here + step)}", group, peer, buffer, size, blocking=False))
        return self._taken()

    def _sent(self, name: str) -> Form:
        """The form in which a value crosses: as it is born if a rank holds less of it so, else as at home."""
        found = self.setting
        if found.graph.value(name).kind == "gradient":
            return found.homes[name.partition("@grad")[0]]
        producer, home = found.graph.producer(name), found.homes[name]
        assert producer is not None
        born = found.kinds.of(producer).outputs[producer.outputs.index(name)]
        return born if not born.partial and found.bytes(name, born) < found.bytes(name, home) else home

    def _taken(self) -> tuple[Instruction, ...]:
        made = tuple(self.values.out)
        self.values.out.clear()
        return made


def _way(source: int, target: int, devices: int) -> tuple[str, int]:
    """(group, how far) of a message from one stage to the next or the one before."""
    start, end = source % devices, target % devices
    wraps = abs(end - start) != 1 or (end > start) != (target > source)
    return (WRAP if wraps and devices == 2 else PIPELINE), end - start


def _leading_to_results(graph: Graph) -> frozenset[str]:
    """The addresses of the forward nodes that outputs, loss or metrics depend on."""
    needed = {value for _, value in (*graph.outputs, *graph.metrics)} | {graph.loss}
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.stage in ("forward", "loss", "metric") and needed.intersection(node.outputs):
            needed.update(node.inputs)
            found.add(node.address)
    return frozenset(found)


def _shards(found: Setting, mesh: Mesh, stages: Sequence[Stage]) -> tuple[tuple[int, int], ...]:
    """The samples of each rank: as the first input, or else field, that these stages read is split by the batch, or
    else the first input of all; the plan's own table along `data`."""
    plan = found.plan
    names = dict.fromkeys(name for stage in stages for node in stage.forward for name in node.inputs)
    read = [name for kind in ("input", "field") for name in names if found.graph.value(name).kind == kind]
    first = next(iter((*read, *found.graph.inputs)), None)
    placement = found.homes[first].placement if first is not None else ("",) * len(mesh.axes)
    axes = tuple(name for name, at in zip(mesh.names, placement, strict=True) if at == BATCH)
    count = 1
    for name in axes:
        count *= mesh.extent(name)
    table = plan.shards if axes == ("data",) and len(plan.shards) == count else shards(plan.batch, count)

    along = [(mesh.stride(name), mesh.extent(name)) for name in axes]

    def at(place: int) -> int:
        index = 0
        for stride, extent in along:
            index = index * extent + place // stride % extent
        return index

    return tuple(table[at(place)] for place in range(mesh.ranks))
