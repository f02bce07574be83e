"""Schedules as text: `begin (load0 forward0)*2 (backward0 load0 forward0)*6 backward0*2 reduce`.

The i-th run of a segment is of microbatch i, so that a row needs its name alone; what repeats is written once, so that
the text does not grow with the microbatches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from dlc.ir.program import Row


def schedule_text(rows: Sequence[Row], title: Callable[[str], str], microbatches: int) -> str:
    """The rows of an entry; ValueError where some segment does not run its microbatches one after another."""
    seen = Counter[str]()
    for row in rows:
        if row.microbatch != seen[row.segment] % microbatches:
            raise ValueError(f"{row.segment} runs microbatch {row.microbatch} as its number {seen[row.segment]}")
        seen[row.segment] += 1
    return " ".join(folded([title(row.segment) for row in rows]))


def slots_of(rows: Sequence[Row], title: Callable[[str], str]) -> dict[str, int]:
    """Segment -> how many slots its microbatches take turns in, where that is more than one."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.segment] = max(found.get(row.segment, 1), row.slot + 1)
    for row in rows:
        if row.slot != row.microbatch % found[row.segment]:
            raise ValueError(f"{row.segment} runs microbatch {row.microbatch} in slot {row.slot}")
    return {title(name): count for name, count in found.items() if count > 1}


def folded(words: Sequence[str]) -> list[str]:
    """Words with their repetitions drawn together: `a b a b c` is `(a b)*2 c`."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(word, len(numbers)) for word in words]
    found: list[str] = []
    at = 0
    while at < len(words):
        length, times = _longest(codes, at)
        body = folded(words[at : at + length]) if times > 1 and length > 1 else list(words[at : at + length])
        text = " ".join(body)
        found.append(f"{f'({text})' if len(body) > 1 else text}*{times}" if times > 1 else text)
        at += length * times
    return found


def _longest(codes: Sequence[int], start: int) -> tuple[int, int]:
    """(period, times) of the repetition that begins here and covers most; (1, 1) where nothing repeats."""
    best, covered = (1, 1), 1
    for period in range(1, (len(codes) - start) // 2 + 1):
        times, head = 1, codes[start : start + period]
        while codes[start + times * period : start + (times + 1) * period] == head:
            times += 1
        if times > 1 and times * period > covered:
            best, covered = (period, times), times * period
    return best
