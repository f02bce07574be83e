"""What must be there when an entry point is over: each result and each weight once, summed from exactly its parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlc.ir.mesh import PARTIAL, REPLICATED
from dlc.ir.program import Load, Row
from dlc.proof.forms import place
from dlc.proof.memory import Content
from dlc.proof.state import At, State
from dlc.proof.terms import Terms, added, shown, term
from dlc.proof.updates import before


def check_step(states: Sequence[State]) -> None:
    """Behind a training step: weights, states and running averages are updated; loss and metrics are whole."""
    for state in states:
        made_anew = frozenset(state.changes.masters.values())  # at the beginning of the next step
        for buffer in state.layout.kept:
            wanted = term(buffer.name) if buffer.name in made_anew else before(state, buffer.name, None)
            _check(state, buffer.name, wanted, state.said(buffer))
    first = states[0]
    changed = [value for value in first.changes.values if first.graph.value(value).kind != "gradient"]
    _everywhere(states, changed, "updates")
    graph = first.graph
    scalars = [name for name in (graph.loss, *(value for _, value in graph.metrics)) if name is not None]
    for name in dict.fromkeys(scalars):
        _scalar(states, name)


def check_totals(states: Sequence[State]) -> None:
    """Behind an evaluation: loss and metrics of all its microbatches, added up on every rank that has them."""
    graph, missing = states[0].graph, dict[str, None]()
    missing.update((name, None) for name in (graph.loss, *(value for _, value in graph.metrics)) if name is not None)
    values = tuple(missing)
    for state in states:
        written = state.memory.find("totals", 0) if any(b.name == "totals" for b in state.role.buffers) else None
        if written is None:
            continue
        held = {part for part, _, _ in written.content.terms} if written.content is not None else set[str]()
        mine = [value for value in values if held.intersection(part for part, _ in state.meaning.parts(value))]
        for value in mine if written.content is not None else values:
            missing.pop(value, None)
        _check(state, "totals", added(state_total(state, name) for name in mine), (REPLICATED,) * len(state.mesh.names))
    for value in missing:
        states[0].problem("unwritten", None, f"no role adds up `{value}` in an evaluation")


def state_total(state: State, name: str) -> Terms:
    """A value summed over the microbatches of an entry."""
    return state.meaning.total(name, state.microbatches)


def check_outputs(states: Sequence[State], outputs: Iterable[tuple[str, str]]) -> None:
    """In a prediction: each output of every microbatch has stood in its buffer, in parts, but summed."""
    values = dict(states[0].graph.outputs)
    for title, buffer in outputs:
        holders = [state for state in states if buffer in state.results]
        if not holders:
            states[0].problem("unwritten", None, f"nothing writes `{buffer}`, the output `{title}`")
        for state in holders:
            for microbatch in state.microbatches:
                wanted = state.meaning.of(values[title], microbatch)
                form = state.results[buffer].get(wanted)
                if form is None:
                    have = next(iter(state.results[buffer]))
                    sentence = f"`{buffer}` is to hold {shown(wanted)} and holds {shown(have)}"
                    state.problem("content", None, sentence)
                    continue
                said = state.said(state.role.buffer(buffer))  # what is collected goes by that, sums in place done
                for axis, at, part in zip(state.mesh.names, state.forms[form].placement, said, strict=True):
                    if at != (REPLICATED if part == PARTIAL else part):
                        state.problem("parts", None, f"`{buffer}`, the output `{title}`, is {place(at)} along `{axis}`")


def _scalar(states: Sequence[State], name: str) -> None:
    """A result of a step is the sum over all microbatches and ranks, on every rank of the roles that compute it."""
    holders = [state for state in states if any(b.name == name for b in state.role.buffers)]
    written = [state for state in holders if state.memory.find(name, 0) is not None]
    if not written:
        states[0].problem("unwritten", None, f"nothing writes `{name}`, a result of a step")
    for state in written:
        _check(state, name, state_total(state, name), (REPLICATED,) * len(state.mesh.names))


def _everywhere(states: Sequence[State], values: Iterable[str], verb: str) -> None:
    held = {buffer.name for state in states for buffer in state.role.buffers}
    for value in values:
        if value not in held:
            states[0].problem("unwritten", None, f"no role {verb} `{value}`")


def _check(state: State, name: str, wanted: Terms, placement: Sequence[str]) -> Content | None:
    content = state.read(At(Row(""), 0), Load((name,), f"the end of `{state.entry}`"), name)
    if content is None:
        return None
    if content.terms != wanted:
        words = f"{shown(content.terms)} in place of {shown(wanted)}"
        state.problem("content", None, f"`{name}` holds {words} at the end")
    have = state.forms[content.form].placement if content.form >= 0 else tuple(placement)
    for axis, x, y in zip(state.mesh.names, have, placement, strict=True):
        if x != y:
            state.problem("unsummed", None, f"`{name}` is {place(x)} along `{axis}` at the end")
    return content
