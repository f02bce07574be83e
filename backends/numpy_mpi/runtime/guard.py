"""What a program does about failures: say rank, step and cause once, end all ranks, return a status other than 0."""

from __future__ import annotations

import math
import os
import signal
import sys
import traceback
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from . import device
from .failures import ProgramError
from .position import Position, Reading
from .star import show
from .supervisor import Supervision, write_completion
from .world import World


class Unsupervised:
    """The guard of a serial program, and where a process cannot fork: prints, and ends this process."""

    def __init__(self) -> None:
        self.position = Position()
        self.parent: int | None = None
        self._world: World | None = None
        signal.signal(signal.SIGTERM, _raise_terminated)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until the program writes checkpoints

    def join(self, world: Any) -> None:
        """From here on a failure aborts all ranks."""
        self._world = world

    def failed(self, text: str, status: int) -> NoReturn:
        """Prints the text and ends the job."""
        show(text)
        if self._world is not None and self._world.size > 1:
            self._world.abort(status)
        os._exit(status)

    def done(self, rank: int, status: int) -> None:
        """Leaves the completion record."""
        if status == 0:
            write_completion(rank)


class TerminatedError(Exception):
    """SIGTERM has come."""


def _raise_terminated(*_: object) -> None:
    raise TerminatedError


Guard = Supervision | Unsupervised
"""How a rank's end is made known."""


NO_MEMORY = """\
error: {name} was given no more memory: {cause}
{note}
  = note: checkpoints that are written are whole; `--resume` goes on from the last one
  = help: `dlc plan` says what a rank's arrays take; a smaller batch, more ranks or `limit memory` take less"""


def fail(guard: Guard, rank: int | None, failure: BaseException) -> NoReturn:
    """Ends the job because of what was raised on this rank."""
    with suppress(OSError):
        sys.stdout.flush()
    guard.failed(*describe(failure, rank, guard.position.read()))


def describe(failure: BaseException, rank: int | None, place: Reading) -> tuple[str, int]:
    """(what to print, exit status) for something that was raised: a traceback only where it is a defect."""
    name = "a rank" if rank is None else f"rank {rank}"
    note = f"  = note: {place}"
    failure = device.explained(failure)
    if isinstance(failure, ProgramError):
        return failure.render(f"{name}, {place}"), 1
    if isinstance(failure, KeyboardInterrupt):
        return f"error: {name} was ended by SIGINT\n{note}", 128 + signal.SIGINT
    if isinstance(failure, TerminatedError):
        return f"error: {name} was ended by SIGTERM\n{note}", 128 + signal.SIGTERM
    if isinstance(failure, SystemExit):
        return f"error: {name} called sys.exit({failure.code!r}) before the program was done\n{note}", 1
    if isinstance(failure, BrokenPipeError):
        return f"error: {name} cannot print: what read its output has ended\n{note}", 128 + signal.SIGPIPE
    if isinstance(failure, MemoryError):
        return NO_MEMORY.format(name=name, cause=str(failure) or "Python says no more", note=note), 1
    text = "".join(traceback.format_exception(failure)).rstrip()
    cause = f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
    return f"{text}\nerror: {name} failed: {cause}\n{note}", 1


def require_finite(
    world: World,
    loss: float,
    step: int,
    local: float | None = None,
    arrays: SimpleNamespace | None = None,
    what: str = "loss",
) -> None:
    """Raises ProgramError on all ranks alike where the loss, which is the same on all, is infinite or not a number.

    `local` is this rank's part of it, by which the message tells on which ranks it began; `arrays` are this rank's, in
    the order in which a step computes them, by which it tells where.
    """
    if math.isfinite(loss):
        return
    sound = local is None or math.isfinite(local)
    origins = world.allgather("" if sound else first_not_finite(arrays) or "the loss")
    notes = tuple(f"it began on rank {rank}, in {origin}" for rank, origin in enumerate(origins) if origin)
    raise ProgramError(
        f"the {what} is {loss} in step {step}",
        code="E0718",
        notes=notes,
        help="a smaller learning rate, or `clip = norm(1.0)`, often helps",
    )


def first_not_finite(arrays: SimpleNamespace | None) -> str | None:
    """The name of the first array, scalars apart, with an element that is infinite or not a number."""
    for name, array in vars(arrays or SimpleNamespace()).items():
        numbers = device.is_array(array) and array.ndim and array.dtype.kind == "f"
        if numbers and not np.isfinite(device.host(array)).all():
            return name
    return None


SKIPS = 50
"""Skipped steps in a row behind which training has failed: a dynamic loss scale has halved as often by then."""


def skipped(steps: npt.NDArray[Any], step: int) -> bool:
    """Whether a step is skipped because some gradient of the scaled loss was infinite or not a number on some rank.

    `steps` has how many good ones are in a row, how many were skipped in a row and in all, the same on all ranks;
    ProgramError where these are too many for the scale to be the cause.
    """
    in_a_row = int(steps[1])
    if in_a_row >= SKIPS:
        raise ProgramError(
            f"the gradients are infinite or not a number in step {step} and the {SKIPS - 1} before it",
            code="E0718",
            notes=("each of these steps was skipped, whatever the loss scale",),
            help="a smaller learning rate, or `clip = norm(1.0)`, often helps; `compute = bf16` has the range of f32",
        )
    return bool(in_a_row)
