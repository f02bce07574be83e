"""Small programs that keep every kind of state from step to step, and what a run of one leaves behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlc.driver import Options, emit_files, plan_spec, read
from dlc.folders import write_folder
from dlc.launch import command_line

SPEC = """dlspec 1
network small {{
  input image: f32[{batch}, channel = 1, height = 8, width = 8]
  body   = {body}
  hidden = body -> conv(16, 3x3, pad = same) as more -> relu -> flatten -> linear(32) -> tanh
  logits = hidden -> linear(10)
  output logits
}}
cluster box {{
  device core {{ kind = cpu
    memory = 4 GiB
    bandwidth = 10 GB/s
    compute.f32 = 50 GFLOP/s
  }}
  link shm {{ bandwidth = 8 GB/s, latency = 1 us }}
  topology {{ core[{ranks}] over shm }}
}}
train small {{
  loss      = cross_entropy(logits, data.label)
  metrics   = [accuracy(logits, data.label)]
{train}
}}
plan small on box {{ {plan} }}
"""

BODY = "image -> conv(8, 3x3, pad = same, bias = no) -> bn(group = {group}) -> relu -> dropout(0.2) -> maxpool(2x2)"

TRAIN: Mapping[str, str] = {
    "data": "digits(test = 0.2)",
    "optimizer": "adam",
    "lr": "warmup(to = 3e-3, over = 10 steps) then cosine(to = 0, over = 2 epochs)",
    "clip": "norm(1.0)",
    "epochs": "2",
    "seed": "3",
    "checkpoint": 'every(20 steps, to = "ckpt")',
}

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Resumable:
    """A compiled folder, whose data paths and checkpoints begin in `root`."""

    folder: Path
    ranks: int
    root: Path

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """How it is started, and the environment variables that it needs besides."""
        return command_line(str(self.folder), self.ranks, ["--root", str(self.root), *arguments])

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        command, variables = self.command(*arguments)
        return subprocess.run(
            command, env=environment(variables), capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it in a session of its own."""
        command, variables = self.command(*arguments)
        return subprocess.Popen(
            command,
            env=environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def checkpoints(self) -> Path:
        """The folder that its train block names."""
        return self.root / "ckpt"


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """One thread a rank: the tests' ranks outnumber the cores."""

    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **variables}


def program(
    root: Path,
    ranks: int,
    plan: str = "strategy = data",
    batch: int = 32,
    body: str = BODY,
    group: int = 4,
    **train: str,
) -> Resumable:
    """Plan and compile the network for so many ranks; `train` changes the train block, "" leaves a setting out."""
    settings = {**TRAIN, **train}
    text = "\n".join(f"  {key} = {value}" for key, value in settings.items() if value)
    root.mkdir(parents=True, exist_ok=True)
    path = root / "small.dlspec"
    path.write_text(SPEC.format(batch=batch, ranks=ranks, body=body.format(group=group), train=text, plan=plan))
    folder = root / "program"
    write_folder(emit_files(plan_spec(read(str(path)), Options(ranks=ranks))), str(folder))
    return Resumable(folder, ranks, root)


def last_step(checkpoints: Path) -> int:
    """The step of the last checkpoint in a folder, 0 without any."""
    return max((int(path.name.removeprefix("step-")) for path in checkpoints.glob("step-*")), default=0)


def state(checkpoints: Path, step: int | None = None) -> Arrays:
    """Every tensor of a checkpoint, the last one where no step is given."""
    generation = checkpoints / f"step-{last_step(checkpoints) if step is None else step:09}"
    found: Arrays = {}
    for file in ("weights.npz", "state.npz"):
        if (generation / file).exists():
            with np.load(generation / file, allow_pickle=False) as archive:
                found.update({name: archive[name] for name in archive.files})
    return found


def differences(one: Arrays, other: Arrays) -> list[str]:
    """The tensors that are not equal bit by bit, or that one of them alone has."""
    alike = {name for name in one.keys() & other.keys() if one[name].tobytes() == other[name].tobytes()}
    return sorted((one.keys() | other.keys()) - alike)


def processes(launcher: int, ranks: int) -> tuple[list[int], list[int]]:
    """(supervisors, ranks) below the process that was started, which is both where it is alone."""
    if ranks == 1:
        return [launcher], [launcher]
    below = [process for process in descendants(launcher) if _runs_the_program(process)]
    parents = {process: _parent(process) for process in below}
    return [p for p in below if parents[p] not in parents], [p for p in below if parents[p] in parents]


def descendants(launcher: int) -> list[int]:
    """The processes below one."""
    found, pending = list[int](), [launcher]
    while pending:
        for children in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            with suppress(OSError):
                below = [int(child) for child in children.read_text().split()]
                found += below
                pending += below
    return found


def _runs_the_program(process: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return b"python" in words[0] and any(word.endswith(b"train.py") for word in words)
    return False


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
