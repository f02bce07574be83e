"""Repeated blocks in one row: addresses that differ in their indices only, where what is said of them is the same."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Fold:
    """Addresses of which the same is said: `name` stands for all of them, `body[0..48].ffn.linear`."""

    name: str
    addresses: tuple[str, ...]

    @property
    def times(self) -> str:
        """`x48`; "" for a single address."""
        return f"x{len(self.addresses):,}" if len(self.addresses) > 1 else ""


def folded(said: Iterable[tuple[str, Hashable]]) -> tuple[Fold, ...]:
    """(address, what is said of it) in order -> one fold for each address without its indices and saying, by the first
    of its addresses.

    Before: `a[0].x` 1, `a[0].y` 2, `a[1].x` 1, `a[1].y` 2. After: `a[0..2].x`, `a[0..2].y`.
    """
    groups: dict[tuple[str, Hashable], list[str]] = {}
    for address, saying in said:
        groups.setdefault((_INDEX.sub("[]", address), saying), []).append(address)
    return tuple(Fold(folded_name(group), tuple(group)) for group in groups.values())


def folded_name(addresses: Sequence[str]) -> str:
    """One name for addresses that differ in their indices only; ends of ranges are excluded, as in selectors."""
    parts = _INDEX.split(addresses[0])[::2]
    rows = sorted({tuple(int(index) for index in _INDEX.findall(address)) for address in addresses})
    return ", ".join("".join(_interleaved(parts, columns)) for columns in _boxes(rows))


def _interleaved(parts: Sequence[str], columns: Sequence[Sequence[int]]) -> Iterable[str]:
    yield parts[0]
    for column, part in zip(columns, parts[1:], strict=True):
        yield f"[{ranges(column)}]{part}"


def _boxes(rows: Sequence[tuple[int, ...]]) -> list[list[list[int]]]:
    """Rows of indices as few products of columns: one where they are all combinations of their columns, else the rows
    of each first index by themselves, those together that are followed by the same."""
    columns = [sorted(set(column)) for column in zip(*rows, strict=True)]
    if prod(map(len, columns)) == len(rows):
        return [columns]
    rests: dict[int, list[tuple[int, ...]]] = {}
    for first, *rest in rows:
        rests.setdefault(first, []).append(tuple(rest))
    firsts: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for first, behind in rests.items():
        firsts.setdefault(tuple(behind), []).append(first)
    return [[together, *box] for behind, together in firsts.items() for box in _boxes(behind)]


def ranges(numbers: Iterable[int]) -> str:
    """`3`, `0..48`, `0, 2..5`: rising numbers, ends of ranges excluded."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, number + 1])
    return ", ".join(f"{first}" if end == first + 1 else f"{first}..{end}" for first, end in runs)
