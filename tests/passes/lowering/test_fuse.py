"""Fused calls: what is fused, what stands against it, and what that changes in memory and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dlc.cost.price import default_price
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import Compute, Program, Send
from dlc.ir.storage import Storage
from dlc.ops.fusion import ELEMENTWISE, FUSIONS, LINEAR, fused, fusion_of
from dlc.proof import check
from passes.lower import lower
from passes.lowering.fuse import UNASKED, missed
from tests.mutation.bases import Case, chained, convolutions, normalised, residual
from tests.passes.lowering.compared import drawn, largest_error, parallel, serial
from tests.passes.lowering.plans import by, on, plan_of, trained
from tests.passes.sample_networks import Network, context

DATA = by(data="batch")
TWO = {"data": 2, "model": 2}
CASES: dict[str, Case] = {
    "serial": {"mesh": {"data": 1}, "rule": DATA},
    "data": {"mesh": {"data": 2}, "rule": DATA, "microbatches": 2},
    "channels": {"mesh": TWO, "rule": by(data="batch", model="channel")},
    "rows": {"mesh": TWO, "rule": by(data="batch", model="height")},
    "pipeline": {"mesh": {"pipeline": 2}, "rule": DATA, "schedule": "one_f_one_b", "microbatches": 2, "stages": 2},
    "recompute": {"mesh": {"data": 2}, "rule": DATA, "recompute": "all", "microbatches": 2},
}


def made(graph: Graph, fusion: str = "auto", **choices: object) -> Program:
    plan = plan_of(graph, choices.pop("mesh", {"data": 1}), choices.pop("rule", DATA), kernels="c", **choices)  # type: ignore[arg-type]
    return lower(graph, plan, on(plan.ranks, context(fusion=fusion)))


def calls(program: Program) -> Iterator[Compute]:
    for role in program.roles:
        for segment in role.segments:
            yield from (each for each in segment.instructions if isinstance(each, Compute))


def kernels(program: Program) -> set[tuple[str, str]]:
    return {each.kernel[:2] for each in calls(program) if each.members}


WHOLE = {case: choices | {"microbatches": 1} for case, choices in list(CASES.items())[:4]}
"""Plans for groups of a batch norm that are the whole batch."""


@pytest.mark.parametrize(
    ("network", "choices"),
    [pytest.param(residual, choices, id=case) for case, choices in CASES.items()]
    + [pytest.param(normalised, choices, id=f"groups, {case}") for case, choices in WHOLE.items()]
    + [pytest.param(chained, CASES[case], id=f"element-wise, {case}") for case in ("serial", "rows", "pipeline")],
)
def test_programs_with_fused_calls_compute_the_same(network: Callable[[], Graph], choices: Case) -> None:
    graph, choices = network(), dict(choices)
    given = drawn(graph)
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), kernels="c", **choices)
    world = parallel(graph, plan, given)
    assert kernels(world.program)
    error, name = largest_error(graph, world, serial(graph, given))
    assert error < 1e-9, name


def test_all_kinds_of_chains_are_fused() -> None:
    found = kernels(made(residual())) | kernels(made(residual(), **CASES["rows"])) | kernels(made(normalised()))
    expected = {
        (fusion.op, fusion.stage)
        for chain, fusion in FUSIONS.items()
        if chain not in ELEMENTWISE and chain not in LINEAR
    }
    assert found == expected - {("conv_relu", "forward"), ("conv_relu", "dx")} | {
        ("sgd", "updates"),
        ("sum_relu", "dx"),
    }
    graph = convolutions()
    plan = plan_of(graph, {"data": 1}, DATA, kernels="c", layouts={"conv": "NHWC", "relu": "NHWC"})
    assert kernels(lower(graph, directly(plan), on(1))) == {
        ("conv_relu", "forward"),  # dx is not needed
        ("sum_relu", "dx"),
        ("sgd", "updates"),
    }


def test_element_wise_ops_are_fused() -> None:
    graph = chained()
    found = kernels(made(graph)) - {("sgd", "updates")}
    assert found == {
        ("dropout_add", "forward"),
        ("add_relu", "forward"),
        ("sum_tanh", "dx"),
        ("sigmoid_sum", "sum"),
        ("dropout_relu", "dx"),
    }
    call = next(each for each in calls(made(graph)) if each.kernel[0] == "sum_tanh")
    total, slope = call.members
    (role,) = made(graph).roles
    three = replace(total, inputs=(*total.inputs, total.inputs[0]))
    assert fused((three, slope), role.buffer) is None, "there is no kernel for sums of three"
    onto = replace(total, outputs=total.inputs[:1])
    assert fused((onto, replace(slope, inputs=(total.inputs[0], *slope.inputs[1:]))), role.buffer) is None


def activated() -> Graph:
    """Linear maps and activations in turn."""
    net = Network(8)
    x = net("relu", net("linear", net("flatten", net.image(2, 2, 2)), features=8))
    x = net("gelu", net("linear", x, features=12), approximate="tanh")
    x = net("gelu", net("linear", x, features=8), approximate="none")
    return trained(net, net("linear", x, features=8))


@pytest.mark.parametrize("case", ["serial", "data", "channels", "pipeline", "recompute"])
def test_linear_maps_are_finished_with_activations(case: str) -> None:
    """On devices: what GELU is differentiated from is stored besides. In C and in NumPy they are not."""
    graph, choices = activated(), CASES[case] | {"kernels": "numpy"}
    given = drawn(graph)
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)  # type: ignore[arg-type]
    world = parallel(graph, plan, given, context(fusion="yes"))
    found = kernels(world.program) - {("sgd", "updates")}
    assert ("linear_gelu_kept", "forward") in found
    if case == "serial":
        assert found == {
            ("linear_relu", "forward"),
            ("linear_gelu_kept", "forward"),
            ("linear_gelu", "dx"),
        }
        (role,) = world.program.roles
        exact = [each for each in calls(world.program) if each.kernel[:2] == ("gelu", "dx")]
        assert len(exact) == 1, "that of the exact one saves nothing"
        call = next(each for each in calls(world.program) if each.kernel[0] == "linear_gelu_kept")
        assert call.outputs == (call.members[1].outputs[0], call.members[0].outputs[0])
        assert dict(call.attrs)["approximate"] == "tanh"
        assert not call.inner
        price = default_price(world.program, on(1, context()).cluster)
        seconds = sum(price(each, role, role.largest_shard) for each in call.members)
        bare = fused(call.members, role.buffer)
        assert bare is not None
        assert price(bare, role, role.largest_shard) <= price(call, role, role.largest_shard) < seconds
        assert [fusion_of(each).saved for each in (bare, call)] == [2, 1]
    error, name = largest_error(graph, world, serial(graph, given))
    assert error < 1e-9, name
    assert not {op for op, _ in kernels(made(graph)) if op.startswith("linear")}
    apart = made(graph, fusion="no")
    for in_c in (True, False):
        left = {each.kernel[0] for _, _, members, _ in missed(apart, in_c) for each in members}
        assert ("linear" in left) is not in_c, "C has no kernel for them: there is nothing to say"


def test_what_is_kept_is_a_result_of_a_call() -> None:
    graph = activated()
    plan = plan_of(graph, {"data": 1}, DATA, kernels="numpy")
    program = lower(graph, plan, on(1, context(fusion="yes")))
    (role,) = program.roles
    call = next(each for each in calls(program) if each.kernel[0] == "linear_gelu_kept")
    assert fused(call.members, role.buffer, kept=True) == call
    bare = fused(call.members, role.buffer)
    assert bare is not None
    assert bare.inner == call.outputs[1:]
    relu = next(each for each in calls(program) if each.kernel[0] == "linear_relu")
    assert fused(relu.members, role.buffer, kept=True) is None

    segments = tuple(
        replace(each, instructions=tuple(bare if made is call else made for made in each.instructions))
        for each in role.segments
    )
    faults = check(replace(program, roles=(replace(role, segments=segments),)), graph)
    assert {fault.kind for fault in faults} == {"unwritten"}


def directly(plan: Plan) -> Plan:
    """The plan with direct convolutions."""
    ops = (
        replace(op, passes=tuple(replace(each, algorithm=each.algorithm and "direct") for each in op.passes))
        for op in plan.ops
    )
    return plan.with_(ops=tuple(ops))


def test_what_is_handed_on_takes_no_memory_and_time_goes_down() -> None:
    graph = residual()
    apart, together = made(graph, fusion="no"), made(graph)
    (role,) = together.roles
    storage = Storage(role, role.largest_shard)
    assert role.unstored
    assert not apart.roles[0].unstored
    assert all(storage.bytes(role.buffer(name)) == 0 for name in role.unstored)
    before = Storage(apart.roles[0], role.largest_shard).allocated()
    assert sum(storage.allocated().values()) <= sum(before.values())
    price = default_price(together, on(1, context()).cluster)
    for call in calls(together):
        if call.members:
            seconds = [price(each, role, role.largest_shard) for each in call.members]
            assert max(seconds) <= price(call, role, role.largest_shard) < sum(seconds)


def against(program: Program) -> set[tuple[tuple[str, ...], str]]:
    return {(tuple(each.kernel[0] for each in members), why) for _, _, members, why in missed(program)}


def test_what_is_not_fused_says_why() -> None:
    net = Network(4)
    x = net("bn", net("conv", net.image(2, 4, 4), filters=4, window=3, pad="same"), group=4)
    graph = trained(net, net("add", net("relu", x), net("tanh", x)))
    found = against(made(graph))
    assert (("bn", "relu"), "also read by tanh forward") in found
    assert (("bn", "relu"), UNASKED) in against(made(residual(), fusion="no"))
    assert not against(made(normalised()))
    apart = [made for made in calls(made(graph, fusion="no")) if made.kernel[1] == "update" and made.kernel[0] == "sgd"]
    assert (("sgd",) * len(apart), UNASKED) in against(made(graph, fusion="no"))


def test_updates_are_one_call_where_nothing_stands_between() -> None:
    """On two ranks the gradients of each bucket are waited for before its weights are updated."""
    graph = residual()
    for ranks in (1, 2):
        program = made(graph, mesh={"data": ranks})
        found = [each for each in calls(program) if each.kernel[1] in ("update", "updates") and each.kernel[0] == "sgd"]
        weights = [member.inputs[0] for each in found for member in each.members or (each,)]
        assert sorted(weights) == sorted(value.name for value in graph.of_kind("weight"))
        assert len(found) < len(weights)
    one, two, *_ = found[0].members
    buffer = program.roles[0].buffer
    assert fused((one, two), buffer) is not None
    assert fused((one,), buffer) is None
    assert fused((one, replace(two, attrs=(("momentum", 0.5),))), buffer) is None


def test_a_repeated_operand_is_added_by_a_kernel_of_its_own() -> None:
    """Of `add` operands that are repeated along an axis, no kernel with batch norm knows."""
    program = made(residual())
    call = next(each for each in calls(program) if each.kernel[0] == "bn_add_relu")
    (role,) = program.roles
    added = call.inputs[-1]
    assert fused(call.members, role.buffer) == call

    def narrow(name: str) -> object:
        buffer = role.buffer(name)
        return replace(buffer, type=buffer.type.with_extent("width", 1)) if name == added else buffer

    assert fused(call.members, narrow) is None  # type: ignore[arg-type]


def test_messages_keep_their_places() -> None:
    """A chain with a message between its calls, of what the first one gives, is none."""
    graph = residual()
    program = made(graph, fusion="no")
    (role,) = program.roles
    forward = role.segment("forward")
    at, call = next((at, i) for at, i in enumerate(forward.instructions)
                    if isinstance(i, Compute) and i.kernel[:2] == ("bn", "forward"))  # fmt: skip
    send = Send("statistics", "data", 1, call.outputs[1], 0)
    changed = replace(forward, instructions=(*forward.instructions[: at + 1], send, *forward.instructions[at + 1 :]))
    segments = tuple(changed if each is forward else each for each in role.segments)
    found = against(replace(program, roles=(replace(role, segments=segments),)))
    assert (("bn", "relu"), "send stands between") in found


def test_programs_with_fused_calls_are_sound() -> None:
    for case in CASES.values():
        graph = residual()
        assert check(made(graph, **case), graph) == ()
