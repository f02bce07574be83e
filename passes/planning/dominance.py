"""Options that need no trial: another one is no worse, whatever the neighbours choose.

Option i takes the place of option j of the same kind where the cost of i by itself, plus on each edge the most that i
can cost more than j over the values of the other end, is at most that of j. (Goldstein's criterion of dead-end
elimination; Efficient rotamer elimination, Biophysical Journal 66, 1994.) It implies that i costs no more in every
table, entry by entry, where that is so, and holds more often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from passes.planning.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Indices = NDArray[np.int64]
    Criterion = tuple[Sequence[Array], Sequence[Array]]
    Term: TypeAlias = tuple[Array, int, int]

SAMPLES = 8
"""Columns of a table that are compared first: they exclude most pairs of options."""

BLOCK = 2**15
"""Entries that are compared at once."""


def undominated(structure: Structure, criteria: Sequence[Criterion]) -> list[Indices]:
    """The options of each kind that some criterion (unary tables, pair tables) may need, in rising order.

    An option is removed if one option replaces it under all criteria at once; of equal ones the first stays.
    """
    return [_rest(structure, kind, criteria) for kind in range(max(len(unary) for unary, _ in criteria))]


def _rest(structure: Structure, kind: int, criteria: Sequence[Criterion]) -> Indices:
    """The options of one kind that are left after removing the replaceable ones, the last first."""
    import numpy as np

    better: Flags = ~np.eye(len(criteria[0][0][kind]), dtype=bool)
    tables = [list(_terms(structure, kind, *criterion)) for criterion in criteria]
    for terms in tables:
        some = ((table[:, :: 1 + table.shape[1] // SAMPLES], fewest, most) for table, fewest, most in terms)
        better &= ~(_excess((_of_all(table), fewest, most) for table, fewest, most in some) > 0.0)
    for terms in tables:
        i, j = np.nonzero(better)
        better[i, j] = _excess((_of_pairs(table, i, j), fewest, most) for table, fewest, most in terms) <= 0.0
    left: Flags = np.ones(len(better), dtype=bool)
    for option in reversed(np.flatnonzero(better.any(axis=0)).tolist()):
        left[option] = not better[left, option].any()
    return np.flatnonzero(left)


def _terms(structure: Structure, kind: int, unary: Sequence[Array], pair: Sequence[Array]) -> Iterator[Term]:
    """The tables that a variable of a kind is in, its options first, with the fewest and the most times."""
    import numpy as np

    yield np.asarray(unary[kind], dtype=float)[:, None], 1, 1
    for (edge, turned), often in structure.incidence.get(kind, {}).items():
        table = np.asarray(pair[edge], dtype=float)
        yield (table.T if turned else table, *often)


def _excess(differences: Iterable[Term]) -> Array:
    """The most that one option costs more than another, given that for each table; nan where it is not known."""
    import numpy as np

    total: Array = np.zeros(())
    with np.errstate(invalid="ignore"):
        for difference, fewest, most in differences:
            total = total + _weighted(difference, fewest, most)
    return total


def _of_all(table: Array) -> Array:
    """[i, j] = the most over columns of table[i] - table[j]; infinity less infinity is no loss."""
    import numpy as np

    result = np.full((len(table), len(table)), -np.inf)
    with np.errstate(invalid="ignore"):
        for column in np.ascontiguousarray(table.T):
            np.fmax(result, column[:, None] - column, out=result)
    return result


def _of_pairs(table: Array, i: Indices, j: Indices) -> Array:
    """[k] = the most over columns of table[i[k]] - table[j[k]]."""
    import numpy as np

    result, table = np.full(len(i), -np.inf), np.ascontiguousarray(table)
    rows = max(1, BLOCK // max(1, table.shape[1]))
    one, other = np.empty((2, rows, table.shape[1]))
    with np.errstate(invalid="ignore"):
        for start in range(0, len(i), rows):
            part = slice(start, start + rows)
            count = len(i[part])
            np.take(table, i[part], axis=0, out=one[:count], mode="clip")
            np.take(table, j[part], axis=0, out=other[:count], mode="clip")
            one[:count] -= other[:count]
            np.fmax.reduce(one[:count], axis=1, out=result[part], initial=-np.inf)
    return result


def _weighted(most: Array, fewest: int, often: int) -> Array:
    """A difference that counts at least and at most so often."""
    import numpy as np

    return np.where(most > 0.0, often * most, fewest * most if fewest else 0.0)
