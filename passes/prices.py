"""What each option costs, before anything is chosen: an op in a layout by its cheapest passes, a copy to a layout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dlc.cluster.topology import Device
from dlc.cost.compute import conversion_seconds, seconds
from dlc.cost.profile import Profile
from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Figure, PassPlan
from dlc.ir.tensor import BATCH, TensorType
from passes.differentiate import operator_of
from passes.options import Candidate, local_shapes


@dataclass(frozen=True, slots=True)
class Option:
    """An op in one layout, each pass by its cheapest legal algorithm (of equal ones the first in the op's list)."""

    layout: str
    passes: tuple[PassPlan, ...]

    @property
    def seconds(self) -> float:
        """All passes together."""
        return sum(part.figure.seconds for part in self.passes)


@dataclass(slots=True)
class Prices:
    """Prices on one device with so many samples; repeated blocks of a network are priced once."""

    graph: Graph
    device: Device
    largest_shard: int
    profile: Profile | None = None
    _numbers: dict[tuple[object, ...], int] = field(default_factory=dict)  # op, pass, attributes and types -> a number
    _kinds: dict[str, int] = field(default_factory=dict)  # address of a node -> the number of its like
    _known: dict[tuple[int, str, str], Figure] = field(default_factory=dict)

    def figure(self, node: Node, layout: str = "", algorithm: str = "") -> Figure:
        """The time of one node."""
        if node.address not in self._kinds:
            shapes = local_shapes(self.graph, node, self.largest_shard)
            same = (node.op, node.stage, node.attrs, shapes.inputs, shapes.outputs)
            self._kinds[node.address] = self._numbers.setdefault(same, len(self._numbers))
        key = (self._kinds[node.address], layout, algorithm)
        if key not in self._known:
            shapes = local_shapes(self.graph, node, self.largest_shard)
            operator = operator_of(node)
            self._known[key] = seconds(operator, node.stage, shapes, algorithm, layout, self.device, self.profile)
        return self._known[key]

    def conversion(self, type_: TensorType) -> float:
        """Seconds to copy a value into another layout."""
        return conversion_seconds(type_.with_extent(BATCH, self.largest_shard), self.device, self.profile)

    def options(self, found: Iterable[Candidate]) -> tuple[Option, ...]:
        """One option for each layout in which every pass has a legal candidate, in the order of the candidates."""
        best: dict[str, dict[str, PassPlan | None]] = {}
        for candidate in found:
            passes = best.setdefault(candidate.layout, {})
            stage = candidate.node.stage
            kept = passes.setdefault(stage, None)
            if candidate.excluded is not None:
                continue
            figure = self.figure(candidate.node, candidate.layout, candidate.algorithm)
            if kept is None or figure.seconds < kept.figure.seconds:
                passes[stage] = PassPlan(stage, candidate.algorithm, figure)
        return tuple(
            Option(layout, tuple(part for part in passes.values() if part is not None))
            for layout, passes in best.items()
            if None not in passes.values()
        )
