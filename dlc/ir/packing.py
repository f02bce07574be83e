"""Where arrays lie that share memory: when each is in use, and a place in which nobody else is at these times.

One rule for a Program and for the program that is emitted of it, which gets this module as it stands: there the
functions of a stage tell themselves which arrays they name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

Span = tuple[int, int]
"""The first and the last instruction, or call, of a function that names an array."""


@dataclass(frozen=True, slots=True)
class Life:
    """So many bytes at these instants, from `start` up to before `stop`; in memory that ranks share along the axes that
    `window` says, where it says any."""

    size: int
    instants: tuple[tuple[int, int], ...]
    window: str = ""


Takeover = tuple[int, str, str]
"""At this instant a call reads the second array for the last time, if nobody names it later, and may leave the third
one, of the same size and type, where that lies."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The bytes of each memory, the windows first and then that of the process itself, "", and of each array in which
    of them it lies and where."""

    sizes: dict[str, int]
    places: dict[str, tuple[str, int]]


# --- when arrays are in use ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Times:
    """When functions run: how many instructions each has, those of a step of training and of each way to infer as they
    follow each other, each as often as it runs."""

    lengths: Mapping[str, int]
    training: Sequence[str]
    inference: Sequence[Sequence[str]]

    def instants(
        self, uses: Mapping[str, Mapping[str, Span]], passing: Collection[str], handed_on: Collection[str]
    ) -> dict[str, tuple[tuple[int, int], ...]]:
        """When arrays are in use that functions name: in training each function by itself, or, of those that are
        `passing`, from the first function of a step to the last; in inference always so, and of those that are
        `handed_on` up to the end of all."""
        step, ways = _Way(self.training), [_Way(each) for each in self.inference]
        begins, found = self.begins(), {}
        for name, own in uses.items():
            held = dict(own)
            for way in (*([step] if name in passing else ()), *ways):
                for function, first, last in way.across(own, name in handed_on and way is not step):
                    known = held.get(function, (self.lengths[function], -1))
                    held[function] = min(known[0], first), max(known[1], self._last(function) if last < 0 else last)
            spans = sorted((begins[each] + first, begins[each] + last + 1) for each, (first, last) in held.items())
            found[name] = tuple(_joined(spans))
        return found

    def begins(self) -> dict[str, int]:
        """The instant of each function's first instruction."""
        return dict(zip(self.lengths, accumulate(self.lengths.values(), initial=0), strict=False))

    def _last(self, function: str) -> int:
        return self.lengths[function] - 1


class _Way:
    """Functions in the order in which they first run. From `first` to `last` they are repeated: all in turn, or, where
    several microbatches are under way, `mixed`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.order = list(dict.fromkeys(names))
        self._numbers = {name: number for number, name in enumerate(self.order)}
        several = [name for name in self.order if names.count(name) > 1]
        self._first = self._numbers[several[0]] if several else len(self.order)
        self._last = self._numbers[several[-1]] if several else -1
        loop = [name for name in names if self._first <= self._numbers[name] <= self._last]
        turn = self.order[self._first : self._last + 1]
        self._mixed = loop != turn * (len(loop) // len(turn)) if turn else False

    def across(self, own: Mapping[str, Span], handed_on: bool = False) -> Iterator[tuple[str, int, int]]:
        """(function, first, last) from where these spans begin to where they end; a last of -1 is the function's own.

        What comes into what is repeated from before stays to the end of that.
        """
        numbers = [self._numbers[name] for name in own if name in self._numbers]
        if not numbers:
            return
        first, last = min(numbers), max(numbers)
        start, end = own[self.order[first]][0], own[self.order[last]][1]
        if handed_on:
            last, end = len(self.order) - 1, -1
        inside = first <= self._last and last >= self._first
        if inside and (first < self._first or self._mixed) and last <= self._last:
            last, end = self._last, -1
        if inside and self._mixed and first >= self._first:
            first, start = self._first, 0
        for number in range(first, last + 1):
            yield self.order[number], start if number == first else 0, end if number == last else -1


def _joined(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans in order, those that touch as one."""
    start, stop = spans[0]
    for first, last in spans[1:]:
        if first > stop:
            yield start, stop
            start = first
        stop = last
    yield start, stop


# --- which of them lie in place of one another ---------------------------------------------------------------------


@dataclass(slots=True)
class _Together:
    """Arrays that have one place in turn: when any of them is in use, and the instants at which two are."""

    names: list[str]
    spans: list[Span]
    handed: set[int]


def together(lives: Mapping[str, Life], takeovers: Iterable[Takeover]) -> list[tuple[str, ...]]:
    """All arrays, those together that have one place: each takes it from the one before, where that is in use for the
    last time.

    A takeover is left out where any two of the arrays that would share the place are in use at another instant. They
    are tried in their order. Memory that ranks share is taken over by nobody.
    """
    groups = {name: _Together([name], [*life.instants], set()) for name, life in lives.items()}
    at = dict[int, list[tuple[str, str]]]()
    for instant, operand, result in takeovers:
        at.setdefault(instant, []).append((operand, result))
    for _, pairs in sorted(at.items()):
        for operand, result in pairs:
            one, other = groups[operand], groups[result]
            if one is not other and _in_turn(lives, groups, at, (operand, result)):
                one.handed |= other.handed | set(_common(one.spans, other.spans))
                one.spans = [*_joined(sorted((*one.spans, *other.spans)))]
                one.names += other.names
                groups.update(dict.fromkeys(other.names, one))
    return [tuple(group.names) for group in {id(group): group for group in groups.values()}.values()]


