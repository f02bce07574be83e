"""Checkpoints: all that a run needs to go on as if it had never stopped, whole on the disk or not there at all.

A folder holds generations, `step-000000120` for what was reached behind 120 steps. A generation is a folder too:
`weights.npz` has weights and running averages, each whole under its address, `state.npz` what the optimizer keeps, and
`manifest.json`, written last, says where training stands and has the shape, type and SHA-256 of each tensor. It is made
under another name, flushed to the disk, and takes its own in one move; only then is the oldest of three removed.

As no file knows of plans or ranks, any plan on any number of ranks goes on from a checkpoint: the same plan as if
training had never stopped, bit by bit; another one up to rounding.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from . import device
from .collectives import ALGORITHMS, scratch_elements
from .data import Loader
from .failures import ProgramError
from .files import Files, listed, on_rank_0
from .generations import Generation, Manifest, Writing, generations, prune
from .program import Options
from .progress import Progress
from .requests import END, Suspended
from .star import show
from .stop import Stop, numbers_of, restore
from .tensors import Tensors
from .world import World

ASK_FILE = "checkpoint-now"
"""Whoever puts a file of this name into the folder asks for a checkpoint."""

_LOOK = 0.5  # seconds between two looks for that file

CODE = "E0720"


@dataclass
class Checkpoints:
    """Writes checkpoints while a program trains, and goes on from one; all ranks call its methods alike.

    `to` is the folder, as the spec names it, within the root of data paths, `every` the steps between two checkpoints;
    the folder that `options.checkpoint` names takes its place. Without either there are none, nor when `dlc verify`
    records steps or a run is rehearsed.
    """

    tensors: Tensors
    loader: Loader
    files: Files
    options: Options
    progress: Progress
    every: int = 0
    to: str = ""
    stop: Stop | None = None
    _folder: Path | None = field(init=False, default=None)
    _last: int = field(init=False, default=-1)  # the step of the last whole checkpoint
    _looked: float = field(init=False, default=0.0)
    _fresh: bool = field(init=False, default=True)  # no step of this run is done

    def __post_init__(self) -> None:
        options = self.options
        if options.checkpoint:
            self._folder = Path(options.checkpoint)
        elif self.to:
            self._folder = self.files.root / self.to
        if options.record or options.replay or (options.rehearse and not options.checkpoint):
            self._folder = None  # such a run is no training
        self._asked, self._scratch = np.zeros(2), np.empty(0)

    def begin(self, steps: int) -> tuple[int, float]:
        """(steps that are done, the loss of the last one) where training begins; it is to come to `steps`.

        ProgramError where `--resume` finds no whole checkpoint among those that there are, or one of something else;
        without `--resume` where the folder holds checkpoints already.
        """
        begun: Mapping[str, Any] = {"step": 0, "loss": None}
        if self.options.resume:
            begun = self._resumed() or begun
        elif self._folder is not None and steps:
            on_rank_0(self._world, self._require_empty)
        device.begin_choices(self._world, begun.get("choices", {}))
        if self._folder is not None and begun["step"] < steps:
            self._world.position.heed(True)
        return int(begun["step"]), float("nan") if begun["loss"] is None else float(begun["loss"])

    def after(self, step: int, loss: float, *, last: bool) -> None:
        """So many steps are done: write a checkpoint where one is due or asked for. `last`: there is no step behind.

        Suspended where the run is to end. A checkpoint that cannot be written leaves those before it as they are, and
        training goes on.
        """
        if self._fresh:
            self._fresh = False
            device.agree(self._world)
        if self._folder is None:
            return
        asked = self._requested()
        due = bool(self.every) and step % self.every == 0
        if last:
            self._world.position.heed(False)
        if not (asked or due or last):
            return
        failure = self._write(self._folder, step, float(loss))
        self.progress.skip()
        if asked == END:
            self._suspend(self._folder, step, failure)
        if asked and not failure:
            self.progress.note(f"wrote checkpoint {self._folder / Generation.name_of(step)}")

    # --- going on ------------------------------------------------------------------------------------------------

    def _resumed(self) -> Mapping[str, Any] | None:
        """What the manifest of the last whole checkpoint says, once all ranks have their tensors; None without any."""
        if self._folder is None:
            raise ProgramError(
                "there is no folder of checkpoints to resume from",
                code=CODE,
                help='`checkpoint = every(1 epoch, to = "DIR")` in the train block, or `--checkpoint DIR`',
            )
        found: list[Generation] = []
        on_rank_0(self._world, lambda: found.extend(self._whole()))
        generation = found[0] if found else None
        told = self._world.bcast(generation.manifest if generation is not None else None)
        if not told:
            self.progress.note(f"there is no checkpoint in {self._folder} yet: training begins")
            return None
        for name in self.tensors.names():
            self.tensors.scatter(name, generation.read(name) if generation is not None else None)
        if generation is not None:
            generation.close()
        restore(self.stop, told["stop"])
        self._last = told["step"]
        self.progress.note(self._resumes(told))
        manifest: Mapping[str, Any] = told
        return manifest

    def _whole(self) -> list[Generation]:
        """The last whole generation, or none where there are no generations; ProgramError where none of them is."""
        assert self._folder is not None
        self._require_inside()
        with suppress(OSError):
            (self._folder / ASK_FILE).unlink()
        broken: list[str] = []
        for generation in generations(self._folder):
            fault = generation.fault()
            if not fault:
                self._require_own(generation)
                return [generation]
            broken.append(f"{generation.path.name}: {fault}")
            show(f"warning: checkpoint `{generation.path}` is damaged, the one before it is tried: {fault}")
        if broken:
            raise ProgramError(
                f"no checkpoint in `{self._folder}` is whole",
                code=CODE,
                notes=tuple(broken),
                help="without `--resume`, in an empty folder, training begins anew",
            )
        return []

    def _require_own(self, generation: Generation) -> None:
        """ProgramError unless it is of this network, and of the same samples in the same order."""
        faults = [*self._other_tensors(generation.manifest["tensors"]), *self._other_order(generation.manifest["data"])]
        if faults:
            more = [f"and {len(faults) - 10} more differences"] if len(faults) > 10 else []
            raise ProgramError(
                f"checkpoint `{generation.path}` is not one of this program",
                code=CODE,
                notes=(*faults[:10], *more),
                help=f"`--load {generation.path / 'weights.npz'}` takes its weights alone, of the same network",
            )

    def _other_tensors(self, stored: Mapping[str, Any]) -> Iterator[str]:
        names = self.tensors.names()
        missing, unknown = [n for n in names if n not in stored], [n for n in stored if n not in names]
        yield from [f"missing: {listed(missing)}"] if missing else []
        yield from [f"not in this program: {listed(unknown)}"] if unknown else []
        for name in names:
            shape, dtype = self.tensors.shape(name), self.tensors.dtype(name)
            held = stored.get(name, {"shape": shape, "dtype": dtype.str})
            if tuple(held["shape"]) != shape:
                yield f"`{name}` is {tuple(held['shape'])}, expected {shape}"
            elif held["dtype"] != dtype.str:
                yield f"`{name}` holds {np.dtype(held['dtype'])}, expected {dtype}"

    def _other_order(self, kept: Mapping[str, Any]) -> Iterator[str]:
        for what, now in self._order().items():
            if kept.get(what) != now:
                yield f"`{what}` of the data was {kept.get(what)} and is {now}: its steps take other samples"

    def _resumes(self, kept: Mapping[str, Any]) -> str:
        place = f"resumed at step {kept['step']}, epoch {kept['epoch'] + 1}, from {self._folder}"
        plan = digests()
        changed = [what for what in ("spec", "plan") if kept["digests"].get(what) != plan.get(what)]
        return f"{place}, which another {' and another '.join(changed)} wrote" if changed else place

    def _require_empty(self) -> None:
        """The folder of checkpoints, made if need be, without any in it."""
        assert self._folder is not None
        self._require_inside()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "nothing may be written into it")
            (self._folder / ASK_FILE).unlink(missing_ok=True)
            before = generations(self._folder)
        except OSError as cause:
            raise ProgramError(
                f"checkpoints cannot be written to `{self._folder}`: {cause.strerror or cause}", code=CODE
            ) from cause
        if before:
            raise ProgramError(
                f"folder `{self._folder}` holds checkpoints of an earlier run",
                code=CODE,
                notes=(f"its last one is behind step {before[0].step}",),
                help="`--resume` goes on from it; remove the folder to begin anew",
            )

    def _require_inside(self) -> None:
        """A folder that the spec names lies inside the root of its paths: no link leads out of it."""
        assert self._folder is not None
        root = self.files.root.resolve()
        if not self.options.checkpoint and not self._folder.resolve().is_relative_to(root):
            raise ProgramError(
                f"checkpoints cannot be written to `{self._folder}`: it lies outside {root}",
                code=CODE,
                help="`--checkpoint DIR` names any folder",
            )

    # --- writing -------------------------------------------------------------------------------------------------

    def _write(self, folder: Path, step: int, loss: float) -> str:
        """Every tensor comes to rank 0 whole, one after the other, and goes to the disk; why not, or ""."""
        self._world.at(step - 1, "writing a checkpoint")
        device.agree(self._world)
        writing = Writing(folder, step) if self._world.rank == 0 else None
        for name, whole in self.tensors.gathered(self.tensors.names()):
            if writing is not None and whole is not None:
                writing.add(name, whole)
        failure = ""
        if writing is not None:
            failure = writing.finish(self._manifest(step, loss))
            if not failure:
                with suppress(OSError):
                    (folder / ASK_FILE).unlink()
                prune(folder, step)
        failure = str(self._world.bcast(failure))
        if not failure:
            self._last = step
        elif self._world.rank == 0:
            show(f"warning: the checkpoint of step {step} cannot be written: {failure}; {self._left()}")
        return failure

    def _suspend(self, folder: Path, step: int, failure: str) -> None:
        if failure:
            raise ProgramError(
                f"the run was to end behind step {step}, and its checkpoint cannot be written: {failure}",
                code=CODE,
                notes=(self._left(),),
            )
        path = folder / Generation.name_of(step)
        raise Suspended(
            f"ended on request behind step {step}: checkpoint `{path}` is whole, `--resume` goes on from it"
        )

    def _left(self) -> str:
        return f"that of step {self._last} is whole" if self._last >= 0 else "there is none before it"

    def _manifest(self, step: int, loss: float) -> Manifest:
        epoch, batch = divmod(step, self.loader.steps_per_epoch)
        chosen = device.choices()
        return {
            **({"choices": chosen} if chosen else {}),
            "step": step,
            "epoch": epoch,
            "batch": batch,  # the next one of that epoch
            "loss": loss,
            "data": self._order(),
            "stop": numbers_of(self.stop),
            "ranks": self._world.size,
            "digests": digests(),
        }

    def _order(self) -> dict[str, int | bool | str]:
        """What decides which samples a step takes."""
        loader = self.loader
        return {
            "samples": len(loader.samples),
            "batch": loader.batch,
            "seed": loader.seed,
            "shuffle": loader.shuffle,
            "last": loader.last,
        }

    # --- requests ------------------------------------------------------------------------------------------------

    def _requested(self) -> int:
        """The largest of what any rank was asked for since the last step, on all ranks."""
        world, asked = self._world, self._world.position.asked()
        if world.rank == 0 and self._is_asked_by_file():
            asked = max(asked, 1)
        if world.size == 1:
            return int(asked)
        self._asked[:] = (asked > 0, asked == END)
        if not self._scratch.size:
            self._scratch = np.empty(max(1, scratch_elements("tree", world.size, 2)))
        with world.position.waiting("the end of the step"):
            world.run(ALGORITHMS["tree"](world, self._asked, self._scratch), "requests")
        return END if self._asked[1] else int(self._asked[0] > 0)

    def _is_asked_by_file(self) -> bool:
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return False
        self._looked = now
        return self._folder is not None and (self._folder / ASK_FILE).exists()

    @property
    def _world(self) -> World:
        return self.tensors.place.world


def digests() -> dict[str, str]:
    """SHA-256 of the plan that this program was compiled by, and of the spec; "" where it has no plan.json."""
    try:
        plan = json.loads((Path(__file__).resolve().parents[1] / "plan.json").read_bytes())
        spec = dict(plan.pop("digests")).get("spec", "")
        del plan["spec"]  # its path
        return {"plan": sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest(), "spec": spec}
    except (OSError, ValueError, KeyError, TypeError):
        return {"plan": "", "spec": ""}
