"""Cuts into pipeline stages: equal to exhaustive search on small lines, bounded and quick on large ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise, product
from math import inf
from typing import Any

import pytest

from dlc.cost.schedules import SCHEDULES, Schedule, Work, makespan, occupancy, slots, table
from passes.planning import cut_candidates
from passes.planning.cuts import Cuts, Unit, best_schedule, cut, pipeline
from passes.planning.pipeline_bounds import longest_path, lower_bound
from passes.planning.pipeline_line import Pipeline


def peak(groups: list[list[Unit]], counts: tuple[tuple[int, ...], ...]) -> float:
    """Bytes of a device that has these chunks."""
    fixed = sum(unit.fixed for group in groups for unit in group)
    saved = [sum(unit.saved for unit in group) for group in groups]
    most = max(sum(n * size for n, size in zip(held, saved, strict=True)) for held in counts)
    return fixed + most + max(unit.transient for group in groups for unit in group)


def all_cuts(
    units: list[Unit], p: int, m: int, schedule: Schedule, limits: tuple[float, ...], speeds: tuple[float, ...], v: int
) -> float:
    """The least makespan of all cuts that fit, evaluated cell by cell; infinite where none fits."""
    best = inf
    for inner in combinations(range(1, len(units)), p * v - 1):
        sends = [units[i - 1].send for i in inner]
        if inf in sends:
            continue
        groups = [units[b:e] for b, e in pairwise((0, *inner, len(units)))]
        works = [
            Work(*(sum(getattr(unit, phase) for unit in group) / speeds[i % p] for phase in Work.__slots__))
            for i, group in enumerate(groups)
        ]
        rows = table(schedule, p, m, v)
        held = tuple((slots(row),) for row in rows) if schedule == "interleaved" else occupancy(rows)
        if all(peak(groups[d::p], held[d]) <= limits[d] for d in range(p)):
            best = min(best, makespan(table(schedule, p, m, v, works, sends), works, sends))
    return best


def some_units(rng: random.Random, count: int) -> list[Unit]:
    return [
        Unit(
            rng.random(),
            2 * rng.random(),
            rng.choice((0.0, rng.random())),
            saved=rng.randint(0, 9),
            fixed=rng.randint(0, 9),
            send=rng.choice((0.0, 0.3 * rng.random(), 2 * rng.random(), inf if rng.random() < 0.3 else 0.0)),
            transient=rng.randint(0, 5),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_as_good_as_all(schedule: Schedule, seed: int) -> None:
    """p <= 4, m <= 6: uneven units and sends, devices of different speeds and memories."""
    rng = random.Random(f"{schedule} {seed}")
    fitting = 0
    for _ in range(40):
        p, m, v = rng.randint(1, 4), rng.randint(1, 6), rng.choice((1, 2)) if schedule == "interleaved" else 1
        units = some_units(rng, rng.randint(max(1, p * v - 1), 9))
        speeds = rng.choice(((1.0,) * p, tuple(rng.choice((0.5, 1.0, 2.0)) for _ in range(p))))
        total = sum(unit.fixed + unit.saved for unit in units)
        some = tuple(rng.uniform(0.2, 3) * total / p for _ in range(p))
        limits = rng.choice(((inf,) * p, some))
        expected = all_cuts(units, p, m, schedule, limits, speeds, v)
        found = cut(units, p, m, schedule, limit=limits, speeds=speeds, chunks=v)
        if expected == inf:
            assert found is None
            continue
        assert found is not None
        assert found.exact
        assert found.makespan == pytest.approx(expected)
        assert found.lower_bound == found.makespan
        assert all(size <= limit for size, limit in zip(found.bytes, limits, strict=True))
        fitting += 1
    assert fitting >= 10


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ends", [0, 1, 2])
def test_no_path_is_longer_than_the_makespan(schedule: Schedule, ends: int) -> None:
    """Of cuts of all kinds; and many makespans are those of a path."""
    rng = random.Random(f"{schedule} {ends}")
    tight = 0
    for _ in range(150):
        p, m, v = rng.randint(1, 5), rng.randint(1, 9), rng.choice((1, 2)) if schedule == "interleaved" else 1
        units = [replace(unit, send=min(unit.send, 1.0)) for unit in some_units(rng, rng.randint(p * v, 14))]
        pipe = replace(pipeline(units, p, m, schedule, chunks=v), ends=ends)
        bounds = (0, *sorted(rng.sample(range(1, len(units)), p * v - 1)), len(units))
        path, seconds = longest_path(pipe, bounds), pipe.seconds(bounds)
        assert path <= seconds * (1 + 1e-9)
        tight += path >= 0.999 * seconds
    assert tight >= 15


@pytest.mark.parametrize("seed", range(40))
def test_a_bound_holds_also_where_the_search_may_not_end(seed: int) -> None:
    rng = random.Random(seed)
    p, m = rng.randint(2, 4), rng.randint(1, 6)
    units = some_units(rng, 9)
    for schedule in SCHEDULES:
        best = all_cuts(units, p, m, schedule, (inf,) * p, (1.0,) * p, 1)
        found = cut(units, p, m, schedule, work=0)
        if best < inf:
            assert found is not None
            assert found.lower_bound <= best * (1 + 1e-9)
            assert found.makespan >= best * (1 - 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ends", [0, 1, 2])
def test_none_but_worse_cuts_are_passed_over(schedule: Schedule, ends: int) -> None:
    """With `below` the cuts are the same, or surely take longer than that, whatever messages keep busy."""
    rng = random.Random(f"{schedule} {ends}")
    passed = 0
    for _ in range(25):
        p, m, v = rng.randint(1, 4), rng.randint(1, 6), rng.choice((1, 2)) if schedule == "interleaved" else 1
        units = [replace(unit, send=min(unit.send, 1.0)) for unit in some_units(rng, rng.randint(p * v, 9))]
        pipe = replace(pipeline(units, p, m, schedule, chunks=v), ends=ends)
        inner = combinations(range(1, len(units)), p * v - 1)
        best = min(pipe.seconds((0, *each, len(units))) for each in inner)
        assert lower_bound(pipe, 10 * best) <= best * (1 + 1e-9)
        below = rng.uniform(0.5, 1.3) * best
        found = cut(units, p, m, schedule, chunks=v, ends=ends, below=below)
        assert found == cut(units, p, m, schedule, chunks=v, ends=ends) if found else below < best
        passed += found is None
    assert passed >= 3


@pytest.mark.parametrize("seed", range(15))
def test_the_best_schedule_is_never_worse_than_any(seed: int) -> None:
    rng = random.Random(seed)
    p, m = rng.randint(1, 3), rng.randint(1, 6)
    units = some_units(rng, 8)
    limit = rng.choice((None, rng.uniform(0.5, 3) * sum(unit.fixed + unit.saved for unit in units) / p))
    limits = (inf if limit is None else limit,) * p
    each = [
        all_cuts(units, p, m, schedule, limits, (1.0,) * p, v)
        for schedule, v in product(SCHEDULES, (1, 2))
        if v == (2 if schedule == "interleaved" else 1)
    ]
    found = best_schedule(units, p, m, limit=limit, chunks=(2,))
    assert (inf if found is None else found[2].makespan) == pytest.approx(min(each))


def test_even_units_are_cut_evenly() -> None:
    units = [Unit(1.0, 1.5, 0.5)] * 24
    even = (0, 6, 12, 18, 24)
    for schedule in ("gpipe", "one_f_one_b"):
        assert cut(units, 4, 8, schedule) == Cuts(even, 11 * 18.0, (0, 0, 0, 0), True, 11 * 18.0)
    found = cut(units, 4, 8, "zero_bubble")
    assert found is not None
    assert found.bounds == even
    assert found.makespan == pytest.approx(11 * 18.0 - 6 * 3.0)


def test_cuts_go_where_little_is_sent() -> None:
    units = [Unit(1.0, 1.0, send=0.01 if i == 5 else 5.0) for i in range(12)]
    found = cut(units, 2, 2, "gpipe")
    assert found is not None
    assert found.bounds == (0, 6, 12)


def test_a_faster_device_has_more_units() -> None:
    found = cut([Unit(1.0, 2.0)] * 12, 2, 32, "one_f_one_b", speeds=(1.0, 2.0))
    assert found is not None
    assert found.bounds == (0, 4, 12)


def test_memory_makes_early_stages_shorter() -> None:
    """The first of four stages holds four microbatches with 1F1B, the last one."""
    units = [Unit(1.0, 1.0, saved=1.0)] * 16
    found = cut(units, 4, 8, "one_f_one_b", limit=9)
    assert found is not None
    assert found.bytes[0] <= 9
    assert found.bounds[1] <= 2
    assert cut(units, 4, 8, "gpipe", limit=9) is None


def test_a_line_too_short() -> None:
    assert cut([Unit(1, 1)] * 3, 4, 2, "gpipe") is None
    assert cut([Unit(1, 1, send=inf)] * 5, 2, 2, "gpipe") is None
    with pytest.raises(ValueError, match="2 speeds for 4 stages"):
        cut([Unit(1, 1)] * 8, 4, 2, "gpipe", speeds=(1, 1))


def residual_network(blocks: int) -> list[Unit]:
    """Four units a block; cuts between blocks only."""
    block = [Unit(0.3, 0.3, 0.3, 1e6, 2e6, inf, 1e6)] * 3 + [Unit(0.01, 0.02, 0.0, 1e5, 0, 0.01, 0)]
    return block * blocks


def counted(calls: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its calls counted under a name."""

    def call(*arguments: Any) -> Any:
        calls[name] += 1
        return function(*arguments)

    return call


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_thousand_layers_on_64_stages(schedule: Schedule, limited: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cuts are as good as a bound says, though few of them are evaluated."""
    units, p, m = residual_network(875), 64, 128
    held = 1.1 * m if schedule == "gpipe" else 3 * p
    limit = (sum(unit.fixed for unit in units) + held * sum(unit.saved for unit in units)) / p if limited else None
    calls = Counter[str]()
    for owner, name in ((Pipeline, "seconds"), (cut_candidates, "_window")):
        monkeypatch.setattr(owner, name, counted(calls, name, getattr(owner, name)))
    found = cut(units, p, m, schedule, limit=limit, chunks=2 if schedule == "interleaved" else 1)
    assert calls["seconds"] <= (400 if schedule == "gpipe" else 3)
    assert calls["_window"] == 1
    assert found is not None
    if schedule != "interleaved":  # whose bound leaves out its bubble
        assert found.makespan <= 1.06 * found.lower_bound
