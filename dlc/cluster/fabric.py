"""What communication along the axes of a mesh costs, when all groups of the mesh communicate at once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, overload

from dlc.cluster.collectives import FREE, Line, Price, Processing, bound, exchange, prices
from dlc.cluster.groups import Blocks, of_mesh
from dlc.cluster.rounds import Pattern
from dlc.cluster.topology import Cluster
from dlc.ir.mesh import Mesh

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Axes = tuple[str, ...]


class Fabric:
    """Prices of communication on a mesh of a cluster's ranks.

    Sizes are bytes, as in `dlc.cluster.collectives`: a number or an array of numbers; times are seconds, of the same
    shape. `axes` names axes of the mesh: the ranks that differ along them only form one group, and all groups do the
    same at once. What one fabric has worked out serves all others whose mesh cuts the ranks alike. With `allreduce`
    sums go by that family of algorithms alone, and take for ever where groups have none of it.
    """

    def __init__(self, cluster: Cluster, mesh: Mesh, processing: Processing = FREE, allreduce: str = "auto") -> None:
        self.cluster = cluster
        self.mesh = mesh
        self.processing = processing
        self.allreduce = allreduce
        self._tables: dict[tuple[str, Axes], _Table] = {}

    @overload
    def seconds(self, kind: str, size: float, axes: Axes) -> float: ...
    @overload
    def seconds(self, kind: str, size: Floats, axes: Axes) -> Floats: ...
    def seconds(self, kind: str, size: float | Floats, axes: Axes) -> float | Floats:
        """The cheapest algorithm of `kind`: allreduce, allgather, reduce_scatter, all_to_all or broadcast."""
        return self._table(kind, axes).seconds(size)

    def cheapest(self, kind: str, size: float, axes: Axes) -> tuple[str, float]:
        """(algorithm, seconds) of the cheapest one, the first of those that tie; ("", 0) for groups of one."""
        found = self.algorithms(kind, size, axes)
        name = min(found, key=found.__getitem__, default="")
        return name, found.get(name, 0.0)

    def algorithms(self, kind: str, size: float, axes: Axes) -> dict[str, float]:
        """The seconds of each algorithm that these groups have, in the order that breaks ties; {} for groups of one."""
        found: dict[str, float] = {}
        for price in self._table(kind, axes).prices:
            found[price.algorithm] = min(price.seconds(size), found.get(price.algorithm, float("inf")))
        return found

    def spread(self, kind: str, algorithm: str, axes: Axes) -> float | None:
        """How far the measurements of an algorithm lay apart; None where its price is a formula's."""
        return next((p.spread for p in self._table(kind, axes).prices if p.algorithm == algorithm), None)

    def levels(self, axes: Axes) -> tuple[int, ...]:
        """The extents by which ranks of these groups count through the nesting, outermost first, as hierarchical
        algorithms do; () for groups in one level and where the nesting is uneven."""
        blocks = _blocks(self.mesh, axes)
        if not any(along for _, along in blocks):
            return ()
        found = of_mesh(self.cluster, self.mesh.first, blocks).shape.digits
        return tuple(digit.extent for digit in found) if len(found) > 1 else ()

    @overload
    def send(self, size: float, axis: str, offset: int = 1) -> float: ...
    @overload
    def send(self, size: Floats, axis: str, offset: int = 1) -> Floats: ...
    def send(self, size: float | Floats, axis: str, offset: int = 1) -> float | Floats:
        """Every rank sends `size` bytes to the rank that is `offset` further along the axis, where there is one."""
        return self._table(f"next {offset}", (axis,)).seconds(size)

    @overload
    def neighbours(self, size: float, axis: str) -> float: ...
    @overload
    def neighbours(self, size: Floats, axis: str) -> Floats: ...
    def neighbours(self, size: float | Floats, axis: str) -> float | Floats:
        """A halo: every rank sends `size` bytes to each of its neighbours along the axis, both at once."""
        return self._table("both", (axis,)).seconds(size)

    @overload
    def lower_bound(self, size: float, axes: Axes) -> float: ...
    @overload
    def lower_bound(self, size: Floats, axes: Axes) -> Floats: ...
    def lower_bound(self, size: float | Floats, axes: Axes) -> float | Floats:
        """No allreduce in all groups at once is faster: `dlc.cluster.collectives.bound`, or one pass over the data
        where ranks share memory."""
        return self._table("bound", axes).seconds(size)

    def _table(self, kind: str, axes: Axes) -> _Table:
        known = self._tables.get((kind, axes))
        if known is None:
            known = _table(kind, self.cluster, self.mesh.first, _blocks(self.mesh, axes), self.processing)
            if kind == "allreduce" and self.allreduce != "auto" and known.prices:
                known = _Table(_of_family(self.allreduce, known.prices))
            self._tables[kind, axes] = known
        return known


