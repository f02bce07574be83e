"""Where the arrays of a program lie: on a GPU, as CuPy's; with `--emulate` in NumPy's that stand for them.

`--emulate` computes with NumPy's kernels, `--emulate cuda` with the CUDA text of kernels.cu, compiled as C++. Messages
between ranks go through pinned memory of the processor.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .agreement import Agreement
from .failures import ProgramError
from .graphs import Call, Graph, Graphs
from .numbers import Numbers
from .staging import Arriving, Later, Passage, Passages, Pinned, staged
from .staging import Numbers as LaterNumbers
from .transport import Choice, Nccl, Own, choose, own

if TYPE_CHECKING:
    from .collectives import Step
    from .world import World

Array = Any

OPTION, VARIABLE = "--emulate", "DLC_EMULATE"
STAND_INS = ("numpy", "cuda")


def _stand_in() -> str:
    """What stands for a GPU in this run: it must be known before arguments are read; "" where there is to be one."""
    for at, word in enumerate(sys.argv):
        if word == OPTION:
            following = sys.argv[at + 1 : at + 2]
            return following[0] if following and following[0] in STAND_INS else STAND_INS[0]
    return os.environ.get(VARIABLE, "")


STAND_IN = _stand_in()


def _cupy() -> Any:
    """CuPy, or what stands for it; without either the process ends with what helps."""
    try:
        return importlib.import_module(".emulated", __package__) if STAND_IN else importlib.import_module("cupy")
    except ImportError as cause:
        error = ProgramError(
            f"CuPy cannot be used: {cause}",
            help="`pip install cupy-cuda13x` installs it; `--emulate` computes on the processor, as a check",
        )
        raise SystemExit(error.render()) from None


cp: Any = _cupy()

SHARED = False
"""No gradient is born in memory that ranks share: it would be the processor's."""

LOCAL_RANKS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
"""How launchers tell a process which it is on its node."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what stands for a GPU."""
    parser.add_argument(
        OPTION,
        nargs="?",
        choices=STAND_INS,
        const=STAND_INS[0],
        help="compute on the processor: with NumPy's kernels, or (slowly, for checking) with the CUDA text itself",
    )


def begin(rank: int, world: World | None = None) -> str:
    """Takes this rank's GPU, its number on the node, and agrees on how messages go; ProgramError where there is none.

    Without a world, all ranks are in this process.
    """
    about = "the processor stands for a GPU" if STAND_IN else _take(rank)
    if world is None or world.size == 1:
        return about
    found: Choice = choose([Own(*each) for each in world.allgather(own(cp, bool(STAND_IN)))])
    RANK.transport = found.kind
    if found.kind == "nccl":
        RANK.nccl = Nccl(cp.cuda.nccl, on_device)
        RANK.ranks = world.size
    return f"{about}; {found.about}"


def _take(rank: int) -> str:
    """This rank's GPU."""
    try:
        count = cp.cuda.runtime.getDeviceCount()
    except cp.cuda.runtime.CUDARuntimeError as error:
        raise ProgramError(
            f"there is no GPU that CuPy can use: {error}", help="`--emulate` computes on the processor, as a check"
        ) from None
    local = next((int(os.environ[name]) for name in LOCAL_RANKS if name in os.environ), rank)
    cp.cuda.Device(local % count).use()
    RANK.begin()
    Rank.begun = True
    name = cp.cuda.runtime.getDeviceProperties(local % count)["name"].decode()
    return f"{name}, {count} of them on this node"


# --- what ranks choose together ---------------------------------------------------------------------------------------


def begin_choices(world: World, kept: Mapping[str, str]) -> None:
    """All ranks tell each other what was chosen in runs before, and in the one that they go on with (`kept`)."""
    RANK.agreement.begin(world, kept)


def agree(world: World) -> None:
    """All ranks decide what was left open, such as how cuDNN computes a convolution, and do so from now on."""
    if RANK.agreement.agree(world):
        RANK.graphs.forget()


def choices() -> dict[str, str]:
    """What was decided, for a checkpoint."""
    return dict(RANK.agreement.known)


FAILURES = {
    "OutOfMemoryError": (
        "the GPU has too little memory",
        "a smaller batch, `recompute = all`, more ranks, or `limit memory` in the plan, which then heeds it",
    ),
    "CUDARuntimeError": ("the GPU has failed", "CUDA_LAUNCH_BLOCKING=1 and DLC_GRAPHS=no show in which call"),
    "CUDADriverError": ("the GPU has failed", "CUDA_LAUNCH_BLOCKING=1 and DLC_GRAPHS=no show in which call"),
    "CompileException": ("kernels.cu cannot be compiled for this GPU", "CuPy and its CUDA must know this GPU"),
    "NcclError": ("NCCL has failed", "NCCL_DEBUG=INFO tells more; DLC_TRANSPORT=staged goes without NCCL"),
}
"""What CuPy raises -> what to say of it, and what helps."""


