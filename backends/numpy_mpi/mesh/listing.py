"""Rows of a table as its lines: equal rows of a block are one, and so are those of neighbours in a repeat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from backends.numpy_mpi.mesh.statements import Key, Statement, written
from backends.numpy_mpi.mesh.tree import Path, dotted
from backends.numpy_mpi.text import WIDTH, counted, literal

NESTED_FROM = 8
"""So many rows of one block have a table of their own."""

BUCKET = "bucket"
"""How the names of a program's buckets begin: no array of a block is called so."""

SEVERAL = (": Array", ": Saved", ": Temporary")
"""The kinds of rows of which one may have several names."""


def lines(rows: Iterable[Statement], block: Path, indent: int = 4) -> list[str]:
    """The lines of rows in the table of a block."""
    found: list[str] = []
    several = list(rows)
    nested = {_key(row).path for row in several if row.calls}
    for path, group in groupby(several, lambda row: _next(row, block)):
        several = list(group)
        margin = " " * indent
        inner = _around([_key(row).path for row in several]) if path is not None else block
        if len(inner) > len(block) and inner not in nested and _stands_alone(several, inner):
            nested.add(inner)
            found.append(f"{margin}{literal(dotted(inner[len(block) :]))}: {{")
            found += lines(several, inner, indent + 4)
            found.append(f"{margin}}},")
        else:
            for row in _gathered(_merged(several, block)):
                found += _numbered(row, block, indent) if row.numbers else row.lines(block, indent)
    return found


def _key(row: Statement) -> Key:
    key = row.head[0]
    assert isinstance(key, Key)
    return key


def _next(row: Statement, block: Path) -> Path | None:
    """The block within a block that a row belongs to, by its name and number; None where it is the block's own."""
    inner = _key(row).path[len(block) :]
    if row.calls:
        return None
    return tuple(inner[: 2 if len(inner) > 1 and isinstance(inner[1], int) else 1]) or None


def _stands_alone(rows: Sequence[Statement], block: Path) -> bool:
    """Whether rows are enough for a table of their own, and name no array of another block but buckets."""
    named = (token for row in rows for each in row.arguments or () for token in each if isinstance(token, Key))
    return len(rows) >= NESTED_FROM and all(key.inside(block) or key.name.startswith(BUCKET) for key in named)


def _around(paths: Sequence[Path]) -> Path:
    """The innermost block that all are in."""
    first = paths[0]
    end = next((at for at, step in enumerate(first) if any(path[at : at + 1] != (step,) for path in paths)), len(first))
    return first[:end]


# --- equal rows ------------------------------------------------------------------------------------------------------


def _merged(rows: Sequence[Statement], block: Path) -> list[Statement]:
    """Rows of which those of one block that say the same are one, with several names."""
    found: list[Statement] = []
    for row in rows:
        at = _same(found, row, block)
        if at is None:
            found.append(row)
        else:
            key = _key(found[at])
            head = (replace(key, also=(*key.also, _key(row).name)), *found[at].head[1:])
            found[at] = replace(found[at], head=head)
    return found


def _same(rows: Sequence[Statement], row: Statement, block: Path) -> int | None:
    """The row that says what another one says; none where arrays that are named together would change places."""
    if row.calls or row.head[1:] not in [(kind,) for kind in SEVERAL] or _names_another(row):
        return None
    for at in range(len(rows) - 1, -1, -1):
        other = rows[at]
        if other.calls:
            continue
        one, two = _key(other), _key(row)
        if (one.path, one.space) != (two.path, two.space):
            continue
        if other.head[1:] == row.head[1:] and _said(other, block) == _said(row, block):
            return at
        if any(name.rpartition("_")[0] == two.name.rpartition("_")[0] for name in (one.name, *one.also)):
            return None
    return None


def _said(row: Statement, block: Path) -> tuple[tuple[str, ...], object]:
    return tuple(written(each, block) for each in row.arguments or ()), row.keywords


def _names_another(row: Statement) -> bool:
    return any(isinstance(token, Key) for each in row.arguments or () for token in each)


# --- neighbours ------------------------------------------------------------------------------------------------------


def _gathered(rows: Iterable[Statement]) -> Iterator[Statement]:
    """Rows of which those for neighbours in a repeat are one where they are the same."""
    found: list[Statement] = []
    for row in rows:
        if found and _follows(found[-1], row):
            numbers = found[-1].numbers or (int(_key(found[-1]).path[-1]),)
            found[-1] = replace(found[-1], numbers=(*numbers, int(_key(row).path[-1])))
        else:
            found.append(row)
    return iter(found)


def _follows(last: Statement, row: Statement) -> bool:
    """Whether a row calls the function of the last one in the same way, for the next block of a repeat."""
    one, two = last.head[0], row.head[0]
    if not row.calls or not isinstance(one, Key) or not isinstance(two, Key) or not two.path:
        return False
    number = two.path[-1]
    if not isinstance(number, int) or replace(last, head=row.head, numbers=()) != row:
        return False
    before = last.numbers[-1] if last.numbers else one.path[-1]
    return one.path[:-1] == two.path[:-1] and isinstance(before, int) and number == before + 1


def _numbered(row: Statement, block: Path, indent: int) -> list[str]:
    """The row of several blocks."""
    key, kind = _key(row), row.head[1]
    name = literal(f"{dotted(key.path[len(block) : -1])}[{{i}}]")
    one = replace(row, head=(f"f{name}", kind), numbers=(), tail="")
    margin, numbers = " " * indent, f"for i in {counted(row.numbers[0], row.numbers[-1] + 1)}"
    found = one.lines(block, indent + 4)
    short = f"{margin}**{{{found[0].strip()} {numbers}}},"
    if len(found) == 1 and len(short) <= WIDTH:
        return [short]
    return [f"{margin}**{{", *found, f"{margin}    {numbers}", f"{margin}}},"]
