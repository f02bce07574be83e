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
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from .emulated_graphs import Capture, CaptureError, Graph

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
        self.capture: Capture | None = None
        _STREAMS[self.ptr] = self

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
        if self.capture is not None and event.capture is not self.capture:
            raise CaptureError("a stream that captures waits for an event from outside")
        if event.capture is None:
            _learn(self.clock, event.clock)
            return
        if event.capture.origin.capture is not event.capture:
            raise CaptureError("a stream waits for an event of a capture that is over")
        event.capture.wait(self, event.known)
        self.capture = event.capture
        event.capture.add(self, lambda: _HOST.stream.wait_event(event.played))

    def synchronize(self) -> None:
        """The processor waits for all that the stream was given."""
        self.require_no_capture("waits for a stream")
        _learn(_HOST.clock, self.clock)
        self.complete(self.clock[self.ptr])

    def begin_capture(self, mode: int | None = None) -> None:
        """What the stream is given from here on is a graph's."""
        if self.capture is not None:
            raise CaptureError("a stream captures already")
        self.capture = Capture(self)

    def end_capture(self) -> Graph:
        """The graph of all that it was given since."""
        if self.capture is None or self.capture.origin is not self:
            raise CaptureError("no capture began on this stream")
        return self.capture.end()

    def require_no_capture(self, what: str) -> None:
        """CaptureError where a graph is being made: the processor has no part in it."""
        for stream in (self, _HOST.stream):
            if stream.capture is not None:
                raise CaptureError(f"while a graph is captured, the processor {what}")

    def do(self, run: Callable[..., object], arguments: tuple[Any, ...] = ()) -> None:
        """One operation, with this as the current stream: now, or when the graph is launched that captures it."""
        if self.capture is not None:
            self.capture.add(self, run, *arguments)
            return
        before, _HOST.stream = _HOST.stream, self
        try:
            run(*arguments)
        finally:
            _HOST.stream = before

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
        self.capture: Capture | None = None
        self.known: dict[Stream, int] = {}

    def record(self, stream: Stream | None = None) -> None:
        """Here. In a capture it is `played` whenever the graph is launched."""
        self._of = stream or get_current_stream()
        self.capture = self._of.capture
        if self.capture is not None:
            self.played = Event()
            self.capture.add(self._of, lambda event=self.played: event.record())
            self.known = self.capture.known(self._of)
            return
        _learn(self._of.clock, _HOST.clock)
        self.clock, self._asked = dict(self._of.clock), 0

    @property
    def done(self) -> bool:
        """Whether it is over: not yet when it is asked for the first time."""
        self._require_outside()
        self._asked += 1
        if self._asked > 1:
            self.synchronize()
        return self._asked > 1

    def synchronize(self) -> None:
        """The processor waits for it."""
        self._require_outside()
        _learn(_HOST.clock, self.clock)
        if self._of is not None:
            self._of.complete(self.clock[self._of.ptr])

    def _require_outside(self) -> None:
        get_current_stream().require_no_capture("asks for an event")
        if self.capture is not None:
            raise CaptureError("the processor asks for an event of a graph")


class Host(threading.local):
    """The processor, of each thread: what it has waited for, and the current stream."""

    def __init__(self) -> None:
        self.clock: Clock = {}
        self.stream = Stream()


_STREAMS: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
_HOST = Host()


def get_current_stream() -> Stream:
    """The one that operations go to."""
    return _HOST.stream


def launch(run: Callable[..., object], *arguments: Any, on: int | None = None) -> None:
    """An operation on the current stream, or on that of a number: now, or when the graph is launched that has it."""
    (get_current_stream() if on is None else _STREAMS[on]).do(run, arguments)


def require_no_capture(what: str) -> None:
    """CaptureError where a graph is being made."""
    get_current_stream().require_no_capture(what)


def _learn(clock: Clock, other: Clock) -> None:
    for stream, tick in other.items():
        if tick > clock.get(stream, 0):
            clock[stream] = tick


class _Memory:
    """What was done to one allocation, by whom and when."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.accesses: dict[Access, int] = {}
        self.streams: set[int] = set()

    def access(self, stream: Stream, tick: int, begin: int, end: int, writes: bool) -> None:
        """One more. RaceError."""
        self.streams.add(stream.ptr)
        if len(self.streams) > 1:
            for other, when in self.accesses.items():
                apart = other.end <= begin or end <= other.begin or not (writes or other.writes)
                if not apart and when > stream.clock.get(other.stream, 0):
                    did, does = ("writes" if each else "reads" for each in (other.writes, writes))
                    raise RaceError(
                        f"stream {stream.ptr} {does} {end - begin} bytes that stream {other.stream} {did}, "
                        "and nothing says which comes first"
                    )
        self.accesses[Access(begin, end, stream.ptr, writes)] = tick


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


def in_flight(read: Any, written: Any) -> Callable[[], None]:
    """A library of the processor begins to read and write arrays of the device, such as an MPI does; what ends that.

    The processor must have waited for whatever the device does to them, and what the device does to them until the
    library is done comes upon it. RaceError.
    """
    library = Stream(non_blocking=True)
    touch((read,), (written,), library)

    def end() -> None:
        _learn(_HOST.clock, library.clock)

    return end


def touch_at(pointer: int, size: int, writes: bool) -> None:
    """An operation of the current stream on bytes of which nothing but the address is known. RaceError.

    Where nothing was done to their memory before there is nothing to come upon.
    """
    stream = get_current_stream()
    tick = stream.begin()
    for memory in list(_KNOWN.values()):
        if memory.begin <= pointer < memory.end:
            memory.access(stream, tick, pointer, pointer + size, writes)


def _touch(stream: Stream, tick: int, array: Any, writes: bool) -> None:
    owner = array if array.base is None else array.base
    memory = _KNOWN.get(id(owner))
    if memory is None:
        bounds = np.lib.array_utils.byte_bounds(owner) if isinstance(owner, np.ndarray) else (0, 0)
        memory = _KNOWN[id(owner)] = _Memory(*bounds)
        weakref.finalize(owner, _KNOWN.pop, id(owner), None)
    memory.access(stream, tick, *np.lib.array_utils.byte_bounds(array), writes)


def copy_async(array: Any, pointer: int, size: int, arrives: bool, stream: Stream | None) -> None:
    """The bytes of an array of the device from or, if it `arrives`, to the processor's memory: some time later."""
    stream = stream or get_current_stream()
    stream.require_no_capture("copies")
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
