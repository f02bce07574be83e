"""Faults in kernels: which are called, on what, how often."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.ir.program import Compute, Program
from dlc.ir.storage import title, writes
from tests.mutation.editing import (
    Edit,
    Site,
    calls,
    each,
    sites,
    twins_of,
)


def dropped_kernel(program: Program) -> Iterator[Edit]:
    """A kernel is not called, whose results are not there already: one that is not computed again."""
    yield from each(program, Compute, lambda site: None if _again(site) else site.instead())


def _again(site: Site) -> bool:
    """Whether a kernel has run in an earlier segment of its role."""
    earlier = (i for segment in site.owner.segments[: site.segment] for i in segment.instructions)
    return title(site.instruction) in map(title, earlier)


def doubled_sum(program: Program) -> Iterator[Edit]:
    """A microbatch's part is added twice."""
    twice = lambda s: s.instruction.outputs[0] in s.instruction.inputs  # noqa: E731
    added = lambda s: calls("sum")(s) and twice(s)  # noqa: E731
    yield from each(program, Compute, lambda s: s.instead(s.instruction, s.instruction), added)


def doubled_update(program: Program) -> Iterator[Edit]:
    """A weight is updated, or its gradient clipped, twice."""
    in_place = lambda s: calls("update", "clip", "regularise")(s) and not calls("cast")(s)  # noqa: E731
    twice = lambda s: None if s.instruction.outputs else s.instead(s.instruction, s.instruction)  # noqa: E731
    yield from each(program, Compute, twice, in_place)


def part_left_out(program: Program) -> Iterator[Edit]:
    """A sum of gradients has a part too few, or one twice."""

    def fewer(site: Site) -> Program:
        return site.changed(inputs=site.instruction.inputs[:-1])  # type: ignore[union-attr]

    def twice(site: Site) -> Program:
        inputs = site.instruction.inputs  # type: ignore[union-attr]
        return site.changed(inputs=(*inputs, inputs[-1]))

    yield from each(program, Compute, fewer, calls("sum"))
    yield from each(program, Compute, twice, calls("sum"))


def wrong_operand(program: Program) -> Iterator[Edit]:
    """A kernel reads another buffer of the same type: another weight, another value, another gradient."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, name in enumerate(made.inputs):
            for twin in twins_of(site.owner, name, ("weight", "activation", "gradient", "state", "input", "saved"))[:2]:
                inputs = (*made.inputs[:at], twin.name, *made.inputs[at + 1 :])
                yield f"{name} as {twin.name} in {site.name}", site.changed(inputs=inputs)


def swapped_operands(program: Program) -> Iterator[Edit]:
    """Two operands change places."""
    for site in sites(program, Compute, lambda s: not calls("sum", "clip")(s)):
        made = site.instruction
        assert isinstance(made, Compute)
        if len(made.inputs) > 1 and made.kernel[0] != "add" and not made.address.endswith("@sum"):
            yield site.name, site.changed(inputs=(made.inputs[1], made.inputs[0], *made.inputs[2:]))


def wrong_result(program: Program) -> Iterator[Edit]:
    """A kernel fills another buffer of the same type."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, name in enumerate(made.outputs):
            for twin in twins_of(site.owner, name)[:1]:
                outputs = (*made.outputs[:at], twin.name, *made.outputs[at + 1 :])
                yield f"{name} into {twin.name} by {site.name}", site.changed(outputs=outputs)


def wrong_pass(program: Program) -> Iterator[Edit]:
    """A kernel of another pass or op with as many operands."""
    others = {"relu": "tanh", "tanh": "relu", "maxpool": "avgpool", "linear": "embedding", "gelu": "relu"}

    def other(site: Site) -> Program:
        op, stage, algorithm = site.instruction.kernel  # type: ignore[union-attr]
        return site.changed(kernel=(others[op], stage, algorithm))

    yield from each(program, Compute, other, calls(*others))


