"""Ways out where nothing fits: what each would allow, and what a step then takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from dlc.diagnostics import Span
from dlc.ir.graph import Graph
from dlc.ir.request import Limit, Request
from dlc.ir.training import Precision
from dlc.units import format_bytes, format_seconds
from passes.context import Context
from passes.planning.conflicts import Order, without
from passes.planning.finish import Finished
from passes.planning.least import smallest
from passes.planning.orders import refused
from passes.planning.search import Effort, search
from passes.planning.space import Space, space
from passes.planning.strategies import Strategy, divisors, enumerate_strategies, group_unit

EFFORT = Effort(gap=0.05, strategies=24)
"""How far is searched for the plan that a repair allows: its step time is shown as a ratio."""

SCRATCH = 16
"""Workspaces of this part of the memory are tried, where nothing fits with those of the fastest algorithms."""

Looked = tuple[Space, tuple[Strategy, ...]]

SPLITS = (4, 16, 64)
"""Into about how many microbatches a batch is cut without a pipeline, where it does not fit otherwise."""

MORE_DEVICES = (2, 4, 8, 16)
"""Multiples of the devices that are tried."""

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Repair:
    """A way out in words, and the seconds that the plan which it allows takes for as many samples as a step has now."""

    text: str
    seconds: float
    work: str = "a step"


@dataclass(slots=True)
class Case:
    """A network on a cluster, to be planned under other orders and limits; `regraph` makes its training graph anew for
    another precision."""

    graph: Graph
    context: Context
    limit: float
    regraph: Callable[[Context], Graph] | None = None
    known: dict[float, Looked] = field(default_factory=dict)

    def asking(self, request: Request) -> Case:
        """The same under other orders."""
        return replace(self, context=self.context.with_(request=request), known={})

    def strategies(self) -> tuple[Strategy, ...]:
        """All strategies, and those that cut the batch into microbatches without a pipeline."""
        units = sum(1 for node in self.graph.nodes if node.stage in ("forward", "loss"))
        made = tuple(enumerate_strategies(self.graph, self.context, units))
        alone = [each for each in made if each.stages == 1 and self.context.request.microbatches is None]
        split = (each.with_(microbatches=count) for each in alone for count in splits(self.graph))
        kept = (each for each in split if not each.restricted or each.samples(self.graph.batch) >= each.ranks)
        return tuple(dict.fromkeys((*made, *kept)))

    def space(self, scratch: float = inf) -> Looked:
        """What there is to choose from, with workspaces of so many bytes at most."""
        if scratch not in self.known:
            context, strategies = self.context, self.strategies()
            if scratch < inf:
                request = context.request
                limit = Limit("workspace", scratch, Span("", 0, 0, 0, 0))
                context = context.with_(request=replace(request, limits=(*request.limits, limit)))
            self.known[scratch] = space(self.graph, context, strategies), strategies
        return self.known[scratch]

    def spaces(self) -> Iterator[Looked]:
        """The same as it is; then with small workspaces, where some are large beside the limit."""
        yield self.space()
        whole, _ = self.space()
        scratch = self.limit / SCRATCH
        if self.limit < inf and any(
            float(whole.prices.of(kind).workspace.max(initial=0.0)) > scratch for kind, _ in whole.ops
        ):
            yield self.space(scratch)

    def least(self, enough: float = -inf) -> Finished | None:
        """The step that needs least memory, or one of at most `enough` bytes."""
        found = self.least_of(enough)
        return None if found is None else found[1]

    def least_of(self, enough: float = -inf) -> tuple[Looked, Finished] | None:
        """That step, and what it was found among."""
        best: tuple[Looked, Finished] | None = None
        for looked in () if refused(self.graph, self.context) else self.spaces():
            made = smallest(*looked, enough)
            if made is not None and (best is None or made.peak < best[1].peak):
                best = looked, made
            if best is not None and best[1].peak <= enough:
                break
        return best

    def best(self, limit: float) -> Finished | None:
        """About the shortest step within a limit."""
        found = self.least_of(limit)
        if found is None or found[1].peak > limit:
            return None
        looked, least = found
        return search(*looked, limit, EFFORT, [least]).finished[0]


def splits(graph: Graph) -> tuple[int, ...]:
    """Numbers of microbatches without a pipeline: divisors of the batch that keep groups of batch norm whole."""
    unit = group_unit(graph)
    counts = [m for m in divisors(graph.batch) if m > 1 and (graph.batch // m) % unit == 0]
    return tuple(dict.fromkeys(min(counts, key=lambda m: (abs(m - goal), m)) for goal in SPLITS if counts))


def repairs(case: Case, least: Finished | None, orders: Sequence[Order], room: int) -> tuple[str, ...]:
    """The cheapest ways out in words, by the time of a step; `room` is the memory of the smallest device.

    `least` is the smallest plan under all orders, `orders` are those without any of which more plans would fit.
    """
    fastest = case.best(inf)
    found = [*_limits(case, least, fastest, room), *_without(case, orders), *_batches(case), *_devices(case)]
    found += [*_settings(case), *_precisions(case)]
    found.sort(key=lambda repair: repair.seconds)
    base = fastest.objective if fastest is not None else inf
    return tuple(_in_words(repair, base) for repair in found[:SHOWN])


def _in_words(repair: Repair, base: float) -> str:
    if base == inf:
        return f"{repair.text}; {repair.work} then takes {format_seconds(repair.seconds)}"
    ratio = repair.seconds / base
    words = "as long as" if abs(ratio - 1) < 0.005 else f"{ratio:.2f} times as long as"
    return f"{repair.text}; {repair.work} then takes {words} without a limit on memory"


def _limits(case: Case, least: Finished | None, fastest: Finished | None, room: int) -> Iterator[Repair]:
    """A higher limit, where the devices have the memory: the lowest one, and that of the fastest plan."""
    limits: dict[str, Finished] = {}
    for step in (fastest, least):
        if step is not None and case.limit < step.peak <= room:
            unit, size = _unit(step.peak)
            raised = ceil(step.peak / size)
            limits[f"{raised} {unit}"] = step if step is fastest else case.best(raised * size) or step
    for written, step in limits.items():
        text = f"allow `limit memory <= {written}`: the device has {format_bytes(room)}"
        yield Repair(text, step.objective)


def _unit(size: int) -> tuple[str, int]:
    """A unit in which a limit is a number of a few digits."""
    units = (("GiB", 2**30), ("MiB", 2**20))
    return next((each for each in units if size >= 8 * each[1]), ("KiB", 2**10))


def _without(case: Case, orders: Sequence[Order]) -> Iterator[Repair]:
    """Each order of the conflict taken back by itself."""
    for order in orders:
        if order.kind == "limit" and order.text.startswith("limit memory"):
            continue
        made = case.asking(without(case.context.request, order)).best(case.limit)
        if made is not None:
            text = f"remove `{order.text}` at {order.place}: {format_bytes(made.peak)} suffice"
            yield Repair(text, made.objective)


def _batches(case: Case) -> Iterator[Repair]:
    """The largest half, quarter, … of the batch that fits: priced as a strategy of fewer samples."""
    if case.context.request.microbatches is not None:
        return
    _, strategies = case.space()
    alone = [each for each in strategies if each.stages == 1 and each.microbatches == 1]
    batch = case.graph.batch // 2
    while alone and batch >= 1:
        smaller = [each.with_(effective=batch) for each in alone]
        made = space(case.graph, case.context, smaller)
        least = smallest(made, smaller, case.limit)
        if least is not None and least.peak <= case.limit:
            best = search(made, smaller, case.limit, EFFORT, [least]).finished[0]
            scaled = best.objective * case.graph.batch / batch
            text = f"a batch of {batch} fits: {format_bytes(best.peak)}"
            yield Repair(text, scaled, f"the work of a step of {case.graph.batch} samples")
            return
        batch //= 2


def _devices(case: Case) -> Iterator[Repair]:
    """The smallest multiple of the devices on which a plan fits."""
    if case.context.request.mesh:
        return
    for times in MORE_DEVICES:
        ranks = case.context.ranks * times
        cluster = case.context.cluster.resized(ranks)
        if cluster is None:
            return
        more = replace(case, context=case.context.with_(cluster=cluster, ranks=ranks), known={})
        made = more.best(case.limit)
        if made is not None:
            yield Repair(f"take {ranks} devices: `-n {ranks}`", made.objective)
            return


def _settings(case: Case) -> Iterator[Repair]:
    """More sharding than is written, and computing again where that is excluded."""
    request = case.context.request
    if request.span("shard") is not None:
        for shard in ("optimizer", "gradients", "weights"):
            made = case.asking(replace(request, shard=shard)).best(case.limit) if shard != request.shard else None
            if made is not None:
                yield Repair(f"`shard = {shard}` instead of `{request.shard}`", made.objective)
                break
    if request.recompute == "none":
        made = case.asking(replace(request, recompute="all")).best(case.limit)
        if made is not None:
            yield Repair("`recompute = all` instead of `none`", made.objective)


def _precisions(case: Case) -> Iterator[Repair]:
    """Half as many bytes for activations, where the device computes with them."""
    precision, device = case.context.training.precision, case.context.cluster.device_of(0)
    if case.regraph is None or precision.compute not in ("f32", "tf32"):
        return
    known = dict(device.compute)
    for compute in ("bf16", "f16"):
        if compute in known:
            training = replace(case.context.training, precision=Precision(compute, "f32", None))
            context = case.context.with_(training=training, compute=compute)
            made = replace(case, graph=case.regraph(context), context=context, known={}).best(case.limit)
            if made is not None:
                text = f"`precision = mixed(compute = {compute}, master = f32)` in `train`, which changes results"
                yield Repair(text, made.objective)
            return
