"""How messages of arrays on GPUs go from rank to rank: chosen when a program starts, the same on all ranks.

`nccl` where each rank has a GPU of its own and CuPy has NCCL; `mpi`, on pointers to memory of the device, where the MPI
says that it takes them; otherwise `staged`, through pinned memory of the processor. DLC_TRANSPORT takes one of them.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .failures import ProgramError

if TYPE_CHECKING:
    from .world import World

VARIABLE = "DLC_TRANSPORT"
KINDS = ("nccl", "mpi", "staged")

ABOUT = {
    "nccl": "messages go by NCCL, which adds sums in an order of its own",
    "mpi": "messages go by MPI, on the device's memory",
    "staged": "messages go through pinned memory",
}


class Own(NamedTuple):
    """What a rank knows of itself: `device` tells GPUs of all nodes apart, `nccl` and `mpi` say why not, if not."""

    device: str
    nccl: str
    mpi: str
    wanted: str


class Choice(NamedTuple):
    """A kind of transport, and why it is not one that comes before it."""

    kind: str
    reason: str

    @property
    def about(self) -> str:
        """A line for people."""
        return ABOUT[self.kind] + (f": {self.reason}" if self.reason else "")


def choose(ranks: Sequence[Own]) -> Choice:
    """What the ranks take, by what they know of themselves. ProgramError where they are told what cannot be."""
    wanted = {own.wanted for own in ranks}
    if len(wanted) > 1:
        raise ProgramError(f"{VARIABLE} is not the same on all ranks: {', '.join(sorted(wanted))}")
    (asked,) = wanted
    if asked and asked not in KINDS:
        raise ProgramError(f"{VARIABLE} is `{asked}`", help=f"it can be {', '.join(KINDS)}")
    reasons = {"nccl": _why_no_nccl(ranks), "mpi": _first(own.mpi for own in ranks), "staged": ""}
    if asked:
        if reasons[asked]:
            raise ProgramError(
                f"{VARIABLE} is `{asked}`, and that cannot be: {reasons[asked]}",
                help=f"`{VARIABLE}=staged` always can be; without it the program takes what is best",
            )
        return Choice(asked, f"{VARIABLE} says so")
    kind = next(kind for kind in KINDS if not reasons[kind])
    return Choice(kind, "; ".join(reasons[each] for each in KINDS[: KINDS.index(kind)]))


def _why_no_nccl(ranks: Sequence[Own]) -> str:
    known: dict[str, int] = {}
    for rank, own in enumerate(ranks):
        other = known.setdefault(own.device, rank)
        if other != rank:
            return f"ranks {other} and {rank} share a GPU, which NCCL refuses"
    return _first(own.nccl for own in ranks)


def _first(reasons: Any) -> str:
    return next((f"rank {rank} {reason}" for rank, reason in enumerate(reasons) if reason), "")


def own(cp: Any, emulated: bool) -> Own:
    """What this rank knows of itself. A GPU is known by its place on the bus of its node: parts of one share that."""
    device = f"stand-in {os.getpid()}" if emulated else str(cp.cuda.Device().pci_bus_id)
    takes = (emulated and cp.mpi_takes_pointers()) or _mpi_takes_pointers()
    return Own(f"{socket.gethostname()} {device}", _nccl(cp), "" if takes else _NO_MPI, _wanted())


def _wanted() -> str:
    return os.environ.get(VARIABLE, "").lower()


_NO_MPI = "has an MPI that takes no pointers to a device's memory"


def _nccl(cp: Any) -> str:
    try:
        from_cupy = cp.cuda.nccl
    except (ImportError, AttributeError):
        return "has a CuPy without NCCL"
    return "" if getattr(from_cupy, "available", True) else "has a CuPy without NCCL"


def _mpi_takes_pointers() -> bool:
    """By MPIX_Query_cuda_support, which MPICH and Open MPI have alike; MPICH can be told not to."""
    if os.environ.get("MPIR_CVAR_ENABLE_GPU") == "0":
        return False
    return any(query() == 1 for query in _queries())


def _queries() -> list[Callable[[], int]]:
    """The query in the MPI that this process has loaded, and in no other one."""
    found, names = list[Callable[[], int]](), list[str | None]([None])
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            names += sorted({line.split()[-1] for line in maps if "/libmpi" in line})
    except OSError:
        pass
    for name in names:
        try:
            found.append(ctypes.CDLL(name).MPIX_Query_cuda_support)
        except (OSError, AttributeError):
            continue
    return found


class Nccl:
    """Messages and sums by NCCL, in the order of a stream: whoever begins them goes on at once.

    A rank's messages wait for each other, so their order must have no circles: where one stage of a pipeline sends
    activations and the next one gradients, each would wait until the other one receives. Stages have no communicator.

    All ranks make their communicators, one for each group that they are in, at the same time.
    """

    def __init__(self, nccl: Any, on_device: Callable[[object], bool]) -> None:
        self._nccl, self._on_device = nccl, on_device
        self._of: dict[int, Any] = {}
        self._types = {
            "float16": nccl.NCCL_FLOAT16, "float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64,
            "int32": nccl.NCCL_INT32, "int64": nccl.NCCL_INT64, "uint8": nccl.NCCL_UINT8,
        }  # fmt: skip

    def join(self, group: World) -> None:
        """A communicator of a group: all of its ranks call it."""
        if group.size > 1 and id(group) not in self._of:
            identity = group.bcast(list(self._nccl.get_unique_id()) if group.rank == 0 else None)
            self._of[id(group)] = self._nccl.NcclCommunicator(group.size, tuple(identity), group.rank)

    def has(self, group: World) -> bool:
        """Whether a group has a communicator: messages of others go through pinned memory."""
        return id(group) in self._of

    def send_and_receive(self, group: World, steps: Sequence[Any], stream: Any) -> None:
        """Messages that go at once, of arrays of the device."""
        communicator, byte = self._of[id(group)], self._nccl.NCCL_UINT8
        self._nccl.groupStart()
        for step in steps:
            if step.sent is not None and step.sent.size:
                communicator.send(step.sent.data.ptr, step.sent.nbytes, byte, step.to, stream.ptr)
            if step.received is not None and step.received.size:
                communicator.recv(step.received.data.ptr, step.received.nbytes, byte, step.source, stream.ptr)
        self._nccl.groupEnd()

    def sum(self, group: World, values: Any, stream: Any) -> bool:
        """The sum over a group, in place; whether NCCL adds such elements."""
        if not self.has(group) or not self._on_device(values) or values.dtype.name not in self._types:
            return False
        kind, where = self._types[values.dtype.name], values.data.ptr
        self._of[id(group)].allReduce(where, where, values.size, kind, self._nccl.NCCL_SUM, stream.ptr)
        return True
