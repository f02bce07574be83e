"""What is summed over ranks together: values in buckets of a bounded size."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

FIRST_BUCKET_BYTES, BUCKET_BYTES = 2**20, 25 * 2**20
"""Capacities of the first bucket and of the others, as PyTorch's reducer has them. The first gradients leave early; at
25 MiB a message of 10 us latency spends less than 1 % of its time on it on any link up to 25 GB/s.
"""

Item = TypeVar("Item")


def packed(items: Iterable[tuple[Item, Hashable, float]]) -> list[list[Item]]:
    """Items, each with a key and its bytes, in buckets, in the order in which these begin: a bucket takes what comes of
    one key up to its capacity."""
    made: list[list[Item]] = []
    open_: dict[Hashable, tuple[list[Item], float, float]] = {}
    for item, key, size in items:
        members, held, capacity = open_.get(key, ([], 0.0, FIRST_BUCKET_BYTES))
        if members and held + size > capacity:
            members, held, capacity = [], 0.0, BUCKET_BYTES
        if not members:
            made.append(members)
        members.append(item)
        open_[key] = (members, held + size, capacity)
    return made
