"""The outer choice: how many ranks go to the pipeline and to the inner mesh axes, and in how many microbatches.

The mesh is (pipeline, data, model), row-major, without the axes of extent 1, or the one that the plan block writes. The
names of the inner axes are labels: every op may split any axis of its iteration space over each, or over several. A
strategy that somebody asks for by name restricts that: each mesh axis then has a family of iteration axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Literal

from dlc.ir.graph import Graph
from dlc.ir.mesh import Mesh
from dlc.ir.tensor import BATCH
from dlc.ops import optimizer
from passes.context import Context

PIPELINE, DATA, SPATIAL, MODEL = "pipeline", "data", "spatial", "model"

SPATIAL_AXES = ("depth", "height", "width", "length")

Family = Literal["any", "data", "model", "spatial", "weird"]
"""What a mesh axis may split: anything; the batch; other axes than batch and image; image axes; or, for "one weird
trick", the batch, but features where an op is linear (Krizhevsky 2014, arXiv:1404.5997)."""

SHARDS = ("none", "optimizer", "gradients", "weights")
"""What ranks that hold copies share out: nothing, or what ZeRO 1, 2, 3 do, each with what stands before it."""

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

    @property
    def batch_parts(self) -> int:
        """Into how many parts the batch has to be split, because somebody asks for it."""
        asked = zip(self.inner.extents, self.families, strict=False)
        return prod(extent for extent, family in asked if family in ("data", "weird"))

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


