"""A slice of `python -m tests.programs.killed`: runs that are killed at random moments, restarted, and compared."""

import random
from pathlib import Path

import pytest

from tests.programs.killed import PLANS, killed, subjects

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("plan", [PLANS[3], pytest.param(PLANS[1], marks=pytest.mark.slow)], ids=["pipeline", "data"])
def test_killed_runs_end_as_if_nobody_had_disturbed_them(plan: tuple[int, str], tmp_path: Path) -> None:
    (subject,) = subjects(tmp_path / "programs", (plan,))
    generator = random.Random(7)
    for number in range(3):
        run = killed(subject, tmp_path / f"run{number}", generator)
        assert run.wrong == (), run
        assert run.kills
