"""Ops whose pieces exchange sums inside a pass: batch norm, group norm by rows, cross-entropy by classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlc.ir.mesh import Mesh
from dlc.ops.indexing import Exchange, Indexing
from tests.operators.cases import cases
from tests.operators.test_gradients import with_gradients
from tests.ops.pieces import Pieces, exchanges, indexing, largest_error, line, partitions, reads_something

BOUND = 1e-11
DRAWS = 40
CASES = cases()


OPS = ("bn", "groupnorm", "cross_entropy", "cross_entropy/smoothing")


def errors(name: str, altered: Callable[[Indexing], Indexing] = lambda space: space) -> list[tuple[set[str], float]]:
    """For each partition with an exchange, of drawn configurations: its axes and the largest error."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    found = []
    for _ in range(DRAWS):
        case = CASES[name](rng)
        known = with_gradients(case, rng)
        whole = case.op.backward(case.op.forward(known))
        space = indexing(case.op)
        for partition, mesh in partitions(space, rng):
            pieces = Pieces(case.op, altered(space), partition, mesh, known)
            if exchanges(Pieces(case.op, space, partition, mesh, known)) and reads_something(pieces):
                pieces.forward()
                pieces.backward()
                found.append((set(partition) - {""}, largest_error(pieces, whole)))
    return found


@pytest.mark.parametrize("name", OPS)
def test_pieces_make_the_whole(name: str) -> None:
    found = errors(name)
    split = set().union(*(axes for axes, _ in found))
    needed = {"bn": {"batch", "width", "height"}, "groupnorm": {"width", "height"}}
    assert split >= needed.get(name, {"feature"})
    assert max(error for _, error in found) < BOUND


def test_every_other_op_exchanges_nothing() -> None:
    names = {name.partition("/")[0] for name in OPS}
    rng = np.random.default_rng(0)
    for name, draw in CASES.items():
        assert bool(indexing(draw(rng).op).exchanges) == (name.partition("/")[0] in names), name


FAULTS: dict[str, tuple[str, Callable[[Indexing], Indexing]]] = {
    "samples of a group do not wait for each other": ("bn", lambda space: changed(space, axes=("height", "width"))),
    "a batch is thought to hold whole groups": ("bn", lambda space: changed(space, group=1)),
    "rows do not wait for each other": ("bn", lambda space: changed(space, axes=("batch",))),
    "half of the sums are missing": ("bn", lambda space: changed(space, elements=1)),
    "group norm by rows is thought to be local": ("groupnorm", lambda space: changed(space, axes=())),
    "classes do not wait for each other": ("cross_entropy", lambda space: changed(space, axes=())),
    "the largest logit is not counted": ("cross_entropy", lambda space: changed(space, times=1)),
}


def changed(space: Indexing, **fields: Any) -> Indexing:
    """The rule with other exchanges."""
    return replace(space, exchanges=tuple(replace(exchange, **fields) for exchange in space.exchanges))


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_seen(fault: str) -> None:
    try:
        found = errors(*FAULTS[fault])
    except (AssertionError, ValueError):  # another amount is exchanged, or none
        return
    assert max(error for _, error in found) > BOUND


@pytest.mark.parametrize(
    ("group", "batch", "parts", "expected"),
    [
        (4, 16, 2, ()),
        (4, 16, 4, ()),
        (4, 16, 8, ("line",)),
        (4, 12, 2, ("line",)),
        (3, 12, 4, ()),
        (0, 16, 2, ("line",)),
    ],
)
def test_whole_groups_need_no_exchange(group: int, batch: int, parts: int, expected: tuple[str, ...]) -> None:
    exchange = Exchange("forward", ("batch", "height"), 8, group=group)
    assert exchange.over(("batch",), line(parts), batch) == expected
    assert exchange.over(("height",), line(parts), batch) == ("line",)
    both = Mesh((("rows", parts), ("columns", 2)))
    assert exchange.over(("batch", "height"), both, batch) == (("rows", "columns") if expected else ("columns",))
