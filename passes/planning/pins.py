"""What pins and forbids of `partition` leave of the ways to cut an op."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlc.cluster.topology import Cluster
from dlc.ir.request import Rule
from passes.options import Rules
from passes.planning.network import OpKind
from passes.planning.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class Pins:
    """The rules of a request about partitions; groups of the cluster are found among the mesh axes by their ranks."""

    rules: Rules
    cluster: Cluster
    _axes: dict[tuple[str, Strategy], tuple[int, ...] | None] = field(default_factory=dict)

    def reach(self, kind: OpKind) -> bool:
        """Whether there are rules about how ops of this kind are cut."""
        key = kind.example.address, "partition"
        return key in self.rules.pins or key in self.rules.forbids

    def allow(self, kind: OpKind, codes: NDArray[np.int64], strategy: Strategy) -> NDArray[np.bool_]:
        """[option]: whether the rules that reach ops of this kind leave it."""
        import numpy as np

        address = kind.example.address
        ok = np.ones(len(codes), dtype=bool)
        pin = self.rules.pins.get((address, "partition"))
        if pin is not None:
            ok &= self.obeys(kind, pin, codes, strategy)
        for rule in self.rules.forbids.get((address, "partition"), ()):
            ok &= ~self.obeys(kind, rule, codes, strategy)
        return ok

    def obeys(self, kind: OpKind, rule: Rule, codes: NDArray[np.int64], strategy: Strategy) -> NDArray[np.bool_]:
        """[option]: whether it does what a rule says; where the mesh has no axes for its group, none does."""
        import numpy as np

        assert isinstance(rule.value, tuple)
        if not rule.value:
            return (codes == -1).all(axis=1)  # type: ignore[no-any-return]
        ok = np.ones(len(codes), dtype=bool)
        for split in rule.value:
            positions = self.positions(split.over, strategy)
            if positions is None or split.axis not in kind.indexing.axes:
                return np.zeros(len(codes), dtype=bool)
            wanted = kind.indexing.axes.index(split.axis)
            for position in positions:
                ok &= codes[:, position] == wanted
        return ok

    def positions(self, over: str, strategy: Strategy) -> tuple[int, ...] | None:
        """The inner mesh axes that are a mesh axis or a group of the cluster; none for one of a single rank."""
        key = (over, strategy)
        if key not in self._axes:
            self._axes[key] = self._positions(over, strategy)
        return self._axes[key]

    def _positions(self, over: str, strategy: Strategy) -> tuple[int, ...] | None:
        inner = strategy.inner
        named = {axis.name: axis.extent for axis in self.rules.request.mesh}
        if over in inner.names:
            return (inner.names.index(over),)
        if named.get(over) == 1:
            return ()
        stride = 1
        for group in reversed(self.cluster.levels):
            if group.name == over:
                return self._covering(inner, stride, group.count)
            stride *= group.count
        return None

    def _covering(self, inner: object, stride: int, count: int) -> tuple[int, ...] | None:
        """The mesh axes whose ranks stand `stride` apart and are `count` in all."""
        from dlc.ir.mesh import Mesh

        assert isinstance(inner, Mesh)
        if count == 1:
            return ()
        found, at, left = list[int](), stride, count
        for position in reversed(range(len(inner.axes))):
            name, extent = inner.axes[position]
            if inner.stride(name) == at and left % extent == 0:
                found.append(position)
                at, left = at * extent, left // extent
        return tuple(reversed(found)) if left == 1 else None
