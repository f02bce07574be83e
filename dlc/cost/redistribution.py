"""What it costs to bring a tensor from one placement on a mesh to another, and by which moves.

A move changes what one mesh axis does to the tensor, or several mesh axes at once in one collective where they change
alike:

| before  | after   | move           |
|---------|---------|----------------|
| partial | whole   | allreduce      |
| partial | split t | reduce_scatter |
| split t | whole   | allgather      |
| split t | split u | all_to_all     |
| whole   | split t | slice          |

Nothing becomes a partial sum. Mesh axes that split one tensor axis cut it row-major, the major one into long runs, so a
move may only take away, or add, the innermost of the splits of a tensor axis, and only where the finer parts lie inside
of the coarser ones: of 10 rows, the halves are not unions of the quarters 3, 3, 2, 2. A redistribution is the cheapest
path of moves through all placements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise, product
from typing import TYPE_CHECKING

from dlc.cluster.fabric import Fabric
from dlc.cluster.topology import Device
from dlc.ir.mesh import PARTIAL, REPLICATED, Placement, largest
from dlc.ir.tensor import BATCH, DTYPE_BYTES, TensorType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

MOST_PLACEMENTS = 64
"""Up to so many placements the seconds between all of them are found: on two mesh axes any tensor has fewer."""

TOGETHER = 128
"""Types that are worked on at once at most."""

KINDS = ("allreduce", "reduce_scatter", "allgather", "all_to_all", "slice")


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a redistribution over the mesh axes `axes`.

    `bytes` is the operand as `Collective.bytes` has it: of an allgather or all-to-all all of a group's data together,
    of the others what each rank has (of a slice what it keeps), rounded up to the largest share. `seconds` includes the
    copies in memory before and after. A slice has no algorithm.
    """

    kind: str
    axes: tuple[str, ...]
    before: Placement
    after: Placement
    bytes: int
    algorithm: str
    seconds: float


def _nested(graph: _Graph, extents: Ints, parts: Ints) -> NDArray[np.bool_]:
    """[type, move]: whether the parts of a tensor axis that is cut further, or less far, lie each inside of one of the
    others. `extents` [type, 1, axis], `parts` [placement, axis].

    Of o parts cut into i each, shares differ by at most one whether e elements are cut into o or into o·i parts; the
    borders agree for all o > 1 just where e leaves 0, 1 or o·i - 1 on division by o·i.
    """
    import numpy as np

    counts = np.hstack([parts, np.ones((len(parts), 1), dtype=np.int64)])  # the last: no axis is cut or joined
    elements = np.hstack([extents[:, 0], np.ones((len(extents), 1), dtype=np.int64)])
    agree = np.ones((len(extents), len(graph.before)), dtype=bool)
    for axis in (graph.removed, graph.added):
        one, other = counts[graph.before, axis], counts[graph.after, axis]
        coarse, fine = np.minimum(one, other), np.maximum(one, other)
        left = elements[:, axis] % fine
        agree &= (coarse == 1) | (one == other) | (left <= 1) | (left == fine - 1)
    return agree


