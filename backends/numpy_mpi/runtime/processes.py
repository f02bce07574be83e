"""What a process can learn of others on the same machine, end of them, and clear away behind them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

from .lines import Message

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def this_process() -> Message:
    """This process: its number, and the boot and the name space in which it is one; "" where the system hides them."""
    where = ""
    with contextlib.suppress(OSError):
        where = Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return {"process": os.getpid(), "where": where}


def living_siblings() -> list[int]:
    """The processes that this one's parent has started and that have not ended, in order; none where Linux is not."""
    parent = os.getppid()
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return sorted(int(child) for child in children if _is_living(child))
    except OSError:
        return []


def speaks_for_siblings(gone: int = 0) -> bool:
    """Whether this process is the first of those, `gone` apart, so that what all of them notice is said once."""
    living = [process for process in living_siblings() if process != gone]
    return not living or living[0] == os.getpid()


def _is_living(process: str) -> bool:
    """Whether it has not ended; one that has is a zombie until its parent asks for it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end_with_parent(parent: int) -> None:
    """Has Linux kill this process once `parent` ends, whatever it does then: it may wait in MPI's own code for ever."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def kill_if_here(process: Message) -> None:
    """Kills what `this_process` described, where it runs on this machine: a stopped one does not end by itself."""
    where = this_process()["where"]
    if where and process.get("where") == where:
        with contextlib.suppress(OSError):
            os.kill(int(process["process"]), signal.SIGKILL)


def unlink_shared_memory(process: int) -> None:
    """Removes the names of MPICH's files in /dev/shm that the process has open.

    The memory lives on until the last process with it ends, however it ends; with a name a killed job would leave it.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            _, _, name = line.partition("/dev/shm/")
            if name.startswith("mpich_shm_") and " " not in name:
                Path("/dev/shm", name).unlink(missing_ok=True)
