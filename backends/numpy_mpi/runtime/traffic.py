"""What a rank has begun and not ended yet: it goes on whenever the program calls into its place, whatever for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import device
from .collectives import Array, Step, Steps
from .exchange import Parcel, Pool
from .world import World


@dataclass(slots=True, eq=False)
class Running:
    """Something begun: steps of the ranks of a world, named as the messages of a stall call them."""

    world: World
    steps: Steps
    name: str
    serial: int = 0
    size: int = 0
    done: bool = False
    _started: list[Any] = field(default_factory=list)
    _passages: Any = None

    def advance(self, wait: bool = False) -> bool:
        """As far as it goes without waiting for others, with `wait` waiting for a device; whether it is over."""
        while not self.done and self._is_there(wait):
            step = next(self.steps, None)
            if step is None:
                self.done = True
                continue
            steps, self._started = (step, *step.more), []
            self._passages = device.passages(self.world, steps)
            if self._passages is None:
                self._started = [each for one in steps for each in self.world.start(one, self.name, self.serial)]
        return self.done

    def _is_there(self, wait: bool) -> bool:
        """Whether the messages of the last step are over."""
        if self._passages is None:
            return self.world.test(self._started)
        return bool(self._passages.advance(self.world, self.name, self.serial, wait))


class Traffic:
    """All that is under way on a rank, and the memory of its messages."""

    def __init__(self, world: World) -> None:
        self.world, self.pool = world, Pool()
        self._messages = device.Messages(world.size)
        self._open: list[Running] = []

    def start(self, world: World, steps: Steps, name: str, serial: int = 0, size: int = 0) -> Running:
        """Begins steps of a world, which move `size` bytes; messages of one name and serial keep their order."""
        running = Running(world, steps, name, serial, size)
        self._messages.begin()
        self._open.append(running)
        self._advance()
        return running

    def end(self, running: Running) -> None:
        """Returns when it is over."""
        if not running.done and not (self._advance(wait=True) and running.done):
            with self.world.position.waiting(running.name):
                self.world.wait_until(lambda: self._advance(wait=True) and running.done, running.name, running.size)
        self._messages.end()

    def run(self, steps: Steps, name: str) -> None:
        """Messages among all ranks of the job, numbered as there, to their end."""
        self.end(self.start(self.world, steps, name))

    def settle(self) -> None:
        """Returns when everything is over."""
        for running in tuple(self._open):
            self.end(running)
        self._messages.end()

    def sent(self, array: Array, to: int) -> Steps:
        """One message of an array, which may have gaps."""
        packed, used = Parcel.of([array]).packed(self.pool)
        yield Step(packed, to)
        if used is not None:
            self.pool.give(used)

    def received(self, array: Array, source: int) -> Steps:
        """One message into an array, which may have gaps."""
        parcel = Parcel.of([array])
        room, taken = parcel.room(self.pool)
        yield Step(received=room, source=source)
        if taken is not None:
            parcel.unpack(taken, sums=False)
            self.pool.give(taken)

    def _advance(self, wait: bool = False) -> bool:
        """Everything that is begun, as far as it goes without waiting for others."""
        with self._messages:
            for running in tuple(self._open):
                if running.advance(wait):
                    self._open.remove(running)
        return True
