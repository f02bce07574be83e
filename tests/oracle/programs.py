"""Emitted programs in this process: imported from their folder and run, on one rank step by step under observation."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, Protocol

from numpy.typing import NDArray

from backends.numpy_mpi.kernels.layout import logical
from backends.numpy_mpi.runtime.thread_world import run_threads

Arrays = dict[str, NDArray[Any]]
OWN = ("train", "rates", "compiled", "rooms", "kernels", "runtime")
"""Modules of a program's folder: another program has others of the same names."""


class Observer(Protocol):
    """Stands where a program keeps its trace: told of each step, and free to change the state before it."""

    def __call__(self, tensors: Any, stages: Any, options: Any, *, interchangeable: int) -> Observer: ...
    def before(self, step: int, indices: NDArray[Any]) -> NDArray[Any]: ...
    def gradients(self, step: int, loss: float) -> None: ...
    def after(self, step: int) -> None: ...


@dataclass
class EmittedProgram:
    """A program's folder, for runs on one rank, or on as many threads as it has ranks. `loaded` is what each call of
    its loader gave in the last run, and `steps_per_epoch` is of its training set. With `rendezvous` no message is on
    its way before its receiver wants it, as in rehearsals."""

    folder: Path
    root: str
    ranks: int = 1
    rendezvous: bool = False
    loaded: list[Arrays] = field(default_factory=list)
    steps_per_epoch: int = 0
    module: Any = None

    def run(self, observer: Observer | None = None, **options: Any) -> Any:
        """main() with these options; its result. Failures are raised."""
        with self._imported() as module:
            program, files, clock, world, job = (
                importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "world", "job")
            )
            self.module, self.steps_per_epoch = module, 0
            self.loaded.clear()
            module.Loader = job.Loader = self._keeping(module.Loader)
            if observer is not None:
                module.Trace = observer
            given = program.Options(quiet=True, root=self.root, **options)

            def main(place: Any) -> Any:
                return module.main(place, clock.Clock(), files.Files(Path(self.root)), given)

            if self.ranks == 1:
                return main(world.Serial())
            return run_threads(main, self.ranks, rendezvous=self.rendezvous)[0]

    def run_as_rank(self, stall_seconds: float, **options: Any) -> None:
        """main() as the rank of MPI that this process is, which is let go when all ranks have come to the end."""
        with self._imported() as module:
            program, files, clock, mpi_world = (
                importlib.import_module(f"runtime.{name}") for name in ("program", "files", "clock", "mpi_world")
            )
            world = mpi_world.MpiWorld(stall_seconds=stall_seconds)
            given = program.Options(quiet=True, root=self.root, **options)
            module.main(world, clock.Clock(), files.Files(Path(self.root)), given)
            world.barrier("the end of the program")

    def _keeping(self, loader: type[Any]) -> type[Any]:
        """A loader that keeps what it gives; the first one that is made is that of the training set."""
        program = self

        class KeepingLoader(loader):  # type: ignore[misc]
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **settings)
                program.steps_per_epoch = program.steps_per_epoch or self.steps_per_epoch

            def fill(self, indices: NDArray[Any], buffers: Mapping[str, NDArray[Any]]) -> None:
                super().fill(indices, buffers)
                for name, array in buffers.items():
                    if not program.loaded or name in program.loaded[-1]:
                        program.loaded.append({})
                    program.loaded[-1][name] = logical(array, self.layouts.get(name, "NCHW")).copy()

        return KeepingLoader

    @contextmanager
    def _imported(self) -> Iterator[Any]:
        environment, path, flag = dict(os.environ), list(sys.path), sys.dont_write_bytecode
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        _forget()
        for folder in (self.folder, self.folder / "kernels", self.folder / "runtime"):
            sys.path_importer_cache[str(folder)] = FileFinder(str(folder), (_Loader, [".py"]))
        try:
            yield importlib.import_module("train")
        finally:
            _forget()
            sys.path[:], sys.dont_write_bytecode = path, flag
            os.environ.clear()
            os.environ.update(environment)


class _Loader(SourceFileLoader):
    """Of a program's modules: most have the text of another program's, and compiling it takes longer than a run."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:
        return _compiled(bytes(data), os.fsdecode(path).rpartition(os.sep)[2])


@lru_cache(maxsize=1024)
def _compiled(text: bytes, name: str) -> CodeType:
    return compile(text, name, "exec", dont_inherit=True)


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        del sys.modules[name]


@dataclass
class Observed:
    """The tensors of a running program, as its tables name them: weights and statistics, states, gradients."""

    tensors: Any
    titles: dict[str, str]

    def state(self) -> Arrays:
        """The arrays themselves, as `w.NAME` and `s.NAME`."""
        return {self.titles[name]: self.tensors.own(name) for name in self.tensors.names()}

    def gradients(self) -> Arrays:
        """Copies of the gradients of weights, as `g.NAME`."""
        names = {name: self.titles[name.removesuffix("@grad")] for name in self.tensors.names(gradients=True)}
        return {f"g.{title[2:]}": self.tensors.own(name).copy() for name, title in names.items()}
