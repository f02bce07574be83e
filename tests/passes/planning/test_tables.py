"""Tables of ops: those that are made together are those of each kind alone, and one row says what its kinds say."""

from __future__ import annotations

from dataclasses import fields
from math import inf

import numpy as np

from passes.planning.alike import Alike
from passes.planning.columns import COLUMNS, OpTable
from passes.planning.op_tables import OpTables
from passes.planning.space import Space, space
from passes.planning.spent import distinct
from passes.planning.strategies import enumerate_strategies
from passes.planning.tables import Tables
from tests.passes.planning.random_networks import random_case
from tests.passes.sample_networks import context, laptop, lenet

ROOM = 1e-7
"""Seconds above the cheapest option that are near enough."""

SHARDS = ("none", "optimizer", "weights")


def spaces() -> list[Space]:
    cases = [(case.graph, case.context) for case in map(random_case, range(40, 46))]
    cases.append((lenet(32), context(4, laptop(4))))
    return [space(*case, list(enumerate_strategies(*case, 9))) for case in cases]


def tables_of(everything: Space) -> list[Tables]:
    strategies = list(enumerate_strategies(everything.graph, everything.context, 9))[::3]
    shared = (each.with_(shard=shard) for each in strategies for shard in SHARDS)
    return [everything.tables(each) for each in shared]


def alone(tables: Tables, group: Alike) -> list[OpTable]:
    prices, strategy = tables.prices, tables.strategy
    given = strategy, tables.fabric, tables.pins, tables.widths, tables.batches, prices.buckets
    maker = OpTables(*given, overlap=tables.overlap)
    return [table for kind in group.kinds for table in maker.of(Alike(prices, (kind,)))]


def test_tables_that_are_made_together_are_those_of_each_kind() -> None:
    compared = 0
    for everything in spaces():
        for tables in tables_of(everything):
            for group in {id(group): group for group in everything.prices.alike.values()}.values():
                for kind, expected in zip(group.kinds, alone(tables, group), strict=True):
                    found = tables.op(kind)
                    for field in fields(OpTable):
                        assert np.array_equal(getattr(found, field.name), getattr(expected, field.name))
                    compared += len(group.kinds) > 1 and found.options > 0
    assert compared >= 100


def test_equal_rows_are_found_whatever_the_numbers() -> None:
    """Also where so many large numbers do not go into one key."""
    rng = np.random.default_rng(0)
    for most in (2, 30, 2**20, 2**40):
        columns = [rng.integers(0, 3, 400) * (most // 3 + 1) for _ in range(5)]
        rows, places = distinct([columns[0], 7, *columns[1:]], 400)
        table = np.stack(columns, axis=1)
        assert len(rows) == len(np.unique(table, axis=0))
        assert np.array_equal(table[rows][places], table)
        assert all(rows[place] <= i for i, place in enumerate(places))


def test_one_row_says_what_its_kinds_say() -> None:
    left = 0
    for everything in spaces():
        for tables in tables_of(everything):
            columns = tables.columns
            for name in COLUMNS:
                each = columns.split(columns.column(name))
                assert all(np.array_equal(c, getattr(t, name)) for c, t in zip(each, columns.tables, strict=True))
            cost = columns.column("forward")
            least = [float(table.forward.min(initial=inf)) for table in columns.tables]
            assert columns.least(cost) == least
            if not columns.counts.all():
                continue
            near = columns.near(cost, ROOM)
            kept = columns.of(near)
            assert kept is not None
            for table, chosen, cheapest in zip(columns.tables, kept.tables, least, strict=True):
                by_cut = table.forward.reshape(len(table.codes), -1).min(axis=1)
                expected = table.of(np.flatnonzero(by_cut - cheapest <= ROOM))
                for field in fields(OpTable):
                    assert np.array_equal(getattr(chosen, field.name), getattr(expected, field.name))
                left += len(chosen.codes) < len(table.codes)
            assert columns.of(np.zeros_like(near)) is None
    assert left >= 50


def test_what_computing_hides_of_halos_does_not_count() -> None:
    """Forward as much as inner rows hide, less two calls; backward what the gradient by the weights hides."""
    where = context(4, laptop(4, overlap=0.5))
    everything, compared = space(lenet(32), where, list(enumerate_strategies(lenet(32), where, 9))), 0
    for tables in tables_of(everything)[:6]:
        given = tables.strategy, tables.fabric, tables.pins, tables.widths, tables.batches, tables.prices.buckets
        for group in {id(group): group for group in everything.prices.alike.values()}.values():
            call, stages = tables.prices.call(), {each.node.stage for each in group.example.passes}
            for kind, open_ in zip(group.kinds, OpTables(*given).of(group), strict=True):
                table = tables.op(kind)
                sides = [axis for axis in open_.axes if axis in kind.indexing.halos]
                cut = np.array([bool({*p} & {*sides}) for p in open_.partitions]).repeat(len(open_.layouts))
                ahead, back = open_.forward - table.forward, open_.backward - table.backward
                assert np.array_equal(table.weights, open_.weights)
                assert not ahead[~cut].any()
                assert not back[~cut].any()
                if kind.example.op == "conv" and cut.any():
                    assert (ahead[cut] >= 0).all()
                    assert (ahead[cut] + 2 * call <= 0.5 * open_.forward[cut] + 1e-12).all()
                    assert (back[cut] > 0).all() == ("dx" in stages)
                    assert (back[cut] <= 0.5 * open_.weights[cut] + 1e-12).all()
                    compared += int(cut.sum())
    assert compared >= 20
