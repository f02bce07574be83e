"""Checkpoints of emitted programs: a resumed run is the run that never stopped, under any plan."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.programs.resumable import Resumable, differences, environment, last_step, processes, program, state
from tests.slices import later

pytestmark = pytest.mark.mpi

PLANS = {
    "serial": (1, "strategy = data"),
    "data": (2, "strategy = data"),
    "data on three": (3, "strategy = data"),
    "ZeRO 2": (2, "strategy = data; shard = gradients"),
    "ZeRO 3": (2, "strategy = data; shard = weights"),
    "channels": (2, "strategy = model"),
    "pipeline": (2, "strategy = pipeline; pipeline.microbatches = 2; pipeline.schedule = one_f_one_b"),
    "hybrid": (4, "strategy = hybrid(pipeline = 2, data = 2); pipeline.microbatches = 2"),
}

ALIKE = ("data", "data on three", "channels", "ZeRO 2", "pipeline")
"""What others of them have too: more ranks, more that is sharded, both axes."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resumable]:
    """One of each plan, made when it is asked for."""

    class Made(dict[str, Resumable]):
        def __missing__(self, plan: str) -> Resumable:
            ranks, text = PLANS[plan]
            self[plan] = program(tmp_path_factory.mktemp("program"), ranks, text)
            return self[plan]

    return Made()


def fresh(made: Resumable, tmp_path: Path) -> Resumable:
    """The same program with checkpoints in a folder of its own."""
    return Resumable(made.folder, made.ranks, tmp_path)


