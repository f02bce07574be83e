"""What stands for CUDA's capture of streams with `--emulate`: what is launched meanwhile is kept, and not done.

As the CUDA programming guide has it: whatever a stream is given while it captures is done when the graph is launched;
a stream that waits for an event of a capture is part of it, and must be waited for before the capture ends; a stream
that captures waits for no event from outside. What needs the processor has no place there: to wait, to copy to it or
from it, to take memory. CUDA then gives no graph, and programs go on call by call; here it is a CaptureError, for a
program knows beforehand what touches the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .emulated_streams import Stream


class CaptureError(Exception):
    """Something that no graph can have, while one is captured."""


class Operation(NamedTuple):
    """What a stream was given."""

    stream: Stream
    run: Callable[..., object]
    arguments: tuple[Any, ...]


class Capture:
    """A graph that is being made: what its streams were given, in order. `origin` is the stream that began it.

    Of each stream it is known how much it was given, and how much of that the origin comes behind.
    """

    def __init__(self, origin: Stream) -> None:
        self.origin = origin
        self.operations: list[Operation] = []
        self.given: dict[Stream, int] = {origin: 0}
        self.behind: dict[Stream, dict[Stream, int]] = {origin: {}}

    def add(self, stream: Stream, run: Callable[..., object], *arguments: Any) -> None:
        """One more operation of a stream."""
        self.operations.append(Operation(stream, run, arguments))
        self.given[stream] += 1
        self.behind[stream][stream] = self.given[stream]

    def known(self, stream: Stream) -> dict[Stream, int]:
        """What of all streams comes before what this one is given next: an event takes a copy of it."""
        return dict(self.behind[stream])

    def wait(self, stream: Stream, known: dict[Stream, int]) -> None:
        """A stream comes behind an event of this capture, and so is a part of it."""
        self.given.setdefault(stream, 0)
        behind = self.behind.setdefault(stream, {})
        for other, count in known.items():
            behind[other] = max(count, behind.get(other, 0))

    def end(self) -> Graph:
        """The graph; CaptureError where a stream was not waited for."""
        for stream in self.given:
            stream.capture = None
        if any(self.behind[self.origin].get(stream, 0) < count for stream, count in self.given.items()):
            raise CaptureError("a stream of a graph is not waited for where its capture ends")
        return Graph(self.origin, tuple(self.operations))


class Graph:
    """Operations that were captured."""

    def __init__(self, origin: Stream, operations: tuple[Operation, ...]) -> None:
        self._origin, self.operations = origin, operations

    def launch(self, stream: Stream) -> None:
        """All of them again, those of the stream that captured on this one."""
        for each in self.operations:
            on = stream if each.stream is self._origin else each.stream
            on.do(each.run, each.arguments)