def explained(failure: BaseException) -> BaseException:
    """What was raised, in words that a user can act on where CuPy raised it; where it was in the program is a note."""
    if type(failure).__name__ not in FAILURES:
        return failure
    text, help = FAILURES[type(failure).__name__]
    where = [each for each in traceback.extract_tb(failure.__traceback__) if each.filename.endswith("train.py")]
    notes = tuple(f"train.py, line {each.lineno}: {each.line}" for each in where[-1:])
    error: BaseException = ProgramError(f"{text}: {failure}", notes=notes, help=help)
    return error


# --- what a step launches --------------------------------------------------------------------------------------------


class Captured:
    """What is launched on the current stream, as a graph."""

    def begin(self) -> None:
        """From here on it is kept."""
        RANK.numbers.hold()
        cp.cuda.get_current_stream().begin_capture()

    def end(self) -> Graph | None:
        """The graph; None where the capture was invalidated."""
        stream, messages = cp.cuda.get_current_stream(), RANK.captures_messages
        if messages:
            stream.wait_event(RANK.messages.record())
        RANK.captures_messages = False
        try:
            return Launched(stream.end_capture(), stream, messages)
        except cp.cuda.runtime.CUDARuntimeError:
            return None
        finally:
            RANK.numbers.release()


class Launched(NamedTuple):
    """A graph on its stream; with `messages` it has such that are on their own stream otherwise."""

    graph: Any
    stream: Any
    messages: bool

    def launch(self) -> None:
        """All that it has."""
        if self.messages:
            self.stream.wait_event(RANK.messages.record())
        self.graph.launch(self.stream)


def run(calls: Sequence[tuple[Any, ...]], ended: Callable[[str], None], apart: bool = False) -> None:
    """Functions of a step, each with its arrays, on a microbatch: those that can be as graphs of what they launch.

    `ended` is told the names of those that are over; `apart`: of each alone, and when the device is done with it.
    """
    found = [Call(*each) for each in calls]
    if found:
        RANK.numbers.follow(found[0].at)
    if apart or os.environ.get("DLC_GRAPHS") == "no":
        for call in found:
            RANK.graphs.alone(call)
            if apart:
                settle()
            ended(call.name)
    else:
        RANK.graphs.run(found)
        ended(" ".join(call.name for call in found))


# --- arrays --------------------------------------------------------------------------------------------------------


def zeros(elements: int, dtype: npt.DTypeLike) -> Array:
    """A flat array of the device."""
    RANK.graphs.cross()
    return cp.zeros(elements, dtype)


def on_device(array: object) -> bool:
    """Whether it is an array of the device."""
    return isinstance(array, cp.ndarray)


def is_array(value: object) -> bool:
    """Whether it is an array of the device or of the processor."""
    return isinstance(value, np.ndarray) or on_device(value)


def pointer(array: Array) -> int:
    """Where an array's memory begins."""
    return int(array.data.ptr if on_device(array) else array.__array_interface__["data"][0])


def copy(target: Array, source: Array) -> None:
    """The elements of one array to another, which may be on either side; they broadcast as NumPy's do."""
    if on_device(target) and on_device(source):
        np.copyto(target, source)
        return
    RANK.graphs.cross()
    if not on_device(target):
        catch_up()
        np.copyto(target, source.get() if on_device(source) else source)
    elif id(target) in RANK.arriving and RANK.arriving[id(target)].arrive(source, cp.cuda.get_current_stream()):
        return
    elif target.flags.c_contiguous and target.shape == source.shape and target.dtype == source.dtype:
        target.set(np.ascontiguousarray(source).reshape(source.shape))  # it gives a number an axis
    else:
        target[...] = cp.asarray(np.broadcast_to(source, target.shape))


def host(array: Array) -> Array:
    """The same elements where the processor can read them; who writes them puts them back with `copy`."""
    if not on_device(array):
        return array
    RANK.graphs.cross()
    catch_up()
    return array.get()


def settle() -> None:
    """Returns when the device has done all that it was given."""
    cp.cuda.get_current_stream().synchronize()


# --- memory that the device copies from and to ----------------------------------------------------------------------


def _put(target: Array, source: Array) -> None:
    """The elements of an array of the processor, which may change then, to one of the device, both in one piece."""
    room = RANK.pinned.take(target)
    room[...] = source
    stream = cp.cuda.get_current_stream()
    target.data.copy_from_host_async(pointer(room), target.nbytes, stream)
    RANK.pinned.give(room, stream.record())


