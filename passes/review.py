"""What pins cost: the plan with and without each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dlc.diagnostics import Diagnostic
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.request import Rule
from dlc.messages.e05_plan import COSTLY_PIN, NO_CHANGE
from dlc.units import format_seconds
from passes.context import Context
from passes.options import is_meant
from passes.prices import Option
from passes.solve import solve
from passes.survey import Survey, survey

COSTLY = 1.2
"""A pin that costs less than this times the best choice is not worth a warning: the model is no better than that."""


def review(graph: Graph, context: Context, plan: Plan) -> tuple[Diagnostic, ...]:
    """W0501 for each pin of an algorithm or layout that changes nothing, W0502 for each that costs much."""
    return tuple(_warnings(graph, context, plan))


def _warnings(graph: Graph, context: Context, plan: Plan) -> Iterator[Diagnostic]:
    for rule in context.request.pins:
        if rule.key not in ("algorithm", "layout"):
            continue
        others = tuple(pin for pin in context.request.pins if pin is not rule)
        found = survey(graph, context.with_(request=replace(context.request, pins=others)))
        problem = found.problem()
        free = problem.choice(solve(problem.problem))
        if all(_obeys(free[address], rule) for address in rule.addresses if address in free):
            yield NO_CHANGE.at(rule.span)
            continue
        warning = _costly(found, free, plan, rule)
        if warning is not None:
            yield warning


def _obeys(option: Option, rule: Rule) -> bool:
    """Whether a choice made without a pin is what the pin asks for."""
    if rule.key == "layout":
        return option.layout in ("", rule.value)
    return all(is_meant(rule.value, part.algorithm) for part in option.passes)


def _costly(found: Survey, free: Mapping[str, Option], plan: Plan, rule: Rule) -> Diagnostic | None:
    """The pinned ops' seconds against those of the same ops in the plan without the pin."""
    addresses = [address for address in rule.addresses if address in free]
    best = sum(free[address].seconds for address in addresses)
    pinned = sum(part.figure.seconds for address in addresses for part in plan.op(address).passes)
    if pinned < COSTLY * best:
        return None
    names = _named(free, addresses, rule)
    return COSTLY_PIN.at(
        rule.span,
        ratio=f"{pinned / best:.1f}",
        best=f"{names} {format_seconds(best)}",
        pinned=f"{rule.value} {format_seconds(pinned)}",
    )


def _named(free: Mapping[str, Option], addresses: list[str], rule: Rule) -> str:
    """What is best: the one algorithm or layout that all passes of all ops take, else `mixed`."""
    if rule.key == "layout":
        names = {free[address].layout for address in addresses}
    else:
        names = {part.algorithm for address in addresses for part in free[address].passes}
    return names.pop() if len(names) == 1 else "the best mixture"
