"""An emitted program on a GPU that makes some steps of its training a turn.

    python -m benchmarks.gpu.dlc_worker FOLDER ROOT --batches FILE.npz --steps 5

Its own main() runs. The first turns, one step each, are those whose losses are compared; `--batches` keeps their
samples. A turn's time is that of the device, by its events, with what it waits for the processor between them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import events
from benchmarks.peers.dlc_worker import BATCHES, Observer
from benchmarks.peers.turns import Turns


class Stepping(Observer):
    """Ends and begins turns where the program keeps its trace."""

    watches = False

    def __init__(self, turns: Turns, batches: str, steps: int, device: Any) -> None:
        super().__init__(turns, batches, [])
        self._steps, self._device = steps, device
        self._made = 0
        self._stop: events.Stop | None = None

    def before(self, step: int, indices: np.ndarray) -> np.ndarray:
        """A turn ends before its next step, and the next one begins."""
        if self._stop is not None:
            self._made += 1
            if self._made < (self._steps if step > BATCHES else 1):
                return indices
            self.turns.answer(loss=float(self.loss), wall=self._stop() / self._made)
        if step <= BATCHES:
            self._keep(step, indices)
        self.turns.wait()
        self._made = 0
        self._stop = events.by_clock() if self._device.STAND_IN else events.by_cupy(self._device.cp)
        return indices

    def gradients(self, step: int, loss: float) -> None:
        """Is told the loss, which is waited for when the turn ends."""
        self.loss = loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("root")
    parser.add_argument("--batches", required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    turns = Turns()
    sys.path.insert(0, options.folder)
    program, files, clock, world, device = (
        importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "world", "device")
    )
    print(device.begin(0))
    train = importlib.import_module("train")
    observer = Stepping(turns, options.batches, options.steps, device)
    train.Trace = observer
    loader = train.Loader

    def loading(samples: Any, *arguments: Any, **settings: Any) -> Any:
        observer.samples = samples
        return loader(samples, *arguments, **settings)

    train.Loader = loading
    emulate = os.environ.get(device.VARIABLE) or None
    given = program.Options(steps=10**9, quiet=True, root=options.root, emulate=emulate)
    train.main(world.Serial(), clock.Clock(), files.Files(Path(options.root)), given)


if __name__ == "__main__":
    main()
