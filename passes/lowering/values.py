"""The forms of values as instructions make them: moved, converted and given their halos where they are first read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from dlc.ir.graph import Attrs
from dlc.ir.mesh import PARTIAL, REPLICATED, parts
from dlc.ir.program import Buffer, BufferKind, Collective, CollectiveKind, Compute, Copy, Instruction
from dlc.ir.tensor import TensorType
from passes.layouts import is_image, same_memory
from passes.lowering.forms import Form, Margin, local, spread
from passes.lowering.role import Buffers
from passes.lowering.setting import Setting, Step

Forms = dict[str, dict[Form, str]]
"""Value -> the buffers that hold it now, by form."""


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive ops whose results are computed again in the backward pass.

    `values` are those results that nobody outside reads forward: what holds them lives within a segment.
    """

    index: int
    values: frozenset[str]
    forms: Forms = field(default_factory=dict)


@dataclass(slots=True)
class Values:
    """The values of one chunk of a role in one mode; `out` takes the instructions of the segment at hand.

    While a run is at hand, what it makes is its own, but for results that others read, and their homes.
    """

    setting: Setting
    buffers: Buffers
    chunk: int
    forms: Forms
    out: list[Instruction] = field(default_factory=list)
    born: dict[str, Form] = field(default_factory=dict)
    run: Run | None = None
    lasting: bool = False  # forms of weights are made once a step, not in every microbatch

    def define(self, value: str, form: Form, view_of: str | None = None) -> str:
        """The buffer that a value is born, loaded or received into; what else was made of it before is gone."""
        self.born[value] = form
        run = self.run if self.run is not None and value in self.run.values else None
        (run.forms if run is not None else self.forms)[value] = {}
        return self._hold(value, form, self.buffers.named(value, self.chunk), run, view_of)

    def put(self, value: str, form: Form, buffer: str) -> None:
        """Let a value be found in a buffer that exists."""
        self.born[value] = form
        self.forms[value] = {form: buffer}

    def held(self, value: str) -> dict[Form, str]:
        """The buffers that hold a value now, by form."""
        found = self.forms.get(value, {})
        own = self.run.forms.get(value) if self.run is not None else None
        return {**found, **own} if own else found

    def fetch(self, value: str, form: Form) -> str:
        """The buffer of a value in a form: forward values come from their home, gradients from where least is moved."""
        held = self.held(value)
        found = held.get(form)
        if found is not None:
            return found
        home = self.setting.homes.get(value)
        if home is not None and home != form and home not in held:
            self._move(value, self._nearest(value, held, home), home)
            held = self.held(value)
        source = home if home is not None and home in held else self._nearest(value, held, form)
        return self._move(value, source, form)

    def _nearest(self, value: str, held: dict[Form, str], form: Form) -> Form:
        """Of the forms that a value is held in, the one from which least is moved; the first on ties."""
        if not held:
            raise ValueError(f"{value} is read before it is made")
        if len(held) == 1:
            return next(iter(held))

        def moved(at: Form) -> int:
            return sum(each.bytes for each in self.setting.moves(value, at.placement, form.placement))

        return min((at for at in held if _reaches(at, form)), key=moved)

    def _move(self, value: str, source: Form, target: Form) -> str:
        """Out of the halo, to the placement, into the layout (on the side where a rank holds less), into the halo."""
        at = self._exchange(value, source, source.plain)
        if at.layout != target.layout and self._shrinks(value, target.plain, at):
            at = self._convert(value, at, target.layout)
        for step in self.setting.moves(value, at.placement, target.placement):
            at = self._take(value, at, step)
        at = self._convert(value, at, target.layout)
        at = self._exchange(value, at, target)
        return self.held(value)[at]

    def _shrinks(self, value: str, source: Form, target: Form) -> bool:
        return self.setting.bytes(value, target) < self.setting.bytes(value, source)

    def _take(self, value: str, at: Form, step: Step) -> Form:
        """One move; an allreduce is done in place where nobody else reads the parts."""
        source, form = self.held(value)[at], Form(step.after, at.layout)
        if form in self.held(value):
            return form
        if step.kind == "slice":
            self._slice(value, at, form, source)
            return form
        in_place = step.kind == "allreduce" and self._alone(value)
        target = "" if in_place else self._derive(value, form)
        kind, reason = cast(CollectiveKind, step.kind), f"{_shown(at)} -> {_shown(form)}"
        name = f"{target or source}.{kind}"
        self.out.append(
            Collective(name, kind, step.group, step.algorithm, source, step.bytes, reason=reason, target=target)
        )
        if in_place:
            self._rename(value, at, form)
        return form

    def _alone(self, value: str) -> bool:
        """Whether nobody else reads a value as a partial sum: no op reads a forward value so."""
        return value in self.setting.homes or self.setting.uses[value] == 1

    def _rename(self, value: str, at: Form, form: Form) -> None:
        """The buffer of one form holds another one from now on."""
        for forms in (self.run.forms if self.run else {}, self.forms):
            held = forms.get(value)
            if held is not None and at in held:
                held[form] = held.pop(at)
                return

    def _slice(self, value: str, at: Form, form: Form, source: str) -> None:
        """A rank's own part: a view where that lies together, else a copy."""
        cut = {axis for axis, old in zip(form.placement, at.placement, strict=True) if axis != old}
        together = cut == {_outermost(self.setting.type(value), form.layout)}
        target = self._derive(value, form, source if together else None)
        if not together:
            self.out.append(Copy(source, target))

    def _convert(self, value: str, at: Form, layout: str) -> Form:
        form = Form(at.placement, layout)
        if layout == at.layout or form in self.held(value):
            return form
        source = self.held(value)[at]
        free = same_memory(local(self.setting.type(value), at, self.setting.mesh), at.layout, layout)
        target = self._derive(value, form, source if free else None)
        if not free:
            attrs: Attrs = (("source", at.layout), ("target", layout))
            reason = f"from {at.layout} to {layout}"
            self.out.append(
                Compute(target, ("convert", "forward", ""), (source,), (target,), (), attrs, (), layout, reason)
            )
        return form

    def _exchange(self, value: str, at: Form, form: Form) -> Form:
        """Rows of neighbours: fetched into a halo, or sent back from it and added up, one axis after the other."""
        steps = form.margins or tuple(reversed(at.margins))
        for index, margin in enumerate(steps):
            rest = steps[: index + 1] if form.margins else tuple(reversed(steps[index + 1 :]))
            after = Form(at.placement, at.layout, rest)
            if after not in self.held(value):
                self._halo(value, at, after, margin)
            at = after
        return at

    def _halo(self, value: str, at: Form, form: Form, margin: Margin) -> None:
        mesh, halo, back = self.setting.mesh, margin.halo, len(form.margins) < len(at.margins)
        source, target = self.held(value)[at], self._derive(value, form)
        type_ = local(self.setting.type(value), form if back else at, mesh)
        row = type_.bytes // type_.extent(margin.axis)
        axes = (name for name, on in zip(mesh.names, at.placement, strict=True) if on == margin.axis)
        attrs: Attrs = (
            ("axis", margin.axis), ("parts", parts(at.placement, mesh, margin.axis)), ("results", margin.results),
            ("before", halo.before), ("after", halo.after), ("stride", halo.stride), ("step", halo.step), ("add", back),
        )  # fmt: skip
        size, reason = row * max(margin.before, margin.behind), f"{margin.before} rows before, {margin.behind} behind"
        name, group = f"{target}.halo", "+".join(axes)
        self.out.append(
            Collective(name, "halo", group, "neighbours", source, size, reason=reason, target=target, attrs=attrs)
        )

    def _derive(self, value: str, form: Form, view_of: str | None = None) -> str:
        """A buffer for a form that is made of another one."""
        run, kind = self.run, self.setting.graph.value(value).kind
        if (
            run is not None
            and value not in run.values
            and (kind == "gradient" or form == self.setting.homes.get(value))
        ):
            run = None
        name = self._title(value, form)
        if run is not None and value not in run.values:
            name += f".run{run.index}"
        return self._hold(value, form, name, run, view_of)

    def _hold(self, value: str, form: Form, name: str, run: Run | None, view_of: str | None) -> str:
        """A buffer for a form of a value, found among what a run has made, or everywhere."""
        whole = self.setting.graph.value(value)
        type_ = spread(whole.type, form, self.setting.mesh) if form.margins else whole.type
        kind = "gradient" if self.lasting else _kind(whole.kind)
        known = self.buffers.buffers.get(name)
        if (
            view_of and known is not None and known.view_of != view_of
        ):  # in inference behind a dropout, which makes nothing there
            name += ".given" if "@" in name else "@given"
        self.buffers.add(Buffer(name, type_, kind, form.layout, view_of, 0, form.placement))
        (run.forms if run is not None else self.forms).setdefault(value, {})[form] = name
        return name

    def _title(self, value: str, form: Form) -> str:
        """The name of a buffer of a value in a form other than that in which it is born."""
        born = self.born[value]
        words = () if form.placement == born.placement else tuple(_WORDS.get(at, at) for at in form.placement)
        layout = form.layout if form.layout != born.layout else ""
        halo = "_".join(f"{m.axis}_{m.halo.before}_{m.halo.after}_{m.halo.stride}_{m.results}" for m in form.margins)
        title = ".".join(filter(None, ("_".join(words), layout, halo and f"halo_{halo}"))) or "own"
        return f"{self.buffers.named(value, self.chunk)}@{title}"


_WORDS = {REPLICATED: "all", PARTIAL: "sum"}


def _kind(kind: str) -> BufferKind:
    """The kind of a buffer: a form of what is kept from step to step is made anew for every microbatch."""
    return "activation" if kind in ("weight", "statistic", "constant") else cast(BufferKind, kind)


def _reaches(at: Form, form: Form) -> bool:
    """Whether one placement can become the other: a sum never comes back."""
    pairs = zip(at.placement, form.placement, strict=True)
    return all(new != PARTIAL or old == PARTIAL for old, new in pairs)


def _outermost(type_: TensorType, layout: str) -> str:
    """The axis that lies outermost in memory."""
    if is_image(type_) and layout:
        return type_.names["NCHW".index(layout[0])]
    return type_.names[0] if type_.axes else ""


def _shown(form: Form) -> str:
    words = {REPLICATED: "whole", PARTIAL: "sums"}
    return ", ".join(words.get(at, f"by {at}") for at in form.placement)
