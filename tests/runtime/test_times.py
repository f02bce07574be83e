"""Times of steps: their median, in memory that does not grow."""

from __future__ import annotations

from statistics import median

import pytest

from backends.numpy_mpi.runtime.times import ROOM, Times


def of(*seconds: float) -> Times:
    times = Times()
    for each in seconds:
        times.add(each)
    return times


def test_the_median_of_all_but_the_first() -> None:
    assert of(9.0, 1.0, 4.0, 2.0).median() == 3.0
    assert of(9.0, 1.0, 4.0, 2.0).median(warm=1) == 2.0
    assert of().median() == of(1.0).median(warm=3) == 0.0
    assert len(of(1.0, 2.0)) == 2


@pytest.mark.parametrize("made", [ROOM - 1, ROOM, ROOM + 1, 2 * ROOM + 1, 7 * ROOM + 5])
def test_more_than_there_is_room_for_are_kept_evenly(made: int) -> None:
    """Each second, fourth, … of them from the first on, with the latest among them."""
    times = of(*map(float, range(made)))
    each = next(each for each in (1, 2, 4, 8) if len(range(0, made, each)) <= ROOM)
    assert len(times) == made
    assert times.median() == median(range(0, made, each))
    assert times.median(warm=3) == median(range(3 if each == 1 else 4 if each < 8 else 8, made, each))
