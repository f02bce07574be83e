"""Halos under way while ranks compute: which programs have them, that these are sound, right, and worth it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dlc.cluster.topology import Cluster, Link
from dlc.cost.price import default_price
from dlc.cost.timeline import simulate
from dlc.ir.check import check as check_alone
from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import shards
from dlc.ir.program import INNER, OUTER, Collective, Compute, Instruction, Program, Wait
from dlc.ir.storage import title
from dlc.ir.text import from_text, to_text
from dlc.ops.indexing import Halo, Indexing, border, inner_rows
from dlc.proof import check
from passes.context import Context
from passes.lower import lower
from tests.mutation.editing import Site, sites
from tests.passes.lowering.compared import drawn, largest_error, parallel, serial, whole_numbers
from tests.passes.lowering.plans import Rule, by, plan_of, trained
from tests.passes.lowering.plans import on as on_cores
from tests.passes.sample_networks import Network, context

BOUND = 1e-9
ROWS, TWO = by(model="height"), {"data": 2, "model": 2}


def windows() -> Graph:
    """Strides, pads, dilation, depthwise filters and both pools; extents that no count of ranks divides."""
    net = Network(5)
    x = net("tanh", net("conv", net.image(2, 19, 17), filters=4, window=3, pad="same"))
    x = net("conv", net("depthwise_conv", x, window=3, pad="same"), filters=4, window=5, stride=2, pad=2)
    y = net("conv", net("tanh", x), filters=4, window=3, pad="same", dilation=2)
    x = net("add", net("avgpool", x, window=3, stride=1, pad=1, count_pad=False), y)
    return trained(net, net("maxpool", net("conv", x, filters=3, window=2), window=3, stride=2, pad=1, ceil=True))


def one_window(batch: int = 4) -> Graph:
    """A convolution and what it takes to train it."""
    net = Network(batch)
    return trained(net, net("conv", net.image(8, 64, 64), filters=8, window=3, pad="same"))


def both(_node: Node, space: Indexing) -> Mapping[str, str]:
    """Rows over two axes of the mesh."""
    return {"data": "height", "model": "height"} if "height" in space.axes else {}


CASES: dict[str, dict[str, Any]] = {
    "rows": {"mesh": {"model": 2}, "rule": ROWS},
    "rows of three": {"mesh": {"model": 3}, "rule": ROWS},
    "columns": {"mesh": {"model": 2}, "rule": by(model="width")},
    "rows and columns": {"mesh": TWO, "rule": by(data="width", model="height")},
    "samples and rows": {"mesh": TWO, "rule": by(data="batch", model="height")},
    "rows twice": {"mesh": TWO, "rule": both, "cut": 2},
    "NHWC": {"mesh": {"model": 2}, "rule": ROWS, "layouts": dict.fromkeys(("conv", "depthwise_conv"), "NHWC")},
    "CHWN": {"mesh": {"model": 2}, "rule": ROWS, "layouts": dict.fromkeys(("conv", "maxpool"), "CHWN")},
    "computed again": {"mesh": {"model": 2}, "rule": ROWS, "recompute": "all"},
}
ASKED = context(overlap="yes")


def on(link: Link | None = None, overlap: float = 0.0, asked: str = "auto", ranks: int = 2) -> Context:
    """A context with another link, and what the plan asks for."""
    found = on_cores(ranks, context(overlap=asked), overlap)
    cluster = found.cluster
    links = (replace(cluster.links[0], bandwidth=link.bandwidth, latency=link.latency),) if link else cluster.links
    return found.with_(cluster=Cluster(cluster.name, cluster.devices, links, cluster.levels))


SLOW, FAST = Link("shm", 2e7, 1e-6), Link("shm", 1e12, 0.0)


def program(graph: Graph, where: Context, rule: Rule = ROWS) -> Program:
    return lower(graph, plan_of(graph, {"model": where.ranks}, rule), where)


def calls(made: Program, segment: str, *kinds: type) -> list[Instruction]:
    return [each for each in made.roles[0].segment(segment).instructions if isinstance(each, kinds)]


# --- what programs look like ---------------------------------------------------------------------------------------


def test_inner_rows_come_first() -> None:
    made = program(one_window(), on(SLOW, overlap=0.9))
    halo, inner, wait, outer = calls(made, "forward", Collective, Compute, Wait)[:4]
    assert isinstance(halo, Collective)
    assert isinstance(inner, Compute)
    assert isinstance(outer, Compute)
    assert (halo.blocking, halo.name) == (False, title(wait))
    assert (inner.rows, outer.rows) == (INNER, OUTER)
    assert inner.inputs[0] == outer.inputs[0] == halo.target
    assert dict(inner.attrs)["border"] == dict(outer.attrs)["border"] == (1, 1)
    assert from_text(to_text(made)) == made


def test_gradients_of_rows_go_home_beside_those_of_weights() -> None:
    made = program(windows(), on(SLOW, overlap=0.9))
    found = calls(made, "backward", Collective, Compute, Wait)
    names = [title(each) for each in found]
    for at, each in enumerate(found):
        if isinstance(each, Collective) and each.kind == "halo" and ".dx" in each.name:
            assert not each.blocking
            assert "@dw" in "".join(names[at + 1 : names.index(each.name, at + 1)])


@pytest.mark.parametrize(
    ("link", "overlap", "asked", "chosen"),
    [
        (SLOW, 0.9, "auto", True),
        (SLOW, 0.0, "auto", False),  # nobody computes meanwhile
        (FAST, 0.9, "auto", False),  # less to hide than two more calls cost
        (SLOW, 0.9, "no", False),
        (FAST, 0.0, "yes", True),
    ],
)
def test_where_it_pays_or_is_asked_for(link: Link, overlap: float, asked: str, chosen: bool) -> None:
    made = program(one_window(), on(link, overlap, asked))
    assert any(each.rows for each in calls(made, "forward", Compute) if isinstance(each, Compute)) == chosen


@pytest.mark.parametrize(("batch", "layout", "cut"), [(1, "NHWC", True), (2, "NHWC", False), (1, "NCHW", False)])
def test_kernels_in_c_are_given_rows_in_one_piece(batch: int, layout: str, cut: bool) -> None:
    graph, where = one_window(batch), on(asked="yes")
    plan = plan_of(graph, {"model": 2}, ROWS, layouts={"conv": layout}).with_(kernels="c")
    found = calls(lower(graph, plan, where), "forward", Compute)
    assert any(each.rows for each in found if isinstance(each, Compute)) == cut


@pytest.mark.parametrize("bandwidth", [5e6, 2e7, 1e8])
def test_the_longer_of_both_counts(bandwidth: float) -> None:
    """With a device that computes at full speed meanwhile: max(inner rows, halo) and the outer rows."""
    graph, found = one_window(), {}
    for asked in ("no", "yes"):
        where = on(Link("shm", bandwidth, 1e-6), 1.0, asked)
        made = program(graph, where)
        price = default_price(made, where.cluster)
        steps = calls(made, "predict", Collective, Compute)
        found[asked] = (
            simulate(made, "predict", price, 1.0).makespan,
            [price(each, made.roles[0], 4) for each in steps],
        )
    (blocking, (halo, whole, *_)), (overlapped, (_, inner, outer, *_)) = found["no"], found["yes"]
    assert blocking - overlapped == pytest.approx(halo + whole - max(halo, inner) - outer, rel=1e-9)
    assert whole < inner + outer < 1.5 * whole


# --- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_serial_step(case: str) -> None:
    graph, choices = windows(), dict(CASES[case])
    given, least = drawn(graph), choices.pop("cut", 5)
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    made = parallel(graph, plan, given, ASKED)
    cut = {each.address for each in calls(made.program, "forward", Compute) if isinstance(each, Compute) and each.rows}
    assert len(cut) >= least
    error, name = largest_error(graph, made, serial(graph, given))
    assert error < BOUND, name


@pytest.mark.parametrize("case", ["rows of three", "rows and columns", "NHWC"])
def test_stand_ins_are_exact(case: str) -> None:
    graph, choices = windows(), dict(CASES[case])
    given = whole_numbers(drawn(graph))
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    error, name = largest_error(
        graph, parallel(graph, plan, given, ASKED, exact=True), serial(graph, given, exact=True)
    )
    assert error == 0, name


@pytest.mark.parametrize("halo", [Halo(1, 1), Halo(2, 2, 2), Halo(0, 2), Halo(3, 3, 2), Halo(-1, 3), Halo(4, 4)])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_inner_rows_are_those_whose_windows_read_nothing_else(halo: Halo, count: int) -> None:
    operand, results = 23, (23 + 2 * 2) // halo.stride - 2
    most = [0, 0]
    for own, (start, stop) in zip(shards(operand, count), shards(results, count), strict=True):
        reads = {row: halo.reads(row, row + 1) for row in range(start, stop)}
        inside = [r for r, (a, b) in reads.items() if own[0] <= max(0, a) and min(b, operand) <= own[1]]
        first, last = inner_rows(halo, own, (start, stop), operand)
        assert list(range(first, last)) == inside
        if inside:
            most = [max(most[0], inside[0] - start), max(most[1], stop - 1 - inside[-1])]
    found = border(halo, operand, results, count)
    assert all(x >= y for x, y in zip(found, most, strict=True))


# --- faults --------------------------------------------------------------------------------------------------------


def faulty() -> dict[str, Program]:
    """A program with inner rows first, each time with something wrong."""
    made = program(one_window(), on(SLOW, overlap=0.9))
    inner, outer, wait = (
        next(sites(made, kind, where))
        for kind, where in (
            (Compute, lambda s: s.instruction.rows == INNER),
            (Compute, lambda s: s.instruction.rows == OUTER),
            (Wait, lambda s: s.instruction.name.endswith(".halo")),
        )
    )
    plain = replace(
        inner.instruction, attrs=tuple(p for p in inner.instruction.attrs if p[0] not in ("rows", "border"))
    )  # type: ignore[type-var,union-attr]
    halo = inner.at - 1
    fill = Compute("zero", ("zero", "forward", ""), (), (inner.instructions[halo].buffer,))  # type: ignore[union-attr]
    return {
        "no wait": wait.instead(),
        "outer rows before the wait": outer.moved(wait.at),
        "all rows before the wait": Site(made, inner.role, inner.segment, inner.at).instead(plain),
        "no inner rows": inner.instead(),
        "no outer rows": outer.instead(),
        "inner rows twice": outer.instead(inner.instruction),
        "outer rows twice": inner.instead(outer.instruction),
        "outer rows first": inner.moved(outer.at),
        "another border": inner.changed(attrs=_with(inner.instruction, border=(0, 1))),
        "another axis": inner.changed(attrs=_with(inner.instruction, rows=(INNER, "width"))),
        "what is sent is overwritten": inner.instead(fill, inner.instruction),
        "what comes is overwritten": inner.instead(
            replace(fill, outputs=(inner.instructions[halo].target,)),
            inner.instruction,  # type: ignore[union-attr]
        ),
    }


def _with(made: Instruction, **changes: object) -> tuple[tuple[str, object], ...]:
    assert isinstance(made, Compute)
    return tuple((dict(made.attrs) | changes).items())  # type: ignore[return-value]


@pytest.mark.parametrize("fault", faulty())
def test_faults_are_rejected(fault: str) -> None:
    graph = one_window()
    assert check(program(graph, on(SLOW, overlap=0.9)), graph) == ()
    assert check(faulty()[fault], graph)


@pytest.mark.parametrize(
    "fault", ["no wait", "outer rows before the wait", "all rows before the wait", "no outer rows"]
)
def test_faults_of_the_order_need_no_graph(fault: str) -> None:
    assert check_alone(faulty()[fault])
