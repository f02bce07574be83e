"""The state of one role as an entry point runs: what its buffers hold, and the faults found so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement
from dlc.ir.problem import Problem, ProblemKind
from dlc.ir.program import TRAIN_STEP, Buffer, Collective, Compute, Instruction, Program, Receive, Role, Row
from dlc.ir.storage import title, writes
from dlc.ir.tensor import NARROW
from dlc.ops import operator
from dlc.proof.forms import Form, Forms, covered, declared, largest, place
from dlc.proof.memory import Content, Layout, Memory, Track, Written, is_part, same_order
from dlc.proof.rules import Rules, is_image
from dlc.proof.terms import Meaning, Terms, after, microbatch_of, shown, term

DEFAULT_LAYOUT = "NCHW"


@dataclass(frozen=True, slots=True)
class At:
    """A row of a schedule, and the number of the microbatch that it works on: further batches go on counting."""

    row: Row
    microbatch: int


@dataclass(frozen=True, slots=True)
class Moves:
    """What a collective moves where along which axes of the mesh, and the forms behind it, as far as they are known."""

    made: Collective
    pairs: tuple[tuple[str, str], ...]
    axes: tuple[int, ...]
    known: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a graph changes in place: by value the nodes that do, in order; these by address; their operators."""

    values: dict[str, tuple[Node, ...]]
    nodes: dict[str, Node]
    operators: frozenset[str]
    masters: dict[str, str]  # by copy in f32 the weight, of weights that are made anew of these in each step
    casts: bool = False  # whether kernels work on copies in f32 of what is narrower
    scaled: bool = False  # whether the loss is scaled, and steps with gradients that are not finite are skipped


