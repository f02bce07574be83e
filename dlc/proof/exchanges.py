"""What collectives, messages and copies make of what the ranks hold."""

from __future__ import annotations

from collections.abc import Iterable

from dlc.ir.mesh import PARTIAL, REPLICATED, Placement
from dlc.ir.mesh import parts as count_parts
from dlc.ir.program import Collective, Copy, Load
from dlc.ir.storage import operand_bytes, title
from dlc.ir.tensor import TensorType
from dlc.ops.indexing import Halo
from dlc.proof.casts import check_sum
from dlc.proof.forms import LARGEST, Form, covered, declared, fringe, own_rows, place, summed
from dlc.proof.memory import Content
from dlc.proof.rules import is_image
from dlc.proof.state import At, Moves, State
from dlc.proof.terms import term

ALLREDUCE = (
    "tree",
    "butterfly",
    "ring",
    "embedded_ring",
    "rabenseifner",
    "hierarchical",
    "hierarchical_ring",
    "hierarchical_halving",
    "shared",
    "mpi",
)
SUMS = ("allreduce", "reduce_scatter")
WHOLE = ("allreduce", "allgather")
"""Collectives behind which all ranks of a group have the same."""


def load(state: State, at: At, made: Load) -> None:
    """The samples of a microbatch, as the buffers are placed."""
    for name in made.buffers:
        value, buffer = state.layout.value(name), state.role.buffer(name)
        if not value or state.graph.value(value).kind not in ("input", "field"):
            state.problem("content", made, f"`{name}` is loaded, which the data set has not")
            continue
        form = Form(state.said(buffer), buffer.layout if is_image(buffer.type) else "")
        if PARTIAL in form.placement:
            state.problem("parts", made, f"`{name}` is loaded as parts of a sum")
        state.typed(made, name, value, form)
        state.write(at, made, name, Content(term(value, at.microbatch), state.forms.number(form)))


def copy(state: State, at: At, made: Copy) -> None:
    """A copy of a rank's own part, or of all."""
    content = state.read(at, made, made.source)
    if content is None or content.form < 0:
        state.poison(at, (made.target,))
        return
    form, buffer = state.forms[content.form], state.role.buffer(made.target)
    said = state.placement(made.target)
    said = form.placement if said is None else said
    type_ = state.rules.type(value) if (value := state.layout.value(made.source)) else buffer.type
    have = declared(form.placement)
    if form.fringes or _sums(have) != _sums(said) or not covered(type_, state.mesh, have, said, ()):
        sentence = f"`{title(made)}` fills `{made.target}`, of which a rank has not all in `{made.source}`"
        state.problem("parts", made, sentence)
        state.poison(at, (made.target,))
        return
    state.write(at, made, made.target, Content(content.terms, state.forms.number(Form(said, form.layout))))


def pairs(state: State, made: Collective) -> list[tuple[str, str]] | None:
    """(source, target) of a collective, member by member of a bucket; None where they do not fit each other."""
    sources = state.layout.members(made.buffer)
    if made.target:
        targets = state.layout.members(made.target)
    elif made.kind == "allreduce":
        targets = sources
    else:
        shards = [state.layout.shard(name) for name in sources]
        held = tuple(name for name in shards if name is not None)
        if len(held) < len(shards):
            state.problem("parts", made, f"`{made.name}` has members in `{made.buffer}` without parts of ranks' own")
            return None
        sources, targets = (held, sources) if made.kind == "allgather" else (sources, held)
    if len(sources) != len(targets):
        state.problem("parts", made, f"`{made.name}` goes from {len(sources)} tensors to {len(targets)}")
        return None
    return list(zip(sources, targets, strict=True))


def begin(state: State, at: At, made: Collective) -> dict[str, Content | None]:
    """What a collective over axes of the role's mesh leaves in its targets."""
    plan = state.moves.get(id(made))
    if plan is None:
        plan = state.moves[id(made)] = Moves(made, tuple(pairs(state, made) or ()), _axes(state, made))
    found: dict[str, Content | None] = {}
    for source, target in plan.pairs:
        content = state.read(at, made, source)
        if content is None or content.form < 0:
            found[target] = content
            continue
        after = plan.known.get((source, content.form))
        if after is None:
            after = _after(state, made, source, target, content.form, plan.axes)
            if after is not None:
                plan.known[source, content.form] = after
        found[target] = None if after is None else Content(content.terms, after)
    return found


def _axes(state: State, made: Collective) -> tuple[int, ...]:
    """The axes of the mesh that a collective goes along, by position. There is such a collective, of so many bytes."""
    if made.kind == "broadcast" or (made.kind == "allreduce" and made.algorithm not in ALLREDUCE):
        state.problem("structure", made, f"`{made.name}` is a {made.kind} by {made.algorithm}, which there is not")
    if made.kind in SUMS or dict(made.attrs).get("add"):
        check_sum(state, made)
    size = operand_bytes(state.role, made, state.layout.storage.microbatches)
    if made.bytes != size:
        state.problem("bytes", made, f"`{made.name}` moves {made.bytes} bytes of `{made.buffer}`, which has {size}")
    return tuple(k for k, name in enumerate(state.mesh.names) if name in made.group.split("+"))


