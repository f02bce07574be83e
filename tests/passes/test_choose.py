"""The joint choice equals brute force over all layouts, priced by an evaluator that shares no code with the planner."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from dlc.cost.compute import conversion_seconds, seconds
from dlc.diagnostics import DiagnosticError, Span
from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Plan
from dlc.ir.plan_json import plan_from_json, plan_to_json
from dlc.ir.request import Limit, Rule
from dlc.ir.training import Choice
from dlc.ops import operator
from dlc.ops.operator import Operator, Shapes
from passes.choose import choose
from passes.context import Context
from passes.explain import explain
from passes.layouts import conversions
from passes.lower import lower
from passes.review import review
from passes.survey import survey
from tests.passes.sample_networks import (
    Network,
    context,
    densenet121,
    googlenet,
    laptop,
    lenet,
    resnet50,
)

LAYOUTS = ("NCHW", "NHWC", "CHWN")
PLACE = Span("net.dlspec", 41, 3, 41, 9)


def rule(key: str, value: str, *addresses: str, line: int = 41) -> Rule:
    span = Span("net.dlspec", line, 3, line, 9)
    return Rule(key, value, addresses, "…", span, span)


# An independent evaluator: layouts by op address -> seconds of a step on one rank.


def op_of(node: Node) -> Operator:
    found = operator(node.op)
    assert found is not None
    return found


def allowed(graph: Graph, node: Node) -> tuple[str, ...]:
    op = op_of(node)
    types = [graph.type(name) for name in (*node.inputs, *node.outputs)]
    if not any(t.names == ("batch", "channel", "height", "width") for t in types):
        return ("",)
    images = [t for t in types if len(t.shape) == 4]
    if op.elementwise and all(t.shape[1] == 1 or t.shape[2:] == (1, 1) for t in images):
        return ("NCHW", "CHWN")  # NHWC is the same as NCHW
    if op.elementwise:
        return LAYOUTS if len({graph.type(name).shape for name in node.inputs}) == 1 else ("NCHW",)
    return ("NCHW", *op.layout_free)


def node_seconds(graph: Graph, node: Node, layout: str, asked: Context) -> float:
    op = op_of(node)
    shapes = Shapes(tuple(map(graph.type, node.inputs)), tuple(map(graph.type, node.outputs)), dict(node.attrs))
    device = asked.cluster.devices[0]
    legal = [a for a in op.algorithms if a.excluded(node.stage, shapes) is None and layout in a.layouts]
    names = [a.name for a in legal if "cpu" in a.devices] or [""]
    return min(seconds(op, node.stage, shapes, name, layout, device).seconds for name in names)


def evaluator(graph: Graph, asked: Context) -> Callable[[dict[str, str]], float]:
    """A function from layouts by op address to seconds: every node, and one copy for each (value, layout) wanted."""
    device = asked.cluster.devices[0]
    makers = {name: node for node in graph.nodes for name in node.outputs}
    images = {v.name: v.type for v in graph.values if v.type.names == ("batch", "channel", "height", "width")}
    copy = {name: conversion_seconds(type_, device) for name, type_ in images.items()}
    nodes = {
        (node.address, layout): node_seconds(graph, node, layout, asked)
        for node in graph.nodes
        for layout in (allowed(graph, graph.node(node.base)) if node.stage in ("forward", "dx", "dw") else ("",))
    }

    def layout_at(node: Node | None, layouts: dict[str, str]) -> str:
        if node is not None and node.stage == "sum":
            return layout_at(makers.get(node.base), layouts)
        if node is None or node.stage not in ("forward", "dx", "dw", "statistics") or op_of(node).view:
            return "NCHW"
        return layouts.get(node.base, "NCHW") or "NCHW"

    def order(shape: tuple[int, ...], layout: str) -> list[str]:
        extents = dict(zip("NCHW", shape, strict=True))
        return [axis for axis in layout if extents[axis] > 1 or axis == "N"]

    def evaluate(layouts: dict[str, str]) -> float:
        total, copies = 0.0, set[tuple[str, str]]()
        for node in graph.nodes:
            own = layouts[node.base] if node.stage in ("forward", "dx", "dw") and node.base in layouts else ""
            total += nodes[node.address, own]
            target = layout_at(node, layouts)
            copies.update((name, target) for name in node.inputs if name in images)
        for name, target in sorted(copies):
            shape = images[name].shape
            if order(shape, target) != order(shape, layout_at(makers.get(name), layouts)):
                total += copy[name]
        return total

    return evaluate


def brute_force(graph: Graph, asked: Context) -> list[float]:
    nodes = [node for node in graph.nodes if node.stage == "forward"]
    evaluate = evaluator(graph, asked)
    return sorted(
        evaluate(dict(zip((n.address for n in nodes), chosen, strict=True)))
        for chosen in product(*(allowed(graph, node) for node in nodes))
    )


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


@pytest.mark.parametrize("seed", range(200))
def test_choice_equals_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(rng)
    # between devices that favour arithmetic and such that make copies dear, every kind of mixture wins somewhere
    device = replace(
        laptop().devices[0],
        bandwidth=10.0 ** rng.uniform(8, 12),
        compute=(("f32", 10.0 ** rng.uniform(9, 12)),),
        kind=rng.choice(("cpu", "gpu")),
    )
    asked = context(cluster=replace(laptop(), devices=(device,)))
    plan = choose(graph, asked)
    every = brute_force(graph, asked)
    assert plan.predicted.objective == pytest.approx(every[0], rel=1e-12)
    chosen = {op.address: op.layout for op in plan.ops}
    assert evaluator(graph, asked)(chosen) == pytest.approx(every[0], rel=1e-12)
    assert plan.runner_up is not None
    assert every[0] * (1 - 1e-12) <= plan.runner_up.objective <= every[1] * (1 + 1e-12)


def test_the_random_graphs_have_mixed_answers() -> None:
    """Else the comparison with brute force would prove little."""
    kinds = set()
    for seed in range(40):
        plan = choose(random_graph(random.Random(seed)), context())
        kinds.add(frozenset(op.layout for op in plan.ops if op.layout))
    assert len(kinds) >= 3


def test_a_wide_fan_out_is_converted_once_for_each_layout() -> None:
    """Six readers: the edge is unrolled into helpers, and still costs one copy for each layout asked for."""
    net = Network(4)
    x = net("conv", net.image(3, 8), filters=8, window=3, pad=1)
    graph = net.trained(net("concat", *(net("tanh", x) for _ in range(5)), net("relu", x), axis="channel"), 3)
    asked = context()
    assert choose(graph, asked).predicted.objective == pytest.approx(brute_force(graph, asked)[0], rel=1e-12)


@pytest.mark.parametrize("network", [resnet50, googlenet, densenet121])
def test_real_networks_are_solved_quickly(network: object) -> None:
    graph = network()  # type: ignore[operator]
    start = time.process_time()
    plan = choose(graph, context(2, laptop(2)))
    assert time.process_time() - start < 4.0  # measured at 0.4 to 0.9 s on a 2.5 GHz core
    assert plan.predicted.objective <= min(other.objective for other in plan.baselines if "NCHW" in other.description)


# Figures.


def test_conversions_are_those_that_the_program_makes() -> None:
    for graph in (lenet(), random_graph(random.Random(3)), googlenet(2)):
        asked = context()
        plan = choose(graph, asked)
        program = lower(graph, plan, asked)
        made = [
            i.address
            for segment in program.roles[0].segments
            if segment.name in ("forward", "backward", "update")
            for i in segment.instructions
            if getattr(i, "kernel", ("",))[0] == "convert"
        ]
        found = survey(graph, asked)
        layouts = {op.address: op.layout for op in plan.ops}
        planned = [(c.value, c.target, found.prices.conversion(c.type)) for c in conversions(graph, layouts)]
        assert sorted(made) == sorted(f"{value}@{target}" for value, target, _ in planned)
        assert plan.predicted.conversion_seconds == pytest.approx(sum(price for *_, price in planned))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_no_step_is_shorter_than_its_bounds(ranks: int) -> None:
    for graph in (lenet(), googlenet(4), random_graph(random.Random(5)) if ranks == 1 else lenet(33)):
        plan = choose(graph, context(ranks, laptop(ranks)))
        assert 0 < plan.bounds.step <= plan.predicted.step_seconds
        p = plan.predicted
        assert p.step_seconds == pytest.approx(p.compute_seconds + p.conversion_seconds + p.communication_seconds)
        assert p.objective <= plan.runner_up.objective if plan.runner_up else True
        for name in ("work", "memory_traffic", "depth"):
            assert getattr(plan.bounds, name) > 0


def test_peak_bytes_count_weights_gradients_states_and_activations() -> None:
    graph = lenet()
    plan = choose(graph, context())
    least = sum(
        value.type.bytes
        for value in graph.of_kind("input", "weight", "state", "activation")
        if "flatten" not in value.name
    )
    assert least < plan.predicted.peak_bytes < 4 * least


# Pins, forbids, limits.


def algorithms(plan: Plan, address: str) -> set[str]:
    return {part.algorithm for part in plan.op(address).passes}


def test_pins_are_obeyed_and_say_so() -> None:
    plan = choose(lenet(), context(pins=(rule("algorithm", "direct", "n0.conv"), rule("layout", "NHWC", "n0.conv"))))
    op = plan.op("n0.conv")
    assert algorithms(plan, "n0.conv") == {"direct"}
    assert (op.layout, op.reason.kind, str(op.layout_reason)) == ("NHWC", "pinned", "pinned at net.dlspec:41")
    assert plan.op("n3.conv").reason.kind == "chosen"
    assert plan.op("n2.avgpool").reason.kind == "only"


def test_forbids_and_the_layout_of_the_plan_are_obeyed() -> None:
    graph = lenet()
    convs = [node.address for node in graph.forward if node.op == "conv"]
    plan = choose(graph, context(layout="NHWC", forbids=(rule("algorithm", "im2col", *convs),)))
    assert {op.layout for op in plan.ops if op.address in convs} == {"NHWC"}
    assert all("im2col" not in algorithms(plan, address) for address in convs)
    assert plan.op("n8.flatten").layout == "NCHW"


def test_a_pin_on_an_op_goes_before_the_layout_of_the_plan() -> None:
    plan = choose(lenet(), context(layout="NHWC", pins=(rule("layout", "NCHW", "n3.conv"),)))
    assert plan.op("n3.conv").layout == "NCHW"
    assert plan.op("n0.conv").layout == "NHWC"


def arena(graph: Graph, asked: Context) -> int:
    program = lower(graph, choose(graph, asked), asked)
    return next(buffer.type.bytes for buffer in program.roles[0].buffers if buffer.name == "arena")


def test_limit_workspace_rules_algorithms_out() -> None:
    graph = lenet()
    free = arena(graph, context())
    tight = context(limits=(Limit("workspace", free - 1000, PLACE),))
    assert arena(graph, tight) < free
    assert choose(graph, tight).predicted.objective > choose(graph, context()).predicted.objective
    ((code, message), *_) = codes(graph, context(limits=(Limit("workspace", 1000, PLACE),)))
    assert code == "E0512"
    assert "direct because its workspace of" in message


def codes(graph: Graph, asked: Context) -> list[tuple[str, str]]:
    with pytest.raises(DiagnosticError) as error:
        choose(graph, asked)
    return [(d.code, d.message) for d in error.value.diagnostics]


def test_an_algorithm_that_cannot_compute_an_op_is_refused() -> None:
    found = codes(lenet(), context(pins=(rule("algorithm", "winograd(4)", "n0.conv"),)))
    assert found == [("E0504", "winograd(4) cannot compute n0.conv")]


def test_an_op_without_anything_left_is_refused_with_every_reason() -> None:
    everything = ("im2col", "direct", "fft")  # fft_tiled belongs to fft
    forbids = tuple(rule("algorithm", name, "n0.conv", line=41 + i) for i, name in enumerate(everything))
    ((code, message),) = codes(lenet(), context(forbids=forbids))
    assert code == "E0512"
    assert message.startswith("every algorithm of n0.conv is ruled out: direct by line 42, im2col by line 41")
    assert "winograd(4) because the window is 5x5" in message
    forbids = tuple(rule("layout", name, "n0.conv") for name in LAYOUTS)
    ((code, message),) = codes(lenet(), context(forbids=forbids))
    assert (code, message.count("by line 41")) == ("E0512", 3)


def test_pins_are_reviewed() -> None:
    graph = lenet()
    best = choose(graph, context()).op("n0.conv")
    same, dear = rule("layout", best.layout, "n0.conv"), rule("algorithm", "direct", "n0.conv", line=42)
    asked = context(pins=(same, dear))
    warnings = {d.code: d for d in review(graph, asked, choose(graph, asked))}
    assert set(warnings) == {"W0501", "W0502"}
    assert "times the best choice (im2col" in warnings["W0502"].message
    assert warnings["W0502"].primary is not None
    assert warnings["W0502"].primary.span.line == 42


def test_explain_lists_every_candidate_once() -> None:
    graph, asked = lenet(), context(forbids=(rule("algorithm", "direct", "n3.conv"),))
    plan = choose(graph, asked)
    found = explain(graph, asked, plan, "n3.conv")
    assert len({(c.stage, c.layout, c.algorithm) for c in found.candidates}) == len(found.candidates)
    assert all((c.figure is None) == (c.excluded is not None) for c in found.candidates)
    assert [c.stage for c in found.candidates if c.taken] == [part.stage for part in plan.op("n3.conv").passes]
    assert all(c.excluded == "by line 41" for c in found.candidates if c.algorithm == "direct")


# Determinism and text.


@pytest.mark.parametrize("graph", [lenet(), random_graph(random.Random(1))], ids=["lenet", "random"])
def test_plan_json_round_trips(graph: Graph) -> None:
    plan = choose(graph, context(2, laptop(2), pins=(rule("layout", "NHWC", "n0.conv"),)))
    text = plan_to_json(plan)
    assert plan_from_json(text) == plan
    assert plan_to_json(plan_from_json(text)) == text
    assert '"schema": 1' in text


def test_plan_json_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 1"):
        plan_from_json('{"schema": 2}')


def test_same_plan_whatever_the_hash_seed() -> None:
    program = (
        "from tests.passes.sample_networks import *; from passes.choose import choose;"
        "from dlc.ir.plan_json import plan_to_json;"
        "print(plan_to_json(choose(googlenet(4), context(3, laptop(3)))))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(texts) == 1


# Data parallelism.


def test_strategies_without_a_backend_are_refused() -> None:
    asked = context(2, laptop(2), strategy=Choice("pipeline", span=PLACE))
    assert [code for code, _ in codes(lenet(), asked)] == ["E0701"]
    assert choose(lenet(), asked.with_(ranks=1)).ranks == 1
    assert [code for code, _ in codes(lenet(), context(2, laptop(2), allreduce="hierarchical"))] == ["E0701"]


def test_more_ranks_than_samples_are_refused() -> None:
    ((code, message),) = codes(lenet(2), context(3, laptop(3)))
    assert (code, message) == ("E0708", "2 samples in a batch leave 1 of 3 ranks without any")