def _of_family(family: str, found: tuple[Price, ...]) -> tuple[Price, ...]:
    """The prices of a family of allreduces.

    In a group that has one level, `hierarchical` is the reduce-scatter and the allgather of that level.
    """
    names = {"ring": ("ring", "embedded_ring")}.get(family, (family,))
    kept = tuple(p for p in found if p.algorithm in names or p.algorithm.startswith(f"{family}_"))
    if not kept and family == "hierarchical":
        kept = tuple(p for p in found if p.algorithm in ("ring", "rabenseifner", "embedded_ring"))
    return kept or (Price(family, ((float("inf"), 0.0),)),)


class _Table:
    """Prices of which the least one counts, for one number or many."""

    def __init__(self, found: tuple[Price, ...]) -> None:
        self.prices = found
        self._least = _undominated(found)

    @overload
    def seconds(self, size: float) -> float: ...
    @overload
    def seconds(self, size: Floats) -> Floats: ...
    @overload
    def seconds(self, size: float | Floats) -> float | Floats: ...
    def seconds(self, size: float | Floats) -> float | Floats:
        if isinstance(size, (int, float)):
            return min((price.seconds(size) for price in self._least), default=0.0)
        return _least(self._least, size)


def _least(found: tuple[Price, ...], sizes: Floats) -> Floats:
    import numpy as np

    least = np.zeros(np.shape(sizes)) if not found else np.full(np.shape(sizes), np.inf)
    for price in found:
        times = _largest(price.lines, sizes)
        if price.low >= 0 or price.high != np.inf:
            times = np.where((sizes > price.low) & (sizes <= price.high), times, np.inf)
        least = np.minimum(least, times)
    return least


def _largest(lines: tuple[Line, ...], sizes: Floats) -> Floats:
    import numpy as np

    (a, b), *others = lines
    largest: Floats = a + b * sizes
    for a, b in others:
        largest = np.maximum(largest, a + b * sizes)
    return largest


def _undominated(found: tuple[Price, ...]) -> tuple[Price, ...]:
    """Without those that another one equals or beats at every size: it is enough to look where either one bends."""
    bends = {0.0}
    for price in found:
        for (a, b), (c, d) in zip(price.lines, price.lines[1:], strict=False):
            bends.add((a - c) / (d - b))
    sizes = sorted(bends)
    values = [[max(a + b * size for a, b in price.lines) for size in sizes] + [price.lines[-1][1]] for price in found]
    whole = [price.low < 0 and price.high == float("inf") for price in found]
    kept = list[int]()
    for i in sorted(range(len(found)), key=lambda i: (values[i], i)):
        if not any(whole[k] and all(x <= y for x, y in zip(values[k], values[i], strict=True)) for k in kept):
            kept.append(i)
    return tuple(found[i] for i in sorted(kept))


@lru_cache(maxsize=8192)
def _table(kind: str, cluster: Cluster, first: int, blocks: Blocks, processing: Processing) -> _Table:
    if not any(along for _, along in blocks):
        return _Table(())
    groups = of_mesh(cluster, first, blocks)
    match kind.split():
        case ["bound"]:
            lines = [Price("bound", bound(groups))]
            if groups.in_one_memory:
                lines.append(Price("shared", ((0.0, processing.copy),)))
            return _Table(tuple(lines))
        case ["next", offset]:
            return _Table((Price("send", exchange(Pattern("next", int(offset)), groups, processing)),))
        case ["both"]:
            return _Table((Price("halo", exchange(Pattern("both"), groups, processing, calls=2)),))
    return _Table(prices(kind, groups, processing))


def _blocks(mesh: Mesh, axes: Axes) -> Blocks:
    """The mesh's axes, innermost first, without those of one rank, and axes of the same kind as one."""
    found = list[tuple[int, bool]]()
    for name, extent in reversed(mesh.axes):
        along = name in axes
        if extent > 1 and found and found[-1][1] == along:
            found[-1] = (found[-1][0] * extent, along)
        elif extent > 1:
            found.append((extent, along))
    return tuple(found)
