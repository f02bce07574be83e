"""`python -m tests.programs.killed [RUNS [SEED]]`: runs that are killed at random moments and restarted (50).

Each run trains a small network under one of several plans, with a checkpoint every other step. SIGKILL comes at a
random moment, while it starts, trains or writes: to one rank, to its supervisor, to the launcher or to all at once;
then the run is started again, with `--resume`, and perhaps killed again. Every tensor that it ends with, and its
counters, must have the bits of a run that nobody disturbed. Status 1 where one has not.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.programs.resumable import Resumable, descendants, differences, last_step, processes, program, state

PLANS = (
    (1, "strategy = data"),
    (2, "strategy = data"),
    (2, "strategy = data; shard = gradients"),
    (2, "strategy = pipeline; pipeline.microbatches = 2"),
    (3, "strategy = data"),
    (4, "strategy = hybrid(pipeline = 2, data = 2); pipeline.microbatches = 2"),
)
TRAIN = {"checkpoint": 'every(2 steps, to = "ckpt")', "epochs": "", "steps": "40", "stop": "patience(over = 30 steps)"}
KILLS = (1, 1, 1, 2, 3)  # how often a run may be killed
ENDS = 60.0  # seconds in which what is left of a killed run has ended


@dataclass(frozen=True, slots=True)
class Killed:
    """How one run went: what was killed at which step, how often amid writing, and the tensors that came out wrong."""

    plan: str
    ranks: int
    kills: tuple[str, ...]
    writing: int
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A program, the checkpoints of its undisturbed run, and the seconds that this took."""

    made: Resumable
    plan: str
    seconds: float


def subjects(folder: Path, plans: tuple[tuple[int, str], ...] = PLANS) -> Iterator[Subject]:
    """The programs, each run once to its end."""
    for number, (ranks, plan) in enumerate(plans):
        made = program(folder / f"{number}", ranks, plan, **TRAIN)
        begun = time.monotonic()
        ran = made.run()
        assert ran.returncode == 0, ran.stdout + ran.stderr
        yield Subject(made, plan, time.monotonic() - begun)


def killed(subject: Subject, root: Path, generator: random.Random) -> Killed:
    """One run: killed, restarted until it ends, and compared."""
    made = Resumable(subject.made.folder, subject.made.ranks, root)
    root.mkdir()
    kills, writing = list[str](), 0
    for _ in range(generator.choice(KILLS)):
        running = made.start("--resume")
        time.sleep(generator.uniform(0.3, 1.0) * subject.seconds)
        victims = _victims(running, made.ranks, generator)
        for process in victims[1]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        amid = len(list(made.checkpoints.glob(".writing-*")))
        _settle(running)
        writing += bool(amid and list(made.checkpoints.glob(".writing-*")))
        kills.append(f"{victims[0]} behind step {last_step(made.checkpoints)}")
    ran = made.run("--resume")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    wrong = differences(state(subject.made.checkpoints), state(made.checkpoints))
    wrong += [] if _counters(subject.made) == _counters(made) else ["counters"]
    return Killed(subject.plan, made.ranks, tuple(kills), writing, tuple(wrong))


def _victims(running: subprocess.Popen[str], ranks: int, generator: random.Random) -> tuple[str, list[int]]:
    """What is killed, in words, and its processes."""
    supervisors, programs = processes(running.pid, ranks)
    choices = {
        "everything": [running.pid, *descendants(running.pid)],
        "the launcher": [running.pid],
        "a rank": generator.sample(programs, 1) if programs else [running.pid],
        "a supervisor": generator.sample(supervisors, 1) if supervisors else [running.pid],
    }
    name = generator.choice(list(choices))
    return name, choices[name]


def _settle(running: subprocess.Popen[str]) -> None:
    """Wait until nothing of a killed run is left."""
    left = [running.pid, *descendants(running.pid)]
    running.communicate(timeout=ENDS)
    deadline = time.monotonic() + ENDS
    while any(_lives(process) for process in left) and time.monotonic() < deadline:
        time.sleep(0.05)


def _lives(process: int) -> bool:
    with suppress(OSError):
        return b"train.py" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def _counters(made: Resumable) -> dict[str, object]:
    path = made.checkpoints / f"step-{last_step(made.checkpoints):09}" / "manifest.json"
    found: dict[str, object] = json.loads(path.read_text())
    return found


def main(arguments: list[str]) -> int:
    """1 where a run came out otherwise than the undisturbed one."""
    runs = int(arguments[0]) if arguments else 50
    generator = random.Random(int(arguments[1]) if len(arguments) > 1 else 1)
    folder = Path(tempfile.mkdtemp(prefix="dlc-killed-"))
    found = list[Killed]()
    try:
        programs = list(subjects(folder / "programs"))
        for number in range(runs):
            found.append(killed(programs[number % len(programs)], folder / f"run{number}", generator))
            verdict = f"WRONG: {', '.join(found[-1].wrong)}" if found[-1].wrong else "equal"
            print(f"{found[-1].ranks} ranks, {found[-1].plan}: {'; '.join(found[-1].kills)}: {verdict}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kills, writing = sum(len(run.kills) for run in found), sum(run.writing for run in found)
    wrong = sum(bool(run.wrong) for run in found)
    print(f"{runs} runs, {kills} kills, {writing} of them amid a checkpoint: {wrong} came out otherwise")
    return int(bool(wrong))


if __name__ == "__main__":
    os.environ.setdefault("DLC_KERNELS", "numpy")
    raise SystemExit(main(sys.argv[1:]))
