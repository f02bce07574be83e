"""Weights that live in shards (ZeRO 3): gathered into scratch memory before an op, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.ir.program import Buffer, Collective, Instruction
from dlc.ir.tensor import DTYPE_BYTES, tensor
from passes.lowering.forms import Form
from passes.lowering.role import Buffers, Scratch
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
        """The shards of a unit, back to back; what is gathered of them lies in scratch memory."""
        dtype = self.setting.graph.type(unit.members[0]).dtype
        size = sum(self.setting.bytes(name, forms[name]) for name in unit.members)
        self.buffers.add(Buffer(f"{unit.name}.weights", tensor(dtype, element=size // DTYPE_BYTES[dtype]), "weight"))
        offset = 0
        for name in unit.members:
            self.of[name] = unit
            type_, form = self.setting.graph.type(name), forms[name]
            parent = f"{unit.name}.weights"
            self.buffers.add(Buffer(name, type_, "weight", view_of=parent, offset=offset, placement=form.placement))
            offset += self.setting.bytes(name, form) // DTYPE_BYTES[dtype]

    def gather(self, weight: str, scratch: Scratch, out: list[Instruction]) -> str:
        """The buffer of a whole weight; the first of its unit that an instruction asks for gathers all of them."""
        unit = self.of[weight]
        if unit.name not in scratch.gathered:
            scratch.gathered[unit.name] = self._collect(unit, scratch, out)
        suffix = scratch.gathered[unit.name]
        return f"{weight}.{suffix}"

    def _collect(self, unit: Unit, scratch: Scratch, out: list[Instruction]) -> str:
        graph, homes = self.setting.graph, self.setting.homes
        dtype = graph.type(unit.members[0]).dtype
        size = sum(self.setting.bytes(name, homes[name]) for name in unit.members)
        at = scratch.take(size)
        suffix = f"whole{at or ''}"
        target, flat = f"{unit.name}.gathered{at or ''}", tensor(dtype, element=size // DTYPE_BYTES[dtype])
        self.buffers.add(Buffer(target, flat, "bucket", view_of=scratch.pool.name, offset=at))
        offset = 0
        for name in unit.members:
            part, where = f"{name}.{suffix}", homes[name].placement
            self.buffers.add(Buffer(part, graph.type(name), "bucket", view_of=target, offset=offset, placement=where))
            offset += self.setting.bytes(name, homes[name]) // DTYPE_BYTES[dtype]
        algorithm = self.setting.algorithm("allgather", size, unit.axes)
        group, source = "+".join(unit.axes), f"{unit.name}.weights"
        out.append(
            Collective(target, "allgather", group, algorithm, source, size, reason="for this pass", target=target)
        )
        return suffix
