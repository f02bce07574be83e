"""What ops of a kind take by themselves, for all rows of the price tables (`passes.planning.prices`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

Layouts = tuple[str, ...]


@dataclass(slots=True)
class Spent:
    """Seconds of one kind of op by layout and row: forward, backward by data, backward by weights; of all its updates
    by row; infinite where no algorithm has room for its workspace. What one kernel saves that does what is behind as
    well is taken off `forward` and `backward`, and kept by itself."""

    layouts: Layouts
    forward: Array  # [layout, row]
    backward: Array
    weights: Array
    update: Array  # [row]
    workspace: Array  # [layout, row]: bytes of the largest pass
    parts: Integers  # [layout, row]: in so many parts a rank goes through its samples
    saved_forward: Array  # [layout, row]
    saved_backward: Array

    def of(self, rows: Integers) -> Spent:
        """Those of some rows."""
        tables = {name: getattr(self, name)[:, rows] for name in TABLES}
        return replace(self, update=self.update[rows], **tables)


TABLES = ("forward", "backward", "weights", "workspace", "parts", "saved_forward", "saved_backward")


def cheaper(one: Spent, other: Spent) -> Spent:
    """Of two, the one that takes less, by layout and row."""
    import numpy as np

    totals = [each.forward + each.backward + each.weights for each in (one, other)]
    better = totals[1] < totals[0]
    columns = {name: np.where(better, getattr(other, name), getattr(one, name)) for name in TABLES}
    return replace(one, **columns)


def distinct(columns: Sequence[int | Integers], count: int) -> tuple[Integers, Integers]:
    """(rows, places): of `count` rows the first of all that are equal in every column, of numbers from 0 on, and for
    each row which of these it is equal to. A column that is one number is the same for all rows."""
    import numpy as np

    keys, span = np.zeros(count, dtype=np.int64), 1
    for column in columns:
        if isinstance(column, int):
            continue
        size = int(column.max()) + 1
        if span > 2**62 // size:
            keys = np.unique(keys, return_inverse=True)[1].reshape(-1)
            span = int(keys.max()) + 1
        keys, span = keys * size + column, span * size
    _, rows, places = np.unique(keys, return_index=True, return_inverse=True)
    return rows, places.reshape(-1)
