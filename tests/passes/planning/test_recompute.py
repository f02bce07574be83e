"""Recomputation of a chain: equal to all choices on short chains, bounded on long ones, and Chen's square root."""

from __future__ import annotations

import random
from itertools import chain, combinations
from math import ceil, inf

import pytest

from passes.planning.recompute import Step, peak, recompute


def all_choices(steps: list[Step], slots: int, budget: float) -> float:
    """The least extra seconds of all sets of dropped units; infinite where none fits."""
    every = range(len(steps))
    sets = chain.from_iterable(combinations(every, count) for count in range(len(steps) + 1))
    fitting = (dropped for dropped in sets if peak(steps, slots, dropped) <= budget)
    return min((sum(steps[i].forward for i in dropped) for dropped in fitting), default=inf)


@pytest.mark.parametrize("largest", [4, 1000, 10**10])
@pytest.mark.parametrize("seed", range(10))
def test_as_good_as_all_choices(largest: int, seed: int) -> None:
    rng = random.Random(f"{largest} {seed}")
    fitting = 0
    for _ in range(12):
        steps = [
            Step(rng.choice((1.0, rng.random())), rng.randint(0, largest), rng.choice((0, rng.randint(0, largest))))
            for _ in range(rng.randint(1, 10))
        ]
        slots = rng.randint(1, 6)
        budget = rng.uniform(0.2, 1.0) * peak(steps, slots, ())
        expected, found = all_choices(steps, slots, budget), recompute(steps, slots, budget)
        if expected == inf:
            assert found is None
            continue
        fitting += 1
        assert found is not None
        assert found.exact
        assert found.seconds == pytest.approx(expected)
        assert found.seconds == pytest.approx(sum(steps[i].forward for i in found.dropped))
        assert found.lower_bound == found.seconds
        assert found.bytes == peak(steps, slots, found.dropped) <= budget
    assert fitting >= 5


def test_twelve_units() -> None:
    steps = [Step(1.0 + i % 5, 1 + 7 * i % 11, i % 3) for i in range(12)]
    for slots, budget in ((1, 30), (2, 60), (4, 100), (8, 300)):
        found = recompute(steps, slots, budget)
        assert found is not None
        assert found.seconds == pytest.approx(all_choices(steps, slots, budget))


def test_the_peak_is_that_of_the_backward_pass_step_by_step() -> None:
    """Units 1 and 2 are dropped: they live while their run is worked off, the last one first."""
    steps = [Step(1, 10, 1), Step(1, 20, 30), Step(1, 40, 2), Step(1, 5, 50)]
    alive = [0 + 1, 20 + 30, 20 + 40 + 2, 0 + 50]  # beside what is kept, when the backward pass is at each unit
    assert peak(steps, 3, (1, 2)) == 3 * (10 + 5) + max(alive)
    assert peak(steps, 3, ()) == 3 * 75 + 50


@pytest.mark.parametrize("units", [16, 25, 36, 49, 64, 100])
def test_an_even_chain_needs_the_square_root(units: int) -> None:
    """k kept units leave runs of (n − k)/(k + 1): with one microbatch, 2√n − 1 at least are alive."""
    least = min(k + ceil((units - k) / (k + 1)) for k in range(units + 1))
    assert abs(least - 2 * units**0.5) <= 1
    steps = [Step(1.0, 1.0)] * units
    assert recompute(steps, 1, least - 1) is None
    for budget in (least, least + 2, units // 2, units - 1):
        kept = max(k for k in range(units) if k + ceil((units - k) / (k + 1)) <= budget)
        found = recompute(steps, 1, budget)
        assert found is not None
        assert found.exact
        assert found.seconds == units - kept  # less than one more forward pass
        assert found.bytes <= budget


def test_cheap_and_large_units_are_dropped() -> None:
    steps = [Step(5.0, 10.0), Step(0.1, 10.0), Step(5.0, 10.0), Step(0.1, 10.0)]
    found = recompute(steps, 4, 100.0)
    assert found is not None
    assert found.dropped == (1, 3)


def test_nothing_is_dropped_where_all_fits() -> None:
    found = recompute([Step(1, 10)] * 4, 2, 80)
    assert found is not None
    assert (found.dropped, found.seconds, found.bytes, found.exact) == ((), 0.0, 80, True)


def test_what_can_never_fit() -> None:
    assert recompute([Step(1, 10, transient=100)], 1, 90) is None
    assert recompute([Step(1, 10)], 1, 9) is None


@pytest.mark.parametrize("count", [120, 700])
def test_long_chains_have_a_certified_gap(count: int) -> None:
    rng = random.Random(count)
    steps = [Step(rng.random(), rng.randint(1, 10**8), rng.randint(1, 10**7)) for _ in range(count)]
    budget = 0.5 * peak(steps, 8, ())
    found = recompute(steps, 8, budget)
    assert found is not None
    assert found.bytes <= budget
    assert found.lower_bound <= found.seconds <= 1.01 * found.lower_bound
    again = recompute(steps, 8, budget)
    assert again == found


@pytest.mark.parametrize("blocks", [10, 60, 125])
def test_repeated_blocks_are_exact(blocks: int) -> None:
    """Sizes with a common divisor make the grid exact: dropping the cheap unit of each block comes first."""
    mib = 2**20
    block = [Step(3.0, 16 * mib, mib), Step(0.1, 4 * mib, mib), Step(2.0, 4 * mib, mib)]
    steps, slots = block * blocks, 4
    found = recompute(steps, slots, peak(steps, slots, ()) - 4 * (slots - 1) * mib * blocks / 2)
    assert found is not None
    assert found.exact
    assert found.seconds <= 0.1 * blocks
