"""Options that need no trial: another one is no worse, whatever the neighbours choose.

Option i takes the place of option j of the same kind where the cost of i by itself, plus on each edge the most that i
can cost more than j over the values of the other end, is at most that of j. (Goldstein's criterion of dead-end
elimination; Efficient rotamer elimination, Biophysical Journal 66, 1994.) It implies that i costs no more in every
table, entry by entry, where that is so, and holds more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from passes.planning.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Criterion = tuple[Sequence[Array], Sequence[Array]]


def undominated(structure: Structure, criteria: Sequence[Criterion]) -> list[Indices]:
    """The options of each kind that some criterion (unary tables, pair tables) may need, in rising order.

    An option is removed if one option replaces it under all criteria at once; of equal ones the first stays.
    """
    import numpy as np

    return [_rest(structure, kind, criteria) for kind in range(max(len(unary) for unary, _ in criteria))]


def _rest(structure: Structure, kind: int, criteria: Sequence[Criterion]) -> Indices:
    """The options of one kind that are left after removing the replaceable ones, the last first."""
    import numpy as np

    better = np.ones((len(criteria[0][0][kind]),) * 2, dtype=bool)
    for unary, pair in criteria:
        better &= _excess(structure, kind, unary[kind], pair) <= 0.0
    np.fill_diagonal(better, False)
    left = np.ones(len(better), dtype=bool)
    for j in reversed(np.flatnonzero(better.any(axis=0)).tolist()):
        left[j] = not better[left, j].any()
    return np.flatnonzero(left)


def _excess(structure: Structure, kind: int, own: Array, pair: Sequence[Array]) -> Array:
    """[i, j]: the most that option i costs more than option j for any variable of a kind; nan where it is not known."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        excess = _difference(np.asarray(own, dtype=float)[:, None])
        for (edge, turned), (fewest, most) in structure.incidence.get(kind, {}).items():
            each = _difference(pair[edge].T if turned else pair[edge])
            excess = excess + np.where(each > 0.0, most * each, fewest * each if fewest else 0.0)
    return np.asarray(excess)


def _difference(table: Array) -> Array:
    """[i, j] = the most over columns of table[i] - table[j], where table[j] is finite."""
    import numpy as np

    result = np.full((len(table), len(table)), -np.inf)
    for j, row in enumerate(table):
        columns = np.isfinite(row)
        if columns.any():
            rest = table if columns.all() else table[:, columns]
            result[:, j] = (rest - row[columns]).max(axis=1)
    return result