def done(made: Resumable, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run that comes to its end."""
    ran = made.run(*arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


@pytest.mark.parametrize("plan", [later(plan) if plan in ALIKE else plan for plan in PLANS])
def test_a_resumed_run_equals_one_that_never_stopped(programs: dict[str, Resumable], plan: str, tmp_path: Path) -> None:
    whole, halves = fresh(programs[plan], tmp_path / "whole"), fresh(programs[plan], tmp_path / "halves")
    done(whole, "--steps", "50")
    done(halves, "--steps", "20")
    said = done(halves, "--steps", "50", "--resume")
    assert "resumed at step 20, epoch 1," in said.stdout
    assert last_step(halves.checkpoints) == 50
    one, other = state(whole.checkpoints), state(halves.checkpoints)
    assert differences(one, other) == []
    assert {"body.conv.weight", "body.bn.mean", "hidden.linear.bias"} < one.keys()
    assert any("@" in name for name in one)
    manifests = [
        json.loads((each.checkpoints / "step-000000050/manifest.json").read_text()) for each in (whole, halves)
    ]
    assert manifests[0] == manifests[1]
    assert (manifests[0]["epoch"], manifests[0]["batch"]) == (1, 50 - 44)


@pytest.mark.parametrize(("before", "after"), [("hybrid", "serial"), ("serial", "ZeRO 3"), ("ZeRO 2", "pipeline"),
                                               later(("channels", "data on three"))])  # fmt: skip
def test_another_plan_on_other_ranks_goes_on(
    programs: dict[str, Resumable], before: str, after: str, tmp_path: Path
) -> None:
    first, second = fresh(programs[before], tmp_path), fresh(programs[after], tmp_path)
    done(first, "--steps", "20")
    taken = state(first.checkpoints)
    shutil.copytree(first.checkpoints, tmp_path / "kept")
    done(first, "--steps", "26", "--resume")
    expected = state(first.checkpoints)
    shutil.rmtree(first.checkpoints)
    shutil.copytree(tmp_path / "kept", first.checkpoints)
    said = done(second, "--steps", "26", "--resume")
    assert "which another spec and another plan wrote" in said.stdout  # the cluster has other ranks
    found = state(second.checkpoints)
    assert found.keys() == expected.keys() == taken.keys()
    for name, values in expected.items():
        moved = np.linalg.norm(values - taken[name])
        assert np.linalg.norm(found[name] - values) <= 1e-3 * max(moved, 1e-3), name
        assert "velocity" not in name


def test_generations_stay_whole_and_two_of_them(programs: dict[str, Resumable], tmp_path: Path) -> None:
    made = fresh(programs["data"], tmp_path)
    done(made, "--steps", "70")
    assert sorted(os.listdir(made.checkpoints)) == ["step-000000060", "step-000000070"]
    assert sorted(os.listdir(made.checkpoints / "step-000000070")) == ["manifest.json", "state.npz", "weights.npz"]


def test_weights_of_a_checkpoint_can_be_loaded(programs: dict[str, Resumable], tmp_path: Path) -> None:
    made = fresh(programs["data"], tmp_path)
    done(made, "--steps", "20", "--save", str(tmp_path / "w.npz"))
    weights = str(made.checkpoints / "step-000000020/weights.npz")
    for name, given in (("a", str(tmp_path / "w.npz")), ("b", weights)):
        done(made, "--load", given, "--predict", str(tmp_path / f"{name}.npz"))
    one, other = (np.load(tmp_path / f"{name}.npz")["logits"] for name in "ab")
    np.testing.assert_array_equal(one, other)


# --- what is damaged, and what is of something else -------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(programs: dict[str, Resumable], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 40 and 60."""
    root = tmp_path_factory.mktemp("written")
    done(fresh(programs["data"], root), "--steps", "60")
    return root


def damaged(made: Resumable, written: Path, tmp_path: Path, file: str, how: str) -> Resumable:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "ckpt" / file
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) * 2 // 3] ^= 4
    elif how == "cut":
        del content[len(content) // 2 :]
    path.unlink()
    if how != "missing":
        path.write_bytes(content)
    return fresh(made, tmp_path)


@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
@pytest.mark.parametrize("file", ["weights.npz", "state.npz", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    programs: dict[str, Resumable], written: Path, tmp_path: Path, file: str, how: str
) -> None:
    made = damaged(programs["data"], written, tmp_path, f"step-000000060/{file}", how)
    said = done(made, "--steps", "60", "--resume")
    assert "warning: checkpoint `" in said.stderr
    assert "step-000000060` is damaged, the one before it is tried: " in said.stderr
    assert file in said.stderr
    assert "resumed at step 40" in said.stdout
    assert sorted(os.listdir(made.checkpoints)) == ["step-000000040", "step-000000060"]
    assert differences(state(made.checkpoints), state(written / "ckpt", 60)) == []


def test_a_flipped_bit_anywhere_is_found(written: Path, tmp_path: Path) -> None:
    from backends.numpy_mpi.runtime.generations import generations

    generator, missed = np.random.default_rng(1), 0
    for number in range(150):
        shutil.copytree(written / "ckpt", tmp_path / f"{number}")
        (last, before) = generations(tmp_path / f"{number}")
        file = last.path / ("weights.npz", "state.npz", "manifest.json")[number % 3]
        content = bytearray(file.read_bytes())
        content[generator.integers(len(content))] ^= 1 << int(generator.integers(8))
        file.write_bytes(content)
        fault = last.fault()
        if not fault:  # a bit that means nothing, such as a date in the archive: what is read is what was written
            whole = generations(written / "ckpt")[0]
            assert not whole.fault()
            assert all(np.array_equal(last.read(name), whole.read(name)) for name in whole.manifest["tensors"])
            missed += 1
        assert not before.fault()
    assert missed < 75


def test_no_whole_checkpoint_is_an_error(programs: dict[str, Resumable], written: Path, tmp_path: Path) -> None:
    made = damaged(programs["data"], written, tmp_path, "step-000000060/state.npz", "missing")
    (made.checkpoints / "step-000000040/manifest.json").unlink()
    said = made.run("--resume")
    assert said.returncode == 1
    assert "error[E0720]: no checkpoint in `" in said.stderr
    assert "step-000000060: `" in said.stderr
    assert "step-000000040: it has no manifest.json" in said.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "sgd(momentum = 0.9)"}, "not in this program: `body.conv.weight@"),
        ({"seed": "4"}, "`seed` of the data was 3 and is 4"),
        ({"batch": 64}, "`batch` of the data was 32 and is 64"),
        ({"precision": "f64"}, "holds float32, expected float64"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    written: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    made = program(tmp_path, 2, **changes)  # type: ignore[arg-type]
    said = made.run("--resume")
    assert said.returncode == 1
    assert "is not one of this program" in said.stderr
    assert message in said.stderr
    assert sorted(os.listdir(made.checkpoints)) == ["step-000000040", "step-000000060"]


def test_checkpoints_are_not_written_over(programs: dict[str, Resumable], written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    said = fresh(programs["data"], tmp_path).run("--steps", "5")
    assert said.returncode == 1
    assert "error[E0720]: folder `" in said.stderr
    assert "`--resume` goes on from it" in said.stderr


def test_resuming_without_a_checkpoint_begins(programs: dict[str, Resumable], tmp_path: Path) -> None:
    said = done(fresh(programs["data"], tmp_path), "--resume", "--steps", "2")
    assert "there is no checkpoint in " in said.stdout


# --- signals ----------------------------------------------------------------------------------------------------------


def wait_for(checkpoints: Path, step: int, running: subprocess.Popen[str]) -> None:
    """Return once there is a checkpoint of that step or a later one."""
    deadline = time.monotonic() + 60
    while last_step(checkpoints) < step:
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("plan", "who"), [("serial", "launcher"), ("data", "launcher"), ("data", "a supervisor"),
                                           ("pipeline", "a rank")])  # fmt: skip
def test_sigusr1_writes_one_and_sigterm_ends_with_one(
    programs: dict[str, Resumable], plan: str, who: str, tmp_path: Path
) -> None:
    made = fresh(programs[plan], tmp_path)
    running = made.start("--steps", "1000000")
    try:
        wait_for(made.checkpoints, 20, running)
        supervisors, ranks = processes(running.pid, made.ranks)
        process = {"launcher": running.pid, "a supervisor": supervisors[-1], "a rank": ranks[-1]}[who]
        os.kill(process, signal.SIGUSR1)
        time.sleep(0.5)
        os.kill(process, signal.SIGTERM)
        output, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 75, output
    assert "wrote checkpoint" in output
    step = last_step(made.checkpoints)
    assert f"ended on request behind step {step}: checkpoint `" in output
    said = done(made, "--steps", str(step + 3), "--resume")
    assert f"resumed at step {step}," in said.stdout


def test_dlc_run_hands_signals_on(tmp_path: Path) -> None:
    made = program(tmp_path, 2)
    command = [sys.executable, "-m", "dlc", "run", str(made.folder), "--root", str(tmp_path)]
    running = subprocess.Popen(
        [*command, "--steps", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment({}),
    )
    try:
        wait_for(made.checkpoints, 20, running)
        running.send_signal(signal.SIGUSR1)
        asked = subprocess.run([*command, "--checkpoint-now"], capture_output=True, text=True, check=False)
        assert "asked for a checkpoint in " in asked.stdout, asked.stderr
        time.sleep(1)
        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 75, output
    assert "ended on request behind step" in output
    assert "wrote checkpoint" in output
    assert not (made.checkpoints / "checkpoint-now").exists()


def test_sigterm_ends_a_program_without_checkpoints_at_once(tmp_path: Path) -> None:
    made = program(tmp_path, 1, checkpoint="")
    running = made.start("--steps", "1000000")
    assert running.stdout is not None
    running.stdout.readline()  # it trains
    running.terminate()
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 143
    assert "was ended by SIGTERM" in output


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_checkpoint_before_and_training_goes_on(
    programs: dict[str, Resumable], tmp_path: Path
) -> None:
    made = fresh(programs["serial"], tmp_path)
    done(made, "--steps", "20")
    before = state(made.checkpoints)
    command, variables = made.command("--resume", "--steps", "45", "--json")
    ran = subprocess.run(
        ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *command],  # no file may have more than 8 blocks
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1])["steps"] == 45
    assert "warning: the checkpoint of step 40 cannot be written: File too large; that of step 20 is" in ran.stderr
    assert os.listdir(made.checkpoints) == ["step-000000020"]
    assert differences(before, state(made.checkpoints)) == []


