"""Who reads what in a network, and what of it a run of ops has to compute again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from passes.planning.network import HomeKind, Network, OpKind
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

LONGEST = 160
"""Ops of a run at most."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A result of op `maker`, held in the form of `variable`; `last` is the last op that reads it, or a view of it."""

    maker: int
    role: str
    variable: int
    readers: tuple[int, ...]
    last: int
    kept: bool  # for the backward pass


@dataclass(frozen=True)
class Flow:
    """Who reads what in a network, in the order of its ops; those in `barred` are never computed again."""

    net: Network
    barred: frozenset[int]
    longest_run: int = LONGEST

    @cached_property
    def values(self) -> tuple[_Value, ...]:
        """All results that somebody reads, forward or backward."""
        net, count = self.net, len(self.net.addresses)
        homes, readers = dict[int, tuple[int, str]](), dict[tuple[int, str], list[int]]()
        edges = [(u, v, net.edge_kinds[e]) for u, v, e in net.edges if not net.edge_kinds[e].weight]
        for u, v, kind in edges:
            if v >= count:
                homes[v] = u, kind.source_role
            elif u < count:
                readers.setdefault((u, kind.source_role), []).append(v)
        holders = {value: home for home, value in homes.items()}
        for u, v, _ in edges:
            if u >= count:
                readers.setdefault(homes[u], []).append(v)
        made: list[_Value] = []
        views: dict[int, int] = {}  # a view -> the last op that reads it
        for op in reversed(range(count)):
            maker = net.kinds[net.variables[op]]
            assert isinstance(maker, OpKind)
            for role in dict.fromkeys((*maker.results, *maker.kept)):
                reading = readers.get((op, role), [])
                if not reading and role not in maker.kept:
                    continue
                last = max((views.get(reader, reader) for reader in reading), default=op)
                views[op] = max(views.get(op, op), last) if maker.operator.view else op
                holder = holders.get((op, role), op)
                made.append(_Value(op, role, holder, tuple(sorted(set(reading))), last, role in maker.kept))
        return tuple(reversed(made))

    @cached_property
    def width(self) -> int:
        """Ops of the longest run."""
        return min(len(self.net.addresses), self.longest_run)

    @cached_property
    def needed(self) -> Flags:
        """[op, k]: whether it is computed again in a run that ends k ops behind it (or sooner: with itself at 0)."""
        import numpy as np

        needed = np.zeros((len(self.net.addresses), self.width), dtype=bool)
        for value in reversed(self.values):
            read = np.full(self.width, value.kept)
            for reader in value.readers:
                if (behind := reader - value.maker) < self.width:
                    read[behind:] |= needed[reader, : self.width - behind]
            read[: value.last - value.maker] = False
            needed[value.maker] |= read
        return needed

    @cached_property
    def longest(self) -> Integers:
        """[place]: how many ops a run that ends there may have."""
        import numpy as np

        found = np.zeros(len(self.net.addresses) + 1, dtype=np.int64)
        for op in range(len(self.net.addresses)):
            found[op + 1] = 0 if op in self.barred else min(found[op] + 1, self.width)
        return found

    def bytes(self, tables: Tables, values: Integers) -> Array:
        """What each value holds: as the op keeps it, or as it stands where it is read."""
        import numpy as np

        known: dict[tuple[int, str, int], float] = {}
        found = np.zeros(len(self.values))
        for i, value in enumerate(self.values):
            variable = value.maker if value.kept else value.variable
            key = self.net.variables[variable], value.role, int(values[variable])
            if key not in known:
                known[key] = _bytes(self.net, tables, *key)
            found[i] = known[key]
        return found


def _bytes(net: Network, tables: Tables, index: int, role: str, option: int) -> float:
    kind = net.kinds[index]
    if isinstance(kind, HomeKind):
        home = tables.home(kind)
        return float(home.bytes[option // len(home.layouts)])
    table = tables.op(kind)
    return float(tables.prices.bytes(kind, role)[table.rows[option // len(table.layouts)]])