def microbatch_counts(graph: Graph, context: Context, stages: int, every: bool = False) -> tuple[int, ...]:
    """In how many microbatches the batch may go: divisors of it that keep groups of batch norm whole.

    The plan's own number where it states one; all that there are with `every`. Else without a pipeline one microbatch,
    with one up to five counts between the stages and sixteen times as many, which leave a bubble of at most half to a
    twentieth: more of them pay only where memory is short.
    """
    asked = context.request.microbatches
    if asked is not None:
        return (asked,)
    if stages == 1 and not every:
        return (1,)
    unit = group_unit(graph)
    counts = [m for m in divisors(graph.batch) if (graph.batch // m) % unit == 0] or [1]
    if every:
        return tuple(counts)
    useful = [m for m in counts if m >= stages] or counts[-1:]
    picked = [min(useful, key=lambda m: (abs(m - goal * stages), m)) for goal in (1, 2, 4, 8, 16)]
    return tuple(dict.fromkeys(picked))


APART = 2.9
"""How far apart counts of microbatches are that are priced where memory is short: three times would leave out fours."""


def spaced(strategies: Sequence[Strategy]) -> tuple[Strategy, ...]:
    """Of strategies that differ in the count of microbatches alone, those whose counts are well apart, and the finest.

    Counts ascend.
    """
    groups: dict[Strategy, list[Strategy]] = {}
    for each in strategies:
        kept = groups.setdefault(each.with_(microbatches=1), [])
        if len(kept) > 1 and each.microbatches < APART * kept[-2].microbatches:
            kept.pop()  # the finest so far is not the last
        kept.append(each)
    return tuple(each for kept in groups.values() for each in kept)


def group_unit(graph: Graph) -> int:
    """The least common multiple of the groups of samples that batch norms work on: microbatches are multiples of it."""
    from math import lcm

    groups = {node.attr("group") for node in graph.forward if node.op == "bn"}
    return lcm(1, *(group for group in groups if isinstance(group, int)))


def divisors(n: int) -> tuple[int, ...]:
    """Ascending."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return tuple(dict.fromkeys((*small, *(n // d for d in reversed(small)))))


def enumerate_strategies(graph: Graph, context: Context, units: int, every: bool = False) -> Iterator[Strategy]:
    """Every mesh factorisation and microbatch count that the request allows, in a fixed order; with `every` also the
    counts that pay only where memory is short.

    `units` is how many ops there are to cut stages from. Pipelines have at most 64 stages and model axes at most 64
    ranks. What the request says of sharding and of computing again holds for all of them.
    """
    for named, families in dict.fromkeys(_meshes(context, units)):
        made = Strategy(named, families)
        for microbatches in microbatch_counts(graph, context, made.stages, every):
            asked = every or context.request.microbatches is not None
            if asked and microbatches > 1 and graph.batch // microbatches < made.batch_parts:
                continue  # ranks would have no samples of a microbatch
            yield as_written(made.with_(microbatches=microbatches), context)


def as_written(found: Strategy, context: Context) -> Strategy:
    """A strategy with what the request says of microbatches, sharding, computing again and the schedule."""
    request = context.request
    schedule = "one_f_one_b" if request.schedule == "auto" else request.schedule
    return found.with_(
        microbatches=request.microbatches or found.microbatches,
        schedule=schedule if found.stages > 1 else "",
        shard=found.shard if request.span("shard") is None else request.shard,
        recompute="all" if request.recompute == "all" else found.recompute,
    )


Meshed = tuple[tuple[tuple[str, int], ...], tuple[Family, ...]]
"""Mesh axes of more than one rank, major first, and the family of each but the pipeline."""


def _meshes(context: Context, units: int) -> Iterator[Meshed]:
    """The meshes that the request leaves: its own one, or all of its strategy."""
    request, ranks = context.request, context.ranks
    kind = request.strategy.kind
    if kind == "auto" and of_all_weights(context):
        kind = "data"
    if request.mesh:
        named = tuple((axis.name, axis.extent) for axis in request.mesh if axis.extent > 1)
        if _agrees(context, dict(named)):
            yield named, tuple(_family(kind, name) for name, _ in named if name != PIPELINE)
    elif kind == "pipeline":
        yield axes(pipeline=ranks), ()
    elif kind == "hybrid":
        yield from _hybrid(context, units)
    elif kind != "auto":
        name, family = {"data": (DATA, "data"), "model": (MODEL, "model"), "spatial": (SPATIAL, "spatial")}[kind]
        yield (((name, ranks),), (family,)) if ranks > 1 else ((), ())  # type: ignore[misc]
    else:
        for pipeline in _pipelines(ranks, units):
            for model in divisors(ranks // pipeline):
                if model <= MAX_MODEL:
                    named = axes(pipeline, ranks // pipeline // model, model)
                    yield named, tuple(_family(kind, name) for name, _ in named if name != PIPELINE)


def of_all_weights(context: Context) -> bool:
    """Whether the optimizer sees all weights as one vector, so that each rank needs the whole of them."""
    return optimizer(context.training.optimizer.kind).joint is not None


def _agrees(context: Context, named: dict[str, int]) -> bool:
    """Whether a mesh is one of the strategy that is asked for beside it."""
    request = context.request
    match request.strategy.kind:
        case "data" | "model" | "spatial":
            return PIPELINE not in named
        case "pipeline":
            return set(named) <= {PIPELINE}
        case "hybrid":
            degrees = ((name, n) for name, n in request.strategy.arguments if type(n) is int)
            return all(named.get(name, 1) == degree for name, degree in degrees)
    return True


def _family(kind: str, name: str) -> Family:
    """What a mesh axis of that name may split under a strategy that is asked for."""
    if kind == "hybrid" and name in (DATA, MODEL, SPATIAL):
        return name  # type: ignore[return-value]
    return kind if kind in (DATA, MODEL, SPATIAL) else "any"  # type: ignore[return-value]


def _pipelines(ranks: int, units: int) -> tuple[int, ...]:
    """Extents of the pipeline."""
    return tuple(p for p in divisors(ranks) if p <= min(MAX_STAGES, units))


def _hybrid(context: Context, units: int) -> Iterator[Meshed]:
    """`hybrid(data, model, spatial, pipeline = n)`: the extents that it states, all others for one that is auto.

    Ranks next to each other differ along `model`, then along `spatial`, then along `data`.
    """
    ranks = context.ranks
    asked = {name: n if type(n) is int else None for name, n in context.request.strategy.arguments}
    choices = [
        _pipelines(ranks, units) if name == PIPELINE and asked[name] is None else _extents(asked[name], ranks)
        for name in (PIPELINE, DATA, SPATIAL, MODEL)
    ]
    for extents in product(*choices):
        if prod(extents) == ranks:
            named = tuple((name, n) for name, n in zip((PIPELINE, DATA, SPATIAL, MODEL), extents, strict=True) if n > 1)
            yield named, tuple(_family("hybrid", name) for name, _ in named if name != PIPELINE)


def _extents(asked: int | None, ranks: int) -> tuple[int, ...]:
    return divisors(ranks) if asked is None else (asked,)


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
