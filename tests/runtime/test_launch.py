"""dlc/launch.py: the command, the shares of the cores, and runs that end badly."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlc import launch as launching
from dlc.diagnostics import DiagnosticError
from dlc.launch import OPEN_MPI_SETTINGS, PATIENCE_SECONDS, TIMED_OUT, command_line, find_mpiexec, launch
from tests.runtime.conftest import IS_MPICH, PACKAGES, PROGRAMS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as dlc emits it: train.py with the package `runtime` beside it."""
    shutil.copytree(PACKAGES / "runtime", tmp_path / "runtime")
    text = (PROGRAMS / "job.py").read_text().replace("sys.argv[1]", repr(str(tmp_path)))
    text = text.replace("int(sys.argv[2])", "int(os.environ['JOB_RANKS'])").replace("sys.argv[3:]", "None")
    (tmp_path / "train.py").write_text(text)
    return tmp_path


def run(folder: Path, ranks: int, fault: str, *arguments: str, timeout: float | None = 30) -> int:
    environment = {"JOB_FAULT": fault, "JOB_RANKS": str(ranks)}
    return launch(str(folder), ranks, arguments, environment=environment, timeout=timeout)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run(folder: Path, ranks: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(folder, ranks, "-1:", "--steps", "2", "--json") == 0
    output = capfd.readouterr().out.splitlines()
    assert output[-1].startswith('{"schema": 1, "steps": 2, "loss": ')


@pytest.mark.mpi
@pytest.mark.parametrize("how", ["raise", "os_exit", "kill"])
def test_a_run_that_fails(folder: Path, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(folder, 2, f"1:{how}") != 0
    errors = capfd.readouterr().err
    assert "error: rank 1 " in errors
    assert "in step 7" in errors


def test_a_serial_run_that_leaves_no_record(folder: Path) -> None:
    with pytest.raises(DiagnosticError, match="E0713 the run did not come to its end on rank 0"):
        run(folder, 1, "0:os_exit")


@pytest.mark.mpi
def test_a_run_that_takes_too_long(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(folder, 2, "-1:", "--steps", "1000", timeout=2.0) == TIMED_OUT
    if IS_MPICH:  # Open MPI's launcher takes no more output after a signal
        assert "was ended by SIGTERM" in capfd.readouterr().err
    assert (
        str(folder) not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    )


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_nothing_is_left_of_a_run_whose_starter_is_killed(folder: Path, ranks: int) -> None:
    text = f"from dlc.launch import launch; launch({str(folder)!r}, {ranks}, ['--steps', '1000'])"
    environment = {**os.environ, "JOB_FAULT": "-1:", "JOB_RANKS": str(ranks), "TMPDIR": str(folder)}
    command = [sys.executable, "-c", text]
    starter = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)
    starter.kill()
    starter.communicate(timeout=PATIENCE_SECONDS + 2)  # the ranks hold the pipes as long as they live
    deadline = time.monotonic() + 5
    while list(folder.glob("dlc-run-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(folder.glob("dlc-run-*"))


def test_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command, variables = command_line("build", 1, ["--steps", "2"])
    assert command == [sys.executable, "-I", "build/train.py", "--steps", "2"]
    assert variables == {}
    monkeypatch.setattr(launching, "find_mpiexec", lambda: None)
    with pytest.raises(DiagnosticError, match="E0704 no `mpiexec` was found to start 2 ranks"):
        command_line("build", 2)


@pytest.mark.parametrize(
    ("version", "flags", "variables"),
    [
        ("HYDRA build details:", ["-disable-auto-cleanup"], {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1"}),
        ("mpiexec (OpenRTE) 4.1", ["--oversubscribe", "--bind-to", "none"], OPEN_MPI_SETTINGS),
        ("mpiexec (Open MPI) 5.0.11", ["--oversubscribe", "--bind-to", "none"], OPEN_MPI_SETTINGS),
    ],
)
def test_flags_of_an_mpi(
    version: str, flags: list[str], variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpiexec = tmp_path / "mpiexec"
    mpiexec.write_text(f"#!/bin/sh\necho '{version}'\n")
    mpiexec.chmod(0o755)
    monkeypatch.setattr(launching, "find_mpiexec", lambda: str(mpiexec))
    command, environment = command_line("build", 2, hostfile=None)
    assert command == [str(mpiexec), *flags, "-n", "2", sys.executable, "-I", "build/train.py"]
    assert variables.items() <= environment.items()
    command, _ = command_line("build", 2, hostfile="my hosts")
    assert command[1:-4] == [*flags, "--hostfile", "my hosts", "-n"]


def test_mpiexec_beside_this_python_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("venv", "path"):
        (tmp_path / folder).mkdir()
    (tmp_path / "path" / "mpiexec").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    assert find_mpiexec() == str(tmp_path / "path" / "mpiexec")
    (tmp_path / "venv" / "mpiexec").touch(0o755)
    assert find_mpiexec() == str(tmp_path / "venv" / "mpiexec")
