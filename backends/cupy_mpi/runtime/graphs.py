"""What a function of a step launches, as one graph: from its third run alike on it is launched as a whole.

A function can be one that neither copies anything to or from the processor nor talks to other ranks. Its launches are
the same as long as it is told the same: on what of the microbatch it depends is seen when it runs for the first time.
With rates that change in every step the update stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

WARM = 2
"""Runs alike before a graph is made: they compile kernels and allocate what these work in."""

MOST = 32
"""Graphs of a function: more ways to call it than its microbatches have slots are none that come again."""

FOUND = ("count", "samples", "first", "microbatch")
"""What says which microbatch it is."""

TOLD = {"lr": ("lr",), "step": ("step",), "updates": ("step",)}
"""What changes from step to step, by what a function reads."""


class Graph(Protocol):
    """Launches that were captured."""

    def launch(self) -> None:
        """All of them, in order."""


class Graphs:
    """The graphs of a program. `capture` makes one of what a call launches, and does that once, or gives None."""

    def __init__(self, capture: Callable[[Callable[[], None]], Graph | None]) -> None:
        self._capture = capture
        self._reads: dict[str, frozenset[str]] = {}
        self._eager = set[str]()
        self._alike: dict[str, tuple[object, int]] = {}
        self._known: dict[str, dict[object, Graph]] = {}
        self._crossed = False

    def cross(self) -> None:
        """Something goes to or from the processor: no graph has that."""
        self._crossed = True

    def run(self, function: Callable[..., None], arrays: tuple[Any, ...], at: Any, place: Any) -> None:
        """The function on a microbatch: as a graph where there is one, else call by call."""
        name = function.__name__
        if name not in self._reads:
            seen = Seen(at)
            self._run(name, lambda: function(*arrays, seen, place))
            self._reads[name] = seen.read
            return
        told = (getattr(at, field) for read in sorted(self._reads[name]) for field in TOLD.get(read, ()))
        key = (id(arrays[0]), *(getattr(at, field) for field in FOUND), *told)
        graphs = self._known.setdefault(name, {})
        if key in graphs:
            graphs[key].launch()
            return
        made = None
        if self._is_due(name, key) and len(graphs) < MOST:
            made = self._capture(lambda: function(*arrays, at, place))
            if made is None:
                self._eager.add(name)
            else:
                graphs[key] = made
        if made is None:
            self._run(name, lambda: function(*arrays, at, place))

    def _run(self, name: str, call: Callable[[], None]) -> None:
        self._crossed = False
        call()
        if self._crossed:
            self._eager.add(name)

    def _is_due(self, name: str, key: object) -> bool:
        """Whether it is time for a graph."""
        last, count = self._alike.get(name, (None, 0))
        self._alike[name] = (key, count + 1 if last == key else 1)
        return name not in self._eager and self._alike[name][1] > WARM


class Seen:
    """A microbatch that remembers what is read of it."""

    def __init__(self, at: Any) -> None:
        self._at, self._names = at, set[str]()

    def __getattr__(self, name: str) -> Any:
        self._names.add(name)
        return getattr(self._at, name)

    @property
    def read(self) -> frozenset[str]:
        """The names of what was read."""
        return frozenset(self._names)


class Tape:
    """Stands for a graph where there is no GPU: launches are kept while they are made, and made again."""

    def __init__(self) -> None:
        self.launches: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None

    def add(self, run: Callable[..., None], *arguments: Any) -> None:
        """Launch, and keep it where a graph is being made."""
        run(*arguments)
        if self.launches is not None:
            self.launches.append((run, arguments))

    def capture(self, call: Callable[[], None]) -> Graph:
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
