"""The outer choice: how many ranks go to the pipeline and to the two inner mesh axes, and in how many microbatches.

The mesh is (pipeline, data, model), row-major, without the axes of extent 1. The names of the inner axes are labels:
every op may split any axis of its iteration space over either, or over both. A strategy that somebody asks for by name
restricts that: each mesh axis then has a family of iteration axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from dlc.ir.graph import Graph
from dlc.ir.mesh import Mesh
from dlc.ir.tensor import BATCH
from passes.context import Context

PIPELINE, DATA, MODEL = "pipeline", "data", "model"

SPATIAL_AXES = ("depth", "height", "width", "length")

Family = Literal["any", "data", "model", "spatial", "weird"]
"""What a mesh axis may split: anything; the batch; other axes than batch and image; image axes; or, for "one weird
trick", the batch, but features where an op is linear (Krizhevsky 2014, arXiv:1404.5997)."""

MAX_STAGES = 64
MAX_MODEL = 64


@dataclass(frozen=True, slots=True)
class Strategy:
    """One outer choice; `families` has one entry for each axis of the inner mesh, "any" where nothing is asked for."""

    axes: tuple[tuple[str, int], ...]  # the whole mesh, major first
    families: tuple[Family, ...] = ()
    microbatches: int = 1
    schedule: str = ""
    chunks: int = 1
    shard: str = "none"
    recompute: str = "none"  # none, all
    shares: tuple[int, ...] = ()  # samples of each rank of uneven data parallelism
    effective: int = 0  # samples of a batch in which all had as much to do as the slowest device has, with `shares`
    inner: Mesh = field(init=False, repr=False, compare=False)  # of one stage

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", Mesh(tuple(axis for axis in self.axes if axis[0] != PIPELINE)))

    def samples(self, batch: int) -> int:
        """Of a microbatch; with uneven shares as many as would keep even ranks as busy."""
        return self.effective or batch // self.microbatches

    @property
    def stages(self) -> int:
        """Devices along the pipeline."""
        return dict(self.axes).get(PIPELINE, 1)

    @property
    def mesh(self) -> Mesh:
        """The whole mesh."""
        return Mesh(self.axes)

    @property
    def ranks(self) -> int:
        """How many ranks it uses."""
        return self.mesh.ranks

    @property
    def restricted(self) -> bool:
        """Whether some family was asked for."""
        return any(family != "any" for family in self.families)

    def with_(self, **changes: object) -> Strategy:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        parts = [f"{name} {extent}" for name, extent in self.axes] or ["one rank"]
        words = " x ".join(parts)
        if self.shares:
            words += " in shares of " + " + ".join(map(str, self.shares[:8])) + (" + …" if len(self.shares) > 8 else "")
        if self.microbatches > 1:
            words += f", {self.microbatches} microbatches"
        if self.schedule:
            words += f", {self.schedule}" + (f" of {self.chunks} chunks" if self.chunks > 1 else "")
        if self.shard != "none":
            words += f", shard = {self.shard}"
        return words + (", recompute" if self.recompute != "none" else "")


def axes(pipeline: int = 1, data: int = 1, model: int = 1) -> tuple[tuple[str, int], ...]:
    """The mesh axes of more than one rank, major first."""
    extents = ((PIPELINE, pipeline), (DATA, data), (MODEL, model))
    return tuple((name, extent) for name, extent in extents if extent > 1)


def strategy(
    pipeline: int = 1, data: int = 1, model: int = 1, families: tuple[Family, Family] = ("any", "any"), **more: object
) -> Strategy:
    """A strategy by its extents; `families` are those of data and model."""
    inner = tuple(f for f, extent in zip(families, (data, model), strict=True) if extent > 1)
    return Strategy(axes(pipeline, data, model), inner).with_(**more)


