"""Virtual ranks: one thread each in one process, with the interface of MPI's world."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from .collectives import Array, tree
from .failures import ProgramError
from .world import World

Outcome = TypeVar("Outcome")
_Address = tuple[int, int, str]  # source, target, name


class _StoppedError(Exception):
    """Another rank failed; what it raised is what counts."""


class _Exchange:
    """The memory that the threads of one job share."""

    def __init__(self, size: int, stall_seconds: float) -> None:
        self.changed = threading.Condition()
        self.messages: defaultdict[_Address, deque[Array]] = defaultdict(deque)
        self.arrays: dict[str, Array] = {}
        self.waiting: dict[int, str] = {}
        self.arrived = 0
        self.generation = 0
        self.failed = False
        self.size = size
        self.stall_seconds = stall_seconds

    def wait_until(self, ready: Callable[[], bool], rank: int, name: str) -> None:
        """Waits with `changed` held; raises where another rank failed or nothing happens for too long."""
        self.waiting[rank] = name
        if not self.changed.wait_for(lambda: self.failed or ready(), self.stall_seconds):
            missing = [other for other in range(self.size) if self.waiting.get(other) != name]
            raise ProgramError(
                f"rank {rank} has waited {self.stall_seconds:g} s in `{name}`", notes=(f"ranks not in it: {missing}",)
            )
        del self.waiting[rank]
        if self.failed and not ready():
            raise _StoppedError


class ThreadWorld(World):
    """One virtual rank; made by `run_threads`."""

    def __init__(self, rank: int, exchange: _Exchange) -> None:
        super().__init__(rank, exchange.size)
        self._exchange = exchange

    def send(self, array: Array, to: int, name: str = "message") -> None:
        """A copy is put into the target's queue."""
        with self._exchange.changed:
            self._exchange.messages[self.rank, to, name].append(array.copy())
            self._exchange.changed.notify_all()

    def receive(self, array: Array, source: int, name: str = "message") -> None:
        """Waits for the next message of that name from `source`."""
        with self._exchange.changed:
            queue = self._exchange.messages[source, self.rank, name]
            self._exchange.wait_until(lambda: bool(queue), self.rank, name)
            message = queue.popleft()
        if message.nbytes != array.nbytes:
            raise ProgramError(f"`{name}`: rank {source} sent {message.nbytes} bytes, {array.nbytes} were expected")
        array[...] = message.reshape(array.shape)

    def exchange(self, sent: Array, to: int, received: Array, source: int, name: str = "message") -> None:
        """Sending does not wait, so one after the other will do."""
        self.send(sent, to, name)
        self.receive(received, source, name)

    def barrier(self, name: str = "barrier") -> None:
        """Counts arrivals; the last one opens the gate."""
        exchange = self._exchange
        with exchange.changed:
            generation = exchange.generation
            exchange.arrived += 1
            if exchange.arrived == self.size:
                exchange.arrived, exchange.generation = 0, generation + 1
                exchange.changed.notify_all()
            exchange.wait_until(lambda: exchange.generation != generation, self.rank, name)

    def shared_array(self, shape: Sequence[int], dtype: DTypeLike, name: str) -> Array:
        """The first rank to come makes it."""
        with self._exchange.changed:
            return self._exchange.arrays.setdefault(name, np.zeros(tuple(shape), dtype))

    def mpi_allreduce(self, array: Array, name: str) -> None:
        """There is no MPI below: the tree stands in."""
        values = array.reshape(-1)
        tree(self, values, np.empty_like(values), name)

    def abort(self, status: int = 1) -> None:
        """Ends this rank, and with it the others."""
        raise ProgramError(f"rank {self.rank} aborted with status {status}")


def run_threads(main: Callable[[World], Outcome], ranks: int, *, stall_seconds: float = 30.0) -> list[Outcome]:
    """Runs main(world) on that many virtual ranks; their results in rank order. The first failure is raised."""
    exchange = _Exchange(ranks, stall_seconds)
    results: dict[int, Outcome] = {}
    failures: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = main(ThreadWorld(rank, exchange))
        except _StoppedError:
            pass
        except BaseException as failure:
            with exchange.changed:
                failures.append(failure)
                exchange.failed = True
                exchange.changed.notify_all()

    threads: list[Any] = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [results[rank] for rank in range(ranks)]
