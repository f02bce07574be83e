"""What one process can do about another on the same machine: end it, and clear away what it would leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from .lines import Message


def this_process() -> Message:
    """This process: its number, and the boot and the name space in which it is one; "" where the system hides them."""
    where = ""
    with contextlib.suppress(OSError):
        where = Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return {"process": os.getpid(), "where": where}


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