def microbatch_counts(graph: Graph, context: Context, stages: int) -> tuple[int, ...]:
    """In how many microbatches the batch may go: divisors of it that keep groups of batch norm whole.

    The plan's own number where it states one; without a pipeline one microbatch; else up to four counts between the
    stages and sixteen times as many, which leave a bubble of at most half to a twentieth.
    """
    asked = context.request.microbatches
    if asked is not None:
        return (asked,)
    if stages == 1:
        return (1,)
    unit = group_unit(graph)
    counts = [m for m in divisors(graph.batch) if (graph.batch // m) % unit == 0]
    useful = [m for m in counts if m >= stages] or counts[-1:]
    picked = [min(useful, key=lambda m: (abs(m - goal * stages), m)) for goal in (1, 2, 4, 8, 16)]
    return tuple(dict.fromkeys(picked))


def group_unit(graph: Graph) -> int:
    """The least common multiple of the groups of samples that batch norms work on: microbatches are multiples of it."""
    from math import lcm

    groups = {node.attr("group") for node in graph.forward if node.op == "bn"}
    return lcm(1, *(group for group in groups if isinstance(group, int)))


def divisors(n: int) -> tuple[int, ...]:
    """Ascending."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return tuple(dict.fromkeys((*small, *(n // d for d in reversed(small)))))


def enumerate_strategies(graph: Graph, context: Context, units: int) -> Iterator[Strategy]:
    """Every mesh factorisation and microbatch count that the request allows, in a fixed order.

    `units` is how many ops there are to cut stages from. Pipelines have at most 64 stages and model axes at most 64
    ranks.
    """
    ranks = context.ranks
    for pipeline in _pipelines(context, units):
        for microbatches in microbatch_counts(graph, context, pipeline):
            for data, model, families in _inner(context, ranks // pipeline):
                yield strategy(
                    pipeline,
                    data,
                    model,
                    families,
                    microbatches=microbatches,
                    schedule=_schedule(context) if pipeline > 1 else "",
                )


def _schedule(context: Context) -> str:
    return "one_f_one_b" if context.request.schedule == "auto" else context.request.schedule


def _pipelines(context: Context, units: int) -> tuple[int, ...]:
    """Extents of the pipeline."""
    request, ranks = context.request, context.ranks
    fixed = {axis.name: axis.extent for axis in request.mesh}
    if fixed:
        return (fixed.get(PIPELINE, 1),)
    kind = request.strategy.kind
    if kind == "pipeline":
        return (ranks,)
    if kind == "hybrid":
        extent = dict(request.strategy.arguments).get(PIPELINE)
        if isinstance(extent, int) and not isinstance(extent, bool):
            return (extent,)
        if extent is None:
            return (1,)
    elif kind != "auto":
        return (1,)
    return tuple(p for p in divisors(ranks) if p <= min(MAX_STAGES, units))


def _inner(context: Context, ranks: int) -> Iterator[tuple[int, int, tuple[Family, Family]]]:
    """(data, model, families) for the ranks of one stage."""
    request = context.request
    fixed = {axis.name: axis.extent for axis in request.mesh if axis.name != PIPELINE}
    kind = request.strategy.kind
    if fixed and set(fixed) <= {DATA, MODEL}:
        yield fixed.get(DATA, 1), fixed.get(MODEL, 1), ("any", "any")
        return
    if kind == "data":
        yield ranks, 1, ("data", "any")
    elif kind == "model":
        yield 1, ranks, ("any", "model")
    elif kind == "spatial":
        yield 1, ranks, ("any", "spatial")
    elif kind == "hybrid":
        yield from _hybrid(context, ranks)
    else:
        for model in divisors(ranks):
            if model <= MAX_MODEL:
                yield ranks // model, model, ("any", "any")


def _hybrid(context: Context, ranks: int) -> Iterator[tuple[int, int, tuple[Family, Family]]]:
    """`hybrid(data, model, spatial, pipeline = n)`: an extent for each axis that has one, any product for the rest."""
    asked = {name: value for name, value in context.request.strategy.arguments if value is not None}
    second: Family = "spatial" if "spatial" in asked and "model" not in asked else "model"
    for model in divisors(ranks):
        data = ranks // model
        wanted = {DATA: data, second: model}
        if all(isinstance(asked.get(n), bool | str | None) or asked.get(n) == e for n, e in wanted.items()):
            yield data, model, ("data", second)


def allowed(family: Family, axis: str, op: str) -> bool:
    """Whether a mesh axis of a family may split an iteration axis of an op."""
    match family:
        case "data":
            return axis == BATCH
        case "model":
            return axis != BATCH and axis not in SPATIAL_AXES
        case "spatial":
            return axis in SPATIAL_AXES
        case "weird":
            return (axis != BATCH) == (op == "linear")
    return True
