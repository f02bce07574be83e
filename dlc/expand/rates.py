"""The `lr` setting: schedules joined by `then`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dlc.expand.evaluate import left_spine
from dlc.expand.fields import Field, field_of
from dlc.expand.settings import Reader
from dlc.ir.training import Length, RatePiece
from dlc.messages import e06_train as messages
from dlc.ops.schedules import LAST, SCHEDULES, schedule
from dlc.syntax import ast

PIECES: Mapping[str, tuple[Field, ...]] = {
    kind.name: tuple(field_of(parameter) for parameter in kind.parameters) for kind in SCHEDULES
}


def expand_rates(expr: ast.Expr, reader: Reader) -> tuple[RatePiece, ...] | None:
    """The pieces in order; None where one is wrong.

    A piece that starts from the last rate (`cosine(to = 0, over = 85 epochs)`) needs its `rate` where it comes first.
    """
    pieces: list[RatePiece] = []
    refused = False
    written = tuple(_pieces(expr, reader))
    for position, part in enumerate(written):
        piece = _piece(part, reader, first=position == 0, last=position == len(written) - 1)
        refused |= piece is None
        pieces.extend(() if piece is None else (piece,))
    return tuple(pieces) if pieces and not refused else None


def _pieces(expr: ast.Expr, reader: Reader) -> Iterator[ast.Expr]:
    """What `then` joins, in text order, through `if`s; nothing where a condition is refused."""
    waiting = [expr]
    while waiting:
        taken = reader.taken(waiting.pop())
        if isinstance(taken, ast.Binary) and taken.operator == "then":
            spine = [node for node in left_spine(taken) if node.operator == "then"]
            waiting.extend(node.right for node in reversed(spine))
            waiting.append(spine[0].left)
        elif taken is not None:
            yield taken


def _piece(expr: ast.Expr, reader: Reader, *, first: bool, last: bool) -> RatePiece | None:
    if isinstance(expr, ast.Number):
        helps = (f"a rate that never changes is `constant({expr.value})`",)
        reader.diagnostics.add(
            messages.UNKNOWN_CHOICE.at(expr.span, found="a bare number", what="a schedule", helps=helps)
        )
        return None
    choice = reader.choice("a schedule", expr, PIECES)
    if choice is None:
        return None
    arguments = dict(choice.arguments)
    over = arguments.pop("over", None)
    if over is None and not last:
        helps = (f"`{choice.kind}(…, over = 5 epochs)`",)
        reader.diagnostics.add(messages.NO_LENGTH.at(expr.span, piece=choice.kind, helps=helps))
        return None
    kind = schedule(choice.kind)
    if first and kind is not None and kind.starts_from_last and arguments[LAST.name] is None:
        where = f"`{choice.kind}` as the first schedule"
        reader.diagnostics.add(messages.MISSING_SETTING.at(expr.span, where=where, what="argument", key=LAST.name))
        return None
    length = Length(int(over[0]), str(over[1])) if isinstance(over, tuple) else None
    return RatePiece(choice.kind, tuple(arguments.items()), length)
