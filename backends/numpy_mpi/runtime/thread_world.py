"""Virtual ranks: one thread each in one process, with the interface of MPI's world.

One of them runs at a time, until it has to wait; then it is the next one's turn of those that can go on. So a job
takes the same course every time, and where all wait, it ends at once and says who waits for what.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from .collectives import Array, Step, Steps, tree
from .failures import ProgramError
from .world import World, flat

Outcome = TypeVar("Outcome")
_Context = tuple[tuple[int, ...], tuple[int, ...]]
"""The members of a world; which one of the same members it is, in the world that it was made in, and so on."""

_SHOWN = 16  # ranks that a message lists


class _StoppedError(Exception):
    """Another rank failed; what it raised is what counts."""


class _Address(NamedTuple):
    """Where a message belongs; ranks are numbers in the job."""

    context: _Context
    source: int
    target: int
    name: str
    serial: int


@dataclass(slots=True, eq=False)
class _Message:
    """One end of a message that waits for the other: what is sent, or where it goes to."""

    array: Array
    done: bool = False


@dataclass(slots=True)
class _Gate:
    """A barrier."""

    arrived: list[int] = field(default_factory=list)
    generation: int = 0


class _Job:
    """The memory that the threads of one job share, and whose turn it is."""

    def __init__(self, size: int, rendezvous: bool) -> None:
        self.size, self.rendezvous = size, rendezvous
        self.sent: defaultdict[_Address, deque[_Message]] = defaultdict(deque)
        self.wanted: defaultdict[_Address, deque[_Message]] = defaultdict(deque)
        self.gates: defaultdict[_Context, _Gate] = defaultdict(_Gate)
        self.arrays: dict[tuple[_Context, str, int], Array] = {}
        self.failures: list[BaseException] = []
        self._turns = [threading.Semaphore(0) for _ in range(size)]
        self._ready = deque(range(size))
        self._waiting: dict[int, str] = {}
        self._ended: list[int] = []

    def begin(self, rank: int) -> None:
        """Waits for this rank's first turn."""
        self._turns[rank].acquire()

    def wait(self, rank: int, what: str) -> None:
        """Gives the turn away until something has happened that may concern this rank."""
        self._waiting[rank] = what
        self.pass_on()
        self._turns[rank].acquire()
        if self.failures:
            raise _StoppedError

    def wake(self, rank: int) -> None:
        """Something has happened that may concern a rank."""
        if self._waiting.pop(rank, None) is not None:
            self._ready.append(rank)

    def end(self, rank: int) -> None:
        """This rank is done."""
        self._ended.append(rank)
        self.pass_on()

    def fail(self, failure: BaseException) -> None:
        """All ranks are to end."""
        self.failures.append(failure)
        for rank in sorted(self._waiting):
            self.wake(rank)

    def pass_on(self) -> None:
        """The next rank's turn."""
        if not self._ready and self._waiting:
            self.fail(ProgramError("all ranks wait for ever", notes=tuple(self._notes())))
        if self._ready:
            self._turns[self._ready.popleft()].release()

    def _notes(self) -> list[str]:
        notes = [f"rank {rank} waits in {self._waiting[rank]}" for rank in sorted(self._waiting)]
        more = [f"and {len(notes) - _SHOWN} more"] if len(notes) > _SHOWN else []
        ended = [f"ranks that have ended: {sorted(self._ended)}"] if self._ended else []
        return [*notes[:_SHOWN], *more, *ended]


