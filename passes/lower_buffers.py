"""The arrays of a Program: which exist, in what layout, and which are views of others."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.ir.graph import Graph, Value
from dlc.ir.plan import Plan
from dlc.ir.program import Buffer, BufferKind
from dlc.ir.tensor import BATCH, DTYPE_BYTES, TensorType, tensor
from dlc.ops.operator import Workspace

IMAGE_AXES = (BATCH, "channel", "height", "width")
DEFAULT_LAYOUT = "NCHW"
ALIGNMENT = 64  # bytes: a cache line


def is_image(type_: TensorType) -> bool:
    """Whether a value has layouts to choose from: batch, channel, height, width."""
    return type_.names == IMAGE_AXES


def same_memory(type_: TensorType, one: str, other: str) -> bool:
    """Whether two layouts put the elements in the same order: axes of extent 1 may stand anywhere."""
    extents = dict(zip("NCHW", type_.shape, strict=True)) | {"N": 2}
    return [a for a in one if extents[a] > 1] == [a for a in other if extents[a] > 1]


@dataclass(slots=True)
class Buffers:
    """Collects buffers while instructions are made. A value has one per layout in which it is wanted."""

    graph: Graph
    plan: Plan
    _found: dict[str, Buffer] = field(default_factory=dict)
    _home: dict[str, str] = field(default_factory=dict)  # value -> the layout that it is computed in
    _arena: int = 0

    def __post_init__(self) -> None:
        for value in self.graph.of_kind("input", "field", "weight", "statistic", "state", "constant"):
            self.define(value.name, DEFAULT_LAYOUT)
        for bucket in self.plan.buckets:
            members = [self.graph.value(name) for name in bucket.members]
            elements = sum(value.type.elements for value in members)
            dtype = members[0].type.dtype
            self._add(Buffer(bucket.name, tensor(dtype, element=elements), "bucket"))
            offset = 0
            for value in members:
                self._add(Buffer(value.name, value.type, _kind(value), view_of=bucket.name, offset=offset))
                offset += value.type.elements

    def define(self, name: str, layout: str, view_of: str | None = None) -> str:
        """The buffer that a value is computed into, in the layout of the op that computes it."""
        value = self.graph.value(name)
        if name not in self._found:
            held = layout if is_image(value.type) else ""
            self._home[name] = held
            self._add(Buffer(name, value.type, _kind(value), held, view_of))
        return name

    def find(self, name: str, layout: str) -> str:
        """The name of the buffer that holds a value in a layout; it may not exist yet."""
        type_ = self.graph.type(name)
        home = self._home.get(name, "")
        return name if not is_image(type_) or layout == home else f"{name}@{layout}"

    def home(self, name: str) -> str:
        """The layout that a value is computed in; "" where it has none."""
        return self._home.get(name, "")

    def converted(self, name: str, layout: str) -> tuple[str, bool]:
        """(buffer of a value in a layout, whether filling it takes a conversion)."""
        found = self.find(name, layout)
        if found == name:
            return found, False
        value = self.graph.value(name)
        free = same_memory(value.type, self.home(name), layout)
        if found not in self._found:
            self._add(Buffer(found, value.type, _kind(value), layout, view_of=name if free else None))
        return found, not free

    def workspaces(self, address: str, wanted: tuple[Workspace, ...]) -> tuple[str, ...]:
        """Scratch arrays of one instruction, back to back in the arena that all instructions share."""
        names, offset = list[str](), 0
        for workspace in wanted:
            name = f"{address}.{workspace.role}"
            self._add(Buffer(name, workspace.type, "workspace", view_of="arena", offset=offset))
            offset += -(-workspace.type.elements * DTYPE_BYTES[workspace.type.dtype] // ALIGNMENT) * ALIGNMENT
            names.append(name)
        self._arena = max(self._arena, offset)
        return tuple(names)

    def table(self, name: str, type_: TensorType) -> str:
        """A small buffer that is no value of the graph: partial sums between two collectives."""
        self._add(Buffer(name, type_, "saved"))
        return name

    def totals(self) -> Buffer:
        """Loss and metrics summed over the samples of an evaluation, in float64."""
        return self._add(Buffer("totals", tensor("f64", entry=1 + len(self.graph.metrics)), "bucket"))

    def all(self) -> tuple[Buffer, ...]:
        """Every buffer, parents before views."""
        arena = (Buffer("arena", tensor("u8", byte=self._arena), "workspace"),) if self._arena else ()
        return (*arena, *self._found.values())

    def _add(self, buffer: Buffer) -> Buffer:
        return self._found.setdefault(buffer.name, buffer)


def _kind(value: Value) -> BufferKind:
    return value.kind
