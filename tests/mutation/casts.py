"""Faults in half precision: casts, masters, and the scale of the loss."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.ir.program import Collective, Compute, Instruction, Program
from dlc.ir.storage import writes
from dlc.ir.tensor import NARROW
from tests.mutation.editing import Edit, Site, calls, each, rows_of, sites, twins_of, with_buffer, with_rows

WIDE, MASTER, COPIES = "@f32", "@master", "copies"


def dropped_cast(program: Program) -> Iterator[Edit]:
    """What a kernel works on is not cast, or what it gives not rounded, or a weight is not made of its master."""
    yield from each(program, Compute, lambda site: site.instead(), _needed)


def _needed(site: Site) -> bool:
    """Whether a cast is one that leaves what is not there already, from a cast before in the same segment."""
    if not calls("cast")(site):
        return False
    pairs = _pairs(site.instruction)
    names = {name for pair in pairs for name in pair}
    for made in reversed(site.instructions[: site.at]):
        if pairs <= _pairs(made):
            return False
        if names.intersection(writes(made)):
            return True
    return True


def _pairs(made: Instruction) -> frozenset[tuple[str, ...]]:
    """(source, target) of a cast; nothing of what is none."""
    if not isinstance(made, Compute) or made.kernel[0] != "cast":
        return frozenset()
    return frozenset(zip(made.inputs, made.outputs, strict=False) if made.outputs else (made.inputs,))


def early_cast(program: Program) -> Iterator[Edit]:
    """A cast comes before what it casts is there."""
    for site in sites(program, Compute, calls("cast")):
        made = site.instruction
        assert isinstance(made, Compute)
        before = site.instructions[: site.at]
        if any(isinstance(i, Compute) and set(i.outputs).intersection(made.inputs) for i in before):
            yield site.name, site.moved(0)


def reversed_cast(program: Program) -> Iterator[Edit]:
    """What is cast overwrites what it is to be cast of."""

    def turned(site: Site) -> Program | None:
        made = site.instruction
        assert isinstance(made, Compute)
        if not made.outputs:
            return site.changed(inputs=made.inputs[::-1])
        return site.changed(inputs=made.outputs, outputs=made.inputs)

    yield from each(program, Compute, turned, _needed)


def wrong_cast(program: Program) -> Iterator[Edit]:
    """Something else is cast: another buffer of the same type."""
    for site in sites(program, Compute, calls("cast")):
        made = site.instruction
        assert isinstance(made, Compute)
        for twin in twins_of(site.owner, made.inputs[0])[:1]:
            yield site.name, site.changed(inputs=(twin.name, *made.inputs[1:]))


def narrow_kernel(program: Program) -> Iterator[Edit]:
    """A kernel works on half precision in place of its copy in f32."""
    for site in sites(program, Compute, lambda s: not calls("cast")(s)):
        made = site.instruction
        assert isinstance(made, Compute)
        known = {buffer.name for buffer in site.owner.buffers}
        for field in ("inputs", "outputs"):
            names = getattr(made, field)
            for name in (name for name in names if name.endswith(WIDE) and name.removesuffix(WIDE) in known):
                changed = tuple(name.removesuffix(WIDE) if n == name else n for n in names)
                yield f"{name} of {site.name}", site.changed(**{field: changed})


def narrow_sum(program: Program) -> Iterator[Edit]:
    """Ranks sum in half precision."""
    for site in sites(program, Collective):
        made = site.instruction
        assert isinstance(made, Collective)
        if made.buffer.endswith(WIDE):
            changed = site.changed(bytes=made.bytes // 2)
            for name in dict.fromkeys((made.buffer, made.target or made.buffer)):
                buffer = site.owner.buffer(name)
                changed = with_buffer(changed, site.role, buffer, type=buffer.type.with_dtype("f16"))
            yield site.name, changed


def narrow_copy(program: Program) -> Iterator[Edit]:
    """A copy in f32 has half as many bits, or what is sent and kept twice as many."""
    for index, role in enumerate(program.roles):
        named = {n for s in sites(program, Compute) if s.role == index for n in s.instruction.inputs}  # type: ignore[union-attr]
        for buffer in role.buffers:
            if buffer.name in named and (buffer.name.endswith(WIDE) or buffer.type.dtype in NARROW):
                dtype = "f16" if buffer.name.endswith(WIDE) else "f32"
                changed = with_buffer(program, index, buffer, type=buffer.type.with_dtype(dtype))
                yield f"{buffer.name} of {role.name}", changed


def updated_copy(program: Program) -> Iterator[Edit]:
    """An update works on a weight in half precision, or on another weight's master."""
    for site in sites(program, Compute, calls("update", "regularise")):
        made = site.instruction
        assert isinstance(made, Compute)
        known = {buffer.name for buffer in site.owner.buffers}
        for name in (name for name in made.inputs if MASTER in name):
            others = [twin.name for twin in twins_of(site.owner, name) if MASTER in twin.name][:1]
            weight = name.replace(MASTER, "")
            for other in (*([weight] if weight in known else []), *others):
                inputs = tuple(other if n == name else n for n in made.inputs)
                yield f"{other} by {site.name}", site.changed(inputs=inputs)


