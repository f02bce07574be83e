"""Random networks under random plans: on virtual ranks as on one rank, within rounding and bit by bit.

Messages are rendezvous, so that what could hang does. The default run takes a slice;
`python -m pytest -m slow tests/programs/test_random_plans.py` runs 2,000 cases on virtual ranks and 150 under mpiexec.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dlc.driver import emit_files
from dlc.verification import Runner, VerificationError, compare, launched
from tests.oracle.programs import EmittedProgram
from tests.programs.random_plans import Case, compiled_case, random_case, shrunk

STEPS = 2
CHUNK, SLICE, ALL = 8, 32, 2000
REAL_SLICE, REAL = 2, 150
"""Cases under mpiexec, of at most four ranks."""


def in_turns(program: str, ranks: int, root: str, steps: int, record: str, *options: str) -> None:
    """Runs a program's folder on virtual ranks of this process."""
    given = dict(zip((name.removeprefix("--") for name in options[::2]), options[1::2], strict=True))
    perturb = {"perturb": int(given.pop("perturb"))} if "perturb" in given else {}
    EmittedProgram(Path(program), root, ranks).run(steps=steps, record=record, **given, **perturb)


def fault(case: Case, number: int, folder: Path, run: Runner) -> str:
    """What is wrong with the program of a case, "" for nothing; one in four is exact, one in four in f32."""
    exact, precision = number % 4 == 0, "f32" if number % 4 == 1 else "f64"
    try:
        made, compiled = compiled_case(
            case, folder, precision=None if exact else precision, exact=exact, variant=number // 4
        )
        verdict = compare(compiled, emit_files(compiled), "case", STEPS, run=run)
    except VerificationError as error:
        return f"{error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if verdict.passed else f"{verdict.failed[:3]} on {compiled.plan.mesh} of {made.lines}"


def failures(numbers: range, folder: Path, run: Runner, most: int = 8) -> list[str]:
    """The faults of some cases, each with the smallest spec that shows it."""
    found = []
    for number in numbers:
        case = random_case(number, folder)
        if case.ranks > most:
            continue
        wrong = fault(case, number, folder, run)
        if wrong:
            least = shrunk(case, lambda other, number=number: bool(fault(other, number, folder, run)))  # type: ignore[misc]
            found.append(f"case {number}: {wrong}\n{least.text}")
    return found


CHUNKS = [
    pytest.param(start, marks=() if start < SLICE else pytest.mark.slow, id=f"{start}-{start + CHUNK - 1}")
    for start in range(0, ALL, CHUNK)
]


@pytest.mark.parametrize("start", CHUNKS)
def test_virtual_ranks(start: int, tmp_path: Path) -> None:
    found = failures(range(start, start + CHUNK), tmp_path, in_turns)
    assert not found, "\n\n".join(found)


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="there is no mpiexec: real ranks cannot be started")
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n < REAL_SLICE else pytest.mark.slow) for n in range(REAL)]
)
def test_real_ranks(number: int, tmp_path: Path) -> None:
    found = failures(range(number, number + 1), tmp_path, launched, most=4)
    assert not found, "\n\n".join(found)
