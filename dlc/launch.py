"""Starts emitted programs: mpiexec and its flags, and the check that every rank came to its end.

Imports no mpi4py: whatever happens to MPI happens in processes of its own.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

from dlc.cluster.detect import usable_memory
from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.messages.e07_run import E0704, E0710, E0713
from dlc.units import format_bytes

COMPLETION_VARIABLE = "DLC_COMPLETION_DIR"
TERMINAL_VARIABLE = "DLC_TERMINAL"
INSISTS_SECONDS = 1.0
"""Behind a SIGTERM, from when on another one is not the same: launchers and groups of processes hand them on."""

PATIENCE_SECONDS = 5.0
"""How long processes have to end by themselves before they are killed."""

_WATCH = """
read -r word && exit
kill -TERM "$0"
left=$2
while kill -0 "$0" && [ "$left" -gt 0 ]; do sleep 1; left=$((left - 1)); done
kill -KILL -"$0"
rm -r -- "$1"
"""
"""Told nothing, ends process $0, after $2 seconds with its whole group, and removes folder $1."""

OPEN_MPI_SETTINGS = {"OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_osc": "^ucx"}
"""A waiting rank gives its core to others; UCX's windows, which complain where it has no network, are left out."""

SUSPENDED = 75
"""The exit status of a run that was asked to end and has left a checkpoint, as of the runtime's requests.py."""

LIMITS = ((resource.RLIMIT_AS, "-v", "addresses"), (resource.RLIMIT_DATA, "-d", "data"))
"""What shells limit that programs find out about at their start; the shell's option, and what it counts."""

TIMED_OUT = 124
"""The exit status of a run that `timeout` ended, as of the command of that name."""


