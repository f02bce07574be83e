"""What stands for CUDA's streams and events with `--emulate`: it finds what nothing puts in order.

All is done at once and in the order of the program, so a missing event would change no number here. Instead each stream
has a clock of what it knows to be over, of itself and of the others: an event takes a copy of it, who waits for that
learns it. Memory remembers who read and wrote it when; whoever comes upon an access that it does not know to be over,
and one of both writes, gets a RaceError (the vector clocks of C. Fidge and F. Mattern, 1988).

What an asynchronous copy brings to the processor is there only when the processor has waited for it; what it takes from
there must not have changed until then.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from itertools import count
from typing import Any, NamedTuple

import numpy as np

Clock = dict[int, int]
"""Stream -> how many of its operations are known to be over."""


class RaceError(RuntimeError):
    """Nothing puts two accesses to the same memory in order."""


class Access(NamedTuple):
    """Bytes of a piece of memory, by which stream, and whether they were written."""

    begin: int
    end: int
    stream: int
    writes: bool


class Pending(NamedTuple):
    """An asynchronous copy: `there` is what the processor's memory is to hold, or must still hold, when it is over."""

    tick: int
    here: Any
    there: Any
    arrives: bool

    def complete(self) -> None:
        """The processor has waited for it."""
        if self.arrives:
            self.here[...] = self.there
        elif not np.array_equal(self.here, self.there):
            raise RaceError("memory of the processor was written while it was still being copied to the device")


_NUMBERS = count(1)


class Stream:
    """Operations of the device, one after the other. `non_blocking` ones, as all here, wait for no other stream."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = next(_NUMBERS)
        self.clock: Clock = {self.ptr: 0}
        self.pending: list[Pending] = []

    def use(self) -> Stream:
        """It is the current one."""
        _HOST.stream = self
        return self

    def record(self, event: Event | None = None) -> Event:
        """An event behind all that the stream was given."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """What comes is behind the event."""
        _learn(self.clock, event.clock)

    def synchronize(self) -> None:
        """The processor waits for all that the stream was given."""
        _learn(_HOST.clock, self.clock)
        self.complete(self.clock[self.ptr])

    def begin(self) -> int:
        """One more operation, behind all that the processor has waited for; its number."""
        _learn(self.clock, _HOST.clock)
        self.clock[self.ptr] += 1
        return self.clock[self.ptr]

    def complete(self, tick: int) -> None:
        """Copies up to that one are over."""
        over = [each for each in self.pending if each.tick <= tick]
        self.pending = [each for each in self.pending if each.tick > tick]
        for each in over:
            each.complete()


class Event:
    """A point of a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self.clock: Clock = {}
        self._of: Stream | None = None
        self._asked = 0

    def record(self, stream: Stream | None = None) -> None:
        """Here."""
        self._of = stream or get_current_stream()
        _learn(self._of.clock, _HOST.clock)
        self.clock, self._asked = dict(self._of.clock), 0

    @property
    def done(self) -> bool:
        """Whether it is over: not yet when it is asked for the first time."""
        self._asked += 1
        if self._asked > 1:
            self.synchronize()
        return self._asked > 1

    def synchronize(self) -> None:
        """The processor waits for it."""
        _learn(_HOST.clock, self.clock)
        if self._of is not None:
            self._of.complete(self.clock[self._of.ptr])


class Host(threading.local):
    """The processor, of each thread: what it has waited for, and the current stream."""

    def __init__(self) -> None:
        self.clock: Clock = {}
        self.stream = Stream()


_HOST = Host()


def get_current_stream() -> Stream:
    """The one that operations go to."""
    return _HOST.stream


def _learn(clock: Clock, other: Clock) -> None:
    for stream, tick in other.items():
        if tick > clock.get(stream, 0):
            clock[stream] = tick


class _Memory:
    """What was done to one allocation, by whom and when."""

    def __init__(self) -> None:
        self.accesses: dict[Access, int] = {}
        self.streams: set[int] = set()


_KNOWN: dict[int, _Memory] = {}


def touch(read: tuple[Any, ...] = (), written: tuple[Any, ...] = (), stream: Stream | None = None) -> int:
    """An operation of the current stream, or of another one, on arrays of NumPy's; its number. RaceError."""
    stream = stream or get_current_stream()
    tick = stream.begin()
    for arrays, writes in ((read, False), (written, True)):
        for array in arrays:
            if isinstance(array, np.ndarray) and array.size:
                _touch(stream, tick, array, writes)
    return tick


def _touch(stream: Stream, tick: int, array: Any, writes: bool) -> None:
    owner = array if array.base is None else array.base
    memory = _KNOWN.get(id(owner))
    if memory is None:
        memory = _KNOWN[id(owner)] = _Memory()
        weakref.finalize(owner, _KNOWN.pop, id(owner), None)
    begin, end = np.lib.array_utils.byte_bounds(array)
    memory.streams.add(stream.ptr)
    if len(memory.streams) > 1:
        for other, when in memory.accesses.items():
            apart = other.end <= begin or end <= other.begin or not (writes or other.writes)
            if not apart and when > stream.clock.get(other.stream, 0):
                did, does = ("writes" if each else "reads" for each in (other.writes, writes))
                raise RaceError(
                    f"stream {stream.ptr} {does} {end - begin} bytes that stream {other.stream} {did}, "
                    "and nothing says which comes first"
                )
    memory.accesses[Access(begin, end, stream.ptr, writes)] = tick


def copy_async(array: Any, pointer: int, size: int, arrives: bool, stream: Stream | None) -> None:
    """The bytes of an array of the device from or, if it `arrives`, to the processor's memory: some time later."""
    stream = stream or get_current_stream()
    memory: Any = (ctypes.c_ubyte * size).from_address(pointer)
    here = np.frombuffer(memory, np.uint8)
    there = array.reshape(-1).view(np.uint8)[:size]
    if arrives:
        tick = touch(read=(array,), stream=stream)
        stream.pending.append(Pending(tick, here, there.copy(), True))
        here[...] = 0xFF
    else:
        tick = touch(written=(array,), stream=stream)
        stream.pending.append(Pending(tick, here, here.copy(), False))
        there[...] = here
