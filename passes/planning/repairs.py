"""Ways out where nothing fits: what each would allow, and what a step then takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from dlc.ir.training import Precision
from dlc.units import format_bytes, format_seconds
from passes.planning.case import EFFORT, Case
from passes.planning.conflicts import Order, keeping, without
from passes.planning.conflicts import orders as all_orders
from passes.planning.least import even_share, smallest
from passes.planning.search import search
from passes.planning.space import space
from passes.planning.step import Finished

MORE_DEVICES = (2, 4, 8, 16)
"""Multiples of the devices that are tried."""

MORE_MEMORY = 8
"""More than so many times a device's memory is not asked for, unless the smallest plan needs it."""

SHOWN = 8


@dataclass(frozen=True, slots=True)
class Repair:
    """A way out in words, and the seconds that the plan which it allows takes for as many samples as a step has now."""

    text: str
    seconds: float
    work: str = "a step"


def repairs(case: Case, least: Finished | None, orders: Sequence[Order], room: int) -> tuple[str, ...]:
    """The cheapest ways out in words, by the time of a step; `room` is the memory of the smallest device.

    `least` is the smallest plan under all orders, `orders` are those without any of which more plans would fit. Each
    way was planned, so that it leads to a plan.
    """
    fastest = case.best(inf)
    found = [*_memory(case, least, fastest, room), *_devices(case), *_precisions(case)]
    if even_share(case.space()[0], case.context.ranks) <= case.limit:  # else nothing of these helps
        found += [*_settings(case), *_without(case, orders), *_batches(case, least)]
    found.sort(key=lambda repair: repair.seconds)
    base = fastest.objective if fastest is not None else inf
    return tuple(_in_words(repair, base) for repair in found[:SHOWN])


def _in_words(repair: Repair, base: float) -> str:
    if base == inf:
        return f"{repair.text}; {repair.work} then takes {format_seconds(repair.seconds)}"
    ratio = repair.seconds / base
    words = "as long as" if abs(ratio - 1) < 0.005 else f"{ratio:.2f} times as long as"
    return f"{repair.text}; {repair.work} then takes {words} without a limit on memory"


def _memory(case: Case, least: Finished | None, fastest: Finished | None, room: int) -> Iterator[Repair]:
    """More memory: as much as the smallest plan needs, and the fastest one. A higher limit where devices have it."""
    sizes: dict[str, Finished] = {}
    for step in (fastest, least):
        far = step is not None and case.needs(step) > MORE_MEMORY * max(room, case.limit)
        if step is not None and case.limit < case.needs(step) and not (far and step is fastest):
            unit, size = _unit(case.needs(step))
            raised = ceil(case.needs(step) / size)
            sizes[f"{raised} {unit}"] = step if far or step is fastest else case.best(raised * size) or step
    limited = any(limit.subject == "memory" for limit in case.context.request.limits)
    for written, step in sizes.items():
        if limited and case.needs(step) <= room:
            text = f"allow `limit memory <= {written}`: the device has {format_bytes(room)}"
        else:
            text = f"devices with `memory = {written}`" + f", and `limit memory <= {written}`" * limited
        yield Repair(text, step.objective)


def _unit(size: int) -> tuple[str, int]:
    """A unit in which a limit is a number of a few digits."""
    units = (("GiB", 2**30), ("MiB", 2**20))
    return next((each for each in units if size >= 8 * each[1]), ("KiB", 2**10))


INSTEAD = ("shard", "recompute", "pipeline.microbatches")
"""Settings for which another value is a way out."""


def _settings(case: Case) -> Iterator[Repair]:
    """Another value of one setting: that of the best plan without it."""
    for order in all_orders(case.context.request):
        if order.kind == "setting" and order.what in INSTEAD:
            made = case.asking(without(case.context.request, order)).best(case.limit)
            if made is not None:
                used = {
                    "shard": made.strategy.shard,
                    "recompute": "auto",
                    "pipeline.microbatches": str(made.strategy.microbatches),
                }
                before = order.text.partition(" = ")[2]
                text = f"`{order.what} = {used[str(order.what)]}` instead of `{before}`"
                yield Repair(f"{text}: {format_bytes(case.needs(made))} suffice", made.objective)


def _without(case: Case, orders: Sequence[Order]) -> Iterator[Repair]:
    """Each order of the conflict taken back by itself; where none alone suffices, as few as do together."""
    request, found = case.context.request, False
    for order in orders:
        if order.what in INSTEAD:
            continue
        made = case.asking(without(request, order)).best(case.limit)
        if made is not None:
            found = True
            size = format_bytes(case.needs(made))
            yield Repair(f"remove `{order.text}` at {order.place}: {size} suffice", made.objective)
    if orders and not found:
        yield from _together(case)


def _together(case: Case) -> Iterator[Repair]:
    """Orders without which a plan fits, and each of which is needed for that: taken back one by one, pins first."""
    request = case.context.request
    every = [order for order in all_orders(request) if not order.bounds_memory]
    made = case.asking(keeping(request, [order for order in all_orders(request) if order.bounds_memory]))
    best = made.best(case.limit)
    if best is None:
        return
    away = list(every)
    for order in every:
        left = [other for other in away if other is not order]
        kept = [other for other in all_orders(request) if other not in left]
        step = case.asking(keeping(request, kept)).best(case.limit)
        if step is not None:
            away, best = left, step
    if len(away) > 1:
        words = " and ".join(f"`{order.text}` at {order.place}" for order in away)
        yield Repair(f"remove {words}: {format_bytes(case.needs(best))} suffice", best.objective)


def _batches(case: Case, smallest_: Finished | None) -> Iterator[Repair]:
    """The largest half, quarter, … of the batch that fits: priced as a strategy of fewer samples, whose Program takes
    as much more than its plan counts as the smallest one's."""
    beside = 0 if smallest_ is None else case.needs(smallest_) - smallest_.peak
    limit = case.limit - beside
    count, whole = case.context.request.microbatches or 1, case.graph.batch
    alone = [each for each in case.strategies() if each.microbatches == count]
    halves = [whole >> n for n in range(1, whole.bit_length()) if (whole >> n) % count == 0]
    smaller = {batch: [each.with_(effective=batch // count) for each in alone] for batch in halves}
    if not alone or not halves:
        return
    made = space(case.graph, case.context, [each for group in smaller.values() for each in group])
    for batch, group in smaller.items():
        least = smallest(made, group, limit)
        if least is not None and least.peak <= limit:
            best = search(made, group, limit, EFFORT, [least]).finished[0]
            text = f"a batch of {batch} fits: {format_bytes(int(best.peak + beside))}"
            yield Repair(text, best.objective * whole / batch, f"the work of a step of {whole} samples")
            return


def _devices(case: Case) -> Iterator[Repair]:
    """The smallest multiple of the devices on which a plan fits."""
    if case.context.request.mesh:
        return
    for times in MORE_DEVICES:
        ranks = case.context.ranks * times
        cluster = case.context.cluster.resized(ranks)
        if cluster is None:
            return
        if even_share(case.space()[0], ranks) > case.limit:
            continue
        more = replace(case, context=case.context.with_(cluster=cluster, ranks=ranks), known={}, smallest={})
        made = more.best(case.limit)
        if made is not None:
            yield Repair(f"take {ranks} devices: `-n {ranks}`", made.objective)
            return


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
            made = replace(case, graph=case.regraph(context), context=context, known={}, smallest={}).best(case.limit)
            if made is not None:
                text = f"`precision = mixed(compute = {compute}, master = f32)` in `train`, which changes results"
                yield Repair(text, made.objective)
            return