def test_a_folder_that_goes_away_does_not_end_training(programs: dict[str, Resumable], tmp_path: Path) -> None:
    made = fresh(programs["data"], tmp_path)
    running = made.start("--steps", "1000000")
    try:
        wait_for(made.checkpoints, 20, running)
        made.checkpoints.rename(tmp_path / "moved")
        made.checkpoints.write_text("mine")
        assert running.stdout is not None
        while "cannot be written" not in (line := running.stdout.readline()):
            assert running.poll() is None
        assert "warning: the checkpoint of step " in line
        running.terminate()
        output, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 1, output
    assert "error[E0720]: the run was to end behind step " in output
    assert made.checkpoints.read_text() == "mine"
    assert last_step(tmp_path / "moved") >= 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_before_training(programs: dict[str, Resumable], tmp_path: Path) -> None:
    made = fresh(programs["data"], tmp_path)
    made.checkpoints.mkdir(mode=0o500)
    said = made.run("--steps", "5")
    assert said.returncode == 1
    assert "checkpoints cannot be written to `" in said.stderr


def test_a_file_in_the_place_of_the_folder_is_refused_before_training(
    programs: dict[str, Resumable], tmp_path: Path
) -> None:
    made = fresh(programs["data"], tmp_path)
    made.checkpoints.write_text("mine")
    said = made.run("--steps", "5")
    assert said.returncode == 1
    assert "error[E0720]: checkpoints cannot be written to `" in said.stderr
    assert made.checkpoints.read_text() == "mine"


def test_a_link_out_of_the_spec_s_folder_is_refused(programs: dict[str, Resumable], tmp_path: Path) -> None:
    made = fresh(programs["data"], tmp_path / "root")
    made.root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    made.checkpoints.symlink_to(tmp_path / "elsewhere")
    said = made.run("--steps", "5")
    assert said.returncode == 1
    assert "it lies outside" in said.stderr
    assert os.listdir(tmp_path / "elsewhere") == []
    assert done(made, "--steps", "5", "--checkpoint", str(tmp_path / "elsewhere")).returncode == 0
    assert os.listdir(tmp_path / "elsewhere") == ["step-000000005"]


def test_the_manifest_tells_where_training_stands(written: Path) -> None:
    kept = json.loads((written / "ckpt/step-000000060/manifest.json").read_text())
    assert (kept["schema"], kept["step"], kept["epoch"], kept["batch"], kept["ranks"]) == (1, 60, 1, 60 - 44, 2)
    assert kept["data"] == {"samples": 1438, "batch": 32, "seed": 3, "shuffle": True, "last": "drop"}
    assert all(len(kept["digests"][what]) == 64 for what in ("plan", "spec"))
    assert kept["tensors"]["hidden.linear.weight"]["shape"] == [32, 256]
    assert kept["tensors"]["hidden.linear.weight"]["dtype"] == "<f4"
