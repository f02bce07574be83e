"""Emitted programs in this process: imported from their folder, run on one rank, and the samples that they load kept."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
OWN = ("train", "rates", "kernels", "runtime")
"""Modules of a program's folder: another program has others of the same names."""


@dataclass
class EmittedProgram:
    """A program's train.py as a module, for runs on one rank."""

    folder: Path
    root: str
    loaded: list[Arrays] = field(default_factory=list)  # what each call of its loader gave
    steps_per_epoch: int = 0

    def run(self, **options: Any) -> None:
        """main() with these options; failures are raised."""
        with self._imported() as module:
            from_program = importlib.import_module("runtime.program")
            files = importlib.import_module("runtime.files")
            clock = importlib.import_module("runtime.clock")
            world = importlib.import_module("runtime.world")
            position = importlib.import_module("runtime.position")
            self.module = module
            self.loaded.clear()
            module.Loader = self._keeping(module.Loader)
            given = from_program.Options(quiet=True, root=self.root, **options)
            module.main(world.Serial(position.Position()), clock.Clock(), files.Files(Path(self.root)), given)

    def _keeping(self, loader: type[Any]) -> type[Any]:
        """A loader that keeps what it gives, and the length of an epoch of the training set, the first it is made for."""
        kept, program = self.loaded, self
        program.steps_per_epoch = 0

        class KeepingLoader(loader):  # type: ignore[misc]
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **settings)
                program.steps_per_epoch = program.steps_per_epoch or self.steps_per_epoch

            def fill(self, indices: NDArray[Any], buffers: Mapping[str, NDArray[Any]]) -> None:
                super().fill(indices, buffers)
                kept.append({name: array.copy() for name, array in buffers.items()})

        return KeepingLoader

    @contextmanager
    def _imported(self) -> Iterator[Any]:
        environment, path, flag = dict(os.environ), list(sys.path), sys.dont_write_bytecode
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        _forget()
        try:
            yield importlib.import_module("train")
        finally:
            _forget()
            sys.path[:], sys.dont_write_bytecode = path, flag
            os.environ.clear()
            os.environ.update(environment)


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        del sys.modules[name]


def recorded(folder: Path, step: int) -> Arrays:
    """The record of one step."""
    with np.load(folder / f"step{step:06}.npz", allow_pickle=False) as record:
        return dict(record)
