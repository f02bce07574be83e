"""The options of ops under a strategy in columns: those of one kind, and of all kinds in one row, kind by kind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from dlc.ops.indexing import Partition
from passes.planning.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Integers = NDArray[np.int64]

COLUMNS = ("forward", "backward", "weights", "update", "sums", "saved", "fixed", "transient")


@dataclass(frozen=True, slots=True)
class OpTable:
    """The legal options of a kind of op: option o cuts it by `partition(o // layouts)` in `layouts[o % layouts]`.

    `codes[cut, i]` is the iteration axis, of `axes`, that a cut splits over inner mesh axis i; -1 is none.
    `forward`, `backward` and `weights` are seconds of a microbatch with what is communicated inside the op; `update`
    seconds of a step without, `sums` the seconds to sum gradients. `saved` are bytes that a microbatch keeps for its
    backward pass, `fixed` those of weights, gradients and states, `transient` those of its gradients and workspaces
    while it runs.
    """

    axes: tuple[str, ...]
    codes: Integers
    layouts: tuple[str, ...]
    rows: Integers
    forward: Array
    backward: Array
    weights: Array
    update: Array
    sums: Array
    saved: Array
    fixed: Array
    transient: Array

    @property
    def options(self) -> int:
        """How many there are."""
        return len(self.forward)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All cuts."""
        return tuple(self.partition(cut) for cut in range(len(self.codes)))

    def partition(self, cut: int) -> Partition:
        """One cut."""
        return tuple(self.axes[code] if code >= 0 else "" for code in self.codes[cut].tolist())

    def of(self, cuts: Integers) -> OpTable:
        """The options with these cuts alone."""
        import numpy as np

        count = len(self.layouts)
        kept = (cuts[:, None] * count + np.arange(count)).reshape(-1)
        columns = {name: getattr(self, name)[kept] for name in COLUMNS}
        return replace(self, codes=self.codes[cuts], rows=self.rows[cuts], **columns)


@dataclass(frozen=True)
class Columns:
    """Tables one behind the other, of kinds of these numbers; a column has the options of one after those of another.

    `unary` keeps what the options cost in J, by strategy (`passes.planning.objective`).
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
