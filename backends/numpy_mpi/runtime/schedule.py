"""Schedules as text: which segment runs when, for which microbatch, in which slot of buffers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

_TOKEN = re.compile(r"\s*([A-Za-z_][\w.]*|[()]|\*\s*\d+)")

Row = tuple[str, int, int]
"""Segment, microbatch, slot."""


def rows(text: str, microbatches: int, slots: Mapping[str, int] | None = None) -> Iterator[Row]:
    """The rows of a schedule such as `begin (load forward)*2 (backward load forward)*2 backward*2 reduce update`.

    The i-th run of a segment is of microbatch i mod `microbatches`. It is in slot microbatch mod `slots[segment]`, in
    slot 0 where `slots` does not name the segment. ValueError where the text cannot be read.
    """
    runs: dict[str, int] = {}
    for segment in _segments(text):
        microbatch = runs.get(segment, 0) % microbatches
        runs[segment] = runs.get(segment, 0) + 1
        yield segment, microbatch, microbatch % (slots or {}).get(segment, 1)


def segments(text: str) -> list[str]:
    """The segments in order, repetitions written out."""
    return list(_segments(text))


@cache
def _segments(text: str) -> tuple[str, ...]:
    """They are asked for at every step."""
    tokens, at = list[str](), 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"a schedule has names, brackets and `*2`, not `{text[at:].strip()[0]}`")
        tokens.append(found[1])
        at = found.end()
    names, rest = _sequence(tokens, 0)
    if rest < len(tokens):
        raise ValueError(f"a bracket is closed that is not open: {text}")
    return tuple(names)


def _sequence(tokens: list[str], at: int) -> tuple[list[str], int]:
    """What stands up to a closing bracket or the end, and where that is."""
    found: list[str] = []
    while at < len(tokens) and tokens[at] != ")":
        item, at = _item(tokens, at)
        if at < len(tokens) and tokens[at].startswith("*"):
            item, at = item * int(tokens[at][1:]), at + 1
        found += item
    return found, at


def _item(tokens: list[str], at: int) -> tuple[list[str], int]:
    if tokens[at] != "(":
        if tokens[at].startswith("*"):
            raise ValueError(f"there is nothing to repeat before `{tokens[at]}`")
        return [tokens[at]], at + 1
    found, end = _sequence(tokens, at + 1)
    if end == len(tokens):
        raise ValueError("a bracket is open that is never closed")
    return found, end + 1
