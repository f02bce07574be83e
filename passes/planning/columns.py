"""The options of all kinds of ops under a strategy in one row, kind by kind: what is asked of all of them at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from passes.planning.op_tables import COLUMNS, OpTable
from passes.planning.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """Tables one behind the other, of kinds of these numbers; a column has the options of one after those of another.

    `unary` keeps what the options cost in J, by strategy (`passes.planning.space`).
    """

    kinds: tuple[int, ...]
    tables: tuple[OpTable, ...]
    unary: dict[Strategy, tuple[Array, Array]] = field(default_factory=dict)
    _made: dict[str, Array] = field(default_factory=dict)

    @cached_property
    def counts(self) -> Integers:
        """[kind]: how many options it has."""
        import numpy as np

        return np.array([table.options for table in self.tables], dtype=np.int64)

    @cached_property
    def ends(self) -> list[int]:
        """Behind each kind's options."""
        import numpy as np

        found: list[int] = np.cumsum(self.counts).tolist()
        return found

    def column(self, name: str) -> Array:
        """One of `COLUMNS`."""
        import numpy as np

        if name not in self._made:
            self._made[name] = np.concatenate([getattr(table, name) for table in self.tables] or [np.zeros(0)])
        return self._made[name]

    def spread(self, by_kind: Array) -> Array:
        """[option]: what its kind has."""
        import numpy as np

        return np.repeat(by_kind, self.counts)

    def split(self, column: Array) -> list[Array]:
        """A column kind by kind."""
        return [column[a:b] for a, b in zip((0, *self.ends), self.ends, strict=False)]

    def least(self, column: Array) -> list[float]:
        """The least entry of each kind, infinite for one without options."""
        import numpy as np

        found, some = np.full(len(self.counts), np.inf), np.flatnonzero(self.counts)
        if len(some):
            found[some] = np.minimum.reduceat(column, (np.cumsum(self.counts) - self.counts)[some])
        least: list[float] = found.tolist()
        return least

    @cached_property
    def _cuts(self) -> tuple[Integers, Integers, Integers]:
        """([kind] cuts that it has, [cut] its layouts, [cut] its first option)."""
        import numpy as np

        cuts = np.array([len(table.codes) for table in self.tables], dtype=np.int64)
        layouts = np.repeat([len(table.layouts) for table in self.tables], cuts)
        return cuts, layouts, np.cumsum(layouts) - layouts

    def near(self, column: Array, room: float) -> Flags:
        """[cut]: whether it has an option that costs at most `room` more than the cheapest one of its kind, where each
        kind has options."""
        import numpy as np

        cuts, _, firsts = self._cuts
        cheapest = np.minimum.reduceat(column, firsts)
        return np.asarray(cheapest - np.repeat(self.least(column), cuts) <= room)

    def of(self, kept: Flags) -> Columns | None:
        """Those with some cuts alone; None where a kind has none."""
        import numpy as np

        cuts, layouts, _ = self._cuts
        left = np.add.reduceat(kept, np.cumsum(cuts) - cuts, dtype=np.int64)
        if not left.all():
            return None
        options, ends = np.repeat(kept, layouts), np.cumsum(left)
        columns = {name: self.column(name)[options] for name in COLUMNS}
        rows = np.concatenate([table.rows for table in self.tables])[kept]
        codes = np.concatenate([table.codes for table in self.tables])[kept]
        behind = np.cumsum(left * [len(table.layouts) for table in self.tables])
        places = zip(self.tables, ends - left, ends, (0, *behind[:-1]), behind, strict=True)
        tables = tuple(
            OpTable(table.axes, codes[a:b], table.layouts, rows[a:b], *(columns[name][first:end] for name in COLUMNS))
            for table, a, b, first, end in places
        )
        return Columns(self.kinds, tables, _made=columns)
