"""What a choice of options costs under a strategy: seconds and bytes, op by op along the line that is cut in stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.ir.mesh import PARTIAL, REPLICATED, largest
from dlc.ir.tensor import BATCH
from dlc.ops.indexing import operand_placement
from passes.planning.network import HomeKind, Network, OpKind
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
    gradient comes back. `hiding` is what of the backward pass hides sums of gradients: all but moves. `update` counts
    weights that are lent to another op as well, which nothing hides. `crossing[i]` are the bytes of all values that op
    i or an earlier one makes and a later one reads: what a stage that ends with op i sends for each microbatch; the
    gradients that come back are as many.
    """

    forward: Array
    backward: Array
    weights: Array
    moves: Array  # contained in forward and backward
    hiding: Array  # contained in backward and weights
    update: Array
    sums: Array
    saved: Array
    fixed: Array
    transient: Array
    crossing: Array


@dataclass(frozen=True, slots=True)
class Scale:
    """How often seconds of a microbatch and of a step count in J: in a pipeline with its bubble, on 1/p of the ops."""

    microbatch: float
    step: float


def scale(stages: int, microbatches: int) -> Scale:
    """(m + p - 1)/p microbatches' worth of the whole line pass the slowest of p even stages (cost-models.md §5)."""
    return Scale((microbatches + stages - 1) / stages, 1.0 / stages)


def line(net: Network, tables: Tables, values: Integers) -> Line:
    """The costs of an assignment, op by op."""
    import numpy as np

    count = len(net.addresses)
    columns = {name: np.zeros(count) for name in ("forward", "backward", "weights", "moves", "update", "sums")}
    bytes_ = {name: np.zeros(count) for name in ("saved", "fixed", "transient")}
    kinds = np.array(net.variables)
    for index in dict.fromkeys(net.variables):
        kind, members = net.kinds[index], np.flatnonzero(kinds == index)
        if isinstance(kind, OpKind):
            table, chosen = tables.op(kind), values[members]
            for name in ("forward", "backward", "weights", "update", "sums"):
                columns[name][members] = getattr(table, name)[chosen]
            for name, column in bytes_.items():
                column[members] = getattr(table, name)[chosen]
    makers = _makers(net)
    for index in dict.fromkeys(net.variables[count:]):
        kind, members = net.kinds[index], np.flatnonzero(kinds == index)
        if isinstance(kind, HomeKind):
            np.add.at(columns["backward"], makers[members], tables.home(kind).backward[values[members]])
    hiding = columns["backward"] + columns["weights"]
    _add_edges(net, tables, values, columns, makers)
    return Line(**columns, **bytes_, hiding=hiding, crossing=_crossing(net, tables, values))


def _makers(net: Network) -> Integers:
    """Variable -> the op that makes what it stands for: itself, or the producer of a home's value."""
    import numpy as np

    made = {name: i for i, address in enumerate(net.addresses) for name in net.graph.node(address).outputs}
    return np.array([*range(len(net.addresses)), *(made[name] for name in net.homes)], dtype=np.int64)


def _add_edges(net: Network, tables: Tables, values: Integers, columns: dict[str, Array], makers: Integers) -> None:
    import numpy as np

    if not net.edges:
        return
    ends = np.array(net.edges)
    for kind in net.edge_kinds:
        mine = ends[ends[:, 2] == kind.index]
        seconds = tables.edge(kind)[values[mine[:, 0]], values[mine[:, 1]]]
        at = makers[mine[:, 0]]
        if kind.weight:
            np.add.at(columns["update"], at, seconds)
            continue
        share = 0.5 if kind.gradient else 1.0
        np.add.at(columns["forward"], at, share * seconds)
        np.add.at(columns["backward"], at, (1.0 - share) * seconds)
        np.add.at(columns["moves"], at, seconds)


def _crossing(net: Network, tables: Tables, values: Integers) -> Array:
    """Bytes that cross the line behind each op."""
    import numpy as np

    count = len(net.addresses)
    change = np.zeros(count + 1)
    last: dict[str, int] = {}
    made: dict[str, int] = {}
    for i, address in enumerate(net.addresses):
        node = net.graph.node(address)
        for name in node.inputs:
            if name in made:
                last[name] = i
        made.update(dict.fromkeys(node.outputs, i))
    homes = {name: count + i for i, name in enumerate(net.homes)}
    sizes: dict[tuple[int, int, str], float] = {}
    for name, end in last.items():
        begin = made[name]
        if end > begin:
            size = _held_bytes(net, tables, values, name, begin, homes.get(name), sizes)
            change[begin] += size
            change[end] -= size
    return np.cumsum(change)[:count]


def _held_bytes(
    net: Network,
    tables: Tables,
    values: Integers,
    name: str,
    maker: int,
    home: int | None,
    known: dict[tuple[int, int, str], float],
) -> float:
    """Bytes of a value on a rank, as its home or else its producer holds it."""
    variable = maker if home is None else home
    kind = net.kinds[net.variables[variable]]
    node = net.graph.node(net.addresses[maker])
    position = str(node.outputs.index(name))
    key = (net.variables[variable], int(values[variable]), position)
    if key not in known:
        type_ = net.graph.type(name).with_extent(BATCH, tables.samples)
        if isinstance(kind, HomeKind):
            table = tables.home(kind)
            placement = table.forms[int(values[variable]) // len(table.layouts)][0]
        else:
            ops = tables.op(kind)
            cut = ops.partitions[int(values[variable]) // len(ops.layouts)]
            role = next(role for role, at in zip(_output_roles(kind), node.outputs, strict=True) if at == name)
            placement = operand_placement(kind.indexing, role, type_, cut)
        whole = tuple(REPLICATED if at == PARTIAL else at for at in placement)
        known[key] = float(largest(type_, whole, tables.mesh).bytes)
    return known[key]


def _output_roles(kind: OpKind) -> tuple[str, ...]:
    return kind.passes[0].outputs
