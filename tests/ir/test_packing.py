"""Where arrays lie that share memory: on random lives, and by whole steps with repetitions."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from dlc.ir.packing import Life, Times, placed

WINDOWS = ("", "", "", "data", "data+model")


def drawn(seed: int) -> dict[str, Life]:
    """Up to 60 arrays with up to three stretches of time each; some in memory that ranks share."""
    random = Random(seed)
    windows = WINDOWS if seed % 2 else ("",)
    found = {}
    for number in range(random.randrange(1, 60)):
        edges = sorted(random.sample(range(80), 2 * random.randrange(4)))
        spans = tuple(zip(edges[::2], edges[1::2], strict=True))
        found[f"x{number}"] = Life(64 * random.randrange(1, 20), spans, random.choice(windows))
    return found


def together(one: Life, other: Life) -> bool:
    return any(a < d and c < b for a, b in one.instants for c, d in other.instants)


def at_once(lives: dict[str, Life], window: str | None = None) -> int:
    """The most bytes that are in use at an instant; of one window only where one is said."""
    held = [life for life in lives.values() if window is None or life.window == window]
    return max(sum(x.size for x in held if any(a <= t < b for a, b in x.instants)) for t in range(80))


@pytest.mark.parametrize("seed", range(60))
def test_what_is_in_use_at_once_lies_apart(seed: int) -> None:
    lives = drawn(seed)
    found = placed(lives)
    assert set(found.places) == set(lives)
    for name, life in lives.items():
        memory, start = found.places[name]
        assert life.window in ("", memory)
        assert start >= 0
        assert start + life.size <= found.sizes[memory]
    for one, other in combinations(lives, 2):
        if together(lives[one], lives[other]) and found.places[one][0] == found.places[other][0]:
            (_, a), (_, b) = found.places[one], found.places[other]
            assert a + lives[one].size <= b or b + lives[other].size <= a
    assert sum(found.sizes.values()) >= at_once(lives)


def test_places_are_close_to_the_least_that_there_can_be() -> None:
    """Within a quarter of what is in use at once on these random lives, which are worse than those of networks."""
    cases = [{name: life for name, life in drawn(2 * seed).items() if life.instants} for seed in range(60)]
    sizes = [sum(placed(lives).sizes.values()) for lives in cases if lives]
    least = [at_once(lives) for lives in cases if lives]
    assert sum(sizes) <= 1.25 * sum(least)


def test_a_place_depends_on_nothing_but_the_lives() -> None:
    """The program places its arrays in the order of its own tables."""
    for seed in range(20):
        lives = drawn(seed)
        turned = dict(reversed(lives.items()))
        assert placed(turned).sizes == placed(lives).sizes


LENGTHS = {"begin": 2, "load": 1, "forward": 10, "backward": 10, "update": 3, "predict": 5}


def instants(training: str, uses: dict[str, tuple[int, int]], passing: bool = True) -> tuple[tuple[int, int], ...]:
    times = Times(LENGTHS, training.split(), (("load", "predict"),))
    return times.instants({"x": uses}, {"x"} if passing else (), ())["x"]


def test_what_passes_is_in_use_from_its_first_function_to_its_last() -> None:
    step = "begin load forward backward update"
    assert instants(step, {"forward": (4, 6), "backward": (2, 7)}) == ((7, 21),)
    assert instants(step, {"forward": (4, 6), "backward": (2, 7)}, passing=False) == ((7, 10), (15, 21))
    assert instants(step, {"load": (0, 0), "backward": (2, 7), "predict": (1, 1)}) == ((2, 21), (26, 28))


def test_what_comes_into_a_loop_stays_to_its_end() -> None:
    step = "begin load forward backward load forward backward update"
    assert instants(step, {"begin": (1, 1), "forward": (4, 6)}) == ((1, 23),)
    assert instants(step, {"begin": (1, 1), "update": (0, 0)}) == ((1, 24),)
    assert instants(step, {"forward": (4, 6), "backward": (2, 7)}) == ((7, 21),)
    assert instants(step, {"backward": (2, 7), "update": (1, 1)}) == ((15, 25),)


def test_where_microbatches_are_mixed_a_loop_is_in_use_as_a_whole() -> None:
    step = "begin load forward load forward backward backward update"
    assert instants(step, {"forward": (4, 6), "backward": (2, 7)}) == ((2, 23),)
    assert instants(step, {"backward": (2, 7), "update": (1, 1)}) == ((2, 25),)
    assert instants(step, {"backward": (2, 7)}, passing=False) == ((15, 21),)
