"""The planner on random networks, clusters and plan blocks: it plans, or says what cannot be had; nothing raises.

The default run takes a slice; all 400 cases are `pytest -m slow tests/fuzz/test_planning.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlc import driver
from dlc.commands.plan import background
from dlc.driver import Compiled, Options, SourcedError
from dlc.folders import write_plan
from dlc.inspect.plan_table import plan_document, plan_text
from tests.fuzz.cases import faults_of_messages
from tests.fuzz.planning import planning_case

CASES = 400
SLICE = 16
CHUNK = 8
AGAIN = 8  # every so many cases are planned twice
CERTIFIED = 0.005
"""The gap that may be left where a limit on memory couples all ops."""
ROUNDING = 1 + 1e-9


def found_in(numbers: range, folder: Path) -> list[str]:
    """The faults of some cases, each with its number."""
    found = []
    for number in numbers:
        try:
            found += [f"case {number}: {fault}" for fault in _faults(number, folder)]
        except Exception as error:  # any exception is the fault that is looked for
            found.append(f"case {number}: {type(error).__name__}: {error}")
    return found


def _faults(number: int, folder: Path) -> Iterator[str]:
    file = folder / f"case{number}.dlspec"
    file.write_text(planning_case(number), encoding="utf-8")
    try:
        made = driver.plan_spec(driver.read(str(file)), Options())
    except SourcedError as error:
        yield from faults_of_messages(error.diagnostics, error.sources, folder)
        codes = {each.code for each in error.diagnostics if each.is_error}
        yield from (f"{code} is not about a plan" for code in sorted(codes) if not code.startswith("E05"))
        return
    yield from faults_of_messages(made.warnings, made.source.texts, folder)
    yield from _faults_of_figures(made)
    yield from _faults_of_file(made, folder / f"plan{number}.json")
    if number % AGAIN == 0 and driver.plan_spec(driver.read(str(file)), Options()).plan != made.plan:
        yield "planned again, the plan is another"


def _faults_of_figures(made: Compiled) -> Iterator[str]:
    """The plan fits, is proved to be good, above its lower bounds, and no baseline beats it."""
    predicted, limit = made.plan.predicted, made.context.memory.bytes
    if limit is not None and predicted.peak_bytes > limit:
        yield f"needs {predicted.peak_bytes} bytes of {limit}"
    if made.plan.bounds is not None and made.plan.bounds.step > predicted.objective * ROUNDING:
        yield f"takes {predicted.objective} s, less than the lower bound of {made.plan.bounds.step} s"
    request = made.context.request
    if request.strategy.kind != "auto" or request.mesh:
        return
    if not made.source.spec.jobs[0].requests and made.plan.gap > CERTIFIED * ROUNDING:
        yield f"leaves a gap of {made.plan.gap}"
    for other in made.plan.baselines:
        shorter = other.objective and other.objective * ROUNDING < predicted.objective
        quicker = other.simulated_seconds and other.simulated_seconds * ROUNDING < predicted.simulated_seconds
        if quicker:
            yield f"is simulated slower than {other.description}"
        if shorter and not other.simulated_seconds > predicted.simulated_seconds:
            yield f"is predicted slower than {other.description}"


def _faults_of_file(made: Compiled, path: Path) -> Iterator[str]:
    """The plan can be shown, and its file means the same plan and the same program."""
    known = background(made)
    plan_text(made.plan, known.request, known)
    json.dumps(plan_document(made.plan, known.request, known), allow_nan=False)
    write_plan(made.plan, str(path))
    again = driver.plan_file(str(path), Options())
    if again.plan != made.plan:
        yield "its file holds another plan"
    elif again.program != made.program:
        yield "its file gives another program"


@pytest.mark.parametrize("start", range(0, SLICE, CHUNK))
def test_slice(start: int, tmp_path: Path) -> None:
    assert found_in(range(start, start + CHUNK), tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("start", range(SLICE, CASES, CHUNK))
def test_rest(start: int, tmp_path: Path) -> None:
    assert found_in(range(start, start + CHUNK), tmp_path) == []


def test_cases_are_of_both_kinds() -> None:
    """The cases are the same every time; some have a plan block, and some leave all to the planner."""
    assert [planning_case(number) for number in range(9)] == [planning_case(number) for number in range(9)]
    texts = [planning_case(number) for number in range(SLICE)]
    assert any("plan net" in text for text in texts)
    assert any("plan net" not in text for text in texts)
