"""Repeated blocks in one row: names stand for exactly the addresses they were made of."""

from __future__ import annotations

import re
from itertools import product
from random import Random

import pytest

from dlc.inspect.folding import folded, folded_name, ranges


def expanded(name: str) -> set[str]:
    """The addresses that a folded name stands for: ranges exclude their ends, as in selectors."""
    found = set[str]()
    for box in re.split(r", (?=[a-z])", name):
        parts = re.split(r"\[([^\]]*)\]", box)
        columns = [_numbers(text) for text in parts[1::2]]
        for row in product(*columns):
            indexed = (f"[{index}]{part}" for index, part in zip(row, parts[2::2], strict=True))
            found.add(parts[0] + "".join(indexed))
    return found


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for run in text.split(", "):
        first, _, end = run.partition("..")
        found.extend(range(int(first), int(end)) if end else [int(first)])
    return found


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        (["c1.conv"], "c1.conv"),
        (["body[3].add"], "body[3].add"),
        ([f"body[{i}].a.linear" for i in range(48)], "body[0..48].a.linear"),
        ([f"body[{i}].x" for i in (0, 2, 3, 7)], "body[0, 2..4, 7].x"),
        ([f"a[{i}].b[{j}].x" for i in range(3) for j in range(2)], "a[0..3].b[0..2].x"),
        (["a[0].b[0].x", "a[0].b[1].x", "a[1].b[0].x"], "a[0].b[0..2].x, a[1].b[0].x"),
    ],
)
def test_names(addresses: list[str], name: str) -> None:
    assert folded_name(addresses) == name


def test_names_stand_for_their_addresses_whatever_the_indices() -> None:
    random = Random(5)
    for _ in range(200):
        depth = random.randint(1, 3)
        rows = {tuple(random.randrange(4) for _ in range(depth)) for _ in range(random.randint(1, 12))}
        addresses = {"".join(f"b[{index}]." for index in row) + "x" for row in rows}
        assert expanded(folded_name(sorted(addresses))) == addresses


def test_only_what_is_said_alike_is_folded_and_order_is_kept() -> None:
    said = [("a[0].x", 1), ("a[0].y", 2), ("a[1].x", 1), ("a[1].y", 3), ("z", 1)]
    folds = folded(said)
    assert [(fold.name, fold.times) for fold in folds] == [
        ("a[0..2].x", "x2"),
        ("a[0].y", ""),
        ("a[1].y", ""),
        ("z", ""),
    ]
    assert [address for fold in folds for address in fold.addresses] == ["a[0].x", "a[1].x", "a[0].y", "a[1].y", "z"]


def test_ranges() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0..3, 5, 7..9"
    assert ranges([]) == ""
