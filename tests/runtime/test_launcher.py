"""launch.sh of an emitted folder: what it calls, with which threads and settings, by stubs that write it down."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.numpy_mpi.folder import launcher

SHOWN = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MPIR_CVAR_ENABLE_HEAVY_YIELD",
         "OMPI_MCA_mpi_yield_when_idle", "OMPI_MCA_osc")  # fmt: skip
STUB = """#!/bin/sh
[ "${{1:-}}" = --version ] && echo '{version}' && exit
echo "$(basename "$0") $*"
{shown}
"""
THREADS = {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
Called = Callable[..., tuple[str, dict[str, str]]]
MPICH, OPEN_MPI = "HYDRA build details:", "mpiexec (Open MPI) 5.0.11"


@pytest.fixture
def called(tmp_path: Path) -> Called:
    """called(ranks, version of mpiexec, arguments, variables) -> (the command, the variables that it sees)."""

    def run(
        ranks: int, version: str = MPICH, *arguments: str, from_: Path | None = None, **given: str
    ) -> tuple[str, dict[str, str]]:
        shown = "\n".join(f'echo "{name}=${{{name}:-}}"' for name in SHOWN)
        (tmp_path / "bin").mkdir()
        for name in ("mpiexec", "srun", "python"):
            stub = tmp_path / "bin" / name
            stub.write_text(STUB.format(version=version, shown=shown))
            stub.chmod(0o755)
        folder = tmp_path / "a program"
        folder.mkdir()
        (folder / "launch.sh").write_text(launcher(ranks, 4))
        script = "launch.sh" if from_ is None else str(folder / "launch.sh")
        kept = {k: v for k, v in os.environ.items() if k not in SHOWN and not k.startswith(("SLURM", "HOSTFILE"))}
        done = subprocess.run(
            ["sh", script, *arguments],
            cwd=from_ or folder,
            env={**kept, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": "python", **given},
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        command, *variables = done.stdout.splitlines()
        found = dict(line.split("=", 1) for line in variables)
        return command.replace(f"{folder}/", ""), {name: value for name, value in found.items() if value}

    return run


def test_one_rank_needs_no_mpi(called: Called) -> None:
    command, variables = called(1, MPICH, "--steps", "2")
    assert command == "python -I train.py --steps 2"
    assert variables.items() >= THREADS.items()


def test_mpich(called: Called) -> None:
    command, variables = called(2, MPICH, "--steps", "2")
    assert command == "mpiexec -disable-auto-cleanup -n 2 python -I train.py --steps 2"
    assert variables == {**THREADS, "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1"}


def test_open_mpi_on_the_machines_of_a_hostfile(called: Called) -> None:
    command, variables = called(8, OPEN_MPI, HOSTFILE="my hosts")
    assert command == "mpiexec --oversubscribe --bind-to none --hostfile my hosts -n 8 python -I train.py"
    assert variables.items() >= {**THREADS, "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_osc": "^ucx"}.items()


def test_slurm(called: Called, tmp_path: Path) -> None:
    """Slurm runs a copy of the script: the folder is where the job was handed in."""
    folder = tmp_path / "a program"
    command, variables = called(16, MPICH, "--resume", SLURM_JOB_ID="7", SLURM_SUBMIT_DIR=str(folder))
    assert command == "srun -n 16 -c 4 python -I train.py --resume"
    assert variables.items() >= THREADS.items()
    assert "#SBATCH --ntasks=16\n#SBATCH --cpus-per-task=4\n" in launcher(16, 4)


def test_threads_that_are_set_stay(called: Called) -> None:
    _, variables = called(2, MPICH, OMP_NUM_THREADS="1", MKL_NUM_THREADS="3")
    assert (variables["OPENBLAS_NUM_THREADS"], variables["MKL_NUM_THREADS"]) == ("1", "3")


def test_a_folder_is_started_from_elsewhere(called: Called, tmp_path: Path) -> None:
    assert called(2, MPICH, from_=tmp_path)[0] == "mpiexec -disable-auto-cleanup -n 2 python -I train.py"
