"""What pins cost: the strategy that was taken, solved again without each of them (W0501, W0502); and pinned algorithms
that lose digits (W0503)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dlc.diagnostics import Diagnostic
from dlc.ir.graph import Graph
from dlc.ir.plan import OpPlan
from dlc.ir.request import Request, Rule
from dlc.messages.e05_plan import COSTLY_PIN, INEXACT, NO_CHANGE
from dlc.units import format_seconds
from passes.differentiate import operator_of
from passes.options import is_meant, local_shapes
from passes.planning.apply import op_plans
from passes.planning.conflicts import spelt
from passes.planning.finish import finish
from passes.planning.network import OpKind
from passes.planning.plan import Planned
from passes.planning.search import GAP
from passes.planning.solve import solve
from passes.planning.space import Space, space
from passes.planning.step import Finished
from passes.planning.within import fit_within

COSTLY = 1.2
"""A pin that costs less than this times the best choice is not worth a warning: the model is no better than that."""

MOST_REVIEWED = 12
"""Pins that are reviewed, the first in the text: each takes as long as solving a strategy."""


def review_pins(planned: Planned) -> tuple[Diagnostic, ...]:
    """A warning for each pin of an algorithm, layout or partition that changes nothing, or costs much."""
    rules = [rule for rule in planned.space.context.request.pins if rule.key in ("algorithm", "layout", "partition")]
    found = (_reviewed(planned, rule) for rule in rules[:MOST_REVIEWED])
    return tuple(warning for warning in found if warning is not None)


def inexact_pins(graph: Graph, request: Request) -> Iterator[Diagnostic]:
    """W0503, once for each pin, at the first op that it concerns."""
    for rule in request.pins:
        if rule.key != "algorithm":
            continue
        for node in (graph.node(address) for address in rule.addresses):
            algorithms = (a for a in operator_of(node).algorithms if is_meant(rule.value, a.name))
            shapes = local_shapes(graph, node, graph.batch)
            reasons = [reason for a in algorithms if (reason := a.inexact("forward", shapes)) is not None]
            if reasons:
                yield INEXACT.at(rule.value_span, algorithm=rule.value, address=node.address, reason=reasons[0])
                break


def _reviewed(planned: Planned, rule: Rule) -> Diagnostic | None:
    everything, step = planned.space, planned.step
    request = everything.context.request
    others = tuple(pin for pin in request.pins if pin is not rule)
    context = everything.context.with_(request=replace(request, pins=others))
    strategy = step.solved.strategy
    made = space(everything.graph, context, [strategy])
    free = _step(made, step)
    if free is None:
        return None
    addresses = set(rule.addresses)
    chosen = [op for op in op_plans(made, free) if op.address in addresses]
    if all(_obeys(made, free, rule, op) for op in chosen):
        return NO_CHANGE.at(rule.span)
    best = _own(made, free, rule.addresses)
    pinned = best + step.objective - free.objective
    if not best or pinned < COSTLY * best:
        return None
    distinct = list(dict.fromkeys(name for op in chosen for name in _names(rule, op)))
    return COSTLY_PIN.at(
        rule.span,
        ratio=f"{pinned / best:.1f}",
        best=f"{distinct[0] if len(distinct) == 1 else 'the best mixture'} {format_seconds(best)}",
        pinned=f"{spelt(rule)} {format_seconds(pinned)}",
    )


def _step(made: Space, step: Finished) -> Finished | None:
    """The best step under the strategy that was taken, in another space, within the same memory."""
    strategy, limit = step.solved.strategy, float(made.context.memory.bytes)
    solved = solve(made, strategy)
    found = None if solved is None else finish(made, solved, limit)
    if found is None and strategy.stages == 1:
        found = fit_within(made, strategy, limit, GAP)
    return found


def _own(made: Space, step: Finished, addresses: Sequence[str]) -> float:
    """Seconds that ops take in a step, without moves, as J counts them."""
    costs, weight = step.solved.line, made.scale(step.strategy)
    number = {address: i for i, address in enumerate(made.network.addresses)}
    at = [number[address] for address in addresses if address in number]
    seconds = (costs.forward + costs.backward + costs.weights - costs.moves)[at].sum() * weight.microbatch
    return float(seconds + (costs.update + costs.sums)[at].sum() * weight.step)


def _names(rule: Rule, op: OpPlan) -> list[str]:
    """What was chosen for an op, where a rule speaks of it."""
    match rule.key:
        case "layout":
            return [op.layout] if op.layout else []
        case "algorithm":
            return list(dict.fromkeys(part.algorithm for part in op.passes))
    return [", ".join(f"split({split.axis}, over = {split.over})" for split in op.partition) or "replicate"]


def _obeys(made: Space, step: Finished, rule: Rule, op: OpPlan) -> bool:
    """Whether what was chosen for an op is what a rule asks for."""
    if rule.key != "partition":
        return all(is_meant(rule.value, name) for name in _names(rule, op))
    variable = made.network.addresses.index(op.address)
    kind = made.network.kinds[made.network.variables[variable]]
    assert isinstance(kind, OpKind)
    table = step.solved.tables.op(kind)
    cut = int(step.solved.values[variable]) // len(table.layouts)
    return bool(made.pins.obeys(kind, rule, table.codes[cut : cut + 1], step.strategy)[0])
