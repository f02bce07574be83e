"""Programs of this folder, started as users start them: as processes, with a time-out."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dlc.launch import find_mpiexec, mpi_flags

PROGRAMS = Path(__file__).parent / "programs"
PACKAGES = Path(__file__).parents[2] / "backends" / "numpy_mpi"
"""The folder that holds the package `runtime`, as an emitted folder does."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a job ended."""

    status: int
    output: str
    errors: str
    ended: float  # on the clock that all processes of a machine share

    @property
    def seconds_from_fault(self) -> float:
        """How long the job lived on after its fault, which job.py announces."""
        return self.ended - float(self.output.partition("fault at ")[2].split()[0])


IS_MPICH = find_mpiexec() is not None and "-disable-auto-cleanup" in mpi_flags(str(find_mpiexec()))[0]
"""Its launcher is used bare here, the worst case; Open MPI's would not even start more ranks than cores."""

_PRTERUN = re.compile(r"^-{70,}\n(?:.*\n)*?-{70,}\n", re.MULTILINE)
"""What Open MPI's launcher says of its own behind the guard's message."""


def start(program: str, ranks: int, *arguments: str, timeout: float = 60, **environment: str) -> Run:
    """Runs a program of programs/ under mpiexec (without for 0 ranks); a hang fails the test and leaves no process."""
    mpiexec = find_mpiexec()
    if ranks and mpiexec is None:
        pytest.skip("there is no mpiexec")
    flags, settings = mpi_flags(str(mpiexec)) if ranks else ([], {})
    before = [str(mpiexec), *([] if IS_MPICH else flags), "-n", str(ranks)] if ranks else []
    command = [*before, sys.executable, str(PROGRAMS / program), str(PACKAGES), *arguments]
    variables = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **settings}
    job = subprocess.Popen(
        command,
        env={**os.environ, **variables, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = job.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        job.terminate()  # mpiexec hands it on to all ranks
        output, errors = job.communicate(timeout=20)
        pytest.fail(f"{program} hung for {timeout} s\n{output}\n{errors}")
    return Run(job.returncode, output, _PRTERUN.sub("", errors), time.monotonic())