class Redistributions:
    """Prices of redistributions on a fabric's mesh, with copies in memory at the device's bandwidth."""

    def __init__(self, fabric: Fabric, device: Device) -> None:
        self.fabric = fabric
        self.device = device
        self._matrices: dict[tuple[object, ...], Floats] = {}
        self._tables: dict[tuple[object, ...], Floats] = {}
        self._states: dict[tuple[tuple[str, ...], Placement], int] = {}

    def matrix(self, type_: TensorType, sources: Sequence[Placement], targets: Sequence[Placement]) -> Floats:
        """Seconds from each source to each target, [sources, targets]; inf where there is no way.

        There is none to partial sums, nor from or to a placement that cuts an axis into more parts than it has
        elements.
        """
        import numpy as np

        rows, columns = ([self._state(type_.names, at) for at in places] for places in (sources, targets))
        return self.between(type_, np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64))

    def between(self, type_: TensorType, sources: Ints, targets: Ints) -> Floats:
        """As `matrix`, for placements by number.

        The number of a placement has an entry of it as each digit, the first one first: 0 is whole, 1 partial, 2 + i
        the tensor's axis i.
        """
        import numpy as np

        key = _key(type_)
        if key in self._tables:
            return np.asarray(self._tables[key][sources[:, np.newaxis], targets])
        some, at = np.unique(sources, return_inverse=True)
        known = (*key, *some.tolist())
        if known not in self._matrices:
            graph = self._graph(type_)
            self._matrices[known] = _least(graph, self._seconds(graph, [type_]), some)[:, :, 0]
        return np.asarray(self._matrices[known][at[:, np.newaxis], targets])

    def prepare(self, types: Iterable[TensorType]) -> None:
        """Find the seconds between all placements of many types together, where there are not too many placements."""
        import numpy as np

        missing: dict[int, dict[tuple[object, ...], TensorType]] = {}
        for type_ in types:
            if (key := _key(type_)) not in self._tables:
                missing.setdefault(len(type_.axes), {})[key] = type_
        for found in missing.values():
            keys, rest = list(found), list(found.values())
            graph = self._graph(rest[0])
            if len(graph.splits) > MOST_PLACEMENTS:
                continue
            every = np.arange(len(graph.splits))
            for start in range(0, len(rest), TOGETHER):
                part = slice(start, start + TOGETHER)
                made = _least(graph, self._seconds(graph, rest[part]), every)
                self._tables.update(zip(keys[part], np.ascontiguousarray(made.transpose(2, 0, 1)), strict=True))

    def path(self, type_: TensorType, source: Placement, target: Placement) -> tuple[Move, ...]:
        """The cheapest moves from source to target; () where they are the same.

        ValueError where there is no way.
        """
        moves = self._moves(type_)
        found = moves.path(self._state(type_.names, source), self._state(type_.names, target))
        if found is None:
            raise ValueError(f"there is no way from {source} to {target} for {type_}")
        return tuple(self._move(type_, moves, edge) for edge in found)

    def _state(self, names: tuple[str, ...], placement: Placement) -> int:
        """The number of a placement: its entries are the digits of whole, partial, and the tensor's axes."""
        known = self._states.get((names, placement))
        if known is None:
            entries, known = (REPLICATED, PARTIAL, *names), 0
            for at in placement:
                known = known * len(entries) + entries.index(at)
            self._states[names, placement] = known
        return known

    def _move(self, type_: TensorType, moves: _Moves, edge: int) -> Move:
        graph, names = moves.graph, self.fabric.mesh.names
        kind = KINDS[graph.kinds[edge]]
        axes = tuple(names[i] for i in graph.subsets[graph.along[edge]])
        before, after = (moves.placement(int(ends[edge])) for ends in (graph.before, graph.after))
        operand = moves.placement(int(graph.operand[edge]))
        size = largest(type_, operand, self.fabric.mesh).bytes
        algorithm = "" if kind == "slice" else self.fabric.cheapest(kind, size, axes)[0]
        return Move(kind, axes, before, after, size, algorithm, float(moves.seconds[edge]))

    def _graph(self, type_: TensorType) -> _Graph:
        return _graph(len(type_.axes), len(self.fabric.mesh.axes))

    def _moves(self, type_: TensorType) -> _Moves:
        """The graph of all moves with their prices for a type."""
        graph = self._graph(type_)
        return _Moves(graph, type_.names, self._seconds(graph, [type_])[0])

    def _seconds(self, graph: _Graph, types: Sequence[TensorType]) -> Floats:
        """[type, move]: the seconds of all moves of types with equally many axes, infinite where impossible."""
        import numpy as np

        mesh = self.fabric.mesh
        extents = np.array([type_.shape for type_ in types], dtype=np.int64)[:, np.newaxis, :]
        parts = np.where(graph.splits, np.array(mesh.extents, dtype=np.int64)[:, np.newaxis], 1).prod(axis=1)
        local = -(-extents // parts)
        sizes = local.prod(axis=2) * np.array([[float(DTYPE_BYTES[type_.dtype])] for type_ in types])
        samples = np.array([[name == BATCH for name in type_.names] for type_ in types], dtype=bool)[:, np.newaxis, :]
        possible = ((parts <= extents) | samples).all(axis=2)  # ranks may have no samples
        seconds = np.zeros((len(types), len(graph.kinds)))
        for (kind, along), edges in graph.alike:
            if KINDS[kind] != "slice":
                axes = tuple(mesh.names[i] for i in graph.subsets[along])
                seconds[:, edges] = self.fabric.seconds(KINDS[kind], sizes[:, graph.operand[edges]], axes)
        seconds += self._copies(graph, local, sizes)
        seconds[~(possible[:, graph.before] & possible[:, graph.after] & _nested(graph, extents, parts))] = np.inf
        return seconds

    def _copies(self, graph: _Graph, local: Ints, sizes: Floats) -> Floats:
        """[type, move]: seconds to pack what is cut, and unpack what is joined: one read and one write of all that a
        rank has. `local` are extents [type, placement, axis], `sizes` bytes [type, placement].

        Parts along the outermost axis in memory lie one after another and need neither. A slice is its own packing: it
        copies what it keeps.
        """
        import numpy as np

        inner = np.zeros((*sizes.shape, local.shape[2] + 1), dtype=bool)  # the last: no axis is cut or joined
        inner[..., 1:-1] = np.cumprod(local, axis=2)[..., :-1] > 1
        cut = inner[:, graph.before, graph.added] * sizes[:, np.where(graph.sliced, graph.after, graph.before)]
        joined = inner[:, graph.after, graph.removed] * sizes[:, graph.after]
        launches = (cut > 0).astype(float) + (joined > 0)
        extents = np.array(self.fabric.mesh.extents)
        members = np.array([extents[list(subset)].prod() for subset in graph.subsets])[graph.along]
        return (2.0 * (cut + joined) / self.device.bandwidth + launches * self.device.launch) * (members > 1)


@dataclass(frozen=True, slots=True)
class _Graph:
    """All moves between the placements of a tensor of some axes on a mesh of some axes, by number, sorted by `after`.

    A state is a number in base axes + 2 of the mesh axes' entries: whole, partial, then the tensor axes. `splits`
    [states, mesh axes, tensor axes]. For each move: its kind, the number of its subset of mesh axes, the states before
    and after, the state whose local size is its operand, and the tensor axes whose split it adds and removes (the
    number of tensor axes stands for none).
    """

    splits: NDArray[np.bool_]
    subsets: tuple[tuple[int, ...], ...]
    kinds: Ints
    along: Ints
    before: Ints
    after: Ints
    operand: Ints
    added: Ints
    removed: Ints
    alike: tuple[tuple[tuple[int, int], Ints], ...]  # (kind, subset) -> its moves

    @property
    def sliced(self) -> NDArray[np.bool_]:
        """Which moves are slices."""
        found: NDArray[np.bool_] = self.kinds == KINDS.index("slice")
        return found


@dataclass(frozen=True, slots=True)
class _Moves:
    """A graph with the seconds of each move for one type, whose axes have these names."""

    graph: _Graph
    names: tuple[str, ...]
    seconds: Floats

    def placement(self, state: int) -> Placement:
        """The placement of a number."""
        entries, found = (REPLICATED, PARTIAL, *self.names), list[str]()
        for _ in range(self.graph.splits.shape[1]):
            found.append(entries[state % len(entries)])
            state //= len(entries)
        return tuple(reversed(found))

    def least(self, source: int) -> list[Floats]:
        """[state] for 0, 1, 2, … moves at most, until more moves bring nothing: Bellman and Ford's way, from those
        states only that the last moves have brought nearer."""
        import numpy as np

        least = np.full(len(self.graph.splits), np.inf)
        least[source] = 0.0
        moves = np.flatnonzero(np.isfinite(self.seconds))
        before, after, seconds = self.graph.before[moves], self.graph.after[moves], self.seconds[moves]
        found, changed = [least], least == 0.0
        while True:
            tried = np.flatnonzero(changed[before])
            if not len(tried):
                return found
            starts = np.flatnonzero(np.diff(after[tried], prepend=-1))
            entered = after[tried[starts]]
            reached = np.minimum.reduceat(least[before[tried]] + seconds[tried], starts)
            known = least[entered]
            changed[:] = False
            changed[entered] = reached < known
            least = least.copy()
            least[entered] = np.minimum(known, reached)
            found.append(least)

    def path(self, source: int, target: int) -> list[int] | None:
        """The moves of a shortest path; None where there is none."""
        import numpy as np

        least, found, state = self.least(source), list[int](), target
        if least[-1][target] == np.inf:
            return None
        for fewer, layer in zip(reversed(least[:-1]), reversed(least), strict=False):
            if fewer[state] > layer[state]:
                into = np.flatnonzero(self.graph.after == state)
                costs = fewer[self.graph.before[into]] + self.seconds[into]
                found.append(int(into[np.argmin(costs)]))
                state = int(self.graph.before[found[-1]])
        return found[::-1]


def _key(type_: TensorType) -> tuple[object, ...]:
    return (type_.shape, DTYPE_BYTES[type_.dtype])


def _least(graph: _Graph, seconds: Floats, sources: Ints) -> Floats:
    """[source, state, type]: the cheapest moves' seconds, for those of each move [type, move].

    Bellman and Ford's way: each state takes what is cheapest by one move into it, until that changes none.
    """
    import numpy as np

    least = np.full((len(graph.splits), len(sources), len(seconds)), np.inf)
    least[sources, np.arange(len(sources))] = 0.0
    moves = np.flatnonzero(np.isfinite(seconds).any(axis=0))
    before, after = graph.before[moves], graph.after[moves]
    own = np.ascontiguousarray(seconds.T[moves])[:, np.newaxis, :]
    starts = np.flatnonzero(np.diff(after, prepend=-1)).tolist()
    into = [(int(after[a]), before[a:b], own[a:b]) for a, b in pairwise((*starts, len(moves)))]
    changed = True
    while changed:
        changed = False
        for state, others, cost in into:
            reached = least[others]
            reached += cost
            best = reached.min(axis=0)
            if (best < least[state]).any():
                np.minimum(least[state], best, out=least[state])
                changed = True
    return least.transpose(1, 0, 2)


@lru_cache(maxsize=64)
def _graph(tensor_axes: int, mesh_axes: int) -> _Graph:
    """The graph of moves; it depends on neither names nor extents."""
    import numpy as np

    entries = tensor_axes + 2
    weights = entries ** np.arange(mesh_axes)[::-1]
    states = np.array(list(product(range(entries), repeat=mesh_axes)), dtype=np.int64).reshape(entries**mesh_axes, -1)
    subsets = tuple(s for count in range(1, mesh_axes + 1) for s in combinations(range(mesh_axes), count))
    rows = [
        (state @ weights, *row)
        for state in states
        for along, subset in enumerate(subsets)
        for row in _moves_of(state.tolist(), along, subset, entries, weights.tolist())
    ]
    table = np.array(sorted(rows, key=lambda row: (row[3], row)), dtype=np.int64)
    before, kinds, along, after, operand, added, removed = table.reshape(-1, 7).T
    alike = [
        ((int(kind), int(subset)), np.flatnonzero((kinds == kind) & (along == subset)))
        for kind, subset in np.unique(np.stack([kinds, along]), axis=1).T
    ]
    splits = states[:, :, np.newaxis] == np.arange(2, entries)
    return _Graph(splits, subsets, kinds, along, before, after, operand, added, removed, tuple(alike))


def _moves_of(
    state: list[int], along: int, subset: tuple[int, ...], entries: int, weights: list[int]
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(kind, subset, after, operand, added, removed) for all moves of one state over one subset of mesh axes."""
    old = state[subset[0]]
    if any(state[i] != old for i in subset):
        return
    rest = [at for i, at in enumerate(state) if i > subset[0] and i not in subset]
    before, step = sum(at * w for at, w in zip(state, weights, strict=True)), sum(weights[i] for i in subset)
    none = entries - 2
    for new in (0, *range(2, entries)):
        splits = {at for at in (old, new) if at > 1}
        if new == old or splits.intersection(rest):  # only the innermost splits of an axis come and go
            continue
        after, whole = before + (new - old) * step, before - old * step
        kind = _kind(old, new)
        operand = {"allgather": after, "all_to_all": whole, "slice": after}.get(kind, before)
        yield KINDS.index(kind), along, after, operand, new - 2 if new > 1 else none, old - 2 if old > 1 else none


def _kind(old: int, new: int) -> str:
    if old == 0:
        return "slice"
    if old == 1:
        return "reduce_scatter" if new else "allreduce"
    return "all_to_all" if new else "allgather"
