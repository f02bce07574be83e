"""Random and damaged specs: each compiles or gets messages with places; nothing raises, hangs or swells.

The default run takes a slice; all 2,000 cases are `pytest -m slow tests/fuzz`. A failing case is shown by its number:
`python -m tests.fuzz NUMBER` prints its text and what is wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz.cases import case, faults

CASES = 2000
SLICE = 50
CHUNK = 50

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds on time and memory are Linux's")


def found_in(numbers: range, folder: Path) -> list[str]:
    """The faults of some cases, each with its number."""
    found = []
    for number in numbers:
        try:
            found += [f"case {number}: {fault}" for fault in faults(case(number), folder)]
        except Exception as error:  # any exception is the fault that is looked for
            found.append(f"case {number}: {type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("start", range(0, SLICE, CHUNK))
def test_slice(start: int, tmp_path: Path) -> None:
    assert found_in(range(start, start + CHUNK), tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("start", range(SLICE, CASES, CHUNK))
def test_rest(start: int, tmp_path: Path) -> None:
    assert found_in(range(start, start + CHUNK), tmp_path) == []


def test_cases_are_the_same_every_time() -> None:
    assert [case(number) for number in range(20)] == [case(number) for number in range(20)]


def test_cases_are_of_both_kinds(tmp_path: Path) -> None:
    """Some specs pass and some do not, else the fuzzing would look at one side only."""
    from dlc.driver import check_file
    from tests.fuzz.cases import write

    verdicts = set()
    for number in range(40):
        diagnostics, _ = check_file(str(write(case(number), tmp_path)))
        verdicts.add(any(diagnostic.is_error for diagnostic in diagnostics))
    assert verdicts == {True, False}