def command_line(
    folder: str, ranks: int, arguments: Sequence[str] = (), *, hostfile: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """The command that runs a program's folder, and the environment variables that it needs besides.

    One rank needs no MPI. The program starts MPI itself, once its guard stands, so nothing else may: no `-m mpi4py`.
    E0704 (DiagnosticError) where there is no mpiexec.
    """
    program = [sys.executable, "-I", str(Path(folder) / "train.py"), *arguments]
    if ranks == 1:
        return program, {}
    mpiexec = find_mpiexec()
    if mpiexec is None:
        help_ = 'install one with `pip install "dlc[mpi]"`, or run on one rank with `-n 1`'
        raise DiagnosticError([E0704.at(None, ranks=ranks, helps=(help_,))])
    flags, variables = mpi_flags(mpiexec)
    hosts = ["--hostfile", hostfile] if hostfile else []
    return [mpiexec, *flags, *hosts, "-n", str(ranks), *program], variables


def launch(
    folder: str,
    ranks: int,
    arguments: Sequence[str] = (),
    *,
    hostfile: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    requests: bool = False,
    output: IO[str] | None = None,
    command: Sequence[str] = (),
) -> int:
    """Run a program to its end; its exit status, TIMED_OUT where `timeout` seconds were not enough.

    Output goes where this process's goes, or what it prints to `output`. Interrupts and time-outs end every rank. With
    `command` is what runs a program of one rank in the place of Python and train.py, the arguments behind it. With
    `requests` SIGUSR1 and SIGTERM go to the program, which writes a checkpoint, and ends by itself with the latter.
    E0713 (DiagnosticError) names the ranks without a completion record where mpiexec reported success; ranks
    on other hosts leave theirs there.
    """
    own, variables = command_line(folder, ranks, arguments, hostfile=hostfile)
    with tempfile.TemporaryDirectory(prefix="dlc-run-") as records:
        terminal = "1" if sys.stdout.isatty() else "0"
        extra = {COMPLETION_VARIABLE: records, TERMINAL_VARIABLE: terminal, **variables, **(environment or {})}
        sys.stdout.flush()
        handed = _HandedOn() if requests else None
        process = subprocess.Popen(
            [*command, *arguments] if command else own,
            env={**os.environ, **extra},
            stdin=subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,
        )
        try:
            with _ended_with_this_process(process.pid, records), handed.to(process.pid) if handed else nullcontext():
                status = process.wait(timeout)
            if handed:
                handed.obey(status)
        except subprocess.TimeoutExpired:
            _end(process, signal.SIGTERM)
            return TIMED_OUT
        except BaseException:
            _end(process, signal.SIGINT)
            raise
        finally:
            _kill_group(process.pid)
        if status == 0 and hostfile is None:
            _require_records(Path(records), ranks)
        return status if status >= 0 else 128 - status


def ended(status: int) -> Diagnostic:
    """E0710 for a run that ended with this status, with what ends processes that cannot say why themselves: a signal,
    and limits of the shell."""
    notes, helps = list[str](), list[str]()
    number = status - 128 if status > 0 else -status
    if number in set(signal.Signals):
        notes.append(f"it was ended by {signal.Signals(number).name}")
    for kind, option, what in LIMITS:
        limit, _ = resource.getrlimit(kind)
        if 0 <= limit < usable_memory():
            given = f"`ulimit {option}` gives each process {format_bytes(limit)} of {what}"
            notes.append(
                f"{given}: Python, OpenBLAS and MPI ask for more than they use, and end where they do not get it"
            )
            helps.append(
                f"`ulimit {option} unlimited` takes that limit away; `dlc plan` says what a rank's arrays take"
            )
    return E0710.at(None, status=status, notes=tuple(notes), helps=tuple(helps))


def find_mpiexec() -> str | None:
    """The mpiexec beside the running Python, else the one on the PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")


def mpi_flags(mpiexec: str) -> tuple[list[str], dict[str, str]]:
    """What the MPI at hand wants to hear.

    Open MPI: ranks may outnumber cores, are not tied to one core (BLAS threads would share it), and may be root's.
    MPICH: a waiting rank gives its core to others; and when a process dies its launcher kills no others, so that the
    program's own guard has the time to say which rank it was, where and why, before it ends them all.
    """
    try:
        version = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    except subprocess.TimeoutExpired:
        version = ""
    if "Open MPI" in version or "OpenRTE" in version:
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
        return ["--oversubscribe", "--bind-to", "none"], {**OPEN_MPI_SETTINGS, **root}
    flags = ["-disable-auto-cleanup"] if "HYDRA" in version else []
    return flags, {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1"}


def _require_records(folder: Path, ranks: int) -> None:
    """Every rank that has done all its work has left a record that says so."""
    done = {json.loads(path.read_text())["rank"] for path in folder.glob("rank-*.json")}
    missing = [str(rank) for rank in range(ranks) if rank not in done]
    if missing:
        raise DiagnosticError([E0713.at(None, ranks=", ".join(missing))])


@contextmanager
def _ended_with_this_process(process: int, records: str) -> Iterator[None]:
    """Within, a shell waits to end the run where this very process is killed, which leaves its pipe without a word."""
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, str(process), records, str(round(PATIENCE_SECONDS))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.communicate(b"over\n")


class _HandedOn:
    """Signals that go on to a program, whose rank finds them. Until it handles SIGUSR1 it ignores it."""

    def __init__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
        self._ended: float | None = None
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a program inherits that

    @contextmanager
    def to(self, process: int) -> Iterator[None]:
        """Within, they go on; a SIGTERM that comes a while behind another one does what it did before."""

        def hand_on(number: int, _: object) -> None:
            now = time.monotonic()
            if number == signal.SIGTERM and self._ended is not None and now - self._ended > INSISTS_SECONDS:
                self._restore()
                signal.raise_signal(number)
            elif number == signal.SIGTERM:
                self._ended = self._ended or now
            with suppress(ProcessLookupError):
                os.kill(process, number)

        for number in self._before:
            signal.signal(number, hand_on)
        try:
            yield
        finally:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def obey(self, status: int) -> None:
        """Behind the run: a SIGTERM that made no checkpoint does what it did before."""
        if self._ended is not None and status != SUSPENDED:
            signal.raise_signal(signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Hand the signal to the run, whose guard ends all ranks, and wait a little for them."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.kill(process.pid, number)
        process.wait(PATIENCE_SECONDS)


def _kill_group(group: int) -> None:
    """Kill whatever is left of a run."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
