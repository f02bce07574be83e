"""Weights that live in shards (ZeRO 3): gathered before each pass of an op that reads them, and dropped behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.ir.program import Buffer, Collective, Instruction
from dlc.ir.tensor import DTYPE_BYTES, tensor
from passes.lowering.forms import Form
from passes.lowering.role import Buffers
from passes.lowering.setting import Setting


@dataclass(frozen=True, slots=True)
class Unit:
    """The weights of one op that are gathered together, over these mesh axes."""

    name: str
    members: tuple[str, ...]
    axes: tuple[str, ...]


@dataclass(slots=True)
class Shards:
    """`of` maps each weight that lives in shards to its unit."""

    setting: Setting
    buffers: Buffers
    of: dict[str, Unit] = field(default_factory=dict)

    def hold(self, unit: Unit, forms: dict[str, Form]) -> None:
        """The shards of a unit, back to back."""
        dtype = self.setting.graph.type(unit.members[0]).dtype
        size = sum(self.setting.bytes(name, forms[name]) for name in unit.members)
        self.buffers.add(Buffer(f"{unit.name}.shards", tensor(dtype, element=size // DTYPE_BYTES[dtype]), "weight"))
        offset = 0
        for name in unit.members:
            self.of[name] = unit
            type_, form = self.setting.graph.type(name), forms[name]
            parent = f"{unit.name}.shards"
            self.buffers.add(Buffer(name, type_, "weight", view_of=parent, offset=offset, placement=form.placement))
            offset += self.setting.bytes(name, form) // DTYPE_BYTES[dtype]

    def gather(self, weight: str, address: str, gathered: set[str], out: list[Instruction]) -> str:
        """The buffer of a whole weight for the node at an address; `gathered` are the units that it has already."""
        unit = self.of[weight]
        if unit.name not in gathered:
            gathered.add(unit.name)
            self._collect(unit, address, out)
        return f"{weight}.whole@{address}"

    def _collect(self, unit: Unit, address: str, out: list[Instruction]) -> None:
        graph, homes = self.setting.graph, self.setting.homes
        dtype = graph.type(unit.members[0]).dtype
        sizes = [self.setting.bytes(name, homes[name]) for name in unit.members]
        size, offset = sum(sizes), 0
        target, source = f"{unit.name}.shards.whole@{address}", f"{unit.name}.shards"
        self.buffers.add(Buffer(target, tensor(dtype, element=size // DTYPE_BYTES[dtype]), "bucket"))
        for name, part in zip(unit.members, sizes, strict=True):
            whole, where = f"{name}.whole@{address}", homes[name].placement
            self.buffers.add(Buffer(whole, graph.type(name), "bucket", view_of=target, offset=offset, placement=where))
            offset += part // DTYPE_BYTES[dtype]
        algorithm, group = self.setting.algorithm("allgather", size, unit.axes), "+".join(unit.axes)
        out.append(
            Collective(target, "allgather", group, algorithm, source, size, reason="for this pass", target=target)
        )
