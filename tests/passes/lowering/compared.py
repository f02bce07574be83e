"""A training step on virtual ranks beside the serial one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ops.indexing import indexing_of
from dlc.proof import check
from passes.classes import fed_classes
from passes.context import Context
from passes.differentiate import operator_of, roles
from passes.lower import lower
from tests.passes.lowering.plans import on, plan_of
from tests.passes.lowering.rank_memory import DTYPES, Array
from tests.passes.lowering.virtual_ranks import World

Arrays = Mapping[str, Array]


def drawn(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Whole arrays for what is fed and what is kept; weights are small, statistics and constants as they begin."""
    rng, classes, found = np.random.default_rng(seed), fed_classes(graph), dict[str, Array]()
    for value in graph.of_kind("input", "field", "weight", "statistic", "constant"):
        dtype, shape = DTYPES[value.type.dtype], value.type.shape
        if value.kind == "constant":
            found[value.name] = np.full(shape, value.init.value if value.init else 0.0)
        elif value.kind == "statistic":
            found[value.name] = np.ones(shape)
        elif value.type.dtype in ("i32", "i64", "u8"):
            count = classes[value.name].count if value.name in classes else 3
            found[value.name] = rng.integers(0, count, shape).astype(dtype)
        else:
            found[value.name] = rng.standard_normal(shape) * (0.3 if value.kind == "weight" else 1.0)
    return found


def whole_numbers(given: Arrays) -> dict[str, Array]:
    """Small integers in the place of numbers, for the stand-ins of exact mode."""
    return {name: np.clip(np.rint(4 * array), -3, 3) if array.dtype.kind == "f" else array
            for name, array in given.items()}  # fmt: skip


def serial(
    graph: Graph, given: Arrays, base: Context | None = None, entry: str = "train_step", exact: bool = False
) -> World:
    """The serial program, run once."""
    plan = plan_of(graph, {"data": 1}, lambda _node, _space: {})
    world = World(lower(graph, plan, on(1, base)), given, exact=exact)
    world.run(entry)
    return world


def stacked(graph: Graph, plan: Plan) -> dict[str, int]:
    """The weights that hold several tensors one behind the other, and are split within each."""
    found = {}
    for node in graph.forward:
        by_role = roles(node)
        space = indexing_of(operator_of(node), {r: graph.type(v) for r, v in by_role.items()}, dict(node.attrs))
        split = {each.axis for each in plan.op(node.address).partition}
        found.update({by_role[r]: n for r, (axis, n) in space.stacked.items() if axis in split and r in by_role})
    return found


def parallel(
    graph: Graph,
    plan: Plan,
    given: Arrays,
    base: Context | None = None,
    overlap: float = 0.0,
    entry: str = "train_step",
    exact: bool = False,
) -> World:
    """The plan's program, which has no faults, run once."""
    program = lower(graph, plan, on(plan.ranks, base, overlap))
    assert check(program, graph) == ()
    world = World(program, given, stacked(graph, plan), exact=exact)
    world.run(entry)
    return world


def largest_error(graph: Graph, world: World, alone: World) -> tuple[float, str]:
    """Of weights, statistics, loss and metrics on every rank, beside the largest element of the serial ones."""
    whole = alone.memories[0]
    results = {graph.loss, *(value for _, value in graph.metrics)}
    worst, seen = (0.0, ""), set[str]()
    for rank, memory in world.memories.items():
        names = {buffer.name for buffer in memory.role.buffers}
        for value in graph.values:
            kept = value.kind in ("weight", "statistic")
            if value.name not in names or not (kept or value.name in results):
                continue
            expected = whole.logical(value.name, 0)
            if kept:
                expected = world.part(expected, memory, value.name)
            error = np.abs(memory.logical(value.name, 0) - expected).max(initial=0)
            scale = 1e-6 + np.abs(whole.logical(value.name, 0)).max(initial=0)
            assert np.isfinite(error), f"{value.name} on rank {rank}"
            worst = max(worst, (float(error / scale), f"{value.name} on rank {rank}"))
            seen.add(value.name)
    assert seen >= {value.name for value in graph.of_kind("weight")}
    return worst
