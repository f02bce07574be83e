"""Algorithms and layouts as planned: against brute force on devices of all kinds and under rules."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dlc.cluster.topology import Cluster
from dlc.diagnostics import DiagnosticError, Span
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.plan_json import plan_from_json, plan_to_json
from dlc.ir.request import Rule
from dlc.ir.training import Choice
from dlc.ops.operator import LAYOUTS
from dlc.proof import check
from passes.context import Context
from passes.explain_options import explain_options
from passes.lower import lower
from passes.planning.pinned import review_pins
from passes.planning.prices import Prices
from passes.planning.solve import GAP, solve
from passes.planning.space import space
from passes.planning.strategies import Strategy
from tests.passes.planning.exhaustive import every, restrict
from tests.passes.planning.planned import PLACE, ROOMY, planned, searched
from tests.passes.planning.random_networks import Case
from tests.passes.planning.test_random_problems import by_hand
from tests.passes.sample_networks import Network, context, densenet121, googlenet, laptop, lenet, resnet50
from tests.slices import first

ONE_RANK = Strategy(())
ROUNDING = 1e-9


def rule(key: str, value: str, *addresses: str, line: int = 41) -> Rule:
    span = Span("net.dlspec", line, 3, line, 9)
    return Rule(key, value, addresses, "…", span, span)


# --- against brute force -------------------------------------------------------------------------------------------


def random_graph(rng: random.Random) -> Graph:
    """Chains, residual sums, diamonds, concatenations and wide fan-outs of a handful of ops."""
    net = Network(rng.choice((1, 2, 5, 16)))
    x = net.image(rng.choice((1, 3, 8)), rng.choice((6, 9, 12)))
    free = 0
    while free < 4:
        kind = rng.choice(("conv", "conv", "pool", "tanh", "bn", "residual", "diamond", "fan_out"))
        if kind == "conv":
            x = net(
                "conv", x, filters=rng.choice((2, 8, 24)), window=rng.choice((1, 3)), stride=rng.choice((1, 2)), pad=1
            )
        elif kind == "pool" and min(net.type(x).shape[2:]) >= 2:
            x = net(rng.choice(("avgpool", "maxpool")), x, window=2)
        elif kind == "tanh":
            x = net(rng.choice(("tanh", "relu")), x)
        elif kind == "bn" and net.batch * net.type(x).shape[2] > 1:
            x = net("bn", x)
        elif kind == "residual":
            x = net("add", net("conv", x, filters=net.type(x).shape[1], window=3, pad=1), x)
            free += 1
        elif kind == "diamond":
            x = net("concat", net("conv", x, filters=4, window=3, pad=1), net("tanh", x), axis="channel")
            free += 2
        elif kind == "fan_out" and free <= 1:
            parts = [net(rng.choice(("tanh", "sigmoid")), x) for _ in range(rng.randint(3, 4))]
            x = net("concat", *parts, axis="channel")
            free += len(parts)
        free += 1
    return net.trained(x, 3)


def random_machine(rng: random.Random) -> Cluster:
    """Between devices that favour arithmetic and such that make copies dear, every kind of mixture wins somewhere."""
    core = replace(
        laptop().devices[0],
        bandwidth=10.0 ** rng.uniform(8, 12),
        compute=(("f32", 10.0 ** rng.uniform(9, 12)),),
        kind=rng.choice(("cpu", "gpu")),
    )
    return replace(laptop(), devices=(core,))


@pytest.mark.parametrize("start", first(3, range(0, 60, 10)))
def test_choice_equals_brute_force(start: int) -> None:
    for seed in range(start, start + 10):
        rng = random.Random(seed)
        case = Case(str(seed), random_graph(rng), context(cluster=random_machine(rng)))
        everything = space(case.graph, case.context, [ONE_RANK])
        assert restrict(everything, ONE_RANK, rng, 4_000) is not None
        found, solved = every(everything, ONE_RANK), solve(everything, ONE_RANK)
        assert solved is not None
        assert found.least * (1 - ROUNDING) <= solved.objective <= found.least * (1 + GAP)
        for at in (int(found.costs.argmin()), rng.randrange(len(found.values))):
            by_hand(case, everything, ONE_RANK, found, at)


def test_the_random_graphs_have_mixed_answers() -> None:
    """Else the comparison with brute force would prove little."""
    kinds = set()
    for seed in range(40):
        rng = random.Random(seed)
        made = planned(random_graph(rng), context(cluster=random_machine(rng)))
        kinds.add(frozenset(op.layout for op in made.ops if op.layout))
    assert len(kinds) >= 3


@pytest.mark.parametrize("network", [resnet50, googlenet, densenet121])
def test_real_networks_are_planned_by_kinds_of_ops(network: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices are found once for ops that are alike."""
    graph, priced, price = network(), list[int](), Prices._price  # type: ignore[operator]
    monkeypatch.setattr(Prices, "_price", lambda prices, kinds: (priced.append(len(kinds)), price(prices, kinds))[1])
    made = planned(graph, context(2, laptop(2)))
    assert 0 < len(priced) < len(graph.nodes) / 10
    assert made.gap < 1e-3
    assert all(made.predicted.objective <= other.objective for other in made.baselines if other.objective)