def wrong_attribute(program: Program) -> Iterator[Edit]:
    """An attribute is left out, or has another value: means of parts, a bias added on every rank, rates, windows."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, (name, value) in enumerate(made.attrs):
            if name in ("averaged", "once", "copies"):
                yield f"no {name} in {site.name}", site.changed(attrs=(*made.attrs[:at], *made.attrs[at + 1 :]))
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "parts":
                attrs = (*made.attrs[:at], (name, value + 1), *made.attrs[at + 1 :])
                yield f"{name} + 1 in {site.name}", site.changed(attrs=attrs)


def added_everywhere(program: Program) -> Iterator[Edit]:
    """What is averaged, added once or counted once is so for one mesh axis too many or too few."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        facts = dict(made.attrs)
        if (
            made.kernel[:2] == ("linear", "forward")
            and "once" not in facts
            and site.owner.mesh
            and site.owner.mesh.names
        ):
            attrs = (*made.attrs, ("once", site.owner.mesh.names[-1:]))
            yield f"once in {site.name}", site.changed(attrs=attrs)
        if isinstance(copies := facts.get("copies"), tuple):
            more = tuple((facts | {"copies": tuple(int(str(n)) * 2 for n in copies)}).items())
            yield f"copies in {site.name}", site.changed(attrs=more)


def not_told(program: Program) -> Iterator[Edit]:
    """A kernel is not told where its part begins, which pads it has, how many samples there are."""
    for site in sites(program, Compute):
        made = site.instruction
        assert isinstance(made, Compute)
        for name in made.runtime:
            yield f"no {name} in {site.name}", site.changed(runtime=tuple(n for n in made.runtime if n != name))


def early_kernel(program: Program) -> Iterator[Edit]:
    """A kernel comes before what it reads is there."""
    for site in sites(program, Compute, lambda s: s.at > 0 and not _again(s)):
        made = site.instruction
        assert isinstance(made, Compute)
        before = [name for i in site.instructions[: site.at] for name in writes(i)]
        if set(before).intersection(made.inputs):
            yield site.name, site.moved(0)


def wrong_layout(program: Program) -> Iterator[Edit]:
    """A kernel works in another layout than its operands have."""
    yield from each(
        program,
        Compute,
        lambda s: s.changed(layout="NHWC"),
        lambda s: bool(s.instruction.layout),  # type: ignore[union-attr]
    )


def scaled_twice(program: Program) -> Iterator[Edit]:
    """A gradient of one weight is used for another one of the same type as well."""
    updates = list(sites(program, Compute, calls("update")))
    for site in updates:
        made = site.instruction
        assert isinstance(made, Compute)
        twins = twins_of(site.owner, made.inputs[1], ("gradient",))
        if twins:
            yield site.name, site.changed(inputs=(made.inputs[0], twins[0].name, *made.inputs[2:]))


def wrong_state(program: Program) -> Iterator[Edit]:
    """An update works on another weight's state."""
    for site in sites(program, Compute, calls("update")):
        made = site.instruction
        assert isinstance(made, Compute)
        for at, name in enumerate(made.inputs[2:], 2):
            for twin in twins_of(site.owner, name, ("state",))[:1]:
                yield site.name, site.changed(inputs=(*made.inputs[:at], twin.name, *made.inputs[at + 1 :]))


def left_unregularised(program: Program) -> Iterator[Edit]:
    """A regulariser leaves out a weight with its gradient, or takes these twice, or those of two weights crosswise."""
    for site in sites(program, Compute, calls("regularise")):
        made = site.instruction
        assert isinstance(made, Compute)
        count = len(made.inputs) // 2
        weights, gradients = made.inputs[:count], made.inputs[count:]
        for at, name in enumerate(weights):
            fewer = (*weights[:at], *weights[at + 1 :], *gradients[:at], *gradients[at + 1 :])
            yield f"{name} left out of {site.name}", site.changed(inputs=fewer)
            twice = (*weights, name, *gradients, gradients[at])
            yield f"{name} twice in {site.name}", site.changed(inputs=twice)
        if count > 1:
            yield f"crosswise in {site.name}", site.changed(inputs=(*weights, *gradients[1:], gradients[0]))
