"""How long collectives of emitted programs take among processes of this machine, under a real mpiexec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.numpy_mpi.folder import runtime_files
from backends.numpy_mpi.timing.process import THREADS
from dlc.ir.training import Choice


@dataclass(frozen=True, slots=True)
class Message:
    """A collective over an operand of so many bytes among so many ranks: median seconds of the slowest rank.

    `kind` is allreduce by an algorithm, or `exchange`: every rank sends to the next one and receives from the one
    before.
    """

    kind: str
    algorithm: str
    ranks: int
    bytes: int
    seconds: float
    spread: float


def time_messages(
    command: Sequence[str],
    ranks: int,
    *,
    seconds: float = 5.0,
    timeout: float = 60.0,
    files: Mapping[str, bytes] | None = None,
) -> list[Message]:
    """Time the messages of so many ranks for about so many seconds; `command` is mpiexec with its flags.

    `files` has another runtime than that of processors, which sends what lies on its devices.

    OSError or RuntimeError where it cannot be started or fails, subprocess.TimeoutExpired where it does not end.
    """
    with tempfile.TemporaryDirectory(prefix="dlc-messages-") as folder:
        for name, content in (files or runtime_files(Choice("synthetic", ()))).items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        worker = str(Path(__file__).with_name("rank.py"))
        words = [*command, "-n", str(ranks), sys.executable, "-P", worker, folder, str(seconds)]
        known = {**os.environ, **dict.fromkeys(THREADS, "1")}
        done = subprocess.run(
            words,
            env=known,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"timing messages failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [
        Message(kind, algorithm, ranks, line["bytes"], taken, spread)
        for line in lines
        for kind, algorithm, taken, spread in line["rows"]
    ]
