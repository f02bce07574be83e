"""What a user sees of a program that fails: its own message, then that of `dlc run` (E0710)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dlc.launch import LIMITS, ended
from tests.driver.conftest import TRAIN, Write, spec


def dlc(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlc", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def assert_failed(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 1
    first, last = done.stderr.index(f"error[{code}]"), done.stderr.index("error[E0710]: the run ended with status 1")
    assert first < last
    assert "Traceback" not in done.stderr


def test_data_that_are_missing(write: Write) -> None:
    path = write(spec(train=TRAIN.replace("digits", 'npz("missing.npz")')))
    done = dlc("run", path, "-n", "1")
    assert_failed(done, "E0715")
    assert os.path.dirname(path) in done.stderr  # data start at the spec's folder


def test_weights_that_are_none(write: Write, tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"no weights")
    assert_failed(dlc("run", write(spec()), "-n", "1", "--load", str(tmp_path / "weights.npz")), "E0716")


def test_a_program_that_is_given_no_addresses_for_its_libraries(write: Write, tmp_path: Path) -> None:
    """Whatever NumPy says as it cannot be loaded, the limit of the shell is named behind it."""
    program = str(tmp_path / "program")
    assert dlc("compile", write(spec()), "-n", "1", "-o", program).returncode == 0
    command = f'ulimit -v 81920; exec "{sys.executable}" -m dlc run "{program}"'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    _, _, said = done.stderr.partition("error[E0710]: the run ended with status")
    assert "`ulimit -v` gives each process 80 MiB of addresses" in said
    assert "`ulimit -v unlimited` takes that limit away" in said


def test_a_signal_is_named_and_limits_that_bind_nothing_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = dict.fromkeys((kind for kind, *_ in LIMITS), resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    assert (ended(1).notes, ended(1).helps) == ((), ())
    assert ended(139).notes == ended(-11).notes == ("it was ended by SIGSEGV",)
    limits[resource.RLIMIT_DATA] = 2**60
    assert ended(1).notes == ()
    limits[resource.RLIMIT_DATA] = 2**26
    (note,), (way_out,) = ended(1).notes, ended(1).helps
    assert note.startswith("`ulimit -d` gives each process 64 MiB of data")
    assert way_out.startswith("`ulimit -d unlimited`")


@pytest.mark.mpi
def test_too_little_shared_memory() -> None:
    """E0717, on a machine whose /dev/shm is full; without one, there is nothing to run out of."""
    script = """
import os, types
os.path.isdir, os.statvfs = lambda path: True, lambda path: types.SimpleNamespace(f_bavail=0, f_frsize=4096)
from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.mpi_world import MpiWorld
try:
    MpiWorld().shared_array((2**18,), "f8", "bucket0")
except ProgramError as error:
    print(error.render())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("error[E0717]: `bucket0` needs 2.0 MiB of shared memory, /dev/shm has 0.0 MiB left")
