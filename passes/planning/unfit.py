"""Why no plan keeps what is asked for: the orders that conflict, what the smallest plan is made of, and the ways out
(E0509, E0512, E0527)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from dlc.diagnostics import Diagnostic, Label
from dlc.ir.request import Limit, Rule
from dlc.messages.e05_plan import NO_FIT, NO_PLAN, RULED_OUT
from dlc.units import format_bytes
from passes.planning.case import Case
from passes.planning.conflicts import Order, conflict, keeping, orders, without
from passes.planning.least import even_share, frugal
from passes.planning.network import OpKind
from passes.planning.orders import refused
from passes.planning.repairs import repairs
from passes.planning.step import Finished
from passes.planning.traffic import sent


def unfit(case: Case) -> Diagnostic:
    """The message about a network for which there is no plan within `case.limit` bytes a device."""
    others = [order for order in orders(case.context.request) if not order.bounds_memory]
    found = case.smallest_program(case.limit)
    if found is None:
        blocked = _blocked(case, others)
        return blocked if blocked is not None else _refused(case, _conflict(case, others, None))
    return _too_large(case, found[1], others)


def _least(case: Case, enough: float) -> Finished | None:
    """The step that needs least memory, measured, or one of at most `enough` bytes."""
    found = case.least_of(enough)
    if found is None:
        return None
    case.measure(found[0][0], found[1])
    return found[1]


def _conflict(case: Case, found: Sequence[Order], limit: float | None) -> tuple[Order, ...]:
    """The orders that no plan keeps together, on devices of `limit` bytes or of any memory."""
    known: dict[tuple[Order, ...], bool] = {}

    def keeps(kept: Sequence[Order]) -> bool:
        key = tuple(order for order in found if order in kept)
        if key not in known:
            made = case.asking(keeping(case.context.request, key)).least(inf if limit is None else limit)
            known[key] = made is not None and (limit is None or case.needs(made) <= limit)
        return known[key]

    return conflict(found, keeps)


def _too_large(case: Case, least: Finished, others: Sequence[Order]) -> Diagnostic:
    """E0509: what the smallest plan needs, what it holds, which orders stand in the way, and the repairs.

    A limit of the plan is named only where the devices have memory enough.
    """
    room, device = case.context.memory, min(case.context.cluster.devices, key=lambda each: each.memory)
    limit, span, whole = case.limit, room.span, float(device.memory)
    if limit < whole < case.needs(least) and (bare := _least(case, whole)) is not None and case.needs(bare) > whole:
        limit, span, least = whole, device.span, bare
    share = even_share(case.space()[0], case.context.ranks)
    found = _conflict(case, others, limit) if share <= limit else ()
    parts = ", ".join(f"{name} {format_bytes(int(size))}" for name, size in holdings(case, least) if size >= 1)
    notes = [f"the smallest plan is {least.strategy}: {parts}"]
    if share > limit:
        notes.append(
            f"weights, gradients and optimizer state alone take {format_bytes(int(share))} on each of the "
            f"{case.context.ranks} devices, shared out evenly"
        )
    if found:
        notes.append(f"no plan within it keeps all of these: {_listed(found)}")
    return NO_FIT.at(
        span,
        secondary=tuple(Label(order.span, "together with this") for order in found if order.span != span),
        notes=tuple(notes),
        helps=repairs(case, least, found, device.memory),
        limit=format_bytes(int(limit)),
        needed=format_bytes(case.needs(least)),
    )


def holdings(case: Case, step: Finished) -> Iterator[tuple[str, float]]:
    """(part, bytes) of what the device with most holds at its peak."""
    net, solved = case.space()[0].network, step.solved
    worst = max(range(len(step.peaks)), key=lambda i: step.peaks[i])
    stages = len(step.bounds) - 1
    mine = [op for at in range(worst, stages, max(1, len(step.peaks))) for op in range(*step.bounds[at : at + 2])]
    weights = gradients = states = 0.0
    for op in mine:
        kind = net.kinds[net.variables[op]]
        assert isinstance(kind, OpKind)
        option = int(solved.values[op]) // len(solved.tables.op(kind).layouts)
        held = [float(column[option]) for column in solved.tables.held(kind)]
        weights, gradients, states = weights + held[0], gradients + held[1], states + held[2]
    passing = float(solved.line.transient[mine].max(initial=0.0))
    yield "weights", weights
    yield "gradients", gradients
    yield "optimizer state", states
    yield "activations", max(0.0, step.peak - weights - gradients - states - passing)
    yield "workspace and gradients of activations", passing
    yield "what is on its way from one form or rank to another", float(case.needs(step) - step.peak)


def _blocked(case: Case, found: Sequence[Order]) -> Diagnostic | None:
    """E0512: an op that can be cut in no way under any strategy; None where there is none."""
    at = next(_without_options(case), None)
    if at is None:
        return None

    def keeps(kept: Sequence[Order]) -> bool:
        asked = case.asking(keeping(case.context.request, kept))
        return at not in _without_options(asked)

    reasons = conflict(found, keeps)
    if not reasons:
        return None
    cuts = any(isinstance(order.what, Rule) and order.what.key == "partition" for order in reasons)
    return RULED_OUT.at(
        reasons[0].span,
        secondary=tuple(Label(order.span) for order in reasons[1:]),
        notes=() if cuts else tuple(_scratch(case, at)),
        key="partition" if cuts else "algorithm",
        address=at,
        reasons=_listed(reasons),
    )


def _scratch(case: Case, address: str) -> Iterator[str]:
    """The workspace that an op needs at least, by any algorithm that rules leave it, sample by sample."""
    space, _ = case.space()
    kind = next(kind for kind, _ in space.ops if kind.example.address == address)
    if space.prices.rules.workspace is not None:
        needed = space.prices.least_scratch(kind)
        yield f"it needs a workspace of {format_bytes(int(needed))} at least, one sample after another"


def _without_options(case: Case) -> Iterator[str]:
    """The first op of each kind that has no option under any strategy."""
    space, strategies = case.space()
    for kind, _ in space.ops:
        if not any(space.tables(strategy).op(kind).options for strategy in strategies):
            yield kind.example.address


def _refused(case: Case, found: Sequence[Order]) -> Diagnostic:
    """E0527: orders that cannot all be kept, whatever the memory."""
    span = found[0].span if found else case.context.cluster.span
    notes = ("every one of them is needed for the conflict: without any one there are plans",) if len(found) > 1 else ()
    notes, helps = (*notes, *_facts(case, found)), tuple(_ways_out(case, found))
    words = _listed(found) if found else f"{case.context.ranks} ranks"
    secondary = tuple(Label(order.span, "and this") for order in found[1:])
    return NO_PLAN.at(span, secondary=secondary, notes=notes, helps=helps, orders=words)


def _facts(case: Case, found: Sequence[Order]) -> Iterator[str]:
    """In which stages ops can be, for their place in line, and what bounds would have to be."""
    for order in found:
        if isinstance(order.what, Rule) and order.what.key == "stage":
            yield _places(case, order.what)
        elif isinstance(order.what, Limit):
            nearest = _nearest(case, order, order.what.subject)
            if nearest:
                yield nearest


def _places(case: Case, rule: Rule) -> str:
    """`c2.conv` is op 3 of the 9 that stages are cut from, …"""
    space, strategies = case.space()
    count, most = len(space.network.addresses), max((each.stages for each in strategies), default=1)
    at = sorted(space.network.addresses.index(address) for address in rule.addresses)
    place = f"is op {at[0] + 1}" if len(at) == 1 else f"reaches ops {at[0] + 1} to {at[-1] + 1}"
    low, high = max(0, most - count + at[-1]), min(at[0], most - 1)
    stages = f"stage {low}" if low == high else f"stages {low} to {high}"
    can = f"of {most} stages it can be in {stages}" if low <= high else f"no one of {most} stages can have all of it"
    return f"`{rule.selector}` {place} of the {count} that stages are cut from, and every stage has an op: {can}"


def _nearest(case: Case, order: Order, subject: str) -> str:
    """What could be had in place of a limit, all else as it is written."""
    other = case.asking(without(case.context.request, order))
    if subject == "communication":
        least = frugal(*other.space(), inf) if not refused(other.graph, other.context) else None
        size = "" if least is None else format_bytes(int(sent(other.space()[0], least)))
        return f"a device sends {size} at least, all else as it is written" if size else ""
    best = other.best(inf)
    if best is None or subject != "bubble":
        return ""
    return f"the fastest plan without this limit has a bubble of {best.idle:.2g}"


def _ways_out(case: Case, found: Sequence[Order]) -> Iterator[str]:
    """What each of the orders may be without the others, where that is a number."""
    for order in found:
        if order.text.startswith("strategy = pipeline"):
            units = sum(1 for node in case.graph.nodes if node.stage in ("forward", "loss"))
            yield f"{units} ops can be cut into {units} stages at most: `hybrid(pipeline = auto, data = …)` takes fewer"


def _listed(found: Sequence[Order]) -> str:
    """`limit bubble <= 0.1` by line 4, `pin a { stage = 0 }` by line 7."""
    return ", ".join(f"`{order.text}` by {order.place}" for order in found)