def _pinned(size: int) -> Array:
    return np.frombuffer(cp.cuda.alloc_pinned_memory(size), np.uint8, size) if size else np.empty(0, np.uint8)


class Rank(threading.local):
    """What a rank of the job has of its own: all of them may be threads of one process (`--rehearse`).

    `later` are numbers that are read later, `arriving` has by array where the processor writes what is to come to it.
    `captures_messages`: the graph that is being made has messages.
    """

    begun = bool(STAND_IN)
    """Whether the GPU is taken, so that streams can be made."""

    def __init__(self) -> None:
        if self.begun:
            self.begin()
        self.pinned, self.graphs = Pinned(_pinned), Graphs(Captured())
        self.numbers = Numbers(lambda size: cp.zeros(size, np.uint8), _put)
        self.later = LaterNumbers(self.pinned)
        self.arriving: dict[int, Arriving] = {}
        self.captures_messages, self.ranks = False, 1
        self.agreement = Agreement()
        self.transport = "staged"
        self.nccl: Nccl | None = None

    def begin(self) -> None:
        """The streams: its launches go to the first one."""
        cp.cuda.Stream(non_blocking=True).use()
        self.copies, self.messages = (cp.cuda.Stream(non_blocking=True) for _ in range(2))


RANK = Rank()
if STAND_IN:
    cp.ndarray.noted = lambda: RANK.graphs.cross()


def staging(array: Array) -> Array:
    """Where the processor writes what is to be in an array: `copy` brings it there if this is not the array itself."""
    if not on_device(array):
        return array
    RANK.graphs.cross()
    if id(array) not in RANK.arriving:  # it stays there as long as the array does: they are made once
        like = cp.empty(array.shape, array.dtype), cp.empty(array.shape, array.dtype)
        RANK.arriving[id(array)] = Arriving(array, RANK.pinned, iter(like).__next__, RANK.copies)
    return RANK.arriving[id(array)].room()


def later(number: Array, check: Callable[[float], None]) -> Any:
    """What float() of an array of one element gives, read when it is wanted; checked then, the oldest first."""
    RANK.graphs.cross()
    found: Later = RANK.later.later(number, check, cp.cuda.get_current_stream())
    return found


def catch_up() -> None:
    """All numbers that were to be read later are read and checked."""
    RANK.later.settle()


class Messages:
    """The order of what messages need done on their own stream and of what the program computes on its own."""

    def __init__(self, ranks: int) -> None:
        self._alone = ranks == 1
        self._before: Any = None

    def begin(self) -> None:
        """Messages that begin now are behind all that the program was given."""
        if not self._alone:
            RANK.captures_messages = RANK.graphs.recording
            RANK.messages.wait_event(cp.cuda.get_current_stream().record())

    def end(self) -> None:
        """What the program is given now is behind all that messages needed."""
        if not self._alone and RANK.captures_messages == RANK.graphs.recording:  # else they are in the graph before
            cp.cuda.get_current_stream().wait_event(RANK.messages.record())

    def __enter__(self) -> None:
        if not self._alone:
            self._before = cp.cuda.get_current_stream()
            RANK.messages.use()

    def __exit__(self, *_: object) -> None:
        if not self._alone:
            self._before.use()


def join(group: World) -> None:
    """What messages among these ranks need: all of them call it."""
    if RANK.nccl is not None:
        RANK.nccl.join(group)
        if group.size == RANK.ranks:
            RANK.graphs.apart = frozenset(("fill",))  # all messages are NCCL's, which are launches: graphs have them


def summed(group: World, values: Array) -> bool:
    """The sum over these ranks, in place, by the device's own library; False where that does not do it."""
    return RANK.nccl is not None and RANK.nccl.sum(group, values, RANK.messages)


def passages(group: World, steps: Sequence[Step]) -> Passages | None:
    """Messages as the message library reaches them; None where they are in the processor's memory as they are."""
    there = [step for step in steps if on_device(step.sent) or on_device(step.received)]
    others = [Passage(step._replace(more=())) for step in steps if step not in there]
    nccl = RANK.nccl if RANK.nccl is not None and RANK.nccl.has(group) else None
    if others or nccl is None:
        RANK.graphs.cross()
    if not there:
        return None
    if nccl is not None:
        nccl.send_and_receive(group, there, RANK.messages)
        return Passages(others)
    if RANK.transport == "mpi":  # what they hold, and what is read of where they come to, must be over
        ready, watch = RANK.messages.record(), cp.in_flight if STAND_IN else None
        return Passages([*others, *(Passage(step._replace(more=()), ready, watch=watch) for step in there)])
    pieces = [each for step in there for each in staged(step, on_device, RANK.pinned, RANK.messages)]
    return Passages([*others, *pieces])
