"""Starts emitted programs: mpiexec and its flags, thread counts, and the check that every rank came to its end.

Imports no mpi4py: whatever happens to MPI happens in processes of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dlc.diagnostics import DiagnosticError
from dlc.messages.e07_run import E0704, E0713

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
COMPLETION_VARIABLE = "DLC_COMPLETION_DIR"
PATIENCE_SECONDS = 5.0
"""How long processes have to end by themselves before they are killed."""


def command_line(
    folder: str, ranks: int, arguments: Sequence[str] = (), *, hostfile: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """The command that runs a program's folder, and the environment variables that it needs besides.

    One rank needs no MPI. E0704 (DiagnosticError) where there is no mpiexec.
    """
    program = [sys.executable, "-I", *(["-m", "mpi4py"] if ranks > 1 else []), str(Path(folder) / "train.py")]
    if ranks == 1:
        return [*program, *arguments], _environment(ranks)
    mpiexec = find_mpiexec()
    if mpiexec is None:
        help_ = 'install one with `pip install "dlc[mpi]"`, or run on one rank with `-n 1`'
        raise DiagnosticError([E0704.at(None, ranks=ranks, helps=(help_,))])
    flags, variables = _mpi_flags(mpiexec)
    hosts = ["--hostfile", hostfile] if hostfile else []
    return [mpiexec, *flags, *hosts, "-n", str(ranks), *program, *arguments], {**_environment(ranks), **variables}


def launch(
    folder: str,
    ranks: int,
    arguments: Sequence[str] = (),
    *,
    hostfile: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> int:
    """Run a program to its end; its exit status, 1 where a rank ended without a completion record.

    Output goes where this process's goes. Interrupts and time-outs end every rank. E0713 (DiagnosticError) names the
    ranks without a record though mpiexec reported success.
    """
    command, variables = command_line(folder, ranks, arguments, hostfile=hostfile)
    with tempfile.TemporaryDirectory(prefix="dlc-run-") as records:
        extra = {COMPLETION_VARIABLE: records, **variables, **(environment or {})}
        sys.stdout.flush()
        process = subprocess.Popen(command, env={**os.environ, **extra}, start_new_session=True)
        try:
            status = process.wait(timeout)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            _end(process)
            raise
        finally:
            _kill_group(process.pid)
        if status == 0 and hostfile is None:
            _require_records(records, ranks)
        return status if status >= 0 else 128 - status


def find_mpiexec() -> str | None:
    """The mpiexec beside the running Python, else the one on the PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")


def _environment(ranks: int) -> dict[str, str]:
    """Each rank's share of the cores for BLAS and OpenMP, unless the user has set it."""
    share = str(max(1, len(os.sched_getaffinity(0)) // ranks if hasattr(os, "sched_getaffinity") else 1))
    return {name: os.environ.get(name, share) for name in THREAD_VARIABLES}


def _mpi_flags(mpiexec: str) -> tuple[list[str], dict[str, str]]:
    """What the MPI at hand wants to hear; waiting ranks of MPICH give their core to others."""
    version = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, check=False, timeout=30)
    if "Open MPI" in version.stdout or "OpenRTE" in version.stdout:
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
        return ["--oversubscribe"], root
    return [], {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1"}


def _require_records(folder: str, ranks: int) -> None:
    missing = [str(rank) for rank in range(ranks) if not os.path.exists(os.path.join(folder, f"rank-{rank:05d}.json"))]
    if missing:
        raise DiagnosticError([E0713.at(None, ranks=", ".join(missing))])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask all processes of the run to end, and wait a little for them."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


def _kill_group(group: int) -> None:
    """Kill whatever is left of a run."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