def stale_weights(program: Program) -> Iterator[Edit]:
    """Weights are made of their masters at the end of a step, or not at all."""
    for index, role in enumerate(program.roles):
        rows = rows_of(program, index)
        first = [row for row in rows if row.segment == COPIES]
        if first:
            rest = [row for row in rows if row.segment != COPIES]
            yield f"no copies of {role.name}", with_rows(program, index, rest)
            yield f"late copies of {role.name}", with_rows(program, index, [*rest, *first])


def wrong_scale(program: Program) -> Iterator[Edit]:
    """Gradients are not divided by the scale, twice, of one rank's finding, by a scale that does not adapt, or of fewer
    weights."""
    for site in sites(program, Compute, calls("unscale")):
        made = site.instruction
        assert isinstance(made, Compute)
        yield f"no {site.name}", site.instead()
        yield f"{made.inputs[0]} left out of {site.name}", site.changed(inputs=made.inputs[1:])
        if not made.outputs:
            attrs = tuple(pair for pair in made.attrs if pair[0] != "dynamic")
            yield f"another rule of {site.name}", site.changed(attrs=attrs)
            yield f"{site.name} twice", site.instead(made, made)
    for site in sites(program, Collective, lambda s: "unscale" in s.instruction.name):  # type: ignore[union-attr]
        yield f"no {site.name}", site.instead()


def not_skipped(program: Program) -> Iterator[Edit]:
    """What a skipped step leaves out is done before it is known whether to skip, or the finding left out with it."""
    for index, role in enumerate(program.roles):
        rows = list(rows_of(program, index))
        names = [row.segment for row in rows]
        if "unscale" not in names or "update" not in names:
            continue
        one, other = names.index("unscale"), names.index("update")
        rows[one], rows[other] = rows[other], rows[one]
        yield f"update before unscale of {role.name}", with_rows(program, index, rows)
    for site in sites(program, Compute, calls("update")):
        if site.owner.segments[site.segment].name == "update":
            yield from _elsewhere(site, "unscale", first=False)
    for site in sites(program, Compute, lambda s: calls("unscale")(s) and not s.instruction.outputs):  # type: ignore[union-attr]
        yield from _elsewhere(site, "update", first=True)


def _elsewhere(site: Site, segment: str, first: bool) -> Iterator[Edit]:
    """The instruction at one end of another segment of its role."""
    made, role = site.instruction, site.owner
    for number, other in enumerate(role.segments):
        if other.name == segment:
            rest = site.instead()
            there = Site(rest, site.role, number, 0)
            instructions = (made, *there.instructions) if first else (*there.instructions, made)
            yield f"{site.name} in {segment}", there.rewritten(instructions)
