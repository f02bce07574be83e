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
    Terms: TypeAlias = Iterable[tuple[Array, int, int]]

SAMPLES = 16
"""Columns of a table that are compared first: they exclude most pairs of options."""


def undominated(structure: Structure, criteria: Sequence[Criterion]) -> list[Indices]:
    """The options of each kind that some criterion (unary tables, pair tables) may need, in rising order.

    An option is removed if one option replaces it under all criteria at once; of equal ones the first stays.
    """
    return [_rest(structure, kind, criteria) for kind in range(max(len(unary) for unary, _ in criteria))]


def _rest(structure: Structure, kind: int, criteria: Sequence[Criterion]) -> Indices:
    """The options of one kind that are left after removing the replaceable ones, the last first."""
    import numpy as np

    better = ~np.eye(len(criteria[0][0][kind]), dtype=bool)
    tables = [list(_terms(structure, kind, *criterion)) for criterion in criteria]
    for terms in tables:
        some = ((table[:, :: 1 + table.shape[1] // SAMPLES], fewest, most) for table, fewest, most in terms)
        better &= ~(_excess(some) > 0.0)
    for j in np.flatnonzero(better.any(axis=0)).tolist():
        better[:, j] &= _replacing(tables, better[:, j], j)
    left: Flags = np.ones(len(better), dtype=bool)
    for j in reversed(np.flatnonzero(better.any(axis=0)).tolist()):
        left[j] = not better[left, j].any()
    return np.flatnonzero(left)


def _terms(
    structure: Structure, kind: int, unary: Sequence[Array], pair: Sequence[Array]
) -> Iterator[tuple[Array, int, int]]:
    """The tables that a variable of a kind is in, its options first, with the fewest and the most times."""
    import numpy as np

    yield np.asarray(unary[kind], dtype=float)[:, None], 1, 1
    for (edge, turned), often in structure.incidence.get(kind, {}).items():
        table = np.asarray(pair[edge], dtype=float)
        yield (table.T if turned else table, *often)


def _excess(terms: Terms) -> Array:
    """[i, j]: the most that option i costs more than option j; nan where it is not known."""
    import numpy as np

    total: Array = np.zeros(())
    with np.errstate(invalid="ignore"):
        for table, fewest, most in terms:
            total = total + _weighted(_most(table[:, None, :] - table), fewest, most)
    return total


def _replacing(tables: Sequence[Terms], candidates: Flags, j: int) -> Flags:
    """Which of the candidates replace option j under all criteria."""
    import numpy as np

    places, found = np.flatnonzero(candidates), np.zeros(len(candidates), dtype=bool)
    for terms in tables:
        total: Array = np.zeros(len(places))
        with np.errstate(invalid="ignore"):
            for table, fewest, most in terms:
                total = total + _weighted(_most(table[places] - table[j]), fewest, most)
        places = places[total <= 0.0]
    found[places] = True
    return found


def _most(difference: Array) -> Array:
    """The largest of the last axis; nan is infinity less infinity, where nothing is lost either way."""
    import numpy as np

    return np.asarray(np.fmax.reduce(difference, axis=-1, initial=-np.inf))


def _weighted(most: Array, fewest: int, often: int) -> Array:
    """A difference that counts at least and at most so often."""
    import numpy as np

    return np.where(most > 0.0, often * most, fewest * most if fewest else 0.0)
