"""Window ops in two calls: inner rows while rows of other ranks are on their way, and then the others."""

from __future__ import annotations

from dlc.ir.graph import Attr, Node
from dlc.ir.program import BORDER, INNER, OUTER, ROWS, Collective, Compute
from dlc.proof.memory import Content
from dlc.proof.rules import FORWARD, Split
from dlc.proof.state import At, State
from dlc.proof.terms import Terms

ATTRIBUTES = (ROWS, BORDER)


def operand(state: State, at: At, made: Compute, name: str) -> Content | None:
    """What a kernel reads; of its inner rows' operand that may be on its way, along the same axis."""
    halo = state.flying.get(state.copy(at, name)) if made.rows == INNER and name == made.inputs[0] else None
    if halo is None:
        return state.read(at, made, name)
    collective, content = halo
    axis = _axis(made)
    if dict(collective.attrs).get("axis") != axis:
        sentence = f"`{made.address}` computes inner rows along {axis} while `{collective.name}` is under way"
        state.problem("parts", made, sentence)
        return None
    return content


def attributes(state: State, made: Compute, node: Node, split: Split) -> dict[str, Attr]:
    """The attributes of such a call; a fault is noted where its op has no such rows."""
    if not made.rows:
        return {}
    border = state.rules.border(node, split.partition, _axis(made)) if node.stage in FORWARD else None
    if border is None or made.rows not in (INNER, OUTER) or "parts" in dict(made.attrs):
        state.problem("content", made, f"`{made.address}` has no rows along {_axis(made)} that read those of others")
        return {}
    return {ROWS: (made.rows, _axis(made)), BORDER: border}


def results(state: State, at: At, made: Compute, name: str, whole: Terms, form: int) -> Terms | None:
    """What a call makes of a buffer: its inner rows, or the value where it adds the others to these."""
    inner = frozenset((f"{value} (inner rows)", microbatch, count) for value, microbatch, count in whole)
    if made.rows == OUTER:
        before = state.memory.find(name, at.row.slot)
        known = before.content if before is not None and before.name == name else None
        if known != Content(inner, form):
            state.problem("unwritten", made, f"`{made.address}` adds outer rows to `{name}`, which has no inner ones")
            return None
    return inner if made.rows == INNER else whole


def begin(state: State, at: At, made: Collective, found: dict[str, Content | None]) -> None:
    """Remember what a halo that only begins is to fill."""
    if made.kind == "halo":
        state.flying.update((state.copy(at, name), (made, content)) for name, content in found.items())


def end(state: State, at: At, made: Collective) -> None:
    """Forget it."""
    if made.kind == "halo":
        state.flying.pop(state.copy(at, made.target), None)


def _axis(made: Compute) -> str:
    rows = dict(made.attrs)[ROWS]
    return str(rows[1]) if isinstance(rows, tuple) and len(rows) == 2 else ""
