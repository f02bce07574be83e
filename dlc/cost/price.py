"""Seconds of each instruction of a Program on a cluster: the price that the simulator is given.

The figures are those of the planner: `dlc.cost.compute` for kernels, and for communication `dlc.cluster.fabric` where a
role has a mesh, `dlc.cluster.collectives` where it has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from dlc.cluster.collectives import seconds as collective_seconds
from dlc.cluster.topology import Cluster, Device
from dlc.cost.c_kernels import CALL
from dlc.cost.communication import processing
from dlc.cost.compute import call_work, conversion_seconds, load_work, looked_at, overhead, priced, seconds, step_work
from dlc.cost.packing import packing, saved
from dlc.cost.phases import TRANSPOSED_RUN, Phase
from dlc.cost.profile import Profile
from dlc.ir.execution import Price
from dlc.ir.mesh import Mesh
from dlc.ir.program import (
    BORDER,
    INNER,
    ROWS,
    Collective,
    Compute,
    Copy,
    Instruction,
    Load,
    Program,
    Receive,
    Role,
    Send,
)
from dlc.ir.ranks import Neighbours
from dlc.ir.storage import Storage, local, operand_bytes, placed
from dlc.ir.tensor import BATCH, TensorType, tensor
from dlc.ops import operator
from dlc.ops.fusion import UPDATES, fusion_of
from dlc.ops.operator import Operator, Shapes
from dlc.ops.packing import PACK, operands

if TYPE_CHECKING:
    from dlc.cluster.fabric import Fabric

STAGES = {"loss": "loss", "metric": "metric"}
"""An operator's role -> the pass that its forward kernel is priced as."""


def default_price(program: Program, cluster: Cluster, profile: Profile | None = None) -> Prices:
    """Prices of a program's instructions on a cluster: `price(instruction, role, samples)` in seconds."""
    return Prices(program, cluster, profile)


