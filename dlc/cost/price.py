"""Seconds of each instruction of a Program on a cluster: the price that the simulator is given.

The figures are those of the planner: `dlc.cost.compute` for kernels and `dlc.cluster.collectives` for communication, on
the slowest device of the role.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dlc.cluster.topology import Cluster, Device
from dlc.cost.communication import allreduce_seconds
from dlc.cost.compute import conversion_seconds, overhead, priced, seconds
from dlc.cost.phases import Phase
from dlc.cost.profile import Profile
from dlc.ir.execution import Price
from dlc.ir.program import (
    Collective,
    CommunicationGroup,
    Compute,
    Copy,
    Instruction,
    Load,
    Program,
    Receive,
    Role,
    Send,
)
from dlc.ir.ranks import peer
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops import operator
from dlc.ops.operator import Shapes

STAGES = {"loss": "loss", "metric": "metric"}
"""An operator's role -> the pass that its forward kernel is priced as."""


def default_price(program: Program, cluster: Cluster, profile: Profile | None = None) -> Price:
    """Prices of a program's instructions on a cluster: `price(instruction, role, samples)` in seconds."""
    return _Prices(program, cluster, profile).price


@dataclass(slots=True)
class _Prices:
    program: Program
    cluster: Cluster
    profile: Profile | None
    known: dict[tuple[Instruction, str, int], float] = field(default_factory=dict)

    def price(self, instruction: Instruction, role: Role, samples: int) -> float:
        """Seconds of one instruction on a rank of the role, for so many samples; the same is priced once."""
        key = (instruction, role.name, samples)
        if key not in self.known:
            self.known[key] = self._seconds(instruction, role, samples)
        return self.known[key]

    def _seconds(self, instruction: Instruction, role: Role, samples: int) -> float:
        device = self._device(role)
        match instruction:
            case Compute():
                return self._kernel(instruction, role, samples, device)
            case Load(buffers=buffers):
                return self._copy([_local(role, name, samples) for name in buffers], device)
            case Copy(source=source):
                return self._copy([_local(role, source, samples)], device)
            case Collective(algorithm=algorithm, bytes=size, group=group):
                around = (m for m in self._group(group).members if set(m).intersection(role.ranks))
                return max(allreduce_seconds(algorithm, size, ranks, self.cluster, device) for ranks in around)
            case Send() | Receive():
                return max(self._messages(instruction, role, samples), default=0.0)
        return 0.0

    def _kernel(self, compute: Compute, role: Role, samples: int, device: Device) -> float:
        name, stage, algorithm = compute.kernel
        inputs = tuple(_local(role, buffer, samples) for buffer in compute.inputs)
        outputs = tuple(_local(role, buffer, samples) for buffer in compute.outputs)
        if name == "convert":
            return conversion_seconds(inputs[0], device, self.profile)
        op = operator(name)
        if op is None:  # an instruction of the program's own, such as adding up totals: a call and no work to speak of
            return overhead(device, self.profile)
        stage = STAGES.get(op.role, stage) if stage == "forward" else stage
        shapes = Shapes(inputs, outputs, dict(compute.attrs))
        return seconds(op, stage, shapes, algorithm, compute.layout, device, self.profile).seconds

    def _copy(self, types: list[TensorType], device: Device) -> float:
        """All is read and written once."""
        phases = tuple(Phase(bytes=2.0 * type_.bytes) for type_ in types)
        return priced(phases, self.program.dtype, device, self.profile).seconds

    def _messages(self, transfer: Send | Receive, role: Role, samples: int) -> Iterator[float]:
        """A message of b bytes costs L + b·G (cost-models.md §4), on the link between each rank and its peer."""
        size = _local(role, transfer.buffer, samples).bytes
        for rank in role.ranks:
            other = peer(self._group(transfer.group), rank, transfer.peer)
            link = None if other is None else self.cluster.link_between(rank, other)
            if link is not None:
                yield link.latency + size / link.bandwidth

    def _device(self, role: Role) -> Device:
        """The device with the lowest float32 peak among a role's ranks: the others wait for it."""
        devices = (self.cluster.device_of(rank) for rank in role.ranks)
        return min(devices, key=lambda device: device.peak("f32"))

    def _group(self, name: str) -> CommunicationGroup:
        return next(group for group in self.program.groups if group.name == name)


def _local(role: Role, buffer: str, samples: int) -> TensorType:
    """The type of what a rank holds of a buffer."""
    return role.buffer(buffer).type.with_extent(BATCH, samples)