class ThreadWorld(World):
    """One virtual rank; made by `run_threads`."""

    def __init__(self, rank: int, job: _Job, members: Sequence[int], path: tuple[int, ...] = ()) -> None:
        super().__init__(rank, members)
        self._job = job
        self._context: _Context = (self.members, path)
        self._made: defaultdict[tuple[int, ...], int] = defaultdict(int)
        self._arrays: defaultdict[str, int] = defaultdict(int)

    def subworld(self, ranks: Sequence[int]) -> World:
        """A world whose messages and barriers are its own."""
        members = tuple(self.members[rank] for rank in ranks)
        self._made[members] += 1
        path = (*self._context[1], self._made[members])
        return ThreadWorld(list(ranks).index(self.rank), self._job, members, path)

    def start(self, step: Step, name: str, serial: int = 0) -> list[Any]:
        """A message goes over when both ends are there; without rendezvous a copy of it may wait for the receiver."""
        started = []
        if step.received is not None and step.received.size:
            started.append(self._receive(step.received, step.source, name, serial))
        if step.sent is not None and step.sent.size:
            started.append(self._send(step.sent, step.to, name, serial))
        return started

    def test(self, started: list[Any]) -> bool:
        """Whether all these messages went over."""
        return all(message.done for message in started)

    def wait_until(self, ready: Callable[[], bool], name: str, size: int = 0) -> None:
        """The others' turn, until it is so."""
        while not ready():
            self._job.wait(self.members[self.rank], f"`{name}`")

    def send(self, array: Array, to: int, name: str = "message") -> None:
        """Begun, and waited for."""
        self._finish([self._send(array, to, name, 0)], f"send `{name}` to rank {self.members[to]}")

    def receive(self, array: Array, source: int, name: str = "message") -> None:
        """Begun, and waited for."""
        self._finish([self._receive(array, source, name, 0)], f"receive `{name}` from rank {self.members[source]}")

    def exchange(self, sent: Array, to: int, received: Array, source: int, name: str = "message") -> None:
        """Both are begun before one is waited for."""
        started = [self._receive(received, source, name, 0), self._send(sent, to, name, 0)]
        self._finish(started, f"exchange `{name}` with ranks {self.members[to]} and {self.members[source]}")

    def barrier(self, name: str = "barrier") -> None:
        """Counts arrivals; the last one opens the gate."""
        gate = self._job.gates[self._context]
        generation = gate.generation
        gate.arrived.append(self.members[self.rank])
        if len(gate.arrived) < self.size:
            while gate.generation == generation:
                self._job.wait(self.members[self.rank], f"`{name}`")
            return
        arrived, gate.arrived, gate.generation = gate.arrived, [], generation + 1
        for rank in arrived:
            self._job.wake(rank)

    def shared_array(self, shape: Sequence[int], dtype: DTypeLike, name: str) -> Array:
        """The first rank to come makes it; a second one of that name is another one."""
        self._arrays[name] += 1
        return self._job.arrays.setdefault((self._context, name, self._arrays[name]), np.zeros(tuple(shape), dtype))

    def library(self, values: Array) -> Steps:
        """There is no MPI below: the tree stands in."""
        return tree(self, values, np.empty_like(values))

    def abort(self, status: int = 1) -> None:
        """Ends this rank, and with it the others."""
        raise ProgramError(f"rank {self.members[self.rank]} aborted with status {status}")

    def _send(self, array: Array, to: int, name: str, serial: int) -> _Message:
        address = _Address(self._context, self.members[self.rank], self.members[to], name, serial)
        message, wanted = _Message(array), self._job.wanted[address]
        if wanted:
            _deliver(message, wanted.popleft(), address)
            self._job.wake(address.target)
            return message
        if not self._job.rendezvous:
            message = _Message(array.copy(), done=True)
        self._job.sent[address].append(message)
        return message

    def _receive(self, array: Array, source: int, name: str, serial: int) -> _Message:
        address = _Address(self._context, self.members[source], self.members[self.rank], name, serial)
        message, sent = _Message(array), self._job.sent[address]
        if sent:
            _deliver(sent.popleft(), message, address)
            self._job.wake(address.source)
        else:
            self._job.wanted[address].append(message)
        return message

    def _finish(self, messages: list[_Message], what: str) -> None:
        while not self.test(messages):
            self._job.wait(self.members[self.rank], what)


def _deliver(sent: _Message, wanted: _Message, address: _Address) -> None:
    if sent.array.nbytes != wanted.array.nbytes:
        raise ProgramError(
            f"`{address.name}`: rank {address.source} sent {sent.array.nbytes} bytes, "
            f"{wanted.array.nbytes} were expected"
        )
    np.copyto(_bytes(wanted.array), _bytes(sent.array))
    sent.done = wanted.done = True


def _bytes(array: Array) -> Array:
    return flat(array).view(np.uint8)


def run_threads(main: Callable[[World], Outcome], ranks: int, *, rendezvous: bool = False) -> list[Outcome]:
    """Runs main(world) on that many virtual ranks; their results in rank order. The first failure is raised.

    With `rendezvous` no message is on its way before its receiver wants it: a sender waits, and what it has begun to
    send it must not change. ProgramError where all ranks wait for each other.
    """
    job = _Job(ranks, rendezvous)
    results: dict[int, Outcome] = {}

    def run(rank: int) -> None:
        job.begin(rank)
        try:
            if not job.failures:
                results[rank] = main(ThreadWorld(rank, job, range(ranks)))
        except _StoppedError:
            pass
        except BaseException as failure:
            job.fail(failure)
        job.end(rank)

    threads: list[Any] = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    job.pass_on()
    for thread in threads:
        thread.join()
    if job.failures:
        raise job.failures[0]
    return [results[rank] for rank in range(ranks)]
