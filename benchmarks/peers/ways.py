"""The ways to make a training step, each a process of its own that is kept alive, and what they are started with."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backends.numpy_mpi.kernels.philox import dropout_forward
from benchmarks.peers import networks, torch_text
from benchmarks.peers.dlc_worker import BATCHES, Call
from dlc.driver import Compiled
from dlc.ops.schedules import rate_at
from dlc.weights import first_weights
from passes.streams import stream_key

TORCH = {"eager": "PyTorch eager", "channels_last": "channels last", "compile": "torch.compile"}
"""PyTorch's ways -> how they are called."""

ROOT = Path(__file__).resolve().parents[2]


class WayError(Exception):
    """A way that cannot make its step; the text says why."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one step took: seconds by the clock, seconds of the processor in all threads, the loss before it."""

    wall: float
    cpu: float
    loss: float
    calls: tuple[Call, ...] = ()


@dataclass
class Way:
    """A worker. It is started at its first step, and must make each within its `patience`, seconds."""

    name: str
    module: str
    arguments: Sequence[str]
    threads: int
    patience: float = 600.0
    _process: subprocess.Popen[str] | None = None
    _log: Any = field(default=None)

    def step(self) -> Turn:
        """One step of this way, while all others wait; WayError where it has failed."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write("\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], self.patience)[0]:
                raise WayError(f"{self.name} made no step within {self.patience:g} s")
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise WayError(f"{self.name} has failed: {self._last_words()}")
        told = json.loads(line)
        calls = tuple(Call(*call) for call in told.get("calls", ()))
        return Turn(told["wall"], told["cpu"], told["loss"], calls)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(OSError):
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            with suppress(ProcessLookupError):  # what it has started ends too, such as compilers
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._log.close()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115, it is closed with the process
        threads = {f"{name}_NUM_THREADS": str(self.threads) for name in ("OMP", "OPENBLAS", "MKL")}
        environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", self.module, *self.arguments]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        self._process = subprocess.Popen(command, env=environment, text=True, cwd=ROOT, start_new_session=True, **pipes)
        return self._process

    def _last_words(self) -> str:
        assert self._process is not None
        status = self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"it ended with status {status}"


def dlc_way(name: str, folder: Path, made: Compiled, threads: int, profile: bool = False) -> Way:
    """The program of a folder; its first steps' samples go to `batches.npz` beside it."""
    arguments = [str(folder), made.source.spec.root, "--batches", str(folder.parent / "batches.npz")]
    return Way(name, "benchmarks.peers.dlc_worker", arguments + ["--profile"] * profile, threads)


def torch_way(way: str, folder: Path, threads: int) -> Way:
    """PyTorch on what `write_torch` has put in a folder."""
    arguments = [str(folder), way, "--threads", str(threads)]
    return Way(TORCH[way], "benchmarks.peers.torch_worker", arguments, threads)


def write_torch(made: Compiled, folder: Path) -> None:
    """The PyTorch program of the same training: module, first weights, dropout's masks and settings."""
    graph, training = made.job.graph, made.context.training
    plain, masked = torch_text.write(graph), torch_text.write(graph, masked=True)
    (folder / "network.py").write_text(plain.text + torch_text.PIECES)
    (folder / "masked.py").write_text(masked.text + torch_text.PIECES)
    names = {**plain.weights, **plain.statistics}
    values = first_weights(made.graph, training.seed)
    np.savez(folder / "weights.npz", **{names[address]: value for address, value in values.items() if address in names})
    np.savez(folder / "masks.npz", **_masks(made, masked.masks))
    clip = None if training.clip is None else dict(training.clip.arguments)
    if (clip is not None and clip["kind"] != "norm") or training.regularise:
        raise WayError("PyTorch is given no such clipping or penalty")
    settings = {
        "weights": list(plain.weights.values()),
        "inputs": list(plain.inputs),
        "masks": list(masked.masks.values()),
        "optimizer": training.optimizer.kind,
        "arguments": dict(training.optimizer.arguments),
        "clip": clip and clip["bound"],
        "lr": rate_at(training.rates, 0, networks.SAMPLES),
    }
    (folder / "settings.json").write_text(json.dumps(settings))


def _masks(made: Compiled, masks: dict[str, str]) -> dict[str, np.ndarray]:
    """What dropout multiplies with in the first steps."""
    found = {}
    for node in made.job.graph.nodes:
        for step in range(BATCHES if node.address in masks else 0):
            ones = np.ones(made.job.graph.type(node.inputs[0]).shape, np.float32)
            y, mask = np.empty_like(ones), np.empty(ones.shape, np.uint8)
            key = stream_key(made.context.training.seed, node.address)
            dropout_forward(ones, y, mask, p=node.attr("p"), key=key, step=step, position=0)
            found[f"{step}.{masks[node.address]}"] = y
    return found
