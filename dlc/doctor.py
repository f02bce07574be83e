"""`dlc doctor`: whether this machine has what dlc needs, finding by finding, each with the way out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backends.numpy_mpi.kernels.native import find_compiler
from dlc.cluster.detect import usable_cores, usable_memory
from dlc.launch import command_line, find_mpiexec
from dlc.units import format_bytes

OLDEST_PYTHON = (3, 11)
OLDEST_NUMPY = (2, 0)
HELLO_SECONDS = 30
LEAST_MEMORY = 2**30

HELLO = """\
from mpi4py import MPI
import numpy as np
ranks = MPI.COMM_WORLD
total = np.zeros(1)
ranks.Allreduce(np.ones(1), total)
assert total[0] == ranks.size == 2
if ranks.rank == 0:
    print(f"two ranks summed {int(total[0])}")
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do where it is not enough; `needed` findings fail the command."""

    name: str
    ok: bool
    found: str
    help: str = ""
    needed: bool = True


def examine() -> tuple[Finding, ...]:
    """All findings, in the order in which one would mend them."""
    return tuple(check() for check in CHECKS)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding("python", sys.version_info[:2] >= OLDEST_PYTHON, version, f"install Python {oldest} or newer")


def _numpy() -> Finding:
    try:
        import numpy
    except ImportError as error:
        return Finding("numpy", False, _short(error), "`pip install numpy`")
    version = tuple(int(part) for part in numpy.__version__.split(".")[:2])
    oldest = ".".join(map(str, OLDEST_NUMPY))
    return Finding("numpy", version >= OLDEST_NUMPY, numpy.__version__, f"`pip install 'numpy>={oldest}'`")


def _blas() -> Finding:
    """Which BLAS NumPy was built with, and the threads that the environment gives each process."""
    try:
        import numpy

        library = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    except Exception as error:  # the shape of show_config's answer is NumPy's own affair
        return Finding("blas", True, f"unknown ({_short(error)})", needed=False)
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    given = ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
    threads = given or "as many threads as cores; programs take the cores of their device"
    return Finding("blas", True, f"{library}, {threads}", needed=False)


def _mpi4py() -> Finding:
    try:
        import mpi4py
    except ImportError as error:
        return Finding("mpi4py", False, _short(error), "`pip install mpi4py`")
    return Finding("mpi4py", True, mpi4py.__version__)


def _mpiexec() -> Finding:
    path = find_mpiexec()
    help_ = '`pip install "dlc[mpi]"` installs MPICH from PyPI; an MPI of your own serves too'
    if path is None:
        return Finding("mpiexec", False, "not found", help_)
    status, output = _run([path, "--version"], 10)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    version = next((line for line in lines if "ersion" in line or "MPI" in line), lines[0] if lines else "no answer")
    return Finding("mpiexec", status == 0, f"{path}, {' '.join(version.split())}", help_)


def _library() -> Finding:
    """The MPI library that mpi4py loads, asked in a process of its own: MPI must not start in this one."""
    status, output = _run([sys.executable, "-c", "from mpi4py import MPI; print(MPI.Get_library_version())"], 20)
    first = output.strip().splitlines()[0] if output.strip() else "no answer"
    help_ = 'mpi4py finds no MPI library: `pip install "dlc[mpi]"`, or install one such as MPICH or Open MPI'
    return Finding("mpi library", status == 0, " ".join(first.split()), help_)


def _hello() -> Finding:
    """Two ranks, started as `dlc run` starts them, that exchange a number and end."""
    if find_mpiexec() is None:
        return Finding("two ranks", False, "not tried: there is no mpiexec", "see mpiexec")
    with tempfile.TemporaryDirectory(prefix="dlc-doctor-") as folder:
        Path(folder, "train.py").write_text(HELLO, encoding="utf-8")
        command, variables = command_line(folder, 2)
        status, output = _run(command, HELLO_SECONDS, {**os.environ, **variables})
    lines = output.strip().splitlines()
    help_ = "mpiexec and mpi4py must be of the same MPI: compare `mpiexec` and `mpi library` above"
    return Finding(
        "two ranks", status == 0 and bool(lines), lines[-1] if lines else f"ended with status {status}", help_
    )


def _writes() -> Finding:
    """The working folder, where `-o` and `--save` write."""
    try:
        with tempfile.TemporaryFile(dir=os.curdir) as stream:
            stream.write(b"dlc")
    except OSError as error:
        return Finding("this folder", False, f"cannot be written: {_short(error)}", "work in a folder of your own")
    return Finding("this folder", True, f"can be written, {format_bytes(shutil.disk_usage(os.curdir).free)} free")


def _temporary() -> Finding:
    try:
        with tempfile.TemporaryFile() as stream:
            stream.write(b"dlc")
    except OSError as error:
        return Finding("temporary files", False, _short(error), "set TMPDIR to a folder that can be written")
    return Finding("temporary files", True, tempfile.gettempdir())


def _cores() -> Finding:
    cores = usable_cores()
    help_ = "two ranks on one core take turns and are no faster than one"
    return Finding("cores", cores > 1, f"{cores} usable", help_, needed=False)


def _memory() -> Finding:
    memory = usable_memory()
    return Finding("memory", memory >= LEAST_MEMORY, format_bytes(memory), "small networks only", needed=False)


def _compiler() -> Finding:
    """Not needed: without one the kernels are NumPy's."""
    words = find_compiler()
    help_ = (
        '`pip install "dlc[c]"` brings one; without one programs compute with NumPy\'s kernels, several times slower'
    )
    return Finding("C compiler", bool(words), " ".join(words) or "not found", help_, needed=False)


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python, _numpy, _blas, _mpi4py, _mpiexec, _library, _hello, _writes, _temporary, _cores, _memory, _compiler,
)  # fmt: skip


def _run(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit status and output of a command; it and all that it started are ended when the time is up."""
    import signal

    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return 1, _short(error)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return 124, f"no end after {seconds:.0f} s"
    return process.returncode, output


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
