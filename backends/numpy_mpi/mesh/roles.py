"""What is written of each role: the statements of its segments, its schedules, its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.mesh import bodies
from backends.numpy_mpi.mesh.blocks import TABLE, Node, tree
from backends.numpy_mpi.mesh.bundles import Bundles
from backends.numpy_mpi.mesh.calls import Calls
from backends.numpy_mpi.mesh.modes import merged
from backends.numpy_mpi.mesh.rows import schedule_text, slots_of
from backends.numpy_mpi.mesh.settings import Settings
from backends.numpy_mpi.mesh.specs import Arrays
from backends.numpy_mpi.mesh.statements import Statement
from backends.numpy_mpi.mesh.tables import Rows
from backends.numpy_mpi.mesh.tree import Blocks, Path
from dlc.ir.program import TRAIN_STEP, Compute, Load, Program, Receive, Role, Row, Segment, Send
from dlc.ir.storage import writes
from dlc.ir.tensor import NARROW
from dlc.ops.fusion import one_by_one
from dlc.ops.indexing import indexing_of
from passes.differentiate import operator_of, roles
from passes.lowering.widen import MASTER

TITLES = {
    "begin": "Before the first microbatch: what is added to begins at zero.",
    "pack": "Weights in the order in which kernels in C read them, once for all microbatches.",
    "pack_dx": "The same for gradients by activations.",
    "load": "This rank's part of the samples of a microbatch, and of their labels.",
    "forward": "The network, its loss and its metrics.",
    "backward": "The gradients, summed over the ranks as soon as they are complete.",
    "weights": "The gradients by weights, apart from those by activations.",
    "reduce": "What microbatches have added up, summed over the ranks.",
    "unscale": "The gradients of the loss, of which until now they were so many times the scale.",
    "update": "One step of the optimizer.",
    "copies": "Weights in half precision, made of those in f32.",
    "predict": "The network in inference mode, as far as its outputs.",
    "evaluate": "Loss and metrics of what was predicted, added to the totals.",
    "load_inputs": "This rank's part of the samples of a microbatch.",
    "sent": "What was sent has gone, its arrays are free.",
}

BOTH = "The network, in training with its loss and its metrics."

PARAMETERS = ("a", "w", "g", "s", "at", "place")
"""Of each segment's function: the namespaces, the microbatch, and the rank."""


@dataclass(frozen=True, slots=True)
class SegmentText:
    """One function of train.py."""

    name: str
    parameters: tuple[str, ...]
    title: str
    body: str


