"""The ranks of a job and what they say to each other. An emitted program speaks to a World and to no MPI.

`Serial` is the world of one rank; mpi_world.py has that of MPI, thread_world.py that of threads in one process.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import collectives
from .collectives import ALGORITHMS, Array, Step, Steps, scratch_elements
from .position import Position


class World(ABC):
    """This rank among all ranks, or among some of them (`subworld`).

    All ranks must call collectives in the same order with the same names and sizes. Names serve the messages of a
    stall, and keep a message of one name from being taken for another's. `members` are the ranks' numbers in the job.
    """

    def __init__(self, rank: int, members: Sequence[int], position: Position | None = None) -> None:
        self.rank = rank
        self.size = len(members)
        self.members = tuple(members)
        self.position = position or Position()
        self._scratch: dict[str, Array] = {}
        self._rows: dict[str, Array] = {}
        self._sent, self._heard = np.zeros(1, np.uint8), np.zeros(1, np.uint8)

    # What a kind of world provides.

    @abstractmethod
    def subworld(self, ranks: Sequence[int]) -> World:
        """The world of these ranks, in this order: all of them must call it, in the same order as others of theirs."""

    @abstractmethod
    def start(self, step: Step, name: str, serial: int = 0) -> list[Any]:
        """Begins to send and to receive, arrays that are contiguous; empty ones are left out.

        Messages between two ranks of one name, size and `serial` keep their order, others need none.
        """

    @abstractmethod
    def test(self, started: list[Any]) -> bool:
        """Whether what `start` began is over: what was received is there, what was sent may be written again."""

    @abstractmethod
    def wait_until(self, ready: Callable[[], bool], name: str, size: int = 0) -> None:
        """Returns when `ready` says so, called as often as messages may have come; `size` bytes are on the way."""

    @abstractmethod
    def send(self, array: Array, to: int, name: str = "message") -> None:
        """The whole array, contiguous, to another rank; returns when the array may be written again."""

    @abstractmethod
    def receive(self, array: Array, source: int, name: str = "message") -> None:
        """Into the whole array, contiguous, of the size that was sent."""

    @abstractmethod
    def exchange(self, sent: Array, to: int, received: Array, source: int, name: str = "message") -> None:
        """Sends and receives at once, so that rings and partners cannot block each other."""

    @abstractmethod
    def barrier(self, name: str = "barrier") -> None:
        """Returns when all ranks have come here."""

    @abstractmethod
    def shared_array(self, shape: Sequence[int], dtype: DTypeLike, name: str) -> Array:
        """One zeroed array in one memory for all ranks, which must be on one node (else ProgramError E0717)."""

    @abstractmethod
    def library(self, values: Array) -> Steps:
        """The sum by the library's own algorithm, in place."""

    @abstractmethod
    def abort(self, status: int = 1) -> None:
        """Ends the whole job at once."""

    # What follows from it.

    def fence(self) -> None:
        """What ranks have written to memory that they share is seen by who reads it behind this."""
        return

    def meeting(self) -> Steps:
        """Dissemination: in ⌈lg P⌉ rounds each rank hears of twice as many."""
        self.fence()
        span = 1
        while span < self.size:
            yield Step(self._sent, (self.rank + span) % self.size, self._heard, (self.rank - span) % self.size)
            span *= 2
        self.fence()

    def run(self, steps: Steps, name: str) -> None:
        """One step after the other."""
        for step in steps:
            if step.request is not None:
                self.wait_until(lambda step=step: self.test([step.request]), name)  # type: ignore[misc]
            elif step.received is None:
                self.send(step.sent, step.to, name)  # type: ignore[arg-type]
            elif step.sent is None:
                self.receive(step.received, step.source, name)
            else:
                self.exchange(step.sent, step.to, step.received, step.source, name)

    def at(self, step: int, what: str = "computing") -> None:
        """This rank is in that step now; what the guard says when something goes wrong."""
        self.position.at(step, what)

    def bucket(self, name: str, elements: int, dtype: DTypeLike, algorithm: str) -> Array:
        """A flat zeroed buffer for `allreduce` under that name and algorithm, with all the scratch that it needs.

        For `shared` it lies in the node's shared memory, so that what is written there need not be copied.
        """
        if algorithm not in ALGORITHMS:
            raise ValueError(f"{algorithm!r} is none of {', '.join(ALGORITHMS)}")
        self._scratch[name] = np.empty(scratch_elements(algorithm, self.size, elements), dtype)
        if algorithm != "shared" or self.size == 1:
            return np.zeros(elements, dtype)
        line = 64 // np.dtype(dtype).itemsize  # rows begin on cache lines
        rows = self.shared_array((self.size, max(1, -(-elements // line)) * line), dtype, name)
        self._rows[name] = rows[:, :elements]
        values: Array = self._rows[name][self.rank]
        return values

    def allreduce(self, array: Array, algorithm: str, name: str) -> None:
        """The sum over all ranks, in place, with the same bits on every rank.

        `array` is the bucket of that name; where there is none, scratch is made on first use (not for `shared`).
        """
        if self.size == 1:
            return
        if name not in self._scratch:
            self._scratch[name] = np.empty(scratch_elements(algorithm, self.size, array.size), array.dtype)
        values = self._rows[name] if algorithm == "shared" else flat(array)
        with self.position.waiting(f"allreduce `{name}`"):
            self.run(ALGORITHMS[algorithm](self, values, self._scratch[name]), name)

    def broadcast(self, array: Array, root: int = 0, name: str = "broadcast") -> None:
        """The array of `root` on all ranks, in place."""
        with self.position.waiting(f"broadcast `{name}`"):
            self.run(collectives.broadcast(self.rank, self.size, flat(array), root), name)

    def bcast(self, value: Any, root: int = 0) -> Any:
        """The small value of `root` (JSON values or bytes) on all ranks."""
        if self.size == 1:
            return value
        text = np.frombuffer(_encode(value), np.uint8).copy() if self.rank == root else np.empty(0, np.uint8)
        length = np.array([len(text)])
        with self.position.waiting("bcast"):
            self.run(collectives.broadcast(self.rank, self.size, length, root), "bcast length")
            if self.rank != root:
                text = np.empty(int(length[0]), np.uint8)
            self.run(collectives.broadcast(self.rank, self.size, text, root), "bcast value")
        return value if self.rank == root else _decode(text.tobytes())

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        """The small values of all ranks, in rank order, on `root`; None elsewhere."""
        text = np.frombuffer(_encode(value), np.uint8).copy()
        with self.position.waiting("gather"):
            if self.rank != root:
                self.send(np.array([len(text)]), root, "gather length")
                self.send(text, root, "gather value")
                return None
            return [value if rank == root else self._receive_value(rank) for rank in range(self.size)]

    def allgather(self, value: Any) -> list[Any]:
        """The small values of all ranks, in rank order, on all."""
        values: list[Any] = self.bcast(self.gather(value))
        return values

    def gather_rows(self, array: Array, counts: Sequence[int], name: str = "rows") -> Array | None:
        """Rank 0 gets all ranks' rows (first axis) in rank order, `counts[rank]` of each; None elsewhere."""
        if self.size == 1:
            return array.copy()
        with self.position.waiting(f"gather_rows `{name}`"):
            if self.rank:
                if counts[self.rank]:
                    self.send(np.ascontiguousarray(array), 0, name)
                return None
            rows = np.empty((sum(counts), *array.shape[1:]), array.dtype)
            rows[: counts[0]] = array
            for rank in range(1, self.size):
                start = sum(counts[:rank])
                if counts[rank]:
                    self.receive(rows[start : start + counts[rank]], rank, name)
            return rows

    def _receive_value(self, rank: int) -> Any:
        length = np.empty(1, np.int64)
        self.receive(length, rank, "gather length")
        text = np.empty(int(length[0]), np.uint8)
        self.receive(text, rank, "gather value")
        return _decode(text.tobytes())


class Serial(World):
    """A world of one rank; needs no MPI."""

    def __init__(self, position: Position | None = None) -> None:
        super().__init__(0, (0,), position)

    def subworld(self, ranks: Sequence[int]) -> World:
        """There is no other."""
        return self

    def start(self, step: Step, name: str, serial: int = 0) -> list[Any]:
        """There is no one to send to."""
        raise ValueError("a world of one rank has no one to send to")

    def test(self, started: list[Any]) -> bool:
        """Nothing was begun."""
        return True

    def wait_until(self, ready: Callable[[], bool], name: str, size: int = 0) -> None:
        """What is not there now never comes."""
        if not ready():
            raise ValueError(f"nobody else can end `{name}` in a world of one rank")

    def send(self, array: Array, to: int, name: str = "message") -> None:
        """There is no one to send to."""
        raise ValueError("a world of one rank has no one to send to")

    def receive(self, array: Array, source: int, name: str = "message") -> None:
        """There is no one to receive from."""
        raise ValueError("a world of one rank has no one to receive from")

    def exchange(self, sent: Array, to: int, received: Array, source: int, name: str = "message") -> None:
        """With itself: a copy."""
        received[...] = sent

    def barrier(self, name: str = "barrier") -> None:
        """Nothing to wait for."""

    def shared_array(self, shape: Sequence[int], dtype: DTypeLike, name: str) -> Array:
        """An array of its own."""
        return np.zeros(tuple(shape), dtype)

    def library(self, values: Array) -> Steps:
        """The sum of one."""
        return iter(())

    def abort(self, status: int = 1) -> None:
        """Ends the process."""
        raise SystemExit(status)


def flat(array: Array) -> Array:
    """The array's elements as one axis, without a copy; ValueError where they do not lie back to back."""
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of shape {array.shape} must be contiguous to be sent")
    return array.reshape(-1)


def _encode(value: Any) -> bytes:
    return b"b" + value if isinstance(value, bytes) else b"j" + json.dumps(value).encode()


def _decode(text: bytes) -> Any:
    return text[1:] if text[:1] == b"b" else json.loads(text[1:])
