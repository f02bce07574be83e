"""What programs of pipelines look like: what crosses from stage to stage, and when."""

from __future__ import annotations

import pytest

from dlc.cost.schedules import sends_under_way, table
from dlc.ir.check import check
from dlc.ir.graph import Graph
from dlc.ir.program import Collective, Compute, Receive, Send
from passes.lower import lower
from tests.passes.lowering.made import PIPELINE, program, run
from tests.passes.lowering.plans import on, plan_of, reduced, trained
from tests.passes.lowering.test_numbers import DATA, apart
from tests.passes.sample_networks import Network, lenet


def test_one_tensor_crosses_each_boundary() -> None:
    made = program(lenet(8), {"pipeline": 2, "data": 2}, DATA, **PIPELINE)
    first = [i for i in run(made, "stage0", "forward0", "backward0") if isinstance(i, Send | Receive)]
    assert [(type(i).__name__, i.peer, i.blocking) for i in first] == [("Send", 1, False), ("Receive", 1, True)]
    assert [role.ranks for role in made.roles] == [(0, 1), (2, 3)]
    assert {role.mesh.first for role in made.roles if role.mesh} == {0, 2}


def test_slots_are_as_many_as_microbatches_in_flight() -> None:
    made = program(lenet(8), {"pipeline": 2}, DATA, **PIPELINE)
    slots = [1 + max(row.slot for row in role.entries[0].schedule) for role in made.roles]
    assert slots == [2, 1]


def skipping() -> Graph:
    """A value of the first stage that the last one reads, too."""
    net = Network(8)
    x = net("tanh", net("linear", net("flatten", net.image(2, 2)), features=6))
    y = net("tanh", net("linear", x, features=6))
    for _ in range(4):
        y = net("tanh", net("linear", y, features=6))
    return trained(net, net("add", y, x))


def test_values_that_skip_a_stage_pass_through_it() -> None:
    graph = skipping()
    made = program(graph, {"pipeline": 3}, DATA, schedule="gpipe", microbatches=2, stages=3)
    passed = [i.buffer for i in run(made, "stage1", "forward0") if isinstance(i, Receive)]
    sent = [i.buffer for i in run(made, "stage1", "forward0") if isinstance(i, Send)]
    assert set(passed) & set(sent)
    assert check(made) == ()


def test_tied_weights_send_their_gradient_to_the_owner_and_come_back() -> None:
    graph, base = reduced("gpt2", depth=2)
    plan = plan_of(graph, {"pipeline": 2}, DATA, **PIPELINE)
    made = lower(graph, plan.with_(microbatches=2), on(2, base))
    name = "wte.embedding.weight"
    assert [(type(i), i.buffer) for i in run(made, "stage1", "reduce") if isinstance(i, Send | Receive)] == [
        (Send, f"{name}@grad")
    ]
    assert [(type(i), i.buffer) for i in run(made, "stage1", "update") if isinstance(i, Send | Receive)] == [
        (Receive, name)
    ]
    owner = run(made, "stage0", "reduce")
    assert any(isinstance(i, Compute) and i.kernel[0] == "sum" and i.inputs[0] == f"{name}@grad" for i in owner)


@pytest.mark.parametrize("pipeline", [{}, {"pipeline": 2}])
def test_tied_weights_move_once_a_step(pipeline: dict[str, int]) -> None:
    """Where two uses want a weight in two forms, it is moved before the first of many microbatches, and the gradients
    of one use are added up in their own form."""
    graph, base = reduced("gpt2", depth=2, batch=16)
    more = PIPELINE if pipeline else {}
    plan = plan_of(graph, pipeline | {"data": 2, "model": 2}, apart, **more)
    made = lower(graph, plan.with_(microbatches=4), on(plan.ranks, base))
    moves = {
        segment.name: i.kind
        for role in made.roles
        for segment in role.segments
        for i in segment.instructions
        if isinstance(i, Collective) and "wte.embedding.weight" in i.name and "predict" not in segment.name
    }
    assert moves == {"begin": "allgather"} | ({} if pipeline else {"reduce": "reduce_scatter"})
    assert check(made) == ()


@pytest.mark.parametrize(("p", "m", "v"), [(2, 7, 3), (3, 4, 2), (4, 6, 2), (4, 11, 2), (5, 7, 3)])
def test_several_messages_may_be_under_way(p: int, m: int, v: int) -> None:
    """Where stages do not divide the microbatches, a device sends once more before a message is received."""
    net = Network(m)
    x = net("flatten", net.image(2, 2, 2))
    for _ in range(p * v):
        x = net("linear", x, features=4)
    more = {"schedule": "interleaved", "microbatches": m, "stages": p * v, "chunks": v}
    assert sends_under_way(table("interleaved", p, m, v)) > 1
    assert check(lower(trained(net, x), plan_of(trained(net, x), {"pipeline": p}, DATA, **more), on(p))) == ()


def test_weights_come_apart_in_zero_bubble() -> None:
    made = program(lenet(8), {"pipeline": 2}, DATA, **PIPELINE | {"schedule": "zero_bubble"})
    for role in ("stage0", "stage1"):
        apart = {i.kernel[1] for i in run(made, role, "weights0") if isinstance(i, Compute)}
        together = {i.kernel[1] for i in run(made, role, "backward0") if isinstance(i, Compute)}
        assert "dw" in apart
        assert "dw" not in together
