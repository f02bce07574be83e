"""Weights packed once: what was packed is of the values that a call reads, as they are by then, in its own order."""

from __future__ import annotations

from dlc.ir.program import Compute
from dlc.ir.storage import title
from dlc.ops.packing import Order, operands, order_for, order_of
from dlc.proof.memory import Content
from dlc.proof.state import At, State
from dlc.proof.terms import Terms, shown, term


def pack(state: State, at: At, made: Compute) -> None:
    """What a call packs is as much a value of its own as the weights that it reads."""
    contents = [state.read(at, made, name) for name in made.inputs]
    known = [content for content in contents if content is not None]
    if not known or len(known) < len(contents) or len(made.outputs) != 1:
        state.poison(at, made.outputs)
        return
    terms = _packed([content.terms for content in known], order_of(made), made.address)
    state.memory.write(made.outputs[0], at.row.slot, Content(terms, known[0].form))


def holds(state: State, at: At, made: Compute, name: str) -> bool:
    """Whether a buffer holds what a call's operands are, packed for it; a fault is noted where it does not."""
    content, reads = state.read(at, made, name), [state.read(at, made, each) for each in operands(made)]
    known = [each for each in reads if each is not None]
    if content is None or not known or len(known) < len(reads):
        return False
    wanted = _packed([each.terms for each in known], order_for(made, state.role.buffer), made.address)
    if not state.expect(made, name, content, wanted):
        return False
    if content.form != known[0].form:
        state.problem("parts", made, f"`{title(made)}` reads `{name}`, packed of other parts than it has")
        return False
    return True


def _packed(parts: list[Terms], order: Order, address: str) -> Terms:
    """One value: the order is a part of its name, so that none packed otherwise is taken for it."""
    (kernel, attrs, layout), values = order, ", ".join(map(shown, parts))
    told = ", ".join(f"{name} = {value}" for name, value in attrs)
    return term(f"{values} packed by {kernel[2]} in {layout} for {address} ({told})")
