"""Columns: neighbouring lines of one form are written as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

AT_MOST = 12
"""So many columns a table may have; lines of machine-made files are long."""

_WIDEST_GAP = {"=": 20, "as": 20}
_USUAL_GAP = 8


@dataclass(slots=True)
class Row:
    """A line of a table: its words, the blanks before each, and the words that begin a column, with the column's form.

    Words of different forms, such as `->` and `{`, never stand below each other.
    """

    gaps: list[int]
    words: Sequence[str]
    points: list[tuple[str, int]]
    moved: int = 0
    starts: list[int] = field(init=False)
    length: int = field(init=False)

    def __post_init__(self) -> None:
        ends = list(accumulate(gap + len(word) for gap, word in zip(self.gaps, self.words, strict=True)))
        self.starts = [end - len(word) for end, word in zip(ends, self.words, strict=True)]
        self.length = ends[-1]

    def column(self, place: int) -> int:
        """Where a point stands now."""
        return self.starts[self.points[place][1]] + self.moved

    def move(self, place: int, column: int) -> None:
        """Put a point, and all behind it, further right."""
        blanks = column - self.column(place)
        self.gaps[self.points[place][1]] += blanks
        self.moved += blanks


def align(rows: Sequence[Row]) -> None:
    """Put equal points of neighbouring rows below each other, the leftmost ones first.

    A row without the point parts the table where it reaches across the column, and so does a row whose point would
    have to move far.
    """
    for place in range(min(AT_MOST, max((len(row.points) for row in rows), default=0))):
        for group in list(_groups(rows, place)):
            for row in group.rows:
                row.move(place, group.right)


@dataclass(slots=True)
class _Group:
    """Rows whose points of one form stand below each other, and the columns between which the points stand now."""

    form: str
    rows: list[Row]
    left: int
    right: int

    def takes(self, form: str, column: int) -> bool:
        gap = max(self.right, column) - min(self.left, column)
        return form == self.form and gap <= _WIDEST_GAP.get(form, _USUAL_GAP)


def _groups(rows: Sequence[Row], place: int) -> Iterator[_Group]:
    group: _Group | None = None
    for row in rows:
        if place >= len(row.points):
            if group is not None and row.length + row.moved > group.right:
                yield group
                group = None
            continue
        form, column = row.points[place][0], row.column(place)
        if group is None or not group.takes(form, column):
            if group is not None:
                yield group
            group = _Group(form, [], column, column)
        group.rows.append(row)
        group.left, group.right = min(group.left, column), max(group.right, column)
    if group is not None:
        yield group
