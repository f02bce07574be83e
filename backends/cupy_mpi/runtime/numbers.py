"""Numbers that change from step to step, such as rates: in one block of the device's memory, written once a step.

Kernels are given where their numbers are, not what they are. So a launch is the same in every step, and a graph of it
serves all of them: what a step is told is copied into the block before its first launch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Array = Any

FIELDS = ("lr", "step", "updates")
"""What of a microbatch is the same for all of a step, and changes with it."""

BLOCK = 2**16
"""Bytes of the block."""

ALIGNMENT = 8


class Changing(Protocol):
    """Numbers of what a call is told by some names (kernels/launch.py)."""

    @property
    def of(self) -> Callable[..., tuple[float, ...]]:
        """Makes them of what is told, and of what is fixed."""

    @property
    def told(self) -> tuple[str, ...]:
        """The names."""

    @property
    def fixed(self) -> tuple[float, ...]:
        """What is fixed."""


class Following:
    """A number that a step is told, by the name of its field; `plain` is the number itself.

    It says whether what was made of it follows the steps.
    """

    follows: str
    plain: float
    is_followed = False

    def follow(self) -> None:
        """A call follows the steps as far as this number goes."""
        self.is_followed = True


class FollowingRate(Following, float):
    """One with a fraction."""


class FollowingCount(Following, int):
    """A whole one."""


def following(value: float, name: str) -> Any:
    """The same number, which says of what field it is."""
    found = FollowingCount(value) if isinstance(value, int) else FollowingRate(value)
    found.follows, found.plain = name, value
    return found


@dataclass
class Numbers:
    """The block. `zeros` makes memory of the device; `put(memory, bytes)` copies there, in the order of launches."""

    zeros: Callable[[int], Array]
    put: Callable[[Array, Array], None]
    _memory: Array = None
    _bytes: Array = field(default_factory=lambda: np.zeros(BLOCK, np.uint8))
    _end: int = 0
    _now: dict[str, float] = field(default_factory=dict)
    _known: dict[object, tuple[Changing, tuple[str, ...], Array, Array]] = field(default_factory=dict)
    _at: Any = None
    _held: bool = False
    _stale: bool = False

    def place(self, numbers: Changing, told: Mapping[str, Any], dtype: Any) -> Array:
        """Where these numbers are, on the device. They follow the steps if all that they are made of does."""
        names = tuple(getattr(told[name], "follows", "") for name in numbers.told)
        values = numbers.of(*(told[name] for name in numbers.told), *numbers.fixed)
        wanted = np.dtype(np.int64 if isinstance(values[0], int) else dtype)
        if not all(names):
            alone = self.zeros(len(values) * wanted.itemsize).view(wanted)
            self.put(alone, np.array(values, wanted))
            return alone
        key = (numbers.of, numbers.fixed, names, wanted)
        if key not in self._known:
            self._known[key] = (numbers, names, *self._room(len(values), wanted))
            self._now.update({name: told[each] for name, each in zip(names, numbers.told, strict=True)})
            self._known[key][2][...] = values
            self._copy()
        return self._known[key][3]

    def follow(self, at: Any) -> None:
        """The numbers of the step that a microbatch is in: to be called before the first launch of each step."""
        self._at = at
        now = {name: getattr(at, name) for name in self._now}
        if now == self._now:
            return
        self._now = now
        for numbers, names, host, _ in self._known.values():
            host[...] = numbers.of(*(now[name] for name in names), *numbers.fixed)
        self._copy()

    def now(self, name: str) -> float:
        """What a field of the microbatch is in the step that the rank is in."""
        value: float = getattr(self._at, name)
        return value

    def hold(self) -> None:
        """From here on nothing is copied: a graph is being made, of which no such copy may be a part."""
        self._held = True

    def release(self) -> None:
        """What was to be copied since `hold` is copied."""
        self._held = False
        if self._stale:
            self._copy()

    def _copy(self) -> None:
        self._stale = self._held
        if not self._held:
            self.put(self._memory[: self._end], self._bytes[: self._end])

    def _room(self, count: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """(where numbers are written, where kernels read them)."""
        if self._memory is None:
            self._memory = self.zeros(BLOCK)
        begin, size = self._end, count * dtype.itemsize
        if begin + size > BLOCK:
            raise ValueError(f"more than {BLOCK} bytes of numbers change from step to step")
        self._end = -(-(begin + size) // ALIGNMENT) * ALIGNMENT
        host, there = (memory[begin : begin + size].view(dtype) for memory in (self._bytes, self._memory))
        return host, there