@dataclass(eq=False)
class Prices:
    """Prices on a cluster. Called, the prices are those of a role's slowest device, which the others wait for."""

    program: Program
    cluster: Cluster
    profile: Profile | None = None
    _known: dict[tuple[int, str, int, str], tuple[Instruction, float]] = field(default_factory=dict)
    _kernels: dict[tuple[object, ...], float] = field(default_factory=dict)
    _types: dict[tuple[str, str, int], TensorType] = field(default_factory=dict)
    _slowest: dict[str, str] = field(default_factory=dict)
    _microbatches: dict[str, int] = field(default_factory=dict)
    _fabrics: dict[tuple[Mesh, str], Fabric] = field(default_factory=dict)
    _groups: dict[tuple[str, str], tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    def __call__(self, instruction: Instruction, role: Role, samples: int) -> float:
        """Seconds of one instruction on the slowest device of a role, for so many samples of the batch."""
        return self.seconds(instruction, role, samples, self._device(role))

    def on(self, device: str) -> Price:
        """The prices of what a rank does by itself, on a device of that name."""
        return lambda instruction, role, samples: self.seconds(instruction, role, samples, device)

    def seconds(self, instruction: Instruction, role: Role, samples: int, device: str) -> float:
        """Seconds of one instruction on a device; the same is priced once."""
        key = (id(instruction), role.name, samples, device)
        known = self._known.get(key)
        if known is None:  # with the instruction, so that no other one gets its id
            known = self._known[key] = (
                instruction,
                self._seconds(instruction, role, samples, self.cluster.device(device)),
            )
        return known[1]

    @property
    def step_work(self) -> float:
        """Seconds of a step that are no instruction's, on the device on which they are most."""
        devices = map(self.cluster.device, dict.fromkeys(self.devices.values()))
        return max((step_work(device, self.profile).seconds for device in devices), default=0.0)

    @cached_property
    def devices(self) -> dict[int, str]:
        """Rank -> the name of its device."""
        names = self.cluster.device_names
        return {rank: names[rank] for role in self.program.roles for rank in role.ranks}

    @cached_property
    def _around(self) -> Neighbours:
        return Neighbours.of(self.program)

    def _seconds(self, instruction: Instruction, role: Role, samples: int, device: Device) -> float:
        match instruction:
            case Compute(members=members):
                kernel = self._fused if members else self._kernel
                return kernel(instruction, role, samples, device) + self.call_work(instruction, role, samples)
            case Load(buffers=buffers):
                copied = sum(self._taken(role, name, samples, device) for name in buffers)
                return copied + len(buffers) * load_work(self.profile)
            case Copy(source=source):
                return self._copy([self._local(role, source, samples)], device)
            case Collective() if role.mesh is not None:
                return self._on_mesh(instruction, role, role.mesh, device)
            case Collective():
                return self._on_links(instruction, role, device)
            case Send() | Receive():
                return self._message(instruction, role, samples, device)
        return 0.0

    def _kernel(self, compute: Compute, role: Role, samples: int, device: Device) -> float:
        if compute.kernel[1] == PACK:
            weights, packed = (sum(self._bytes(role, names)) for names in (compute.inputs, compute.outputs))
            return self._moved(packing(compute.kernel, weights, packed), device, calls=CALL)
        found = self._whole(compute, role, samples, device)
        return found if not compute.packs else max(0.0, found - self._packed(compute, role, device))

    def saved(self, compute: Compute, role: Role, samples: int) -> float:
        """Seconds by which a call is shorter that finds its weights packed, on the slowest device of a role."""
        device = self.cluster.device(self._device(role))
        return self._whole(compute, role, samples, device) - self._kernel(compute, role, samples, device)

    def _packed(self, compute: Compute, role: Role, device: Device) -> float:
        """Seconds that a call saves which finds its weights packed."""
        op, stage, algorithm = compute.kernel
        weights, size = (sum(self._bytes(role, names)) for names in (operands(compute), compute.packs))
        return self._moved(saved((f"{op}_{stage}", PACK, algorithm), weights, size), device)

    def _bytes(self, role: Role, names: Iterable[str]) -> Iterator[int]:
        """Bytes of buffers that have no samples."""
        return (self._local(role, name, role.largest_shard).bytes for name in names)

    def _moved(self, moved: float, device: Device, calls: float = 0.0) -> float:
        return priced((Phase(bytes=moved, calls=calls),), self.program.dtype, device, self.profile).seconds

    def _whole(self, compute: Compute, role: Role, samples: int, device: Device) -> float:
        inputs = tuple(self._local(role, buffer, samples) for buffer in compute.inputs)
        outputs = tuple(self._local(role, buffer, samples) for buffer in compute.outputs)
        key = (compute.kernel, compute.attrs, compute.layout, inputs, outputs, device.name)
        if key not in self._kernels:
            self._kernels[key] = self._called(compute, Shapes(inputs, outputs, dict(compute.attrs)), device)
        return self._kernels[key]

    def _fused(self, compute: Compute, role: Role, samples: int, device: Device) -> float:
        """Its members' seconds without the calls and the traffic that it saves, but no less than the longest takes.

        Updates are one of as many elements as all of their weights have, and a look at the arrays of each.
        """
        if compute.kernel[1] == UPDATES:
            return self._updates(compute, role, samples, device)
        each = [self._kernel(made, role, samples, device) for made in compute.members]
        inner = self._local(role, (*compute.members[0].outputs, *compute.inputs)[0], samples)
        saved = Phase(bytes=fusion_of(compute).saved * inner.bytes, calls=CALL * (len(each) - 1))
        return max(*each, sum(each) - priced((saved,), inner.dtype, device, self.profile).seconds)

    def _updates(self, compute: Compute, role: Role, samples: int, device: Device) -> float:
        first, elements = compute.members[0], 0
        for made in compute.members:
            elements += self._local(role, made.inputs[0], samples).elements
        types = (self._local(role, name, samples) for name in first.inputs)
        inputs = tuple(tensor(type_.dtype, all=elements) for type_ in types)
        others = (len(compute.members) - 1) * looked_at(device, self.profile)
        return self._called(first, Shapes(inputs, (), dict(first.attrs)), device) + others

    def call_work(self, compute: Compute, role: Role, samples: int) -> float:
        """Seconds of Python's own work for a call, which are in its price."""
        if self.profile is None or self.profile.own is None:
            return 0.0
        operands = dict.fromkeys((*compute.inputs, *compute.outputs))
        return call_work(sum(self._local(role, name, samples).bytes for name in operands), self.profile)

    def _called(self, compute: Compute, shapes: Shapes, device: Device) -> float:
        if compute.kernel[0] == "convert":
            return conversion_seconds(shapes.inputs[0], device, self.profile)
        if (
            operator(compute.kernel[0]) is None
        ):  # of the program's own, such as adding up totals: a call, next to no work
            return overhead(device, self.profile)
        found = 0.0
        for call in calls(compute, shapes):
            algorithm, layout = compute.kernel[2], compute.layout
            figure = seconds(call.operator, call.stage, call.shapes, algorithm, layout, device, self.profile)
            found += call.times * figure.seconds
        return found

    def kernels(self, compute: Compute, role: Role) -> tuple[Call, ...]:
        """The calls that an instruction of a role makes of an operator's kernel, on the rank with most samples."""
        return tuple(calls(compute, self.shapes(compute, role)))

    def shapes(self, compute: Compute, role: Role) -> Shapes:
        """What an instruction of a role is given, on the rank with most samples."""
        types = ([self._local(role, name, role.largest_shard) for name in names]
                 for names in (compute.inputs, compute.outputs))  # fmt: skip
        inputs, outputs = map(tuple, types)
        return Shapes(inputs, outputs, dict(compute.attrs))

    def source(self, compute: Compute, role: Role) -> str:
        """Where the price of an instruction comes from: measured, interpolated or analytic; "" of no operator's."""
        device, algorithm, layout = self.cluster.device(self._device(role)), compute.kernel[2], compute.layout
        for call in self.kernels(compute, role):
            return seconds(call.operator, call.stage, call.shapes, algorithm, layout, device, self.profile).source
        return ""

    def _taken(self, role: Role, name: str, samples: int, device: Device) -> float:
        """Samples are read at indices: value by value where they lie innermost, else each in one piece."""
        taken, inside = self._local(role, name, samples), role.buffer(name).layout == "CHWN"
        own, moved = None if self.profile is None else self.profile.own, 2.0 * taken.bytes
        if inside and own is not None and own.gather:
            return own.gather * taken.elements
        phase = Phase(bytes=moved, run=TRANSPOSED_RUN) if inside else Phase(bytes=moved)
        return priced((phase,), self.program.dtype, device, self.profile).seconds

    def _copy(self, types: list[TensorType], device: Device) -> float:
        """All is read and written once."""
        phases = tuple(Phase(bytes=2.0 * type_.bytes) for type_ in types)
        return priced(phases, self.program.dtype, device, self.profile).seconds

    def _on_mesh(self, made: Collective, role: Role, mesh: Mesh, device: Device) -> float:
        """In all groups along axes of the role's mesh at once; by the cheapest algorithm where none is named."""
        fabric, axes = self._fabric(mesh, device), tuple(made.group.split("+"))
        if made.kind == "halo":
            return max(fabric.neighbours(float(made.bytes), axis) for axis in axes)
        known = placed(role, role.buffer(made.buffer))
        size = float(operand_bytes(role, made, self._parts(role)) if known else made.bytes)
        found = fabric.algorithms(made.kind, size, axes)
        return found[made.algorithm] if made.algorithm in found else fabric.cheapest(made.kind, size, axes)[1]

    def _on_links(self, made: Collective, role: Role, device: Device) -> float:
        """In each group of the role by itself, the slowest one; a halo crosses to both neighbours at once."""
        groups = self._members(role, made.group)
        if made.kind == "halo":
            pairs = (pair for ranks in groups for pair in pairwise(ranks))
            return max((self._sent(made.bytes, *pair) for pair in pairs), default=0.0)
        kind = made.algorithm if made.kind == "allreduce" else made.kind
        extra = processing(device, self.profile)
        return max(collective_seconds(kind, made.bytes, ranks, self.cluster, extra) for ranks in groups)

    def _members(self, role: Role, group: str) -> tuple[tuple[int, ...], ...]:
        """The groups of that name in which a role has ranks."""
        key = (role.name, group)
        if key not in self._groups:
            found = {id(ranks): ranks for ranks in (self._around.members(group, rank) for rank in role.ranks)}
            self._groups[key] = tuple(dict.fromkeys(found.values()))
        return self._groups[key]

    def _message(self, transfer: Send | Receive, role: Role, samples: int, device: Device) -> float:
        """Along an axis that the stages' meshes are joined by, as all ranks send at once; else link by link."""
        size = self._local(role, transfer.buffer, samples).bytes
        if self._joined is not None and transfer.group in self._joined.names:
            return float(self._fabric(self._joined, device).send(size, transfer.group, transfer.peer))
        return max(self._messages(transfer, role, size), default=0.0)

    def _messages(self, transfer: Send | Receive, role: Role, size: int) -> Iterator[float]:
        for rank in role.ranks:
            other = self._around.peer(transfer.group, rank, transfer.peer)
            if other is not None:
                yield self._sent(size, rank, other)

    def _sent(self, size: int, source: int, target: int) -> float:
        """A message of b bytes costs L + b·G (cost-models.md §4), on the link between two ranks."""
        link = self.cluster.link_between(source, target)
        return 0.0 if link is None else link.latency + size / link.bandwidth

    @cached_property
    def _joined(self) -> Mesh | None:
        """The mesh of all ranks, the stages along its major axis `pipeline`; None where their meshes differ."""
        meshes = [role.mesh for role in self.program.roles]
        axes = {mesh.axes if mesh is not None else None for mesh in meshes}
        (first, *others) = axes
        if others or first is None or len(meshes) < 2 or "pipeline" in dict(first):
            return None
        return Mesh((("pipeline", len(meshes)), *first))

    def _fabric(self, mesh: Mesh, device: Device) -> Fabric:
        key = (mesh, device.name)
        if key not in self._fabrics:
            from dlc.cluster.fabric import Fabric

            self._fabrics[key] = Fabric(self.cluster, mesh, processing(device, self.profile))
        return self._fabrics[key]

    def _local(self, role: Role, name: str, samples: int) -> TensorType:
        """The type of what a rank holds of a buffer, of one microbatch."""
        key = (role.name, name, samples)
        if key not in self._types:
            self._types[key] = local(role, role.buffer(name), samples, self._parts(role))
        return self._types[key]

    def _parts(self, role: Role) -> int:
        """Into how many microbatches a role's schedules cut the batch."""
        if role.name not in self._microbatches:
            self._microbatches[role.name] = Storage(role, 0).microbatches
        return self._microbatches[role.name]

    def _device(self, role: Role) -> str:
        """The slowest device among a role's ranks."""
        if role.name not in self._slowest:
            self._slowest[role.name] = self.cluster.slowest(role.ranks).name
        return self._slowest[role.name]


class Call(NamedTuple):
    """A kernel as `dlc.cost.compute.seconds` prices it, and how often it is called."""

    operator: Operator
    stage: str
    shapes: Shapes
    times: int = 1


def calls(compute: Compute, shapes: Shapes) -> Iterator[Call]:
    """What an instruction calls of an operator's kernel on these shapes; nothing where it is of no operator."""
    name, stage, _ = compute.kernel
    op = operator(name)
    if op is None:
        return
    stage = STAGES.get(op.role, stage) if stage == "forward" else stage
    parts = shapes.attrs.get("parts", 1)
    if compute.rows:
        yield from (Call(op, stage, each) for each in _cut(shapes, compute.rows))
    elif isinstance(parts, int) and parts > 1:  # as many calls, each of a part of the samples
        inputs, outputs = (tuple(_part(t, parts) for t in types) for types in (shapes.inputs, shapes.outputs))
        yield Call(op, stage, Shapes(inputs, outputs, shapes.attrs), parts)
    else:
        yield Call(op, stage, shapes)


def _part(type_: TensorType, parts: int) -> TensorType:
    """What a kernel is given of a batched operand at a time."""
    return type_.with_extent(BATCH, -(-type_.extent(BATCH) // parts)) if type_.batched else type_


def _cut(shapes: Shapes, which: str) -> Iterator[Shapes]:
    """What a kernel is given of its rows, call by call: all but the border, or the two sides of that (`Compute`)."""
    attrs, x, y = dict[str, Any](shapes.attrs), shapes.inputs[0], shapes.outputs[0]
    (_, axis), (before, behind) = attrs[ROWS], attrs[BORDER]
    stride = attrs["stride"][x.names.index(axis) - 2]
    for rows in (y.extent(axis) - before - behind,) if which == INNER else (before, behind):
        if rows > 0:
            read = max(1, x.extent(axis) - (y.extent(axis) - rows) * stride)
            inputs = (x.with_extent(axis, read), *shapes.inputs[1:])
            yield Shapes(inputs, tuple(each.with_extent(axis, rows) for each in shapes.outputs), shapes.attrs)
