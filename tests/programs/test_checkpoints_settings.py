"""`accumulate` and `stop` in emitted programs: n batches are one of n times the samples, and all ranks end alike."""

import json
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.runtime.data import Loader
from backends.numpy_mpi.runtime.readers import digits
from dlc.driver import Options, emit_files, plan_spec, read
from dlc.verification import compare
from tests.programs.resumable import Resumable, differences, last_step, program, state
from tests.programs.started import started
from tests.slices import first, later

pytestmark = pytest.mark.mpi


def result(made: Resumable, *arguments: str) -> dict[str, float]:
    ran = made.run("--json", *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


# --- accumulate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", first(1, [4, 2]))
def test_several_batches_are_one_of_as_many_samples(tmp_path: Path, count: int) -> None:
    """Groups of batch norm divide both batches; dropout counts the samples behind an update."""
    once = program(tmp_path / "once", 1, batch=32, precision="f64")
    often = program(tmp_path / "often", 2, batch=32 // count, accumulate=f"{count}", precision="f64")
    losses = [result(made, "--steps", "12")["loss"] for made in (once, often)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    one, other = state(once.checkpoints), state(often.checkpoints)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-8, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("ranks", "plan", "group", "last"),
    [
        (2, "strategy = data", 5, "keep"),  # each batch of 12 ends in a group of two
        (2, "strategy = data; shard = weights", 5, "drop"),
        (2, "strategy = pipeline; pipeline.microbatches = 3; pipeline.schedule = one_f_one_b", 4, "keep"),
        (3, "strategy = pipeline; pipeline.microbatches = 3; pipeline.schedule = zero_bubble", 4, "drop"),
    ],
)
def test_the_parallel_program_equals_the_serial_one(
    tmp_path: Path, ranks: int, plan: str, group: int, last: str, exact: bool
) -> None:
    data = f"synthetic(samples = 70, classes = 10, last = {last})"  # an update of 36, and one of 34
    changes = {"checkpoint": "", "data": data, "clip": "", "optimizer": "sgd(momentum = 0.5)", "lr": "constant(0.125)"}
    made = program(tmp_path, ranks, plan, batch=12, accumulate="3", group=group, **changes)
    compiled = plan_spec(read(str(made.root / "small.dlspec")), Options(ranks=ranks, precision="f64", exact=exact))
    verdict = compare(compiled, emit_files(compiled), "as written", 3, run=started)
    assert verdict.passed, verdict
    assert not exact or verdict.error == 0


def test_running_averages_are_means_over_the_groups_of_all_batches(tmp_path: Path) -> None:
    made = program(tmp_path, 1, batch=12, accumulate="2", body="image -> bn(group = 5)", precision="f64")
    result(made, "--steps", "1")
    dataset = digits(test=0.2, seed=3)
    loader = Loader(dataset.train, 24, seed=3)
    column = dataset.train.columns["image"]
    samples = column.values[loader.indices(0)] / column.divisor
    groups = [samples[batch + start : min(batch + start + 5, batch + 12)] for batch in (0, 12) for start in (0, 5, 10)]
    assert [len(group) for group in groups] == [5, 5, 2] * 2
    found = state(made.checkpoints)
    mean, variance = np.mean([g.mean() for g in groups]), np.mean([g.var(ddof=1) for g in groups])
    np.testing.assert_allclose(found["body.bn.mean"], 0.1 * mean, rtol=1e-9)
    np.testing.assert_allclose(found["body.bn.variance"], 0.9 + 0.1 * variance, rtol=1e-6)  # eps is taken off again


def test_an_epoch_has_as_many_updates_as_there_are_whole_ones(tmp_path: Path) -> None:
    made = program(tmp_path, 1, batch=32, accumulate="3", epochs="1")
    assert result(made)["steps"] == 1438 // 96


# --- stop ------------------------------------------------------------------------------------------------------------

STOPS = {
    "a loss of the test set": ({"stop": "loss(below = 1.0)", "epochs": "9"}, "digits(test = 0.2)"),
    "a loss of a step": ({"stop": "loss(below = 1.5)", "epochs": "9"}, "digits()"),
    "patience": ({"stop": "patience(over = 7 steps)", "steps": "400", "epochs": ""}, "digits()"),
}


@pytest.mark.parametrize("stop", [later(stop) if stop == "a loss of a step" else stop for stop in STOPS])
def test_training_stops_alike_on_all_ranks_and_where_a_resumed_run_does(tmp_path: Path, stop: str) -> None:
    settings, data = STOPS[stop]
    made = program(tmp_path, 2, data=data, **settings)
    steps = result(made)["steps"]
    epoch = (1438 if "test" in data else 1797) // 32
    assert 0 < steps < 400
    assert steps < 9 * epoch
    assert "test" not in data or steps % epoch == 0
    assert last_step(made.checkpoints) == steps
    assert result(made, "--resume")["steps"] == steps  # nothing is left to train
    again = Resumable(made.folder, 2, tmp_path / "again")
    result(again, "--steps", f"{int(steps) // 2}")
    assert result(again, "--resume")["steps"] == steps
    assert differences(state(made.checkpoints), state(again.checkpoints)) == []


def test_the_serial_program_stops_where_the_parallel_one_does(tmp_path: Path) -> None:
    settings, data = STOPS["patience"]
    ended = [
        result(program(tmp_path / f"{ranks}", ranks, data=data, precision="f64", **settings))["steps"]
        for ranks in (1, 3)
    ]
    assert ended[0] == ended[1]
