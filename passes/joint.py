"""The joint choice of layouts as a problem for `passes.solve`: prices of ops, and conversions on the edges between.

A value is converted once for each layout that its readers take besides its own, however many read it. For up to three
readers that is one table over producer and readers. A wider fan-out is unrolled: a helper variable beside each reader
holds the set of layouts asked for so far (8 sets of 3 layouts), tied to the one before it by a table that is infinite
where the sets disagree; the last one and the producer carry the price. That is exact too, and linear in the readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

from dlc.ir.graph import Graph
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.operator import LAYOUTS
from passes.layouts import Edge, edges
from passes.lower_buffers import DEFAULT_LAYOUT, same_memory
from passes.prices import Option, Prices
from passes.solve import Factor, Problem, Solution

DIRECT_READERS = 3
"""Readers up to which an edge is one table: 3⁴ entries."""


@dataclass(frozen=True, slots=True)
class Joint:
    """A problem whose first variables are the ops in `addresses`, helpers after them."""

    problem: Problem
    addresses: tuple[str, ...]
    options: Mapping[str, tuple[Option, ...]]

    def choice(self, solution: Solution) -> dict[str, Option]:
        """Op address -> its option in a solution."""
        return {address: self.options[address][solution.values[i]] for i, address in enumerate(self.addresses)}


def joint(graph: Graph, options: Mapping[str, tuple[Option, ...]], prices: Prices, thrift: float = 0.0) -> Joint:
    """The problem of choosing one option for each op; `thrift` is what a byte of a copy costs besides its time."""
    builder = _Builder(prices, thrift, {address: i for i, address in enumerate(options)}, [*options.values()])
    for edge in edges(graph):
        builder.add(edge)
    return Joint(builder.problem(), tuple(options), options)


@dataclass(slots=True)
class _Builder:
    prices: Prices
    thrift: float
    variables: dict[str, int]
    options: list[tuple[Option, ...]]
    helpers: int = 0
    factors: list[Factor] = field(default_factory=list)

    def problem(self) -> Problem:
        import numpy as np

        own = [Factor((i,), np.array([option.seconds for option in options])) for i, options in enumerate(self.options)]
        sizes = (*(len(options) for options in self.options), *(SETS for _ in range(self.helpers)))
        return Problem(sizes, (*own, *self.factors))

    def add(self, edge: Edge) -> None:
        """The price of converting one value."""
        copied = edge.type.with_extent(BATCH, self.prices.largest_shard).bytes
        price = self.prices.conversion(edge.type) + self.thrift * copied
        variables = tuple(self.variables[target] for target in edge.targets if target is not None)
        asked = _bit(DEFAULT_LAYOUT) if None in edge.targets else 0
        source = None if edge.source is None else self.variables[edge.source]
        if len(variables) <= DIRECT_READERS:
            self._table(edge.type, price, source, variables, asked)
        else:
            self._unrolled(edge.type, price, source, variables, asked)

    def _table(self, type_: TensorType, price: float, source: int | None, readers: tuple[int, ...], asked: int) -> None:
        import numpy as np

        scope = tuple(sorted(readers if source is None else (source, *readers)))
        if not scope:
            return
        table = np.empty([len(self.options[v]) for v in scope])
        for index in product(*(range(len(self.options[v])) for v in scope)):
            layouts = {v: self._layout(v, i) for v, i in zip(scope, index, strict=True)}
            wanted = asked
            for reader in readers:
                wanted |= _bit(layouts[reader])
            made = DEFAULT_LAYOUT if source is None else layouts[source]
            table[index] = price * _copies(type_, made, wanted)
        self.factors.append(Factor(scope, table))

    def _unrolled(
        self, type_: TensorType, price: float, source: int | None, readers: tuple[int, ...], asked: int
    ) -> None:
        import numpy as np

        sets: int | None = None
        for reader in readers:
            next_sets = len(self.options) + self.helpers
            self.helpers += 1
            before = (asked,) if sets is None else tuple(range(SETS))
            table = np.full((len(self.options[reader]), len(before), SETS), np.inf)
            for i, (j, held) in product(range(len(self.options[reader])), enumerate(before)):
                table[i, j, held | _bit(self._layout(reader, i))] = 0.0
            scope = (reader, next_sets) if sets is None else (reader, sets, next_sets)
            self.factors.append(Factor(scope, table[:, 0] if sets is None else table))
            sets = next_sets
        assert sets is not None
        self._priced_sets(type_, price, source, sets)

    def _priced_sets(self, type_: TensorType, price: float, source: int | None, sets: int) -> None:
        import numpy as np

        def row(made: str) -> list[float]:
            return [price * _copies(type_, made, wanted) for wanted in range(SETS)]

        if source is None:
            self.factors.append(Factor((sets,), np.array(row(DEFAULT_LAYOUT))))
        else:
            made = [self._layout(source, i) for i in range(len(self.options[source]))]
            self.factors.append(Factor((source, sets), np.array([row(layout) for layout in made])))

    def _layout(self, variable: int, index: int) -> str:
        return self.options[variable][index].layout or DEFAULT_LAYOUT


SETS = 2 ** len(LAYOUTS)


def _bit(layout: str) -> int:
    return 1 << LAYOUTS.index(layout)


def _copies(type_: TensorType, made: str, wanted: int) -> int:
    """How many copies a value needs that is made in one layout and wanted in a set of them."""
    return sum(1 for layout in LAYOUTS if wanted & _bit(layout) and not same_memory(type_, made, layout))