def _in_turn(
    lives: Mapping[str, Life],
    groups: Mapping[str, _Together],
    at: Mapping[int, Sequence[tuple[str, str]]],
    pair: tuple[str, str],
) -> bool:
    """Whether arrays of two groups are in use together only where one takes over from another."""
    one, other = (groups[name] for name in pair)
    if any(lives[name].window or lives[name].size != lives[pair[0]].size for name in pair):
        return False
    for instant in _common(one.spans, other.spans):
        if instant in one.handed or instant in other.handed:
            return False
        if not any(
            {id(groups[operand]), id(groups[result])} == {id(one), id(other)}
            and any(stop == instant + 1 for _, stop in lives[operand].instants)
            and any(start == instant for start, _ in lives[result].instants)
            for operand, result in at.get(instant, ())
        ):
            return False
    return True


def _common(one: Sequence[Span], other: Sequence[Span]) -> Iterator[int]:
    """The instants of two lists of spans, each in order and ending before its second number, that both have."""
    first = second = 0
    while first < len(one) and second < len(other):
        (a, b), (c, d) = one[first], other[second]
        yield from range(max(a, c), min(b, d))
        first, second = (first + 1, second) if b <= d else (first, second + 1)


# --- where they lie ------------------------------------------------------------------------------------------------


def placed(lives: Mapping[str, Life], takeovers: Iterable[Takeover] = ()) -> Placed:
    """A place for each; one for those that take it over from each other, unless all need less without that, since they
    are placed one by one."""
    apart, groups = _placed(lives), together(lives, takeovers)
    if len(groups) == len(lives):
        return apart
    found = _placed({names[0]: _life([lives[name] for name in names]) for names in groups})
    if sum(found.sizes.values()) > sum(apart.sizes.values()):
        return apart
    return Placed(found.sizes, {name: found.places[names[0]] for names in groups for name in names})


def _life(several: Sequence[Life]) -> Life:
    """That of arrays that lie in one place."""
    if len(several) == 1:
        return several[0]
    spans = sorted(span for life in several for span in life.instants)
    return Life(several[0].size, tuple(_joined(spans)), several[0].window)


def _placed(lives: Mapping[str, Life]) -> Placed:
    """A place for each: the larger first, of these those that are in use first, each in the first gap.

    Windows are as high as what must lie in them; nothing lies half in one. What need not lie there uses their gaps, but
    only where the process's own memory would get higher than it must be: its pages may be large, and those of windows
    are not.
    """

    def rank(name: str) -> tuple[object, ...]:
        life = lives[name]
        return not life.window, life.window, -life.size, life.instants

    order, high = sorted(lives, key=rank), 0
    if any(life.window for life in lives.values()):
        least = _Packing(lives)
        for name in order:
            least.put(name, 0)
        high = least.own
    found = _Packing(lives)
    for name in order:
        found.put(name, high)
    return found.found()


class _Packing:
    """Arrays that have a place, in one line of bytes: the windows one behind the other, then the process's own."""

    def __init__(self, lives: Mapping[str, Life]) -> None:
        count = sum(len(life.instants) for life in lives.values())
        self._lives = lives
        self._table = np.zeros((4, count), np.int64)  # start and stop of its instants, first byte and one behind
        self._count = 0
        self._walls: dict[str, tuple[int, int]] = {}  # windows: from where to where
        self._at: dict[str, int] = {}
        self._end = 0  # of the windows
        self.own = 0  # bytes of the process's own memory

    def put(self, name: str, high: int) -> None:
        """A place for an array: up to so `high` in the process's own memory, else in a gap of a window, else on top."""
        life = self._lives[name]
        if life.window:
            first, _ = self._walls.setdefault(life.window, (self._end, self._end))
            gaps = self._gaps(life, [first])
            at = next(start for start, stop in gaps if start >= first and stop - start >= life.size)
            self._end = max(self._end, at + life.size)
            self._walls[life.window] = first, self._end
        else:
            gaps = self._gaps(life, [wall for pair in self._walls.values() for wall in pair])
            fitting = [start for start, stop in gaps if stop - start >= life.size]
            own = next(start for start in fitting if start >= self._end)
            at = own if own + life.size <= self._end + high else fitting[0]
            self.own = max(self.own, at + life.size - self._end)
        self._at[name] = at
        for start, stop in life.instants:
            self._table[:, self._count] = start, stop, at, at + life.size
            self._count += 1

    def _gaps(self, life: Life, walls: Sequence[int]) -> list[tuple[int, int]]:
        """Where bytes are free while an array is in use, from below; none goes across a wall."""
        starts, stops, lows, highs = self._table[:, : self._count]
        meets = np.zeros(self._count, bool)
        for start, stop in life.instants:
            meets |= (starts < stop) & (stops > start)
        low, high = (np.concatenate([each[meets], walls]).astype(np.int64) for each in (lows, highs))
        order = np.argsort(low, kind="stable")
        reached = np.maximum.accumulate(np.concatenate([[0], high[order]]))
        until = np.concatenate([low[order], [np.iinfo(np.int64).max]])
        free = until > reached
        return list(zip(reached[free].tolist(), until[free].tolist(), strict=True))

    def found(self) -> Placed:
        """What was found, by memories."""
        sizes = {name: stop - start for name, (start, stop) in self._walls.items()}
        places = {name: self._where(at) for name, at in self._at.items()}
        return Placed({**sizes, "": self.own}, places)

    def _where(self, at: int) -> tuple[str, int]:
        for name, (start, stop) in self._walls.items():
            if start <= at < stop:
                return name, at - start
        return "", at - self._end