# --- figures -------------------------------------------------------------------------------------------------------


def test_conversions_are_those_that_the_program_makes() -> None:
    """Op by op, one stage, each copy where it is made: without a mesh, moves are conversions and nothing else."""
    for graph in (lenet(), random_graph(random.Random(3)), googlenet(2)):
        asked = context()
        found = searched(graph, asked)
        predicted, (role,) = found.plan.predicted, lower(graph, found.plan, asked).roles
        made = [
            each
            for segment in role.segments
            if segment.name in ("forward", "backward", "update")
            for each in segment.instructions
            if getattr(each, "kernel", ("",))[0] == "convert"
        ]
        assert bool(made) == (predicted.conversion_seconds > 0)
        assert predicted.conversion_seconds == pytest.approx(found.step.parts.moves)
        assert predicted.communication_seconds == 0


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_no_step_is_shorter_than_its_bounds(ranks: int) -> None:
    for graph in (lenet(), googlenet(4), random_graph(random.Random(5)) if ranks == 1 else lenet(33)):
        made = planned(graph, context(ranks, laptop(ranks)))
        assert made.bounds is not None
        assert 0 < made.bounds.step <= made.predicted.step_seconds
        p = made.predicted
        parts = p.compute_seconds + p.conversion_seconds + p.communication_seconds + p.bubble_seconds
        assert p.step_seconds == pytest.approx(parts)
        assert p.objective <= made.runner_up.objective if made.runner_up else True
        for name in ("work", "memory_traffic", "depth"):
            assert getattr(made.bounds, name) > 0


def test_peak_bytes_count_weights_gradients_states_and_activations() -> None:
    graph = lenet()
    least = sum(
        value.type.bytes
        for value in graph.of_kind("input", "weight", "state", "activation")
        if "flatten" not in value.name
    )
    assert least < planned(graph, context()).predicted.peak_bytes < 4 * least


# --- pins, forbids, limits -----------------------------------------------------------------------------------------


def algorithms(made: Plan, address: str) -> set[str]:
    return {part.algorithm for part in made.op(address).passes}


def test_pins_are_obeyed_and_say_so() -> None:
    pins = (rule("algorithm", "direct", "n0.conv"), rule("layout", "NHWC", "n0.conv"))
    made = planned(lenet(), context(pins=pins))
    op = made.op("n0.conv")
    assert algorithms(made, "n0.conv") == {"direct"}
    assert (op.layout, op.reason.kind, str(op.layout_reason)) == ("NHWC", "pinned", "pinned at net.dlspec:41")
    assert made.op("n3.conv").reason.kind == "chosen"
    assert made.op("n2.avgpool").reason.kind == "only"


def test_forbids_and_the_layout_of_the_plan_are_obeyed() -> None:
    graph = lenet()
    convs = [node.address for node in graph.forward if node.op == "conv"]
    made = planned(graph, context(layout="NHWC", forbids=(rule("algorithm", "im2col", *convs),)))
    assert {op.layout for op in made.ops if op.address in convs} == {"NHWC"}
    assert all("im2col" not in algorithms(made, address) for address in convs)
    assert made.op("n8.flatten").layout == "NCHW"


