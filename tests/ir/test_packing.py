"""Where arrays lie that share memory: on random lives, and by whole steps with repetitions."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from dlc.ir.packing import Life, Times, placed, together

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


def overlap(one: Life, other: Life) -> bool:
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
        if overlap(lives[one], lives[other]) and found.places[one][0] == found.places[other][0]:
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


# --- results in the places of operands -----------------------------------------------------------------------------


def step(*spans: tuple[int, int], size: int = 64, window: str = "") -> Life:
    return Life(size, spans, window)


def test_a_result_takes_the_place_of_an_operand_that_dies() -> None:
    """x is read for the last time at 3, where y begins; z takes over from y."""
    lives = {"x": step((0, 4)), "y": step((3, 6)), "z": step((5, 9)), "other": step((0, 9))}
    found = placed(lives, [(3, "x", "y"), (5, "y", "z")])
    assert found.places["x"] == found.places["y"] == found.places["z"]
    assert found.places["other"] != found.places["x"]
    assert found.sizes == {"": 128}
    assert placed(lives).sizes == {"": 192}


@pytest.mark.parametrize(
    "lives",
    [
        pytest.param({"x": step((0, 5)), "y": step((3, 6))}, id="read later"),
        pytest.param({"x": step((0, 4), (5, 6)), "y": step((3, 6))}, id="read again"),
        pytest.param({"x": step((0, 4)), "y": step((2, 6))}, id="begun before"),
        pytest.param({"x": step((3, 6)), "y": step((0, 4))}, id="the other way round"),
        pytest.param({"x": step((0, 4), size=128), "y": step((3, 6))}, id="of another size"),
        pytest.param({"x": step((0, 4), window="data"), "y": step((3, 6), window="data")}, id="in a window"),
    ],
)
def test_an_operand_that_is_needed_stays(lives: dict[str, Life]) -> None:
    assert together(lives, [(3, "x", "y")]) == [("x",), ("y",)]


def test_one_result_takes_one_place() -> None:
    """y may lie over either operand, and over one of them it does; a second result finds the other one."""
    lives = {"a": step((0, 4)), "b": step((0, 4)), "y": step((3, 6)), "z": step((3, 6))}
    found = together(lives, [(3, "a", "y"), (3, "b", "y"), (3, "a", "z"), (3, "b", "z")])
    assert sorted(map(sorted, found)) == [["a", "y"], ["b", "z"]]


@pytest.mark.parametrize("seed", range(60))
def test_what_lies_together_is_in_use_in_turn(seed: int) -> None:
    """On random lives, in which many arrays end where another begins."""
    lives, random = drawn(seed), Random(seed)
    starts = [(start, name) for name, life in lives.items() for start, _ in life.instants]
    takeovers = [
        (start, random.choice(list(lives)), name) for start, name in starts if random.random() < 0.5
    ] + [
        (stop - 1, name, other)
        for name, life in lives.items()
        for _, stop in life.instants
        for start, other in starts
        if start == stop - 1
    ]  # fmt: skip
    takeovers = [(at, one, other) for at, one, other in takeovers if one != other]
    allowed = set(takeovers)
    groups = together(lives, takeovers)
    assert sorted(name for names in groups for name in names) == sorted(lives)
    for names in groups:
        for one, other in combinations(names, 2):
            assert (lives[one].size, lives[one].window) == (lives[other].size, "")
            both = [t for t in range(80) if in_use(lives[one], t) and in_use(lives[other], t)]
            assert all((t, one, other) in allowed or (t, other, one) in allowed for t in both)
            for t in both:  # nobody else of them is in use then
                assert sum(in_use(lives[name], t) for name in names) == 2
    assert sum(placed(lives, takeovers).sizes.values()) <= sum(placed(lives).sizes.values())


def in_use(life: Life, instant: int) -> bool:
    return any(start <= instant < stop for start, stop in life.instants)
