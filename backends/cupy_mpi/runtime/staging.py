"""Copies between the device and the processor that nobody waits for: on streams of their own, through pinned memory.

Work on one stream is done in order; an event of one makes another wait. Three of them: the program computes on its own,
samples come on a second one while the step before is computed, messages go and come on a third one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .collectives import Step
    from .world import World

Array = Any
Event = Any
Stream = Any

CHUNK = 4 * 2**20
"""Bytes of a piece of a message: while one is sent, the next one is copied."""

AHEAD = 8
"""So many numbers that are to be read later may be on their way."""


def pointer(array: Array) -> int:
    """Where the memory of an array of the processor begins."""
    return int(array.__array_interface__["data"][0])


class Pinned:
    """Memory of the processor that the device copies from and to, taken and given back. `make` makes some bytes."""

    def __init__(self, make: Callable[[int], Array]) -> None:
        self._make = make
        self._free: dict[int, list[Array]] = {}
        self._given = deque[tuple[Event, Array]]()

    def take(self, like: Array) -> Array:
        """An array of the processor like one of the device."""
        while self._given and self._given[0][0].done:
            self.give(self._given.popleft()[1])
        free = self._free.get(like.nbytes)
        memory = free.pop() if free else self._make(like.nbytes)
        return memory[: like.nbytes].view(like.dtype).reshape(like.shape)

    def give(self, array: Array, event: Event = None) -> None:
        """It may be taken again; behind an event of the device, where there is one."""
        if event is None:
            self._free.setdefault(array.nbytes, []).append(array.reshape(-1).view(np.uint8))
        else:
            self._given.append((event, array))


class Arriving:
    """Two places by turns in which what the processor writes comes to an array of the device.

    While the device still reads the array, what comes next is already written and copied to the other place; only the
    copy from there, within the device, waits.
    """

    def __init__(self, array: Array, pinned: Pinned, make: Callable[[], Array], copies: Stream) -> None:
        self._array, self._copies = array, copies
        self._places = [(pinned.take(array), make()) for _ in range(2)]
        self._copied: list[Event] = [None, None]
        self._used: list[Event] = [None, None]
        self._turn = 0

    def room(self) -> Array:
        """Where the processor may write now."""
        self._turn = 1 - self._turn
        if self._copied[self._turn] is not None:
            self._copied[self._turn].synchronize()
        return self._places[self._turn][0]

    def arrive(self, room: Array, current: Stream) -> bool:
        """What was written comes to the array; whether this room belongs to it."""
        written, there = self._places[self._turn]
        if room is not written:
            return False
        if self._used[self._turn] is not None:
            self._copies.wait_event(self._used[self._turn])
        there.data.copy_from_host_async(pointer(written), written.nbytes, self._copies)
        self._copied[self._turn] = self._copies.record()
        current.wait_event(self._copied[self._turn])
        np.copyto(self._array, there)
        self._used[self._turn] = current.record()
        return True


class Later:
    """A number that the device computes: whoever wants it as a float waits for it."""

    def __init__(self, wait: Callable[[], float]) -> None:
        self._wait = wait

    def __float__(self) -> float:
        return self._wait()


class Numbers:
    """Numbers of the device that are read later, and checked in the order in which they were made."""

    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned
        self._open = deque[tuple[Array, Event, Callable[[float], None], list[float]]]()

    def later(self, number: Array, check: Callable[[float], None], current: Stream) -> Later:
        """An array of one element; the oldest of many that are open is waited for."""
        room, known = self._pinned.take(number), list[float]()
        number.data.copy_to_host_async(pointer(room), room.nbytes, current)
        self._open.append((room, current.record(), check, known))
        while len(self._open) > AHEAD:
            self._next()

        def wait() -> float:
            while not known:
                self._next()
            return known[0]

        return Later(wait)

    def settle(self) -> None:
        """All are there, and checked."""
        while self._open:
            self._next()

    def _next(self) -> None:
        room, event, check, known = self._open.popleft()
        event.synchronize()
        known.append(float(room))
        self._pinned.give(room)
        check(known[0])


class Passage:
    """One message, from when what is sent is `ready` until what came has landed.

    `watch` is called with what is sent and received when the message begins, and what it gives when it is over.
    """

    def __init__(
        self,
        step: Step,
        ready: Event = None,
        land: Callable[[], None] | None = None,
        watch: Callable[[Any, Any], Callable[[], None]] | None = None,
    ) -> None:
        self._step, self._ready, self._land, self._watch = step, ready, land, watch
        self._started: list[Any] | None = None
        self._over = False

    def advance(self, world: World, name: str, serial: int, wait: bool) -> tuple[bool, bool]:
        """As far as it goes, with `wait` waiting for the device but not for others; (has it begun, is it over)."""
        if self._started is None:
            if self._ready is not None:
                if wait:
                    self._ready.synchronize()
                elif not self._ready.done:
                    return False, False
            if self._watch is not None:
                self._land = self._watch(self._step.sent, self._step.received)
            self._started = world.start(self._step, name, serial)
        if not self._over and world.test(self._started):
            self._over = True
            if self._land is not None:
                self._land()
        return True, self._over


class Passages:
    """Messages that go together: they begin in their order."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages

    def advance(self, world: World, name: str, serial: int, wait: bool) -> bool:
        """As far as they go; whether all are over."""
        over = True
        for each in self._passages:
            begun, ended = each.advance(world, name, serial, wait)
            over = over and ended
            if not begun:
                break
        return over


def staged(step: Step, on_device: Callable[[object], bool], pinned: Pinned, stream: Stream) -> Iterator[Passage]:
    """A step through memory of the processor, piece by piece: copied down on a stream, sent, and copied up there."""
    sent, received = step.sent, step.received
    if not on_device(sent) and not on_device(received):
        yield Passage(step._replace(more=()))
        return
    for given, taken in zip_longest(_pieces(sent), _pieces(received)):
        yield _piece(step._replace(sent=given, received=taken, more=()), on_device, pinned, stream)


def _piece(step: Step, on_device: Callable[[object], bool], pinned: Pinned, stream: Stream) -> Passage:
    sent, received, ready = step.sent, step.received, None
    if on_device(sent):
        sent = pinned.take(step.sent)
        step.sent.data.copy_to_host_async(pointer(sent), sent.nbytes, stream)
        ready = stream.record()
    if on_device(received):
        received = pinned.take(step.received)

    def land() -> None:
        if received is not step.received:
            assert received is not None
            step.received.data.copy_from_host_async(pointer(received), received.nbytes, stream)
            pinned.give(received, stream.record())
        if sent is not step.sent:
            assert sent is not None
            pinned.give(sent)

    return Passage(step._replace(sent=sent, received=received), ready, land)


def _pieces(array: Array | None) -> Iterator[Array]:
    """Pieces of a message; none of what is not there."""
    if array is None or not array.size:
        return
    flat, size = array.reshape(-1), max(1, CHUNK // array.itemsize)
    for begin in range(0, flat.size, size):
        yield flat[begin : begin + size]