@dataclass
class RoleText:
    """What the template prints of a role."""

    emission: Emission
    role: Role
    index: int
    stacked: Mapping[str, int]
    blocks: Blocks
    windows: dict[str, str]
    settings: Settings
    calls: Calls = field(init=False)
    in_both: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        emission = self.emission
        microbatches, dtype = emission.plan.microbatches, element_type(emission)
        arrays = Arrays(self.role, dtype, microbatches, self.stacked, self.blocks, self.windows)
        self.calls = Calls(self.emission, arrays, self.settings)

    @property
    def suffix(self) -> str:
        """What the names of this role's tables and functions end in."""
        return str(self.index) if len(self.emission.program.roles) > 1 else ""

    @property
    def arrays(self) -> Arrays:
        """Its arrays."""
        return self.calls.arrays

    def title(self, segment: str) -> str:
        """The function of a segment."""
        return function_name(self.emission.program, self.index, segment)

    def trees(self) -> list[Node]:
        """The statements of its segments by block."""
        located = [(segment, list(self._located(segment))) for segment in self.role.segments if segment.instructions]
        bundles = Bundles(self.rows.made())
        statements = {
            segment.name: [(path, bundles.together(statement)) for path, statement in several]
            for segment, several in located
        }
        for name in [each for each in statements if re.fullmatch(r"forward\d*", each)]:
            self._with_inference(statements, name, name.replace("forward", "predict"))
        return [tree((), _kind(segment), statements[segment.name]) for segment, _ in located]

    def _with_inference(self, statements: dict[str, list[tuple[Path, Statement]]], training: str, other: str) -> None:
        """One function for training and inference, where they have enough in common."""
        both = merged(statements[training], statements[other]) if other in statements else []
        if both:
            statements[training] = both
            arguments = tuple((each,) for each in (*PARAMETERS, "training=False"))
            statements[other] = [((), Statement((self.title(training),), arguments))]
            self.in_both.add(training)

    def _located(self, segment: Segment) -> Iterator[tuple[Path, Statement]]:
        if not segment.name.endswith(".sent"):
            return self.calls.statements(segment.instructions)
        sends = self.role.segment(segment.name.removesuffix(".sent")).instructions
        return self.calls.sent([each for each in sends if isinstance(each, Send) and not each.blocking])

    def segments(self, trees: Sequence[Node]) -> list[SegmentText]:
        """The functions of its segments, in order."""
        return [
            SegmentText(
                self.title(segment.name),
                (*PARAMETERS, *(["training=True"] if segment.name in self.in_both else [])),
                BOTH if segment.name in self.in_both else TITLES[found.kind],
                "\n".join(bodies.lines(found.body, ())),
            )
            for segment, found in zip((s for s in self.role.segments if s.instructions), trees, strict=True)
        ]

    def schedule(self, entry: str, updates: bool | None = None) -> str:
        """The rows of an entry as text; of a training step those of the update, or all others."""
        rows = self._rows(entry)
        if updates is not None:
            rows = [row for row in rows if (row.segment == "update") == updates]
        return schedule_text(rows, self.title, self.emission.plan.microbatches)

    def _rows(self, entry: str) -> list[Row]:
        rows = next(found.schedule for found in self.role.entries if found.name == entry)
        return [row for row in rows if self.role.segment(row.segment).instructions]

    @property
    def slots(self) -> dict[int, int]:
        """(Virtual) stage -> how many slots its microbatches take turns in, where that is more than one."""
        found = slots_of(self._rows(TRAIN_STEP), self.title)
        return {int(at.group()): count for name, count in found.items() if (at := re.search(r"\d+", name))}

    def table(self) -> Node:
        """The rows of its arrays by block."""
        return tree((), TABLE, self.rows.located())

    @cached_property
    def rows(self) -> Rows:
        """The rows of its arrays; its statements are known before."""
        return Rows(self.arrays, self.emission.graph, dict(self._tensors()))

    def _tensors(self) -> Iterator[tuple[str, str]]:
        """What is kept from step to step and summed gradients: (name in the network, buffer that holds it)."""
        graph, known = self.emission.graph, self.arrays.names
        for value in graph.of_kind("weight", "statistic", "state", "constant"):
            has_master = graph.has_value(f"{value.name}{MASTER}")
            held = f"{value.name}{MASTER}" if has_master else value.name
            if held in known and not value.name.endswith(MASTER):
                yield value.name, held
        for weight, gradient in self._gradients():
            yield f"{weight}@grad", gradient

    def _gradients(self) -> Iterator[tuple[str, str]]:
        """(weight, the buffer of its summed gradient), as its update reads them."""
        updates = self.role.segment("update").instructions if self._updates else ()
        for made in (each for instruction in updates for each in one_by_one(instruction)):
            if isinstance(made, Compute) and made.kernel[1] == "update" and "lr" in made.runtime:
                weights = [name for name in map(_weight, made.inputs) if name in self._weights]
                yield from zip(weights, made.inputs[len(weights) :], strict=False)

    @property
    def _updates(self) -> bool:
        return any(segment.name == "update" for segment in self.role.segments)

    @cached_property
    def _weights(self) -> frozenset[str]:
        return frozenset(value.name for value in self.emission.graph.of_kind("weight"))

    def holds(self, name: str | None) -> bool:
        """Whether it has a buffer of that name."""
        return name is not None and name in self.arrays.names

    def outputs(self) -> dict[str, tuple[str, ...]]:
        """Function that makes them -> outputs."""
        made: dict[str, list[str]] = {}
        for title, buffer in self.emission.program.outputs:
            segment = next(
                (s for s in self.role.segments if s.name.startswith("predict") and self._makes(s, buffer)), None
            )
            if segment is not None:
                made.setdefault(self.title(segment.name), []).append(title)
        return {name: tuple(titles) for name, titles in made.items()}

    def layouts(self) -> dict[str, str]:
        """In which order in memory it reads images."""
        loads = (i for segment in self.role.segments for i in segment.instructions if isinstance(i, Load))
        found = {self.calls.fed(name): self.role.buffer(name).layout for load in loads for name in load.buffers}
        return {name: layout for name, layout in found.items() if layout not in ("", "NCHW")}

    def _makes(self, segment: Segment, buffer: str) -> bool:
        """Whether a segment of predictions makes a buffer, or what it is a view of: it is not sent by another role."""
        if not self.holds(buffer):
            return False
        places = self.arrays.storage.places
        storage = places[buffer].storage
        made = (each for each in segment.instructions if not (isinstance(each, Receive) and each.buffer == buffer))
        filled = {places[name].storage for each in made for name in writes(each)}
        return storage in filled or self.role.buffer(storage).kind == "input"


def _kind(segment: Segment) -> str:
    """What segments of all (virtual) stages have in common in their names."""
    return "sent" if segment.name.endswith(".sent") else re.sub(r"\d+$", "", segment.name)


def function_name(program: Program, role: int, segment: str) -> str:
    """The function of a role's segment: in a pipeline with the number of the (virtual) stage."""
    if len(program.roles) == 1:
        return segment
    found = re.fullmatch(r"([a-z_]+?)(\d*)(\.sent)?", segment)
    assert found is not None
    name, chunk, sent = found.groups()
    return f"{name}{role + int(chunk or 0) * len(program.roles)}{'_sent' if sent else ''}"


def _weight(name: str) -> str:
    """The weight that a buffer holds: all of it, a shard, or the master."""
    return name.removesuffix(MASTER).removesuffix(".shard")


def element_type(emission: Emission) -> str:
    """The type of arrays whose table says no other."""
    return "f32" if emission.program.dtype in NARROW else emission.program.dtype


def stacked_weights(emission: Emission) -> dict[str, int]:
    """The weights that hold several tensors one behind the other, each of which is cut, and how many."""
    found: dict[str, int] = {}
    graph, plan = emission.graph, emission.plan
    for node in graph.forward:
        by_role = roles(node)
        space = indexing_of(operator_of(node), {r: graph.type(v) for r, v in by_role.items()}, dict(node.attrs))
        if space.stacked:
            cut = {each.axis for each in plan.op(node.address).partition}
            found.update({by_role[r]: n for r, (axis, n) in space.stacked.items() if axis in cut and r in by_role})
    return found
