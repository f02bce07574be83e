"""Runs of ops that are computed again, beside all sets of runs, each counted by hand; and bounds of pipelines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, pairwise
from math import inf

import pytest

from passes.planning.evaluate import Line, line
from passes.planning.flow import Flow
from passes.planning.runs import cheapest_runs
from passes.planning.solve import solve
from passes.planning.space import Space, space
from passes.planning.stages import hopeless
from passes.planning.strategies import Strategy, enumerate_strategies
from passes.planning.within import within
from tests.passes.planning.exhaustive import every, restrict
from tests.passes.planning.random_networks import random_case

ROUNDING = 1e-9
Runs = tuple[tuple[int, int], ...]


def problems(seeds: range, stages: tuple[int, ...]) -> Iterator[tuple[random.Random, Space, Strategy]]:
    for seed in seeds:
        case, rng = random_case(seed), random.Random(seed)
        units = sum(node.stage in ("forward", "loss") for node in case.graph.nodes)
        found = list(enumerate_strategies(case.graph, case.context, units))
        some = [each for each in found if each.stages in stages]
        if some:
            yield rng, space(case.graph, case.context, found), rng.choice(some)


def sets_of_runs(flow: Flow, most: int) -> Iterator[Runs]:
    """All sets of up to so many runs that hold no barred op."""
    count = len(flow.net.addresses)
    single = [(a, b) for a, b in combinations(range(count + 1), 2) if not flow.barred.intersection(range(a, b))]
    for size in range(most + 1):
        for chosen in combinations(single, size):
            if all(one[1] <= other[0] for one, other in pairwise(chosen)):
                yield chosen


def by_hand(flow: Flow, costs: Line, sizes: list[float], runs: Runs) -> tuple[float, float]:
    """(seconds of what is computed again, bytes at the peak), value by value; each is held once."""
    again: dict[int, Runs] = {}
    held = set(range(len(flow.values)))
    needs = float(costs.transient.max())
    for first, end in runs:
        lost = [i for i, each in enumerate(flow.values) if first <= each.maker and each.last < end]
        made = {flow.values[i].maker for i in lost if flow.values[i].kept}
        for i in reversed(lost):
            if made.intersection(flow.values[i].readers):
                made.add(flow.values[i].maker)
        again |= dict.fromkeys(made, ((first, end),))
        held -= set(lost)
        needs = max(needs, float(costs.transient[first:end].max()) + sum(sizes[i] for i in lost if flow.values[i].kept))
    kept = [i for i in held if flow.values[i].kept or again.keys() & set(flow.values[i].readers)]
    seconds = sum(float(costs.forward[op]) for op in again)
    return seconds, float(costs.fixed.sum()) + sum(sizes[i] for i in kept) + needs


def check_runs(seeds: range) -> int:
    """The choice fits, frees no more than there is, and is near the best; how many problems there were."""
    count = 0
    for _, everything, strategy in problems(seeds, (1,)):
        solved = solve(everything, strategy)
        if solved is None or solved.objective == inf:
            continue
        flow, tables = Flow(everything.network, everything.orders.kept), solved.tables
        values, costs = solved.values, solved.line
        sizes = flow.bytes(tables, values)
        counted = [by_hand(flow, costs, sizes.tolist(), runs) for runs in sets_of_runs(flow, 2)]
        low, free = min(peak for _, peak in counted), counted[0][1]
        assert free == pytest.approx(float(costs.fixed.sum() + costs.saved.sum() + costs.transient.max()), rel=ROUNDING)
        for share in (0.3, 0.7):
            limit = low + share * (free - low) + 1.0
            found = cheapest_runs(flow, tables, values, costs, limit)
            if found is None or free <= limit:
                continue
            count += 1
            made, runs = found
            seconds, peak = by_hand(flow, costs, sizes.tolist(), runs)
            assert float((made.backward - costs.backward).sum()) == pytest.approx(seconds, rel=ROUNDING, abs=1e-15)
            assert peak <= float(made.fixed.sum() + made.saved.sum() + made.transient.max()) * (1 + ROUNDING)
            assert float(made.fixed.sum() + made.saved.sum() + made.transient.max()) <= limit * (1 + ROUNDING)
            assert seconds <= 2.0 * min(each for each, size in counted if size <= limit) + float(costs.forward.max())
    return count


def test_runs_are_as_counted_by_hand() -> None:
    assert check_runs(range(30)) >= 15


def check_bounds(seeds: range, most: int) -> int:
    """No assignment with any runs that fit costs less than the bound; how many problems there were."""
    count = 0
    for rng, everything, strategy in problems(seeds, (1,)):
        if restrict(everything, strategy, rng, most) is None:
            continue
        flow, tables = Flow(everything.network, everything.orders.kept), everything.tables(strategy)
        found = every(everything, strategy)
        points: list[tuple[float, float]] = []
        for cost, values in zip(found.costs.tolist(), found.values, strict=True):
            if cost == inf:
                continue
            costs = line(everything.network, tables, values)
            sizes = flow.bytes(tables, values).tolist()
            often = strategy.microbatches * everything.batches
            for runs in sets_of_runs(flow, 2):
                seconds, peak = by_hand(flow, costs, sizes, runs)
                points.append((cost + often * seconds, peak))
        low, high = min(peak for _, peak in points), max(peak for _, peak in points)
        for share in (0.05, 0.3):
            limit = low + share * (high - low) + 1.0
            best = min(cost for cost, peak in points if peak <= limit)
            step, bound = within(everything, strategy.with_(recompute="all"), limit, 0.005)
            assert bound <= best * (1 + ROUNDING), (strategy, share)
            assert step is None or step.peak <= limit
            count += 1
    return count


def test_bounds_hold_for_all_runs() -> None:
    assert check_bounds(range(16), 24) >= 6


@pytest.mark.slow
def test_bounds_hold_for_all_runs_of_many_problems() -> None:
    assert check_bounds(range(16, 120), 60) >= 40


def test_pipelines_without_hope_have_no_plan() -> None:
    """Where stages cannot fit, no cuts and options under 1F1B do: all are tried, op by op with its best bytes."""
    refused = 0
    for _, everything, strategy in problems(range(40), (2, 4)):
        tables, count = everything.tables(strategy), len(everything.network.addresses)
        ops = [tables.op(everything.network.kinds[i]) for i in everything.network.variables[:count]]  # type: ignore[arg-type]
        p, m = strategy.stages, strategy.microbatches
        if count > 9:
            continue

        def least(stage: int, first: int, end: int) -> float:
            return sum(float((op.fixed + min(m, p - stage) * op.saved).min()) for op in ops[first:end])  # noqa: B023

        needed = min(
            max(least(stage, a, b) for stage, (a, b) in enumerate(pairwise((0, *cuts, count))))
            for cuts in combinations(range(1, count), p - 1)
        )
        busy = [float((op.forward + op.backward + op.weights).min()) * m + float(op.update.min()) for op in ops]
        longest = min(
            max(sum(busy[a:b]) for a, b in pairwise((0, *cuts, count))) for cuts in combinations(range(1, count), p - 1)
        )
        assert not hopeless(everything, strategy, needed + 1.0, inf)
        assert hopeless(everything, strategy, 0.999 * needed, inf)
        assert hopeless(everything, strategy, 1e18, 0.999 * longest)
        refused += 1
    assert refused >= 4
