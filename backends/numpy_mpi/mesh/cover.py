"""Which bucket has the gradient of which weight, in as few names of weights and blocks as tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ALL = "**"
"""Stands for all weights of a program."""


def cover(buckets: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Bucket -> names of weights and blocks, for the bucket of each weight: of several names the longest counts."""
    tree = _Tree()
    for weight, bucket in buckets.items():
        tree.add(weight, bucket)
    found: dict[str, list[str]] = {}
    for name, bucket in tree.named("", None) if buckets else ():
        found.setdefault(bucket, []).append(name or ALL)
    return {bucket: tuple(names) for bucket, names in found.items()}


Named = tuple[tuple[str, str], ...]
"""(name, bucket) pairs."""


@dataclass(slots=True)
class _Tree:
    """Names by what they begin with, and the buckets of the weights below each."""

    below: dict[str, dict[str, None]] = field(default_factory=dict)
    buckets: dict[str, dict[str, None]] = field(default_factory=dict)
    known: dict[tuple[str, str | None], Named] = field(default_factory=dict)

    def add(self, weight: str, bucket: str) -> None:
        """One more weight."""
        above = None
        for name in (*_beginnings(weight), weight):
            self.buckets.setdefault(name, {})[bucket] = None
            if above is not None:
                self.below.setdefault(above, {})[name] = None
            above = name

    def named(self, name: str, given: str | None) -> Named:
        """The fewest pairs that tell the buckets of all weights below a name; `given` is that of the name above."""
        given = given if given in self.buckets[name] else None
        if (name, given) not in self.known:
            ways = [((name, bucket), *self._below(name, bucket)) for bucket in self.buckets[name] if bucket != given]
            if given is not None or len(self.buckets[name]) > 1:
                ways.insert(0, self._below(name, given))
            self.known[name, given] = min(ways, key=len)
        return self.known[name, given]

    def _below(self, name: str, given: str | None) -> Named:
        return tuple(pair for inner in self.below.get(name, ()) for pair in self.named(inner, given))


def _beginnings(weight: str) -> Iterator[str]:
    yield ""
    yield from (weight[: end.start()] for end in re.finditer(r"[.\[]", weight))
