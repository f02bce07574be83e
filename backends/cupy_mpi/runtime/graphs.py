"""What functions of a step launch, as few graphs: from its third run alike on a graph is launched as a whole.

A function can be part of one that neither copies anything to or from the processor nor talks to other ranks; those that
follow each other are one graph. Its launches are the same as long as it is told the same: on what of the microbatch it
depends is seen when it runs for the first time. What changes from step to step and is read from the device's memory
(numbers.py) is no part of that: rates, the number of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from .numbers import FIELDS, Following, following

WARM = 2
"""Runs alike before a graph is made: they compile kernels and allocate what these work in."""

MOST = 32
"""Graphs of the same functions: more ways to call them than microbatches have slots are none that come again."""

FOUND = ("count", "samples", "first", "microbatch")
"""What says which microbatch it is."""


class Graph(Protocol):
    """Launches that were captured."""

    def launch(self) -> None:
        """All of them, in order."""


class Call(NamedTuple):
    """One of a step's functions, with its arrays, on a microbatch."""

    function: Callable[..., None]
    arrays: tuple[Any, ...]
    at: Any
    place: Any

    @property
    def name(self) -> str:
        """The function's."""
        return self.function.__name__


class Graphs:
    """The graphs of a program, of which `launched` were launched again.

    `capture` makes one of what a call launches, and does that once; or it gives None, and nothing is done. The call
    says whether all that it did can be in a graph.
    """

    def __init__(self, capture: Callable[[Callable[[], bool]], Graph | None]) -> None:
        self._capture = capture
        self._reads: dict[str, frozenset[str]] = {}
        self._eager = set[str]()
        self._runs: dict[tuple[str, ...], dict[object, int]] = {}
        self._known: dict[tuple[str, ...], dict[object, Graph]] = {}
        self._crossed = False
        self.launched = 0

    def cross(self) -> None:
        """Something goes to or from the processor: no graph has that."""
        self._crossed = True

    def run(self, calls: Sequence[Call]) -> None:
        """Functions one after the other: as graphs where there are some, else call by call."""
        at = 0
        while at < len(calls):
            stop = at
            while stop < len(calls) and self._can(calls[stop]):
                stop += 1
            if stop > at:
                self._together(calls[at:stop])
            else:
                stop = at + 1
                self.alone(calls[at])
            at = stop

    def _can(self, call: Call) -> bool:
        """Whether it is known to touch nothing but the device."""
        return call.name in self._reads and call.name not in self._eager

    def alone(self, call: Call) -> None:
        """A function, call by call."""
        self._crossed, seen = False, Seen(call.at)
        call.function(*call.arrays, seen, call.place)
        if self._crossed:
            self._eager.add(call.name)
        self._reads[call.name] = self._reads.get(call.name, frozenset()) | seen.read

    def _together(self, calls: Sequence[Call]) -> None:
        """Functions that touch nothing but the device."""
        names = tuple(call.name for call in calls)
        key = tuple(self._key(call) for call in calls)
        graphs = self._known.setdefault(names, {})
        if key in graphs:
            self.launched += 1
            graphs[key].launch()
            return
        if len(graphs) < MOST and self._is_due(names, key):
            made = self._capture(lambda: self._all(calls))
            if made is not None:
                if all(map(self._can, calls)):
                    graphs[tuple(self._key(call) for call in calls)] = made  # it may have read more than was known
                return
            self._eager.update(names)
        for call in calls:
            self.alone(call)

    def _all(self, calls: Sequence[Call]) -> bool:
        """The functions, one by one; whether they touch nothing but the device."""
        for call in calls:
            self.alone(call)
        return all(map(self._can, calls))

    def _key(self, call: Call) -> object:
        """What a function's launches depend on."""
        told = (getattr(call.at, name) for name in sorted(self._reads[call.name]))
        return (id(call.arrays[0]), *(getattr(call.at, field) for field in FOUND), *told)

    def _is_due(self, names: tuple[str, ...], key: object) -> bool:
        """Whether it is time for a graph: runs alike are counted, with others between them, but not for ever."""
        runs = self._runs.setdefault(names, {})
        count = runs[key] = runs.pop(key, 0) + 1
        if len(runs) > MOST:
            del runs[next(iter(runs))]
        return count > WARM


class Seen:
    """A microbatch that remembers what is read of it but by calls that follow the steps."""

    def __init__(self, at: Any) -> None:
        self._at, self._given = at, list[Following]()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._at, name)
        if name not in FIELDS:
            return value
        given = following(value, name)
        self._given.append(given)
        return given

    @property
    def read(self) -> frozenset[str]:
        """Names of what a step is told on which launches depend."""
        return frozenset(each.follows for each in self._given if not each.is_followed)


class Tape:
    """Stands for a graph where there is no GPU: launches are kept while they are made, and made again."""

    def __init__(self) -> None:
        self.launches: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None

    def add(self, run: Callable[..., None], *arguments: Any) -> None:
        """Launch, and keep it where a graph is being made."""
        run(*arguments)
        if self.launches is not None:
            self.launches.append((run, arguments))

    def capture(self, call: Callable[[], bool]) -> Graph:
        """What a call launches."""
        self.launches = made = list[tuple[Callable[..., None], tuple[Any, ...]]]()
        try:
            call()
        finally:
            self.launches = None
        return Taped(made)


class Taped:
    """What was launched."""

    def __init__(self, launches: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        self.launches = launches

    def launch(self) -> None:
        """The same again."""
        for run, arguments in self.launches:
            run(*arguments)