def _after(state: State, made: Collective, source: str, target: str, number: int, axes: tuple[int, ...]) -> int | None:
    """The form behind a collective, by number; None where it cannot be, which is noted."""
    form = state.forms[number]
    if made.kind == "halo":
        after = _halo(state, made, source, target, form, axes)
    else:
        counted = _counted(state, made, source, form.placement, axes)
        after = _move(state, made, source, target, form, axes) if counted else None
    return None if after is None else state.forms.number(after)


def _counted(state: State, made: Collective, source: str, have: Placement, axes: tuple[int, ...]) -> bool:
    """Whether a collective sums what is parts of sums, and nothing else."""
    sums, parts = made.kind in SUMS, LARGEST if ("largest", True) in made.attrs else PARTIAL
    for k in axes:
        if (have[k] != parts) if sums else have[k] in (PARTIAL, LARGEST):
            fault = "would be counted again" if sums else "would be lost"
            sentence = f"`{made.name}` is a {made.kind} of `{source}`, which along `{state.mesh.names[k]}`"
            state.problem("twice" if sums else "parts", made, f"{sentence} is {place(have[k])}: parts {fault}")
            return False
    return True


def _move(state: State, made: Collective, source: str, target: str, form: Form, axes: tuple[int, ...]) -> Form | None:
    """A collective that changes a placement, along the axes of its group."""
    have, own = form.placement, state.role.buffer(source)
    if form.fringes:
        state.problem("parts", made, f"`{made.name}` moves `{source}` with rows of other ranks")
        return None
    if own.type != state.role.buffer(target).type:
        state.problem("bytes", made, f"`{made.name}` fills `{target}`, of another type than `{source}`")
        return None
    whole = summed(have, axes)
    said = None if source == target else state.placement(target)
    after = whole if said is None else said
    if (made.kind == "allreduce" and after != whole) or any(
        (after[k] == REPLICATED) != (made.kind in WHOLE) or after[k] == have[k] for k in axes
    ):
        words = f"`{source}` is {_listed(have)}, and `{target}` {_listed(after)}"
        state.problem("parts", made, f"`{made.name}` over `{made.group}` is no {made.kind}: {words}")
        return None
    value = state.layout.value(source)
    type_ = state.rules.type(value) if value else own.type
    if not _reaches(state, type_, have, after, axes):
        words = f"`{source}` is {_listed(have)}, and `{target}` {_listed(after)}"
        sentence = f"`{made.name}` over `{made.group}` does not give the ranks all of their parts: {words}"
        state.problem("parts", made, sentence)
        return None
    return Form(after, form.layout)


def _reaches(state: State, type_: TensorType, have: Placement, after: Placement, axes: tuple[int, ...]) -> bool:
    """Whether the ranks along some axes have between them what each is to have; sums along other axes stay sums."""
    for k, (x, y) in enumerate(zip(have, after, strict=True)):
        if (y == PARTIAL) if k in axes else (x == PARTIAL) != (y == PARTIAL):
            return False
    if not any(p not in (REPLICATED, PARTIAL) for p in have):
        return True  # whole on every rank, or in parts of sums
    parts = tuple(REPLICATED if p == PARTIAL else p for p in declared(have))
    wanted = tuple(REPLICATED if p == PARTIAL else p for p in after)
    return covered(type_, state.mesh, parts, wanted, axes)


def _halo(state: State, made: Collective, source: str, target: str, form: Form, axes: tuple[int, ...]) -> Form | None:
    """Rows of other ranks are fetched, or parts of their sums sent back to them and added up."""
    facts = dict(made.attrs)
    axis, value = str(facts.get("axis")), state.layout.value(source)
    if not value or axis not in state.graph.type(value).names:
        state.problem("content", made, f"`{made.name}` fetches rows along {axis}, which `{source}` has not")
        return None
    type_ = state.rules.type(value)
    split = tuple(k for k, at in enumerate(form.placement) if at == axis)
    if split != axes or count_parts(form.placement, state.mesh, axis) != facts.get("parts"):
        names = ", ".join(state.mesh.names[k] for k in split)
        sentence = f"`{made.name}` goes over `{made.group}` and `{source}` is split by {axis} over `{names}`"
        state.problem("parts", made, sentence)
        return None
    numbers = {name: int(str(facts[name])) for name in ("before", "after", "stride", "step", "results", "parts")}
    halo = Halo(numbers["before"], numbers["after"], numbers["stride"], numbers["step"])
    add = bool(facts.get("add"))
    wide = fringe(axis, type_.extent(axis), halo, numbers["results"], numbers["parts"], pending=add)
    along, rest = form.along(axis), tuple(each for each in form.fringes if each.axis != axis)
    if along != (wide if add else None):
        does = "adds up" if add else "fetches"
        words = "none of other ranks" if along is None else f"rows {_spans(along.reads)} of them"
        state.problem("parts", made, f"`{made.name}` {does} rows {_spans(wide.reads)} of `{source}`, which has {words}")
        return None
    kept = wide.rows == wide.reads == own_rows(type_, form.placement, state.mesh, axis)
    after = Form(form.placement, form.layout, rest if add or kept else tuple(sorted((*rest, wide))))
    state.typed(made, target, value, after)
    return after


def _sums(placement: Placement) -> tuple[bool, ...]:
    return tuple(at == PARTIAL for at in placement)


def _spans(rows: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{start} to {stop}" for start, stop in rows)


def _listed(placement: Placement) -> str:
    return ", ".join(map(place, placement)) or "whole"
