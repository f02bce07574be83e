"""A PyTorch training that makes one step a turn.

    python -m benchmarks.peers.torch_worker FOLDER {eager,channels_last,compile} --threads 1

FOLDER has network.py with the module, weights.npz, batches.npz and settings.json. The first turns are the steps on the
kept batches, with the masks that dlc drew; the others are those that are timed, on the first batch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.turns import Turns


class Training:
    """A module with its optimizer, from the first weights."""

    def __init__(self, folder: Path, way: str, masked: bool) -> None:
        self.settings = json.loads((folder / "settings.json").read_text())
        self.last = way == "channels_last"
        namespace: dict[str, Any] = {}
        text = (folder / ("masked.py" if masked else "network.py")).read_text()
        exec(compile(text, str(folder / "network.py"), "exec"), namespace)
        with np.load(folder / "weights.npz") as stored:
            tensors = {name: torch.tensor(stored[name]) for name in stored.files}
        weights = {n: t for n, t in tensors.items() if n in self.settings["weights"]}
        net = namespace["Network"](weights, {n: t for n, t in tensors.items() if n not in weights})
        self.net = net.to(memory_format=torch.channels_last) if self.last else net
        self.parameters = list(self.net.parameters())
        self.optimizer = optimizer(self.settings["optimizer"], dict(self.settings["arguments"]), self.parameters,
                                   self.settings["lr"])  # fmt: skip
        self.run = torch.compile(self.net) if way == "compile" and not masked else self.net

    def step(self, given: list[Tensor]) -> float:
        """Forward, backward, update; the loss."""
        self.optimizer.zero_grad()
        loss = self.run(*given)
        loss.backward()
        if self.settings["clip"] is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings["clip"])
        self.optimizer.step()
        return float(loss.detach())

    def tensors(self, arrays: dict[str, np.ndarray]) -> list[Tensor]:
        """A batch, as the module takes it."""
        found = [torch.tensor(arrays[name]) for name in self.settings["inputs"]]
        found = [each.long() if not each.is_floating_point() else each for each in found]
        return [
            each.contiguous(memory_format=torch.channels_last) if self.last and each.ndim == 4 else each
            for each in found
        ]


def optimizer(kind: str, told: dict[str, Any], parameters: list[Tensor], lr: float) -> Any:
    """PyTorch's own, in one fused loop."""
    decay = told["weight_decay"]
    if kind == "sgd":
        return torch.optim.SGD(
            parameters, lr, told["momentum"], weight_decay=decay, nesterov=told["nesterov"], fused=True
        )
    if kind == "adam":
        return torch.optim.Adam(parameters, lr, (told["beta1"], told["beta2"]), told["eps"], decay, fused=True)
    raise ValueError(f"the benchmark has no optimizer {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("way", choices=("eager", "channels_last", "compile"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    turns = Turns()
    torch.set_num_threads(options.threads)
    with np.load(options.folder / "batches.npz") as stored:
        batches = [
            {name[2:]: stored[name] for name in stored.files if name.startswith(f"{number}.")} for number in range(2)
        ]
    checked = Training(options.folder, options.way, masked=True)
    for number, batch in enumerate(batches):
        given = checked.tensors(batch)
        masks = checked.settings["masks"]
        with np.load(options.folder / "masks.npz") as kept:
            given += [torch.tensor(kept[f"{number}.{mask}"]) for mask in masks]
        turns.wait()
        turns.answer(loss=checked.step(given))
    del checked
    training = Training(options.folder, options.way, masked=False)
    given = training.tensors(batches[0])
    while True:
        turns.wait()
        turns.answer(loss=training.step(given))


if __name__ == "__main__":
    main()
