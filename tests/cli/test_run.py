"""compile, run, verify and doctor: the commands that start processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlc import doctor
from tests.cli.conftest import Dlc


def run_dlc(*words: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the programs that it starts write to its outputs."""
    command = [sys.executable, "-m", "dlc", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_compile_then_run(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    folder, weights = tmp_path / "build", tmp_path / "w.npz"
    said = dlc("compile", lenet5, "-n", "1", "-o", folder, "--json")
    assert said.status == 0
    assert {"train.py", "plan.json", "launch.sh"} <= set(said.document["files"])
    done = run_dlc("run", folder, "--steps", "2", "--save", weights, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] == 2
    assert result["metrics"].keys() == {"accuracy"}
    assert result["step_seconds"] > 0
    assert weights.exists()


def test_a_plan_is_applied_exactly(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    dlc("plan", lenet5, "-n", "1", "-o", plan)
    dlc("compile", plan, "-o", tmp_path / "planned")
    dlc("compile", lenet5, "-n", "1", "-o", tmp_path / "direct")
    for file in ("plan.json", "train.py"):
        assert (tmp_path / "planned" / file).read_bytes() == (tmp_path / "direct" / file).read_bytes()


def test_folders_of_others_are_left_alone(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    said = dlc("compile", lenet5, "-o", tmp_path)
    assert said.status == 1
    assert "E0705" in said.err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.mpi
def test_run_shows_the_plan_and_trains_on_two_ranks(lenet5: Path) -> None:
    done = run_dlc("run", lenet5, "-n", "2", "--steps", "3")
    assert done.returncode == 0, done.stderr
    plan, _, training = done.stdout.partition("compared with")
    assert "2 ranks, data parallel" in plan
    assert "loss" in training
    assert "accuracy" in training


def test_run_of_a_folder_that_is_none(dlc: Dlc, tmp_path: Path) -> None:
    said = dlc("run", tmp_path)
    assert said.status == 1
    assert "E0705" in said.err


def test_run_predicts_on_given_weights_and_samples(lenet5: Path, tmp_path: Path) -> None:
    weights, samples, found = (tmp_path / name for name in ("w.npz", "in.npz", "out.npz"))
    assert run_dlc("run", lenet5, "-n", "1", "--steps", "0", "--save", weights).returncode == 0
    np.savez(samples, image=np.zeros((3, 1, 32, 32)))
    predicting = ("run", lenet5, "-n", "1", "--load", weights, "--predict", found)
    done = run_dlc(*predicting)
    assert "\ntest set  loss 2." in done.stdout
    assert f"wrote {found}: logits of 359 samples" in done.stdout
    assert run_dlc(*predicting, "--input", samples).stdout.endswith(f"wrote {found}: logits of 3 samples\n")
    assert np.load(found)["logits"].shape == (3, 10)


def test_samples_without_a_prediction(dlc: Dlc, lenet5: Path) -> None:
    said = dlc("run", lenet5, "--input", "samples.npz")
    assert said.status == 2
    assert "it goes with `--predict OUT.npz`" in said.err


def test_data_paths_begin_where_root_says(dlc: Dlc, tmp_path: Path) -> None:
    """A spec's own folder wherever it is run from; a compiled program is told."""
    letters = Path(__file__).parents[1] / "errors" / "E0308_text.dlspec"
    (tmp_path / "letters.dlspec").write_text(letters.read_text().replace("linear(26)", "linear(28)"))
    (tmp_path / "E0308_text.txt").write_bytes(letters.with_suffix(".txt").read_bytes() * 3)
    done = run_dlc("run", tmp_path / "letters.dlspec", "-n", "1")
    assert done.returncode == 0, done.stderr
    assert "E0308_text.txt: 132 characters, 28 of them distinct; 16 windows of 8" in done.stdout
    dlc("compile", tmp_path / "letters.dlspec", "-n", "1", "-o", tmp_path / "build")
    (tmp_path / "letters.dlspec").unlink()
    assert "`--root DIR` names another one" in run_dlc("run", tmp_path / "build").stderr
    assert run_dlc("run", tmp_path / "build", "--root", tmp_path).returncode == 0


def test_a_compiled_program_is_fixed(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    dlc("compile", lenet5, "-n", "1", "-o", folder)
    said = dlc("run", folder, "-n", "2")
    assert said.status == 1
    assert "compiled for 1 rank" in said.err
    assert dlc("run", folder, "-P", "batch=3").status == 2
    assert dlc("verify", folder, "--exact").status == 2


def test_a_run_that_fails_has_status_1(lenet5: Path, tmp_path: Path) -> None:
    done = run_dlc("run", lenet5, "-n", "1", "--load", tmp_path / "none.npz")
    assert done.returncode == 1
    assert "none.npz" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.mpi
def test_verify(lenet5: Path) -> None:
    done = run_dlc("verify", lenet5, "-n", "2", "--exact", "--steps", "1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert {verdict["ranks"] for verdict in document["verdicts"]} == {2}
    assert all(verdict["tensors"] > 10 and verdict["error"] == 0 for verdict in document["verdicts"])


@pytest.mark.mpi
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_ended_run_leaves_nothing_behind(lenet5: Path, tmp_path: Path, number: signal.Signals, status: int) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "dlc", "run", str(lenet5), "-n", "2", "--steps", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` ignores it
    )
    assert process.stdout is not None
    while "epoch" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in messages
    assert _commands_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def _commands_in(folder: Path) -> list[str]:
    """The command lines of running processes that name a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes().decode(errors="replace").replace("\0", " "))
    return [command for command in found if str(folder) in command and "pytest" not in command]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resume", "--load", "w.npz"), "`--resume` goes on with the weights of its checkpoint"),
        (("--checkpoint-now",), "does not say where checkpoints are written: `--checkpoint DIR` does"),
        (("--checkpoint-now", "--checkpoint", "nowhere"), "no run writes checkpoints to `nowhere`"),
    ],
)
def test_options_of_checkpoints_that_cannot_be_meant(
    dlc: Dlc, lenet5: Path, options: tuple[str, ...], message: str
) -> None:
    said = dlc("run", lenet5, *options)
    assert said.status == 2
    assert message in said.err


def test_resuming_a_program_that_has_no_folder_of_checkpoints(lenet5: Path) -> None:
    done = run_dlc("run", lenet5, "-n", "1", "--resume")
    assert done.returncode == 1
    assert "error[E0720]: there is no folder of checkpoints to resume from" in done.stderr


# --- doctor ----------------------------------------------------------------------------------------------------------


@pytest.mark.mpi
def test_doctor_of_a_machine_that_has_all(dlc: Dlc) -> None:
    said = dlc("doctor", "--json")
    assert said.status == 0
    findings = {finding["name"]: finding for finding in said.document["findings"]}
    assert findings["two ranks"]["found"] == "two ranks summed 2"
    assert {"python", "numpy", "mpi4py", "mpiexec", "this folder", "cores", "memory"} <= set(findings)


def test_doctor_without_mpiexec(dlc: Dlc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_mpiexec", lambda: None)
    said = dlc("doctor")
    assert said.status == 1
    row = next(line for line in said.out.splitlines() if "mpiexec" in line)
    assert row.startswith("MISSING")
    assert 'pip install "dlc[mpi]"' in row


def test_doctor_gives_up_on_what_hangs() -> None:
    status, output = doctor._run([sys.executable, "-c", "import time; time.sleep(60)"], 0.3)
    assert (status, output) == (124, "no end after 0 s")


def test_doctor_in_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert not doctor._writes().ok
    assert not doctor._temporary().ok


def test_a_dry_run_shows_the_command(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    assert dlc("compile", lenet5, "-o", folder).status == 0
    command = dlc("run", folder, "--steps", "3", "--dry-run", "--json").document["command"]
    assert str(folder / "train.py") in command
    assert command[command.index("--steps") + 1] == "3"


@pytest.mark.parametrize("options", [("--emulate",), ("--dry-run",), ("--hostfile", "hosts")])
def test_options_that_cannot_be_obeyed_are_refused(dlc: Dlc, lenet5: Path, options: tuple[str, ...]) -> None:
    assert dlc("run", lenet5, *options).status == 2
