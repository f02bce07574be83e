"""What functions of a step launch, as few graphs: from its third run alike on a graph is launched as a whole.

Functions that follow each other are recorded together. What they launch between two calls that need the processor or
other ranks, such as messages, is a graph; those calls are kept as they are, in their places between the graphs. While
it is recorded nothing is done: it is then played, and in each run alike from there on, without calling the functions.

Launches are the same as long as a function is told the same: on what of the microbatch it depends is seen when it runs
for the first time. What changes from step to step and is read from the device's memory (numbers.py) is no part of that:
rates, the number of the step.
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

MOVES = ("allgather", "reduce_scatter", "all_to_all", "halo", "halo_sum", "allreduce", "largest", "slice")
ASIDE = frozenset((*MOVES, "wait", "settle", "send", "sent", "receive", "fill"))
"""Of what functions call on their place, what needs the processor or other ranks; none of it gives anything back."""


class Graph(Protocol):
    """Launches that were captured."""

    def launch(self) -> None:
        """All of them, in order."""


class Capture(Protocol):
    """Makes graphs of what is launched."""

    def begin(self) -> None:
        """What is launched from here on is kept, and not done."""

    def end(self) -> Graph | None:
        """All of that; None where something was among it that no graph can have."""


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


class Aside(NamedTuple):
    """A call between graphs. Microbatches among its arguments are the numbers of functions, whose own are meant."""

    run: Callable[..., object]
    arguments: tuple[Any, ...]
    named: dict[str, Any]

    def play(self, calls: Sequence[Call]) -> None:
        """For these functions."""
        given = (calls[each.number].at if isinstance(each, Seen) else each for each in self.arguments)
        self.run(*given, **self.named)


class Recording(NamedTuple):
    """Graphs and what is called between them."""

    parts: list[Graph | Aside]

    def play(self, calls: Sequence[Call]) -> None:
        """All of it, in order."""
        for part in self.parts:
            if isinstance(part, Aside):
                part.play(calls)
            else:
                part.launch()


class Graphs:
    """The graphs of a program; `played` counts the runs of functions that were recorded, `launched` their graphs.

    `apart` is what of a place is no part of a graph.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._reads: dict[str, frozenset[str]] = {}
        self._eager, self._crossing = set[str](), set[str]()
        self._runs: dict[tuple[str, ...], dict[object, int]] = {}
        self._known: dict[tuple[str, ...], dict[object, Recording]] = {}
        self._crossed = False
        self._parts: list[Graph | Aside] | None = None
        self.apart = ASIDE
        self.played = self.launched = 0

    @property
    def recording(self) -> bool:
        """Whether what is launched is captured."""
        return self._parts is not None

    def forget(self) -> None:
        """What functions launch is no longer what it was."""
        self._runs.clear()
        self._known.clear()

    def cross(self) -> None:
        """Something goes to or from the processor: no graph has that."""
        self._crossed = True

    def aside(self, run: Callable[..., object], /, *arguments: Any, **named: Any) -> None:
        """A call that may do so, and gives nothing back: the graph before it ends, and another one begins behind it."""
        if self._parts is None:
            before = self._crossed
            run(*(each.itself if isinstance(each, Seen) else each for each in arguments), **named)
            self._crossed = before
            return
        self._cut()
        self._parts.append(Aside(run, arguments, named))
        self._capture.begin()

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
        """Whether it is known to touch nothing but the device, but for what is aside."""
        return call.name in self._reads and call.name not in self._eager and call.name not in self._crossing

    def alone(self, call: Call, number: int = 0) -> None:
        """A function, call by call. It may take memory when it runs for the first time, and be a graph later."""
        self._crossed, seen = False, Seen(call.at, number)
        call.function(*call.arrays, seen, Heard(call.place, self))
        (self._crossing.add if self._crossed else self._crossing.discard)(call.name)
        self._reads[call.name] = self._reads.get(call.name, frozenset()) | seen.read

    def _together(self, calls: Sequence[Call]) -> None:
        """Functions that can be recorded."""
        names = tuple(call.name for call in calls)
        key = tuple(self._key(call) for call in calls)
        known = self._known.setdefault(names, {})
        if key not in known and len(known) < MOST and self._is_due(names, key):
            made = self._recorded(calls)
            if made is None:
                self._eager.update(names)
            else:
                key = tuple(self._key(call) for call in calls)  # it may have read more than was known
                known[key] = made
                self._play(made, calls)
                return
        if key in known:
            self._play(known[key], calls)
            return
        for call in calls:
            self.alone(call)

    def _play(self, recording: Recording, calls: Sequence[Call]) -> None:
        self.played += 1
        self.launched += sum(not isinstance(part, Aside) for part in recording.parts)
        recording.play(calls)

    def _recorded(self, calls: Sequence[Call]) -> Recording | None:
        """What these functions do, none of which is done; None where some of it can be no part of a graph."""
        self._parts = parts = list[Graph | Aside]()
        self._capture.begin()
        try:
            for number, call in enumerate(calls):
                self.alone(call, number)
            self._cut()
            return Recording(parts) if all(map(self._can, calls)) else None
        except _NoGraphError:
            return None
        except RuntimeError:  # CuPy's own for what it refuses, the runtime's for what invalidates the capture
            self._capture.end()
            return None
        except BaseException:
            self._capture.end()
            raise
        finally:
            self._parts = None

    def _cut(self) -> None:
        """The graph that is being made ends."""
        made = self._capture.end()
        if made is None:
            raise _NoGraphError
        assert self._parts is not None
        self._parts.append(made)

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


class _NoGraphError(Exception):
    """Something was launched that no graph can have."""


class Seen:
    """A microbatch that remembers what is read of it but by calls that follow the steps; `number` of a call."""

    def __init__(self, at: Any, number: int = 0) -> None:
        self.itself, self._given, self.number = at, list[Following](), number

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.itself, name)
        if name not in FIELDS:
            return value
        given = following(value, name)
        self._given.append(given)
        return given

    @property
    def read(self) -> frozenset[str]:
        """Names of what a step is told on which launches depend."""
        return frozenset(each.follows for each in self._given if not each.is_followed)


class Heard:
    """A place whose messages, and what else needs the processor, are aside."""

    def __init__(self, place: Any, graphs: Graphs) -> None:
        self._place, self._graphs = place, graphs

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._place, name)
        if name not in self._graphs.apart:
            return found

        def aside(*arguments: Any, **named: Any) -> None:
            self._graphs.aside(found, *arguments, **named)

        return aside
