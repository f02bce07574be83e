"""The prices of instructions by the cost models of a cluster."""

from __future__ import annotations

from dataclasses import replace

from dlc.cluster.collectives import seconds as collective_seconds
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.communication import processing
from dlc.cost.price import default_price
from dlc.ir.program import Buffer, Collective, Compute, Send, Wait
from dlc.ir.tensor import tensor
from tests.cost.timelines import one_segment
from tests.ir.sample_programs import pipeline, with_role, with_segment


def laptop(ranks: int) -> Cluster:
    core = Device("core", memory=2**30, bandwidth=1e10, compute=(("f32", 1e11),))
    wire = Link("wire", bandwidth=1e9, latency=1e-6)
    return Cluster("laptop", (core,), (wire,), (Group("core", ranks, "wire", device="core"),))


def test_default_prices_are_the_cost_models() -> None:
    program, cluster = pipeline(2, 2, 2), laptop(4)
    price, role = default_price(program, cluster), program.roles[0]
    (send,) = (i for i in role.segment("forward").instructions if isinstance(i, Send))
    assert price(send, role, 3) == 1e-6 + 3 * 4 * 4 / 1e9
    (collective,) = (i for i in role.segment("update").instructions if isinstance(i, Collective))
    device = cluster.device("core")
    assert price(collective, role, 3) == collective_seconds("ring", 64, (0, 1), cluster, processing(device))
    assert price(Wait("x"), role, 3) == 0.0


def test_default_prices_of_kernels_grow_with_the_samples() -> None:
    x, w = tensor("f32", batch=1000, feature=64), tensor("f32", out=32, **{"in": 64})
    call = Compute("l.linear", ("linear", "forward", ""), ("x", "w"), ("y",), attrs=(("features", 32), ("bias", False)))
    program = one_segment([call], ranks=1)
    more = (
        Buffer("x", x, "activation"),
        Buffer("y", tensor("f32", batch=1000, feature=32), "activation"),
        Buffer("weight", w, "weight"),
    )
    role = replace(program.roles[0], buffers=(*(b for b in program.roles[0].buffers if b.name != "w"), *more))
    program = with_segment(with_role(program, role), "all", [replace(call, inputs=("x", "weight"))])
    price = default_price(program, laptop(1))
    (call,) = (i for i in program.roles[0].segments[0].instructions if isinstance(i, Compute))
    few, many = price(call, program.roles[0], 10), price(call, program.roles[0], 1000)
    assert 0 < few < many < 1000 * few
    assert many > 2 * 1000 * 64 * 32 / 1e11
