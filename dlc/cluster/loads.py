"""How many messages use the busiest port, wire or bus, counted for many messages and rounds at once in NumPy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

from dlc.cluster.topology import Link

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Messages:
    """Message i goes from rank `sources[i]` to `targets[i]` in round `rounds[i]`, which is below `count`."""

    sources: Ints
    targets: Ints
    rounds: Ints
    count: int

    def __len__(self) -> int:
        return len(self.sources)

    def split(self, chosen: Bools) -> tuple[Messages, Messages]:
        """The messages that are chosen, and the others."""
        import numpy as np

        if chosen.all():
            return self, self._take(np.arange(0))
        return self._take(np.flatnonzero(chosen)), self._take(np.flatnonzero(~chosen))

    def _take(self, at: Ints) -> Messages:
        return Messages(self.sources[at], self.targets[at], self.rounds[at], self.count)

    def together(self, of: Ints) -> Ints:
        """For each message, how many come from its part of the ranks in its round; `of` numbers the parts."""
        import numpy as np

        numbers = self.rounds * (int(of[-1]) + 1) + of[self.sources]
        found: Ints = np.bincount(numbers)[numbers]
        return found

    def most(self, counts: Ints) -> Ints:
        """For each round, the largest count of a message; 0 where it has none."""
        import numpy as np

        found = np.zeros(self.count, dtype=np.int64)
        np.maximum.at(found, self.rounds, counts)
        return found


def busiest_ports(messages: Messages, member: Ints, duplex: bool) -> Ints:
    """For each round, the messages at the busiest port; `member` numbers the members that the ranks are in."""
    import numpy as np

    rounds, count, members = messages.rounds, messages.count, int(member[-1]) + 1
    out, into = member[messages.sources], member[messages.targets]
    if not duplex:
        return _most(np.concatenate([rounds, rounds]), np.concatenate([out, into]), count, members)
    return np.maximum(_most(rounds, out, count, members), _most(rounds, into, count, members))


def wires(
    link: Link, count: int, extents: tuple[int, ...], messages: Messages, position: Ints, group: Ints
) -> tuple[Ints, Ints]:
    """(wires on its way, messages at the busiest of them) for each message.

    `position` is a rank's place in its group of `count` members; `extents` those of a ring or torus, () for edges.
    """
    sources, targets, groups = position[messages.sources], position[messages.targets], group[messages.sources]
    where = messages.rounds * (int(group[-1]) + 1) + groups
    if extents:
        return _on_grid(sources, targets, where, extents, link.duplex)
    return _on_edges(sources, targets, where, link, count)


def _most(rounds: Ints, parts: Ints, count: int, total: int) -> Ints:
    """For each round, how often the most frequent of `total` parts occurs."""
    import numpy as np

    found: Ints = np.bincount(rounds * total + parts, minlength=count * total).reshape(count, total).max(axis=1)
    return found


def _on_grid(sources: Ints, targets: Ints, where: Ints, extents: tuple[int, ...], duplex: bool) -> tuple[Ints, Ints]:
    """(wires, load of the busiest of them) for each message on rings, one dimension after another.

    `where` tells apart messages that share no wires: other rounds and other groups.
    """
    import numpy as np

    hops, loads = np.zeros_like(sources), np.zeros_like(sources)
    here, stride = sources, prod(extents)
    for extent in extents:
        stride //= extent
        start, stop = here // stride % extent, targets // stride % extent
        moves = np.flatnonzero(start != stop)
        if len(moves):
            others = here[moves] // (stride * extent) * stride + here[moves] % stride
            line = where[moves] * (prod(extents) // extent) + others
            length, load = _on_ring(line, start[moves], stop[moves], extent, duplex)
            hops[moves] += length
            loads[moves] = np.maximum(loads[moves], load)
        here = here + (stop - start) * stride
    return hops, loads


def _on_ring(line: Ints, start: Ints, stop: Ints, extent: int, duplex: bool) -> tuple[Ints, Ints]:
    """(wires, load of the busiest of them) for each message on its ring; wire x is that between x and x + 1.

    Halfway round it goes forward. Wires of a ring of two are one each way.
    """
    import numpy as np

    ahead = (stop - start) % extent
    forward = 2 * ahead <= extent
    length = np.where(forward, ahead, extent - ahead)
    first = np.where(forward, start, stop)
    line = _renumbered(2 * line + forward if duplex else line)  # a wire each way
    loads = _covered(line, first, length, extent)
    if not duplex and extent == 2:
        loads[:] = loads.sum(axis=1, keepdims=True)
    return length, _widest(loads, line, first, length)


def _renumbered(numbers: Ints) -> Ints:
    """The same numbers without gaps, in the same order."""
    import numpy as np

    used = np.zeros(int(numbers.max()) + 1, dtype=np.int64)
    used[numbers] = 1
    found: Ints = (np.cumsum(used) - 1)[numbers]
    return found


def _covered(line: Ints, first: Ints, length: Ints, extent: int) -> Ints:
    """[line, extent]: how many of the runs of `length` wires from `first` on, round the ring, cover each wire."""
    import numpy as np

    shape = (int(line.max()) + 1, 2 * extent + 1)
    begin = np.bincount(line * shape[1] + first, minlength=prod(shape))
    end = np.bincount(line * shape[1] + first + length, minlength=prod(shape))
    covered = np.cumsum((begin - end).reshape(shape), axis=1)[:, :-1]
    found: Ints = covered[:, :extent] + covered[:, extent:]
    return found


def _widest(loads: Ints, line: Ints, first: Ints, length: Ints) -> Ints:
    """The largest load on each run of wires. Runs of 2ᵏ wires are tabulated: two cover any run."""
    import numpy as np

    extent = loads.shape[1]
    table = np.concatenate([loads, loads], axis=1)
    found, span = np.zeros_like(first), 1
    while span <= extent:
        some = np.flatnonzero((length >= span) & (length < 2 * span))
        at, row = first[some], line[some]
        found[some] = np.maximum(table[row, at], table[row, at + length[some] - span])
        table = np.maximum(table[:, : table.shape[1] - span], table[:, span:])
        span *= 2
    return found


def _on_edges(sources: Ints, targets: Ints, where: Ints, link: Link, count: int) -> tuple[Ints, Ints]:
    """The same over single wires, by the shortest way."""
    import numpy as np

    came = _trees(link.edges, count)
    hops, here, walking = np.zeros_like(sources), targets, np.arange(len(sources))
    users: list[Ints] = []
    wires: list[Ints] = []
    while len(walking):
        before = came[sources[walking], here[walking]]
        ends = (before, here[walking])
        low, high = ends if link.duplex else (np.minimum(*ends), np.maximum(*ends))
        wires.append((where[walking] * count + low) * count + high)
        users.append(walking)
        here = here.copy()
        here[walking] = before
        hops[walking] += 1
        walking = walking[before != sources[walking]]
    _, wire, loads = np.unique(np.concatenate(wires), return_inverse=True, return_counts=True)
    found = np.zeros_like(sources)
    np.maximum.at(found, np.concatenate(users), loads[wire])
    return hops, found


@lru_cache(maxsize=16)
def _trees(edges: tuple[tuple[int, int], ...], count: int) -> Ints:
    """[source, member]: where the shortest way from `source` comes from just before it reaches the member.

    Breadth-first, lower numbers first; the cluster's checks have made sure that the edges connect all members.
    """
    import numpy as np

    neighbours: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        neighbours[a].append(b)
        neighbours[b].append(a)
    came = np.full((count, count), -1)
    for source in range(count):
        came[source, source] = source
        waiting = deque([source])
        while waiting:
            here = waiting.popleft()
            for there in sorted(neighbours[here]):
                if came[source, there] < 0:
                    came[source, there] = here
                    waiting.append(there)
    return came