@dataclass(slots=True)
class State:
    """A role in an entry point. `microbatches` are the numbers of all that the entry goes through."""

    program: Program
    entry: str
    meaning: Meaning
    rules: Rules
    layout: Layout
    microbatches: tuple[int, ...]
    changes: Changes
    graph: Graph = field(init=False)
    role: Role = field(init=False)
    mesh: Mesh = field(init=False)
    forms: Forms = field(init=False)
    memory: Memory = field(init=False)
    found: dict[tuple[str, str], Problem] = field(default_factory=dict)
    moves: dict[int, Moves] = field(default_factory=dict)  # by the identity of the collective
    exact: set[tuple[str, int]] = field(default_factory=set)  # (copy in f32, slot) of what is not rounded yet
    results: dict[str, dict[Terms, int]] = field(default_factory=dict)  # output -> what it has held, and how
    flying: dict[tuple[str, int], tuple[Collective, Content | None]] = field(default_factory=dict)  # halos, by target
    _fills: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph, self.role = self.layout.graph, self.layout.role
        self.mesh, self.forms = self.rules.mesh, self.rules.forms
        stale = frozenset(self.changes.masters.values() if self.entry == TRAIN_STEP else ())
        tracks = self.layout.begins.get(stale)
        if tracks is None:
            tracks = self.layout.begins[stale] = self._begins(stale)
        self.memory = Memory(self.layout, tracks)

    def _begins(self, stale: Collection[str]) -> Mapping[str, Track]:
        """What lies in the storages of what is kept when an entry begins; weights that are `stale` are made anew."""
        found: dict[str, Track] = {}
        for buffer in self.layout.kept:
            form = Form(self.said(buffer), buffer.layout if is_image(buffer.type) else "")
            self.typed(None, buffer.name, buffer.name, form)
            terms = after("the step before", buffer.name) if buffer.name in stale else term(self.weight(buffer.name))
            storage, start, stop, _ = self.layout.span(buffer.name)
            written = Written(buffer.name, Content(terms, self.forms.number(form)))
            found.setdefault(storage, Track()).put(start, stop, written)
        return found

    def weight(self, value: str) -> str:
        """The weight that a value is the copy in f32 of; else the value itself."""
        return self.changes.masters.get(value, value)

    def said(self, buffer: Buffer) -> Placement:
        """The placement that a buffer says, whole where it says none."""
        return buffer.placement or (REPLICATED,) * len(self.mesh.names)

    def placement(self, name: str) -> Placement | None:
        """The placement that a buffer says; None where it says nothing, as tables do."""
        placement = self.role.buffer(name).placement
        return placement if placement or not self.mesh.axes else None

    def problem(self, kind: ProblemKind, made: Instruction | None, sentence: str) -> None:
        """Note a fault; one for each instruction and kind."""
        name = title(made) if made is not None else ""
        key = (kind, name or sentence)
        self.found.setdefault(key, Problem(kind, sentence, self.role.name, self.entry, name))

    def fills(self, name: str) -> frozenset[str]:
        """The segments that may fill a buffer, or one that it is a view of, but where another role sends just that."""
        found = self._fills.get(name)
        if found is None:
            known, names, at = {b.name for b in self.role.buffers}, set[str](), name
            while at in known:
                names.add(at)
                parent = self.layout.parent(self.role.buffer(at))
                at = parent.name if parent is not None else ""
            found = self._fills[name] = frozenset(
                segment.name
                for segment in self.role.segments
                if any(
                    names.intersection(writes(i))
                    for i in segment.instructions
                    if not (isinstance(i, Receive) and i.buffer == name)
                )
            )
        return found

    # --- reading -----------------------------------------------------------------------------------------------

    def read(self, at: At, made: Instruction, name: str) -> Content | None:
        """What a buffer holds; None where that is a fault, which is noted, or follows from one."""
        written = self.memory.find(name, at.row.slot)
        if written is None:
            self.problem("unwritten", made, f"`{title(made)}` reads `{name}` before it is written")
            return None
        if written.content is None or written.name == name:
            return written.content
        way = self.layout.way(name, written.name)
        if way is None:
            self._lost(made, name, written.name)
            return None
        content: Content | None = written.content
        for parent, child in pairwise(way):
            content = self._seen(made, content, parent, child) if content is not None else None
        return content

    def _lost(self, made: Instruction, name: str, other: str) -> None:
        """A buffer is read whose bytes hold something else, or parts that each rank has changed for itself."""
        part = self.role.buffer(other)
        if part.view_of == name and is_part(part, self.role.buffer(name)):
            sentence = f"`{title(made)}` reads `{name}`, of which each rank has changed its own part, `{other}`"
            self.problem("content", made, sentence)
        else:
            self.problem("content", made, f"`{title(made)}` reads `{name}`, where `{other}` lies by now")

    def _seen(self, made: Instruction, content: Content, parent: Buffer, child: Buffer) -> Content | None:
        """A content as a view shows it."""
        value = self.layout.value(child.name)
        if content.form < 0 or (value and not self._alike(value, self.layout.value(parent.name))):
            node = self.graph.producer(value)
            if content.form >= 0 and node is not None and _is_view(node):
                return self._renamed(made, content, node, child)
            sentence = f"`{title(made)}` reads `{child.name}`, which shows {shown(content.terms)}"
            self.problem("content", made, sentence)
            return None
        form = self.forms[content.form]
        said = self.placement(child.name)
        said = form.placement if said is None or lenient(said, declared(form.placement)) else said
        type_ = self.rules.type(value) if value else child.type
        whole = child.type == parent.type and (not form.fringes or said == form.placement)
        if (
            not whole
            or not covered(type_, self.mesh, declared(form.placement), said, ())
            or _sums(said) != _sums(form.placement)
        ):
            sentence = f"`{title(made)}` reads `{child.name}`, of which a rank has not all in `{parent.name}`"
            self.problem("parts", made, sentence)
            return None
        after = Form(said, child.layout if is_image(child.type) else "", form.fringes)
        if after.layout != form.layout and not same_order(
            largest(type_, after, self.mesh).shape, form.layout, after.layout
        ):
            sentence = f"`{title(made)}` reads `{child.name}` in {after.layout}, which lies in {form.layout}"
            self.problem("content", made, sentence)
            return None
        return Content(content.terms, self.forms.number(after))

    def _alike(self, value: str, other: str) -> bool:
        """Whether two values are one, as in inference a dropout's result and its operand."""
        return value == other or (bool(other) and self.meaning.parts(value) == self.meaning.parts(other))

    def _renamed(self, made: Instruction, content: Content, node: Node, child: Buffer) -> Content | None:
        """A content under the other axes of a view op."""
        microbatch = microbatch_of(content.terms)
        if content.terms != self.meaning.of(node.inputs[0], microbatch):
            sentence = f"`{title(made)}` reads `{child.name}`, which shows {shown(content.terms)}"
            self.problem("content", made, f"{sentence} in place of `{node.inputs[0]}`")
            return None
        split = self.rules.split(node, (content.form,), (self.placement(child.name),), DEFAULT_LAYOUT)
        if isinstance(split, str):
            self.problem("parts", made, f"`{title(made)}` reads `{child.name}`: {split}")
            return None
        self.typed(made, child.name, node.outputs[0], self.forms[split.outputs[0]])
        return Content(self.meaning.of(node.outputs[0], microbatch), split.outputs[0])

    def expect(self, made: Instruction, name: str, content: Content, wanted: Terms) -> bool:
        """Whether a content is just what is wanted; a fault is noted where it is not."""
        if content.terms is wanted or content.terms == wanted:
            return True
        sentence = f"`{title(made)}` reads `{name}`, which holds {shown(content.terms)} in place of {shown(wanted)}"
        self.problem("content", made, sentence)
        return False

    # --- writing -----------------------------------------------------------------------------------------------

    def write(self, at: At, made: Instruction, name: str, content: Content | None, in_place: bool = False) -> None:
        """A buffer is filled; what it says of its form must be so. After a sum in place it may say `parts of a sum`."""
        if content is not None and content.form >= 0 and not self._fits(made, name, content.form, in_place):
            content = None
        self.memory.write(name, at.row.slot, content)
        if self.changes.casts:
            self._note_rounding(at, made, name)

    def _note_rounding(self, at: At, made: Instruction, name: str) -> None:
        """Remember what is wider than its value, as kernels and sums over ranks leave it; casts widen what is rounded.

        Where a cast has filled one, its source was as wide as the value, or `dlc.proof.casts` has noted a fault.
        """
        key, type_, value = self.copy(at, name), self.role.buffer(name).type, self.layout.value(name)
        wanted = self.graph.type(value) if value else type_
        table = wanted.names != type_.names  # a sum inside a pass, in f32 throughout
        if wanted.dtype in NARROW and type_.dtype not in NARROW and not table and not _is_cast(made):
            self.exact.add(key)
        else:
            self.exact.discard(key)

    def is_exact(self, at: At, name: str) -> bool:
        """Whether a buffer holds what has not been rounded to its value's type."""
        return bool(self.exact) and self.copy(at, name) in self.exact

    def copy(self, at: At, name: str) -> tuple[str, int]:
        """A buffer, and of which slot, where each has its own."""
        return name, at.row.slot if self.layout.span(name).by_slot else 0

    def _fits(self, made: Instruction, name: str, number: int, in_place: bool) -> bool:
        """Whether a buffer says the form that it is filled in."""
        key, fitting = (name, number, in_place), self.layout.fitting
        if key in fitting:
            return True
        buffer, form, said = self.role.buffer(name), self.forms[number], self.placement(name)
        have = declared(form.placement)
        if said is not None and said != have and not (in_place and lenient(said, have)):
            words = f"{_listed(form.placement)} and says {_listed(said)}"
            self.problem("parts", made, f"`{title(made)}` fills `{name}`, which is {words}")
            return False
        if is_image(buffer.type) and form.layout != buffer.layout:
            words = f"in {form.layout or 'no layout'}, which says {buffer.layout or 'none'}"
            self.problem("content", made, f"`{title(made)}` fills `{name}` {words}")
            return False
        fitting.add(key)
        return True

    def poison(self, at: At, names: Iterable[str]) -> None:
        """Buffers that hold what follows from a fault."""
        for name in names:
            self.memory.write(name, at.row.slot, None)

    def typed(self, made: Instruction | None, name: str, value: str, form: Form) -> None:
        """Note a buffer that has not the type of its value, or no room for the rows of other ranks."""
        type_ = self.graph.type(value)
        for fringe in form.fringes:
            most = max(stop - start for start, stop in fringe.rows)
            type_ = type_.with_extent(fringe.axis, most * len(fringe.rows))
        if type_.dtype in NARROW and self.role.buffer(name).type.dtype == "f32":
            type_ = type_.with_dtype("f32")  # what a kernel works on
        if (buffer := self.role.buffer(name)).type != type_:
            self.problem("bytes", made, f"`{name}` is a {buffer.type}, and what it is to hold a {type_}")


def _is_cast(made: Instruction) -> bool:
    return isinstance(made, Compute) and made.kernel[0] == "cast"


def lenient(said: Placement, have: Placement) -> bool:
    """Whether a buffer says what it holds, or said so before its parts were summed in place."""
    return len(said) == len(have) and all(
        s == h or (s == PARTIAL and h == REPLICATED) for s, h in zip(said, have, strict=True)
    )


def _sums(placement: Placement) -> tuple[bool, ...]:
    return tuple(at == PARTIAL for at in placement)


def _listed(placement: Placement) -> str:
    return ", ".join(map(place, placement)) or "whole"


def _is_view(node: Node) -> bool:
    found = operator(node.op)
    return found is not None and found.view and node.stage in ("forward", "dx")
