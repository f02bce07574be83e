"""The world of MPI. This is the one module that imports mpi4py; it is itself imported only where there are ranks."""

from __future__ import annotations

import math
import os
import time
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike

from .collectives import Array, Step, Steps
from .failures import ProgramError
from .position import Position
from .processes import unlink_shared_memory
from .world import World

_SPIN = 200e-6  # seconds of testing without a pause: short messages come within them
_PAUSE = 1e-4  # seconds of sleep between later tests: a waiting rank then takes about 5 % of a core
_SPIN_PER_BYTE = 2e-9  # a long message is moved by the testing itself, so one keeps at it while it may be moving


_ODD = 0x9E3779B1
"""2³² by the golden ratio: its multiples spread over all tags before one comes again."""


_give_way = getattr(os, "sched_yield", lambda: None)  # not every system has it


class _Communicator(World):
    """The ranks of one of MPI's communicators."""

    def __init__(
        self, comm: Any, members: Sequence[int], position: Position | None, stall_seconds: float, parent: int | None
    ) -> None:
        super().__init__(comm.Get_rank(), members, position)
        self._comm, self._stall_seconds, self._parent = comm, stall_seconds, parent
        self._windows: list[Any] = []
        self._found_node: Any = None
        self._tags = _largest_mask(MPI.COMM_WORLD.Get_attr(MPI.TAG_UB) or 0x7FFF)

    @property
    def _node(self) -> Any:
        """The ranks on this one's node."""
        if self._found_node is None:
            self._found_node = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        return self._found_node

    @property
    def on_one_node(self) -> bool:
        """Whether all ranks can share memory."""
        return bool(self._node.Get_size() == self.size)

    def subworld(self, ranks: Sequence[int]) -> World:
        """A communicator of its own, by MPI's Create_group."""
        comm = self._comm.Create_group(self._comm.Get_group().Incl(list(ranks)))
        members = [self.members[rank] for rank in ranks]
        return _Communicator(comm, members, self.position, self._stall_seconds, self._parent)

    def start(self, step: Step, name: str, serial: int = 0) -> list[Any]:
        """Irecv and Isend."""
        if step.request is not None:
            return [step.request]
        requests = []
        if step.received is not None and step.received.size:
            requests.append(self._start_receive(step.received, step.source, name, serial))
        if step.sent is not None and step.sent.size:
            requests.append(self._start_send(step.sent, step.to, name, serial))
        return requests

    def test(self, started: list[Any]) -> bool:
        """MPI's Testall."""
        return bool(MPI.Request.Testall(started))

    def send(self, array: Array, to: int, name: str = "message") -> None:
        """MPI's Isend, waited for."""
        with self.position.waiting(f"send `{name}` to rank {self.members[to]}"):
            self._finish([self._start_send(array, to, name)], array.nbytes, name)

    def receive(self, array: Array, source: int, name: str = "message") -> None:
        """MPI's Irecv, waited for."""
        with self.position.waiting(f"receive `{name}` from rank {self.members[source]}"):
            self._finish([self._start_receive(array, source, name)], array.nbytes, name)

    def exchange(self, sent: Array, to: int, received: Array, source: int, name: str = "message") -> None:
        """Irecv and Isend, waited for together; empty sides are left out, which both ends know."""
        with self.position.waiting(f"exchange `{name}`"):
            self._finish(self.start(Step(sent, to, received, source), name), sent.nbytes + received.nbytes, name)

    def barrier(self, name: str = "barrier") -> None:
        """Dissemination; memory shared within the node is in step.

        With more ranks than cores this is several times faster than MPI's Ibarrier (benchmarks/allreduce.py, `shared`).
        """
        with self.position.waiting(f"barrier `{name}`"):
            self.run(self.meeting(), name)

    def fence(self) -> None:
        """MPI's Win.Sync of all windows."""
        for window in self._windows:
            window.Sync()

    def library(self, values: Array) -> Steps:
        """MPI's Iallreduce."""
        yield Step(request=self._comm.Iallreduce(MPI.IN_PLACE, values))

    def shared_array(self, shape: Sequence[int], dtype: DTypeLike, name: str) -> Array:
        """A window of MPI.Win.Allocate_shared that belongs to rank 0; each rank touches the row of its number first."""
        if not self.on_one_node:
            raise ProgramError(
                f"`{name}` is summed in shared memory, and the ranks are on several nodes",
                code="E0717",
                notes=(f"{self._node.Get_size()} of {self.size} ranks are on this rank's node",),
                help="start all ranks on one node, or set `allreduce = rabenseifner` in the plan",
            )
        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._require_shared_memory(size, name)
        window: Any = MPI.Win.Allocate_shared(size if self.rank == 0 else 0, 1, comm=self._node)
        memory, _ = window.Shared_query(0)
        window.Lock_all()
        self._windows.append(window)
        array: Array = np.ndarray(tuple(shape), dtype, buffer=memory)
        array[self.rank :: self.size] = 0
        self.barrier(name)
        return array

    def abort(self, status: int = 1) -> None:
        """MPI's Abort, of all ranks of the job."""
        MPI.COMM_WORLD.Abort(status)

    def _start_send(self, array: Array, to: int, name: str, serial: int = 0) -> Any:
        return self._comm.Isend([array, array.nbytes, MPI.BYTE], to, self._tag(name, array.nbytes, serial))

    def _start_receive(self, array: Array, source: int, name: str, serial: int = 0) -> Any:
        return self._comm.Irecv([array, array.nbytes, MPI.BYTE], source, self._tag(name, array.nbytes, serial))

    def _tag(self, name: str, size: int, serial: int) -> int:
        """A message as a tag, so that ranks which disagree about it stall and are named; serials give other tags."""
        return (_digest(name, size) + serial * _ODD) & self._tags

    def _finish(self, requests: list[Any], size: int, name: str) -> None:
        """Waits for all requests."""
        self.wait_until(lambda: bool(MPI.Request.Testall(requests)), name, size)

    def wait_until(self, ready: Callable[[], bool], name: str, size: int = 0) -> None:
        """Asks without a pause first, then with short sleeps in which others can compute."""
        start = time.perf_counter()
        spin = _SPIN + size * _SPIN_PER_BYTE
        while not ready():
            waited = time.perf_counter() - start
            if waited > spin:
                self._look_around(waited, name)
                time.sleep(_PAUSE)
            else:
                _give_way()

    def _look_around(self, waited: float, name: str) -> None:
        """Ends this rank where its supervisor is gone; gives up where nothing has come for far too long."""
        if self._parent is not None and os.getppid() != self._parent:
            time.sleep(1.0)  # rank 0's supervisor says so first: mpiexec may kill all ranks when this one ends
            os._exit(1)
        if waited > 1.1 * self._stall_seconds + 2:  # the supervisors, who know who is missing, come first
            raise ProgramError(f"rank {self.members[self.rank]} has waited {waited:.0f} s in `{name}`")

    def _require_shared_memory(self, size: int, name: str) -> None:
        free = size
        if self.rank == 0 and os.path.isdir("/dev/shm"):
            status = os.statvfs("/dev/shm")
            free = status.f_bavail * status.f_frsize
        free = self.bcast(free)
        if free < size:
            raise ProgramError(
                f"`{name}` needs {size / 2**20:.1f} MiB of shared memory, /dev/shm has {free / 2**20:.1f} MiB left",
                code="E0717",
                help="make it larger (docker: `--shm-size`), or set `allreduce = rabenseifner` in the plan",
            )


class MpiWorld(_Communicator):
    """All ranks that mpiexec started.

    `parent` is the process number of the rank's supervisor, without which the rank ends itself; None where it has none.
    """

    def __init__(
        self, position: Position | None = None, *, stall_seconds: float = 300.0, parent: int | None = None
    ) -> None:
        comm: Any = MPI.COMM_WORLD.Dup()
        super().__init__(comm, range(comm.Get_size()), position, stall_seconds, parent)
        first = self._node.Get_rank() == 0
        self.barrier("the start")  # all ranks have opened MPICH's shared memory
        if first:
            unlink_shared_memory(os.getpid())


@lru_cache(maxsize=4096)
def _digest(name: str, size: int) -> int:
    return zlib.crc32(f"{name}:{size}".encode())


def _largest_mask(bound: int) -> int:
    """The largest 2ᵏ - 1 up to a bound."""
    return int((1 << (bound + 1).bit_length() - 1) - 1)
