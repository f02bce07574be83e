"""Every way to divide and compute one op under the strategy that was taken, with its price: data for `dlc explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING

from dlc.cost.compute import seconds
from dlc.ir.plan import Figure
from dlc.ir.request import Split
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.ops.indexing import Partition
from dlc.ops.operator import Shapes
from passes.explain import Excluded, Explanation, Neighbour, Option, Priced
from passes.options import Operation, candidates
from passes.planning.columns import OpTable
from passes.planning.evaluate import Scale, scale
from passes.planning.network import Operands, OpKind
from passes.planning.plan import Planned
from passes.planning.space import Space
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


ROUNDING = 1e-9
"""What is left of a sum by rounding, as a share of it."""


def explain_options(planned: Planned, address: str) -> Explanation:
    """Why the op at an address is divided and computed as the plan says; KeyError where the plan has no such op.

    Seconds are those that an option counts in J, for a step: with a pipeline, on one of its stages.
    """
    return _View(planned, address).explanation()


@dataclass(slots=True)
class _View:
    """One op of a plan, with all its options: those that the search left out as too dear as well."""

    planned: Planned
    address: str
    variable: int = field(init=False)
    kind: OpKind = field(init=False)
    tables: Tables = field(init=False)
    taken: int = field(init=False)
    _best: dict[tuple[int, str], tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        net, strategy = self.space.network, self.planned.step.solved.strategy
        self.variable = net.addresses.index(self.address)
        kind = net.kinds[net.variables[self.variable]]
        assert isinstance(kind, OpKind)
        self.kind = kind
        self.tables = replace(self.space, made={}).tables(strategy)
        self.taken = self._whole(self.variable)

    @property
    def space(self) -> Space:
        return self.planned.space

    @property
    def table(self) -> OpTable:
        return self.tables.op(self.kind)

    @property
    def weight(self) -> Scale:
        strategy = self.planned.step.strategy
        return scale(strategy.stages, strategy.microbatches)

    def explanation(self) -> Explanation:
        around = tuple(self._neighbours())
        options = sorted(self._options(around), key=lambda option: option.total)
        return Explanation(
            self.planned.plan.op(self.address),
            tuple(self._candidates()),
            tuple(option for option in options if option.total < inf),
            (*self._excluded(), *self._apart(around)),
            tuple(neighbour for neighbour, _ in around),
            self.planned.step.strategy.microbatches,
        )

    def _whole(self, variable: int) -> int:
        """The number among all options of what the plan takes for a variable."""
        net, solved = self.space.network, self.planned.step.solved
        kind, value = net.kinds[net.variables[variable]], int(solved.values[variable])
        if not isinstance(kind, OpKind):
            return value
        kept, table = solved.tables.op(kind), self.tables.op(kind)
        count = len(kept.layouts)
        cut = table.partitions.index(kept.partitions[value // count])
        return cut * len(table.layouts) + table.layouts.index(kept.layouts[value % count])

    # Options.

    def _options(self, around: tuple[tuple[Neighbour, Array], ...]) -> Iterator[Option]:
        table, weight, spent = self.table, self.weight, self.space.prices.of(self.kind)
        moves = sum((column for _, column in around), start=0.0 * table.forward)
        sums = weight.step * table.sums
        hidden = self._hidden(sums)
        for option in range(table.options):
            cut, at = divmod(option, len(table.layouts))
            row, layout = int(table.rows[cut]), table.layouts[at]
            priced = spent.layouts.index(layout)
            forward, dx, dw = (float(each[priced, row]) for each in (spent.forward, spent.backward, spent.weights))
            whole = float(table.forward[option] + table.backward[option] + table.weights[option])
            inside = whole - forward - dx - dw
            yield Option(
                self._splits(table.partition(cut)),
                layout,
                self._cheapest(row, layout),
                weight.microbatch * forward,
                weight.microbatch * dx,
                weight.microbatch * dw,
                weight.microbatch * (inside if inside > ROUNDING * whole else 0.0),
                float(moves[option]),
                float(sums[option]),
                float(hidden[option]),
                weight.step * float(table.update[option]),
                int(table.fixed[option] + table.saved[option]),
                option == self.taken,
            )

    def _hidden(self, sums: Array) -> Array:
        """What J takes off the sums of gradients: all of them, or as much as the op's own computing hides where the
        plan leaves some exposed."""
        if not self.planned.step.parts.sums > 0:
            return sums
        return self.weight.step * self.space.overlap * (self.table.backward + self.table.weights)

    def _splits(self, partition: Partition) -> tuple[Split, ...]:
        names = self.tables.mesh.names
        return tuple(Split(axis, over) for axis, over in zip(partition, names, strict=True) if axis)

    def _cheapest(self, row: int, layout: str) -> tuple[tuple[str, str], ...]:
        """(pass, its cheapest algorithm) for the passes that have a choice."""
        if (row, layout) not in self._best:
            self._best[row, layout] = tuple(self._cheapest_of_passes(row, layout))
        return self._best[row, layout]

    def _cheapest_of_passes(self, row: int, layout: str) -> Iterator[tuple[str, str]]:
        for each in self.kind.passes:
            figures = {
                name: self._figure(each, row, name, layout).seconds
                for name, excluded in self._algorithms(each, layout).items()
                if excluded is None
            }
            if any(figures):
                yield each.node.stage, min(figures, key=lambda name: figures[name])

    # The algorithms of each pass.

    def _candidates(self) -> Iterator[Priced]:
        """Every algorithm in every layout for the partition that is taken."""
        count = len(self.table.layouts)
        row, chosen = int(self.table.rows[self.taken // count]), self.table.layouts[self.taken % count]
        best = dict(self._cheapest(row, chosen))
        for each in self.kind.passes:
            stage = each.node.stage
            for layout in self.kind.layouts:
                for name, excluded in self._algorithms(each, layout).items():
                    figure = None if excluded else self._figure(each, row, name, layout)
                    taken = layout == chosen and name == best.get(stage, "") and figure is not None
                    yield Priced(stage, layout, name, figure, excluded, taken)

    def _algorithms(self, each: Operands, layout: str) -> dict[str, str | None]:
        """Algorithm -> why it is ruled out, None where it is not."""
        operation, space = Operation(self.kind.example, (each.node,), (layout,)), self.space
        found = candidates(space.graph, operation, space.prices.rules, space.graph.batch)
        return {candidate.algorithm: candidate.excluded for candidate in found}

    def _figure(self, each: Operands, row: int, algorithm: str, layout: str) -> Figure:
        prices, types = self.space.prices, self.kind.types
        shapes = Shapes(
            tuple(_at(types[role], prices.extents(self.kind, role), row) for role in each.inputs),
            tuple(_at(types[role], prices.extents(self.kind, role), row) for role in each.outputs),
            dict(each.node.attrs),
        )
        return seconds(self.kind.operator, each.node.stage, shapes, algorithm, layout, prices.device, prices.profile)

    # What stands around it.

    def _neighbours(self) -> Iterator[tuple[Neighbour, Array]]:
        """Each op or kept value that a tensor comes from or goes to, and what that costs by options of this op."""
        net = self.space.network
        for source, target, number in net.edges:
            if self.variable not in (source, target):
                continue
            kind = net.edge_kinds[number]
            table = self.tables.edge(kind) * (self.weight.step if kind.weight else self.weight.microbatch)
            other = target if source == self.variable else source
            held = self._whole(other)
            column = table[:, held] if source == self.variable else table[held, :]
            way = "to" if source == self.variable else "from"
            yield Neighbour(way, self._called(other), *self._form(other, held), float(column[self.taken])), column

    def _called(self, variable: int) -> str:
        net = self.space.network
        count = len(net.addresses)
        return net.addresses[variable] if variable < count else net.homes[variable - count]

    def _form(self, variable: int, held: int) -> tuple[tuple[Split, ...], str]:
        """How a neighbour is divided, and its layout."""
        net = self.space.network
        kind = net.kinds[net.variables[variable]]
        if isinstance(kind, OpKind):
            table = self.tables.op(kind)
            return self._splits(table.partitions[held // len(table.layouts)]), table.layouts[held % len(table.layouts)]
        home = self.tables.home(kind)
        return self._splits(home.forms[held // len(home.layouts)][0]), home.layouts[held % len(home.layouts)]

    # What is left out.

    def _excluded(self) -> Iterator[Excluded]:
        """The partitions that the op cannot have, together by what excludes them."""
        strategy = self.planned.step.solved.strategy
        cuts, axes = self.space.prices.cuts(self.kind, strategy), self.kind.indexing.axes
        legal, found = set(self.table.partitions), dict[str, list[Partition]]()
        for code, parts in zip(cuts.codes.tolist(), cuts.parts.tolist(), strict=True):
            partition = tuple(axes[c] if c >= 0 else "" for c in code)
            if partition not in legal:
                why = self._why_not(partition, dict(zip(axes, parts, strict=True)))
                found.setdefault(why, []).append(partition)
        for why, partitions in found.items():
            yield Excluded(why, tuple(self._splits(each) for each in partitions))

    def _apart(self, around: tuple[tuple[Neighbour, Array], ...]) -> Iterator[Excluded]:
        """The partitions whose tensors have no way from or to a neighbour as the plan has it."""
        count, told = len(self.table.layouts), set[int]()
        for neighbour, column in around:
            cuts = [cut for cut, row in enumerate(column.reshape(-1, count)) if min(row) == inf and cut not in told]
            told.update(cuts)
            if cuts:
                why = f"because its tensor has no way {neighbour.way} {neighbour.name} as that is divided"
                yield Excluded(why, tuple(self._splits(self.table.partitions[cut]) for cut in cuts))

    def _why_not(self, partition: Partition, parts: Mapping[str, int]) -> str:
        """The first thing that stands against a partition."""
        indexing = self.kind.indexing
        for axis, extent in indexing.extents:
            count = parts[axis]
            if axis == BATCH:
                extent = min(extent, self.tables.samples)
            if count > extent:
                return f"because `{axis}` has {extent:,} parts at most, not {count:,}"
            if axis in indexing.whole and extent % count:
                return f"because {extent:,} of `{axis}` do not divide by {count:,}"
        rules = self.space.prices.rules
        pin = rules.pins.get((self.address, "partition"))
        if pin is not None:
            return f"by line {pin.span.line}"
        forbids = rules.forbids.get((self.address, "partition"), ())
        if forbids:
            return f"by line {forbids[0].span.line}"
        for axis in indexing.halos:
            if axis in partition:
                return f"because a part of `{axis}` is smaller than what its neighbours read of it"
        return "because the strategy splits something over each mesh axis"


def _at(type_: TensorType, extents: Mapping[str, object], row: int) -> TensorType:
    """A tensor on the rank with most of it, in one row of the price tables."""

    def extent(name: str) -> int:
        found = extents[name]
        return found if isinstance(found, int) else int(found[row])  # type: ignore[index]

    return TensorType(type_.dtype, tuple(Axis(axis.name, extent(axis.name)) for axis in type_.axes))
