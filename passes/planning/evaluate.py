"""What a choice of options costs under a strategy: seconds and bytes, op by op along the line that is cut in stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from passes.planning.columns import COLUMNS
from passes.planning.network import HomeKind, Network
from passes.planning.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Line:
    """Ops in topological order: seconds of a microbatch, seconds a step, and bytes, for each.

    Moves of a tensor and conversions count where the tensor is made, half of them forward and half backward where a
    gradient comes back. `late` are the sums of gradients that may be left behind the backward pass, `hiding` what of
    these it hides (`passes.planning.sums`). `update` counts weights that are lent to another op, which nothing hides.
    `crossing[i]` are the bytes of all values that op i or an earlier one makes and a later one reads: what a stage that
    ends with op i sends for each microbatch; the gradients that come back are as many.
    """

    forward: Array
    backward: Array
    weights: Array
    moves: Array  # contained in forward and backward
    hiding: Array
    update: Array
    sums: Array
    late: Array  # contained in sums
    saved: Array
    fixed: Array
    transient: Array
    crossing: Array


@dataclass(frozen=True, slots=True)
class Scale:
    """How often seconds of a microbatch and of a step count in J: in a pipeline with its bubble, on 1/p of the ops."""

    microbatch: float
    step: float


BUBBLE = {"gpipe": 1.0, "one_f_one_b": 1.0, "interleaved": 1 / 4, "zero_bubble": 1 / 3, "auto": 1 / 4}
"""The least bubble of a schedule, as a share of (p - 1) stages' work on a microbatch: interleaved with four chunks,
zero bubble where gradients by weights take no longer than each other part (cost-models.md §5)."""


def scale(stages: int, microbatches: int, schedule: str = "one_f_one_b") -> Scale:
    """(m + β(p - 1))/p microbatches' worth of the whole line pass the slowest of p even stages (cost-models.md §5)."""
    return Scale((microbatches + BUBBLE[schedule] * (stages - 1)) / stages, 1.0 / stages)


def line(net: Network, tables: Tables, values: Integers, edges: Sequence[Array] | None = None) -> Line:
    """The costs of an assignment, op by op; `edges` are the tables of all kinds of edges, where they are known."""
    import numpy as np

    count, kinds = len(net.addresses), np.array(net.variables, dtype=np.int64)
    every, starts = tables.columns, np.zeros(len(net.kinds), dtype=np.int64)
    starts[list(every.kinds)] = every.ends - every.counts
    places = starts[kinds[:count]] + values[:count]
    columns = {name: every.column(name)[places] for name in COLUMNS}
    late, hides = tables.exposure.late, tables.exposure.hiding
    columns["moves"] = np.zeros(count)
    columns["late"] = columns["sums"] * late[kinds[:count]]
    columns["hiding"] = (columns["backward"] + columns["weights"]) * hides[kinds[:count]]
    for index in dict.fromkeys(net.variables[count:]):
        kind, members = net.kinds[index], np.flatnonzero(kinds == index)
        assert isinstance(kind, HomeKind)
        adding = tables.home(kind).backward[values[members]]
        np.add.at(columns["backward"], net.makers[members], adding)
        np.add.at(columns["hiding"], net.makers[members], adding * hides[index])
    _add_edges(net, tables.edges(net.edge_kinds) if edges is None else edges, values, columns)
    return Line(**columns, crossing=_crossing(net, tables, values))


def _add_edges(net: Network, edges: Sequence[Array], values: Integers, columns: dict[str, Array]) -> None:
    import numpy as np

    if not net.edges:
        return
    source, target, number = np.array(net.edges, dtype=np.int64).T
    starts = np.cumsum([0, *(table.size for table in edges)])
    widths = np.array([table.shape[1] for table in edges], dtype=np.int64)
    entries = np.concatenate([table.ravel() for table in edges])
    seconds = entries[starts[number] + values[source] * widths[number] + values[target]]
    weight, gradient = (np.array([getattr(k, n) for k in net.edge_kinds])[number] for n in ("weight", "gradient"))
    lent, moved = np.where(weight, seconds, 0.0), np.where(weight, 0.0, seconds)
    share = np.where(gradient, 0.5, 1.0)
    for name, amount in (
        ("update", lent),
        ("forward", share * moved),
        ("backward", (1.0 - share) * moved),
        ("moves", moved),
    ):
        np.add.at(columns[name], net.makers[source], amount)


def _crossing(net: Network, tables: Tables, values: Integers) -> Array:
    """Bytes that cross the line behind each op: of a value as its home or else its producer holds it."""
    import numpy as np

    count = len(net.addresses)
    change = np.zeros(count + 1)
    for each in net.crossings:
        kind, chosen = net.kinds[each.kind], values[each.variables]
        if isinstance(kind, HomeKind):
            home = tables.home(kind)
            size = home.bytes[chosen // len(home.layouts)]
        else:
            ops = tables.op(kind)
            size = tables.prices.bytes(kind, each.role)[ops.rows[chosen // len(ops.layouts)]]
        np.add.at(change, each.begins, size)
        np.subtract.at(change, each.ends, size)
    return np.cumsum(change)[:count]
