"""Random networks under random plans: on virtual ranks as on one rank, within rounding and bit by bit.

Messages are rendezvous, so that what could hang does. The default run takes a slice;
`python -m tests.programs.random_plans` runs them all, and so does `python -m pytest -m slow` on this file. What it once
found wrong, shrunk, is in `once_wrong`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dlc.driver import emit_files, serial
from dlc.folders import write_folder
from dlc.verification import compare
from tests.oracle.programs import EmittedProgram
from tests.programs.random_plans import (
    CASES,
    REAL_CASES,
    STEPS,
    compiled_spec,
    failure,
    in_turns,
    real_numbers,
)
from tests.programs.started import started

WRONG = sorted(Path(__file__).with_name("once_wrong").iterdir())
CHUNK, SLICE = 4, 4
REAL_SLICE = 2

CHUNKS = [
    pytest.param(start, marks=() if start < SLICE else pytest.mark.slow, id=f"{start}-{start + CHUNK - 1}")
    for start in range(0, CASES, CHUNK)
]
REAL = [
    pytest.param(number, marks=() if at < REAL_SLICE else pytest.mark.slow)
    for at, number in enumerate(real_numbers(REAL_CASES))
]

ONCE_WRONG = [  # exact ones and others by turns, the rest in the slow suite
    pytest.param(
        spec, exact, id=f"{spec.stem}-{'exact' if exact else 'f64'}", marks=() if by_turns else pytest.mark.slow
    )
    for at, spec in enumerate(WRONG)
    for exact, by_turns in ((True, at % 2 == 0), (False, at % 2 == 1))
]


@pytest.mark.parametrize(("spec", "exact"), ONCE_WRONG)
def test_what_was_wrong_once(spec: Path, exact: bool) -> None:
    compiled = compiled_spec(spec, precision=None if exact else "f64", exact=exact)
    verdict = compare(compiled, emit_files(compiled), spec.stem, STEPS, run=in_turns)
    assert verdict.passed, verdict


@pytest.mark.parametrize("spec", WRONG, ids=lambda path: path.stem)
def test_predictions_of_what_was_wrong_once(spec: Path, tmp_path: Path) -> None:
    compiled = compiled_spec(spec, precision="f64", exact=False)
    found = []
    for made in (serial(compiled), compiled):
        folder, out = tmp_path / f"on_{made.plan.ranks}", str(tmp_path / f"{made.plan.ranks}.npz")
        write_folder(emit_files(made), str(folder))
        program = EmittedProgram(folder, made.source.spec.root, made.plan.ranks, rendezvous=True)
        program.run(steps=1, predict=out)
        found.append(dict(np.load(out)))
    assert found[0].keys() == found[1].keys()
    for name, expected in found[0].items():
        np.testing.assert_allclose(found[1][name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("start", CHUNKS)
def test_virtual_ranks(start: int, tmp_path: Path) -> None:
    found = [failure(number, tmp_path, in_turns) for number in range(start, start + CHUNK)]
    assert not any(found), "\n\n".join(found)


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="there is no mpiexec: real ranks cannot be started")
@pytest.mark.parametrize("number", REAL)
def test_real_ranks(number: int, tmp_path: Path) -> None:
    found = failure(number, tmp_path, started)
    assert not found, found
