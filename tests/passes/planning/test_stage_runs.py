"""Runs that the stages of a pipeline compute again: beside all cuts, schedules and runs of small problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, product
from math import inf

import numpy as np
import pytest

from passes.planning.cuts import Cuts, pipeline
from passes.planning.evaluate import Line, line
from passes.planning.flow import Flow
from passes.planning.pipelined import Units, ends, staged
from passes.planning.runs import Runs, repeated_line
from passes.planning.segments import Segments
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.stages import fit_sparing
from passes.planning.step import Finished
from passes.planning.strategies import PIPELINE, Strategy
from tests.passes.planning.exhaustive import every, restrict
from tests.passes.planning.test_runs import problems

ROUNDING = 1e-9
SCHEDULES = (("one_f_one_b", 1), ("zero_bubble", 1), ("interleaved", 2))
MOST_OPS = 9


def runs_within(barred: frozenset[int], first: int, end: int) -> Iterator[Segments]:
    """No run of a stage, or one."""
    yield ()
    for a, b in combinations(range(first, end + 1), 2):
        if not barred.intersection(range(a, b)):
            yield ((a, b),)


def with_runs(flow: Flow, costs: Line, sizes: Sequence[float], runs: Segments) -> Line:
    """The line with runs computed again, value by value."""
    saved, transient, backward = costs.saved.copy(), costs.transient.copy(), costs.backward.copy()
    for first, end in runs:
        lost = [i for i, each in enumerate(flow.values) if first <= each.maker and each.last < end]
        made = {flow.values[i].maker for i in lost if flow.values[i].kept}
        for i in reversed(lost):
            if made.intersection(flow.values[i].readers):
                made.add(flow.values[i].maker)
        for i in lost:
            saved[flow.values[i].maker] -= sizes[i] if flow.values[i].kept else 0.0
        for i, each in enumerate(flow.values):
            if not each.kept and i not in lost and made.intersection(each.readers):
                saved[first] += sizes[i]
        for op in made:
            backward[op] += costs.forward[op]
        transient[first:end] += sum(sizes[i] for i in lost if flow.values[i].kept)
    return replace(costs, saved=saved, transient=transient, backward=backward)


def steps(everything: Space, strategy: Strategy) -> Iterator[Finished]:
    """Every assignment of options with all cuts, schedules, and at most one run in each stage; whatever it holds."""
    tables, flow = everything.tables(strategy), Flow(everything.network, everything.orders.kept)
    found, count = every(everything, strategy), len(everything.network.addresses)
    for cost, values in zip(found.costs.tolist(), found.values, strict=True):
        if cost == inf:
            continue
        costs = line(everything.network, tables, values)
        sizes = flow.bytes(tables, values).tolist()
        sends = everything.fabric(strategy.mesh).send(costs.crossing, PIPELINE)
        for schedule, chunks in SCHEDULES:
            named = strategy.with_(schedule=schedule, chunks=chunks, recompute="all")
            solved = Solved(named, tables, values, cost, 0.0, costs)
            for inner in combinations(range(1, count), strategy.stages * chunks - 1):
                bounds = (0, *inner, count)
                chosen = product(*(runs_within(everything.orders.kept, a, b) for a, b in pairwise(bounds)))
                for each in chosen if chunks == 1 else [next(chosen)]:
                    runs = tuple(run for stage in each for run in stage)
                    made = with_runs(flow, costs, sizes, runs)
                    pipe = pipeline(
                        Units(made, sends, ()).line,
                        strategy.stages,
                        strategy.microbatches,
                        schedule,  # type: ignore[arg-type]
                        chunks=chunks,
                    )
                    pipe = replace(pipe, ends=ends(everything))
                    cuts = Cuts(bounds, pipe.seconds(bounds), pipe.all_bytes(bounds), False, 0.0)
                    yield staged(everything, solved, made, runs, sends, cuts, ())


def check(seeds: range, most: int) -> tuple[int, int]:
    """No step that fits costs less than the bound, and what is found fits; how many problems, and steps found."""
    count = made = 0
    for rng, everything, asked in problems(seeds, (2, 3)):
        strategy = asked.with_(recompute="none")
        if len(everything.network.addresses) > MOST_OPS or restrict(everything, strategy, rng, most) is None:
            continue
        points = [(step.objective, step.peak) for step in steps(everything, strategy)]
        low, high = min(peak for _, peak in points), max(peak for _, peak in points)
        for share in (0.1, 0.4):
            limit = low + share * (high - low) + 1.0
            best = min(cost for cost, peak in points if peak <= limit)
            step, bound = fit_sparing(everything, strategy.with_(recompute="all"), limit, inf, {})
            assert bound <= best * (1 + ROUNDING), (strategy, share, bound, best)
            count += 1
            if step is None:
                continue
            made += 1
            assert max(step.peaks) <= limit
            assert step.bound <= min(bound, step.objective) * (1 + ROUNDING)
            spans = list(pairwise(step.bounds))
            assert all(any(a <= first and end <= b for a, b in spans) for first, end in step.again)
    return count, made


@pytest.mark.slow
def test_bounds_hold_for_all_runs_in_stages() -> None:
    count, made = check(range(60), 4)
    assert count >= 6
    assert made >= 0.7 * count


def test_runs_of_a_line_are_as_counted_value_by_value() -> None:
    """A line with runs holds no more at any stage than was counted, and takes as long."""
    count = 0
    for rng, everything, strategy in problems(range(20), (2, 3)):
        tables, flow = everything.tables(strategy), Flow(everything.network, everything.orders.kept)
        if any(not table.options for table in tables.ops.values()):
            continue
        values = np.zeros(len(everything.network.variables), dtype=np.int64)
        costs = line(everything.network, tables, values)
        sizes = flow.bytes(tables, values)
        ops = len(everything.network.addresses)
        free = [op for op in range(ops) if op not in everything.orders.kept]
        first = rng.choice(free)
        end = next(b for b in range(first, ops + 1) if b in everything.orders.kept or b == ops)
        run = ((first, rng.randint(first + 1, end)),)
        made, counted = repeated_line(Runs(flow, costs, sizes), run), with_runs(flow, costs, sizes.tolist(), run)
        assert made.backward == pytest.approx(counted.backward, rel=ROUNDING, abs=1e-15)
        assert made.transient == pytest.approx(counted.transient, rel=ROUNDING)
        assert made.saved.sum() >= counted.saved.sum() * (1 - ROUNDING)
        count += 1
    assert count >= 10