def test_a_pin_on_an_op_goes_before_the_layout_of_the_plan() -> None:
    made = planned(lenet(), context(layout="NHWC", pins=(rule("layout", "NCHW", "n3.conv"),)))
    assert made.op("n3.conv").layout == "NCHW"
    assert made.op("n0.conv").layout == "NHWC"


def codes(graph: Graph, asked: Context) -> list[tuple[str, str]]:
    with pytest.raises(DiagnosticError) as error:
        planned(graph, asked)
    return [(d.code, d.message) for d in error.value.diagnostics]


def test_an_algorithm_that_cannot_compute_an_op_is_refused() -> None:
    found = codes(lenet(), context(pins=(rule("algorithm", "winograd(4)", "n0.conv"),)))
    assert found == [("E0504", "winograd(4) cannot compute n0.conv")]


def test_an_op_without_anything_left_is_refused_with_every_reason() -> None:
    everything = ("im2col", "direct", "fft")  # fft_tiled belongs to fft
    forbids = tuple(rule("algorithm", name, "n0.conv", line=41 + i) for i, name in enumerate(everything))
    ((code, message),) = codes(lenet(), context(forbids=forbids))
    assert code == "E0512"
    assert message.startswith("every algorithm of n0.conv is ruled out: ")
    assert "direct by line 42, im2col by line 41" in message
    assert "winograd(4) because the window is 5x5" in message
    forbids = tuple(rule("layout", name, "n0.conv") for name in LAYOUTS)
    ((code, message),) = codes(lenet(), context(forbids=forbids))
    assert (code, message.count("by line 41")) == ("E0512", 3)


def test_pins_are_reviewed() -> None:
    graph = lenet()
    best = planned(graph, context()).op("n0.conv")
    same, dear = rule("layout", best.layout, "n0.conv"), rule("algorithm", "direct", "n0.conv", line=42)
    given = context(cluster=laptop(**ROOMY), pins=(same, dear))
    warnings = {d.code: d for d in review_pins(searched(graph, given))}
    assert set(warnings) == {"W0501", "W0502"}
    assert "times the best choice (im2col" in warnings["W0502"].message
    assert warnings["W0502"].primary is not None
    assert warnings["W0502"].primary.span.line == 42


def test_explain_lists_every_candidate_once() -> None:
    found = searched(lenet(), context(forbids=(rule("algorithm", "direct", "n3.conv"),)))
    shown = explain_options(found, "n3.conv")
    assert len({(c.stage, c.layout, c.algorithm) for c in shown.candidates}) == len(shown.candidates)
    assert all((c.figure is None) == (c.excluded is not None) for c in shown.candidates)
    assert [c.stage for c in shown.candidates if c.taken] == [part.stage for part in found.plan.op("n3.conv").passes]
    assert all(c.excluded == "by line 41" for c in shown.candidates if c.algorithm == "direct")


# --- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [lenet(), random_graph(random.Random(1))], ids=["lenet", "random"])
def test_plan_json_round_trips(graph: Graph) -> None:
    made = planned(graph, context(2, laptop(2), pins=(rule("layout", "NHWC", next(graph.forward).address),)))
    text = plan_to_json(made)
    assert plan_from_json(text) == made
    assert plan_to_json(plan_from_json(text)) == text
    assert '"schema": 1' in text


def test_plan_json_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 1"):
        plan_from_json('{"schema": 2}')


# --- ranks and samples ---------------------------------------------------------------------------------------------


def test_more_ranks_than_samples_divide_something_else() -> None:
    made = planned(lenet(2), context(3, laptop(3)))
    assert made.ranks == 3
    assert any(op.partition for op in made.ops)
    assert not any(split.axis == "batch" for op in made.ops for split in op.partition)


def test_data_parallelism_on_more_ranks_than_samples_leaves_ranks_without() -> None:
    graph, only = lenet(2), context(3, laptop(3), strategy=Choice("data", span=PLACE))
    made = planned(graph, only)
    assert made.shards == ((0, 1), (1, 2), (2, 2))
    two = planned(graph, context(2, laptop(2), strategy=Choice("data", span=PLACE)))
    assert made.predicted.compute_seconds == pytest.approx(two.predicted.compute_seconds)
    assert check(lower(graph, made, only), graph) == ()
