"""How early a pipeline can end at best: paths through its table, from the first cell to the last.

Any path of cells and messages that wait for each other is a lower bound on the makespan. Say stage s does K forward
passes before its first backward one (1F1B: p − s), and a microbatch's way is from stage 0 to s and back again. Then:

* all: the way, and all that s does for m microbatches;
* start: the way, one forward pass on s, the round trip from s to the last stage and back, and the rest of what s does;
* end: the same mirrored: what s does up to its last forward pass, the round trip, and one backward pass;
* both: the two round trips, where s has a backward pass before its last forward one;
* link: the way, m − 1 more messages over the link behind s (GPipe: and as many back), and the round trip.

ZB-H1 may put W off to the end: behind s come other stages or W, not both, so that a path ends in one of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

from dlc.cost.schedules import Work
from passes.planning.pipeline_line import Pipeline

EQUAL = 1e-9
"""Times that differ by less than this part of them are equal: sums in another order."""

PRECISION = 1e-4
"""How near to the best bound of its kind a lower bound is found, where it does not prove the cuts best."""


class Before(NamedTuple):
    """Seconds of one microbatch in the stages before: forward, backward as it returns, and their cuts in one way."""

    forward: float = 0.0
    backward: float = 0.0
    sends: float = 0.0


def after(pipe: Pipeline, before: Before, part: int, b: int, e: int) -> Before:
    """What is before the next stage, if stage `part` has the blocks b to e − 1."""
    work, send = pipe.work(part, b, e), pipe.line.send[e]
    backward = work.backward if pipe.schedule == "zero_bubble" else work.backward + work.weights
    return Before(before.forward + work.forward, before.backward + backward, before.sends + send)


def stage_bound(pipe: Pipeline, part: int, b: int, e: int, before: Before, cut: float) -> float:
    """No pipeline with one chunk a device ends earlier, if stage `part` has the blocks b to e − 1.

    The cut behind it costs at least `cut`, those behind that as much as the cheapest, and the stages behind are as fast
    as the fastest device. For one `cut`, the bound rises with e, and it falls with b if `before` is what the fastest
    device takes.
    """
    p, at, fastest = pipe.stages, pipe.line, max(pipe.speeds)
    work = pipe.work(part, b, e)
    way = before.forward + before.backward + 2 * before.sends
    behind = (at.forward[-1] - at.forward[e] + at.backward[-1] - at.backward[e]) / fastest
    trip = behind + 2 * (cut + (p - part - 2) * at.cheapest if part + 1 < p else 0.0)
    if pipe.schedule != "zero_bubble":
        trip += (at.weights[-1] - at.weights[e]) / fastest
    return _path(pipe, part, work, way, before.forward + before.sends, trip, cut)


def _path(pipe: Pipeline, part: int, work: Work, way: float, to: float, trip: float, cut: float) -> float:
    """The longest path through a stage: `to` it takes that long forward alone, `way` back as well, `trip` from its end
    to the last stage and back."""
    m, forward, backward, weights = pipe.microbatches, work.forward, work.backward, work.weights
    if pipe.schedule == "zero_bubble":
        k, total = min(m, pipe.stages), forward + backward
        start = to + forward + trip + m * (total + weights) - k * forward
        every = max(way + m * total + (m - k) * weights, to + m * (total + weights))
        return max(every, start, way + total + trip + (m - 1) * cut)
    backward, total = backward + weights, work.total
    if pipe.schedule == "gpipe":
        return way + trip + total + (m - 1) * max(total, 2 * cut)
    k = pipe.ahead(part)
    start = way + forward + trip + m * total - k * forward
    end = way + m * total - k * backward + trip + backward
    both = way + total + 2 * trip + (m - k) * total if m > k else 0.0
    return max(way + m * total, start, end, both, way + total + trip + (m - 1) * cut)


def longest_path(pipe: Pipeline, bounds: Sequence[int]) -> float:
    """The pipeline with these cuts does not end earlier: a small part of the work to find its makespan."""
    works, sends = pipe.cells(bounds)
    whole = pipe.schedule != "zero_bubble"
    back = [work.backward + work.weights if whole else work.backward for work in works]
    sent, forward, backward = (
        list(accumulate(column, initial=0.0)) for column in (sends, (work.forward for work in works), back)
    )
    if pipe.chunks > 1:
        ways = (forward[d] + backward[d] + 2 * sent[d] for d in range(pipe.stages))
        busy = (sum(work.total for work in works[d :: pipe.stages]) for d in range(pipe.stages))
        return max(way + pipe.microbatches * seconds for way, seconds in zip(ways, busy, strict=True))
    every, longest = forward[-1] + backward[-1] + 2 * sent[-1], 0.0
    for part, work in enumerate(works):
        way = forward[part] + backward[part] + 2 * sent[part]
        trip = every - way - (forward[part + 1] - forward[part] + backward[part + 1] - backward[part])
        cut = sends[part] if part < len(sends) else 0.0
        longest = max(longest, _path(pipe, part, work, way, forward[part] + sent[part], trip, cut))
    return longest


def lower_bound(pipe: Pipeline, known: float, near: bool = True) -> float:
    """No cuts give a shorter makespan; `known` is one that some cuts give, and the bound where that is the best.

    Any bound below it will do where it need not be `near`.

    The least T for which stages that each go as far as their bound and memory allow reach the end of the line. Where
    the bounds fall with the first block and rise with the last, going further never harms.
    """
    simple = _simple_bound(pipe)
    if pipe.chunks > 1 or simple >= known:
        return min(simple, known)
    if not _reaches(pipe, known * (1 - EQUAL)):
        return known
    low, high = simple, known
    while near and high - low > PRECISION * known:
        middle = (low + high) / 2
        low, high = (low, middle) if _reaches(pipe, middle) else (middle, high)
    return low


def _simple_bound(pipe: Pipeline) -> float:
    """All devices busy all the time; one microbatch alone; the longest block on the fastest device; the filling.

    What keeps devices busy are also the messages, over as many different cuts as there are. With one chunk a device,
    each device waits for the way of a microbatch through those before it, and is busy with all of them: whatever the
    stages, one of them ends no earlier than T / (1 - (1 - 1/m)^p), where one microbatch alone takes T. GPipe takes T
    and the longest stage m - 1 times.
    """
    at, m, fastest = pipe.line, pipe.microbatches, max(pipe.speeds)
    sent = 2 * at.sent[pipe.parts - 1]
    kept, messages = pipe.ends * sent, max(1, pipe.ends) * sent
    busy = m * (at.total[-1] + min(pipe.speeds) * kept) / sum(pipe.speeds)
    one = (at.forward[-1] + at.backward[-1]) / fastest + messages
    block = max(b - a for a, b in pairwise(at.total)) / fastest
    simple = max(busy, one, m * block)
    if pipe.chunks > 1 or pipe.schedule == "zero_bubble":
        return simple
    whole = at.total[-1] / fastest
    if pipe.schedule == "gpipe":
        return max(simple, whole + messages + (m - 1) * (whole + kept) / pipe.stages)
    return max(simple, (whole + kept) / (1 - (1 - 1 / m) ** pipe.stages))


def _reaches(pipe: Pipeline, seconds: float) -> bool:
    at, fastest, b = pipe.line, max(pipe.speeds), 0
    for part in range(pipe.parts):
        back = at.backward[b] if pipe.schedule == "zero_bubble" else at.backward[b] + at.weights[b]
        before = Before(at.forward[b] / fastest, back / fastest, part * at.cheapest)
        b = furthest(pipe, part, b, lambda e: stage_bound(pipe, part, b, e, before, at.cheapest) > seconds)  # noqa: B023
        if b == at.blocks:
            return True
    return False


def furthest(pipe: Pipeline, part: int, b: int, over: Callable[[int], bool]) -> int:
    """The last position e up to which stage `part` from b on is not `over` and fits its memory; b if there is none."""
    device, limit = part % pipe.stages, pipe.limits[part % pipe.stages]

    def past(e: int) -> bool:
        return over(e) or (limit < inf and pipe.bytes(device, [(b, e)]) > limit)

    return bisect_left(range(b + 1, pipe.line.blocks + 1), True, key=past) + b
