"""A PyTorch training on a GPU that makes some steps a turn, without TF32, as dlc computes.

    python -m benchmarks.gpu.torch_worker FOLDER {eager,channels_last,compile} --steps 5 --device cuda

FOLDER has what benchmarks.peers.torch_worker takes. The first turns, one step each, are on the kept batches with the
masks that dlc drew. Each timed step copies its batch from pinned memory, as dlc's does; losses stay on the device.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu import events
from benchmarks.peers.torch_worker import optimizer
from benchmarks.peers.turns import Turns


class Training:
    """A module with its optimizer on a device, from the first weights."""

    def __init__(self, folder: Path, way: str, device: str, masked: bool) -> None:
        self.settings = json.loads((folder / "settings.json").read_text())
        self.device, self.last = device, way == "channels_last"
        namespace: dict[str, Any] = {}
        text = (folder / ("masked.py" if masked else "network.py")).read_text()
        exec(compile(text, str(folder / "network.py"), "exec"), namespace)
        with np.load(folder / "weights.npz") as stored:
            tensors = {name: torch.tensor(stored[name], device=device) for name in stored.files}
        weights = {n: t for n, t in tensors.items() if n in self.settings["weights"]}
        net = namespace["Network"](weights, {n: t for n, t in tensors.items() if n not in weights})
        self.net = net.to(memory_format=torch.channels_last) if self.last else net
        self.parameters = list(self.net.parameters())
        self.optimizer = optimizer(self.settings["optimizer"], dict(self.settings["arguments"]), self.parameters,
                                   self.settings["lr"])  # fmt: skip
        self.run = torch.compile(self.net) if way == "compile" and not masked else self.net

    def step(self, batch: list[Tensor], masks: list[Tensor]) -> Tensor:
        """Forward, backward, update; the loss."""
        given = [self._placed(each) for each in batch]
        self.optimizer.zero_grad()
        loss: Tensor = self.run(*given, *masks)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings["clip"] is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings["clip"])
        self.optimizer.step()
        return loss.detach()

    def batch(self, arrays: dict[str, np.ndarray]) -> list[Tensor]:
        """A batch in the processor's memory, from which the device copies."""
        found = [torch.tensor(arrays[name]) for name in self.settings["inputs"]]
        found = [each.long() if not each.is_floating_point() else each for each in found]
        return [each.pin_memory() for each in found] if self.device == "cuda" else found

    def _placed(self, each: Tensor) -> Tensor:
        there = each.to(self.device, non_blocking=True)
        return there.contiguous(memory_format=torch.channels_last) if self.last and there.ndim == 4 else there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("way", choices=("eager", "channels_last", "compile"))
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    options = parser.parse_args()
    turns = Turns()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    _compared(options, turns)
    training = Training(options.folder, options.way, options.device, masked=False)
    batch = training.batch(_batches(options.folder)[0])
    while True:
        turns.wait()
        stop = events.by_torch(torch) if options.device == "cuda" else events.by_clock()
        for _ in range(options.steps):
            loss = training.step(batch, [])
        seconds = stop()
        turns.answer(loss=float(loss), wall=seconds / options.steps)


def _compared(options: argparse.Namespace, turns: Turns) -> None:
    """The first steps, whose losses are to be dlc's."""
    training = Training(options.folder, options.way, options.device, masked=True)
    for number, batch in enumerate(_batches(options.folder)):
        with np.load(options.folder / "masks.npz") as kept:
            drawn = [kept[f"{number}.{mask}"] for mask in training.settings["masks"]]
        turns.wait()
        loss = training.step(training.batch(batch), [torch.tensor(mask, device=options.device) for mask in drawn])
        turns.answer(loss=float(loss))


def _batches(folder: Path) -> list[dict[str, np.ndarray]]:
    with np.load(folder / "batches.npz") as stored:
        return [{name[2:]: stored[name] for name in stored.files if name.startswith(f"{at}.")} for at in range(2)]


if __name__ == "__main__":
    main()
