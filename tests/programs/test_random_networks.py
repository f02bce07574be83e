"""Random networks over all operators: on three ranks as on one, bit by bit and within rounding, and as in PyTorch.

The ranks are threads of this process. `python -m pytest -m slow tests/programs/test_random_networks.py` runs hundreds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc.driver import Options, compile_job, compile_spec, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.verification import compare, variants, without_rounding
from tests.oracle.programs import EmittedProgram
from tests.programs.random_networks import random_network

STEPS = 2
"""The second one may be on a last partial batch. Weights of exact mode are multiples of ever smaller numbers: after
more steps, maps in a row without an activation between them have sums that float64 rounds."""

FEW, MANY = 8, 300

SEEDS = [*range(FEW), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FEW, MANY))]


@pytest.fixture
def spec(seed: int, tmp_path: Path) -> Path:
    """A spec with the network of that number; pytest shows what is printed where a test fails."""
    path = tmp_path / "random.dlspec"
    path.write_text(random_network(seed, tmp_path))
    print(path.read_text())
    return path


def in_threads(program: str, ranks: int, root: str, steps: int, record: str, *options: str) -> None:
    """Runs a program's folder as `dlc verify` does, its ranks as threads of this process."""
    given = dict(zip((name.removeprefix("--") for name in options[::2]), options[1::2], strict=True))
    perturb = {"perturb": int(given.pop("perturb"))} if "perturb" in given else {}
    EmittedProgram(Path(program), root, ranks).run(steps=steps, record=record, **given, **perturb)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_three_ranks(spec: Path, exact: bool) -> None:
    options = Options(ranks=3, exact=exact, precision=None if exact else "f64")
    source = read(str(spec))
    job, context = context_of(source, options)
    if exact:
        context = without_rounding(context, job.graph)
    variant = next(variants(context.training, exact=exact))
    compiled = compile_job(source, job, context.with_(training=variant.training), options)
    verdict = compare(compiled, emit_files(compiled), variant.name, STEPS, run=in_threads)
    assert verdict.passed, verdict


@pytest.mark.parametrize("seed", SEEDS)
def test_evaluation(spec: Path, tmp_path: Path) -> None:
    """Metrics and outputs in inference, of fewer samples than ranks."""
    found, weights = [], str(tmp_path / "weights.npz")
    for ranks, given in ((1, {"save": weights, "steps": 1}), (3, {"load": weights, "steps": 0})):
        source, folder = read(str(spec)), tmp_path / f"on_{ranks}"
        write_folder(emit_files(compile_spec(source, Options(ranks=ranks, precision="f64"))), str(folder))
        program = EmittedProgram(folder, source.spec.root, ranks)
        metrics = program.run(predict=str(tmp_path / "out.npz"), **given).metrics
        with np.load(tmp_path / "out.npz") as outputs:
            found.append({**outputs, **{name: np.array(value) for name, value in metrics.items()}})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) >= 3
    for name, expected in found[0].items():
        np.testing.assert_allclose(found[1][name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.oracle
@pytest.mark.parametrize("seed", SEEDS)
def test_beside_torch(spec: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: its training is not compared with")
    from tests.oracle import comparison

    text = spec.read_text()
    if "bn" in text:  # PyTorch refuses a group that is left with one value
        spec.write_text(text.replace("last = keep", "last = drop"))
    found = comparison.compare(spec, tmp_path, "f64", optimizer=comparison.SGD, steps=STEPS)
    assert not found.training.failed, found
    assert found.prediction <= found.bound
