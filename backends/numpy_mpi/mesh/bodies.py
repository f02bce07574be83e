"""Statements as the lines of a function: those of training or inference alone in an `if`, those alike in a loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from backends.numpy_mpi.mesh.statements import INFERENCE, TRAINING, Expression, Key, Loop, Ref, Statement, Token
from backends.numpy_mpi.mesh.tree import Counted, Path
from backends.numpy_mpi.text import counted

CONDITIONS = {TRAINING: "if training:", INFERENCE: "if not training:"}


def lines(statements: Iterable[Statement], block: Path, indent: int = 4) -> list[str]:
    """The lines of statements in the function of a block."""
    found: list[str] = []
    margin, before = " " * indent, ""
    for mode, group in groupby(statements, lambda each: each.mode):
        inner = [line for each in _looped(list(group)) for line in each.lines(block, indent + 4 if mode else indent)]
        if mode:
            found.append(f"{margin}{'else:' if {before, mode} == set(CONDITIONS) else CONDITIONS[mode]}")
        found += inner
        before = "" if {before, mode} == set(CONDITIONS) else mode
    return found


# --- loops over neighbours -------------------------------------------------------------------------------------------


def _looped(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Calls for blocks one behind the other in a repeat are one in a loop, where that is shorter."""
    at = 0
    while at < len(statements):
        end = at + 1
        place = _place(statements[at])
        if place is not None:
            end = _end(statements, at, place)
        if place is not None and end > at + 2:
            yield _loop(statements[at], place, end - at, statements[at + 1])
        else:
            yield from statements[at:end]
        at = end


def _place(statement: Statement) -> Path | None:
    """The numbered block that a call is for."""
    if not statement.calls or statement.loop is not None:
        return None
    block = next((token.path for token in statement.tokens() if isinstance(token, Ref) and not token.name), ())
    last = max((at for at, step in enumerate(block) if isinstance(step, int)), default=-1)
    return block[: last + 1] if last >= 0 else None


def _end(statements: Sequence[Statement], start: int, place: Path) -> int:
    """Where calls that differ in nothing but the number of their block, which grows or shrinks by one, end."""
    alike, numbers = _numbered(statements[start], place), [_number(place)]
    for statement in statements[start + 1 :]:
        other = _place(statement)
        step = numbers[1] - numbers[0] if len(numbers) > 1 else None
        if (
            other is None
            or other[:-1] != place[:-1]
            or _number(other) - numbers[-1] not in ((1, -1) if step is None else (step,))
        ):
            break
        if _numbered(statement, other) != alike:
            break
        numbers.append(_number(other))
    return start + len(numbers)


def _number(place: Path) -> int:
    return int(place[-1])


def _loop(first: Statement, place: Path, times: int, second: Statement) -> Statement:
    """The first of so many calls as the body of a loop over the numbers."""
    begin = _number(place)
    following = _place(second)
    assert following is not None
    step = _number(following) - begin
    last = begin + step * (times - 1)
    numbers = counted(min(begin, last), max(begin, last) + 1)
    head, _, arguments = numbers.removesuffix(")").partition("(")
    loop = Loop(f"for i in {head}", (arguments,)) if step > 0 else Loop("for i in reversed", (numbers,))
    return replace(_numbered(first, place), loop=loop)


def _numbered(statement: Statement, place: Path) -> Statement:
    """A statement with the numbers of its block and of its neighbours told by `i`."""

    def counted(token: Token) -> Token:
        if (
            not isinstance(token, Ref | Key)
            or token.path[: len(place) - 1] != place[:-1]
            or len(token.path) < len(place)
        ):
            return token
        number = token.path[len(place) - 1]
        if not isinstance(number, int):
            return token
        return replace(token, path=(*place[:-1], Counted(number - _number(place)), *token.path[len(place) :]))

    def each(expression: Expression) -> Expression:
        return tuple(counted(token) for token in expression)

    arguments = None if statement.arguments is None else tuple(map(each, statement.arguments))
    keywords = tuple((name, counted(token)) for name, token in statement.keywords)
    return replace(statement, head=each(statement.head), arguments=arguments, keywords=keywords)
