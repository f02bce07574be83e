"""Prices of programs on meshes: kernels on local shapes, communication by the fabric, each rank on its own device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.cluster.fabric import Fabric
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.communication import processing
from dlc.cost.compute import seconds
from dlc.cost.price import default_price
from dlc.cost.timeline import simulate
from dlc.ir.mesh import Mesh
from dlc.ir.program import Collective, CollectiveKind, Compute, Instruction, Program, Send
from dlc.ir.storage import title
from dlc.ir.tensor import tensor
from dlc.ops import operator
from dlc.ops.operator import Shapes
from tests.ir.staged_programs import Shape, staged

GPU = Device("gpu", "gpu", 2**36, 2e12, (("f32", 2e13),), 5e-6)
LINKS = (Link("nvlink", 3e11, 1e-6, shape="switch"), Link("net", 2e10, 3e-6, shape="switch"))
CLUSTER = Cluster("pod", (GPU,), LINKS, (Group("node", 4, "net", (Group("gpu", 4, "nvlink", device="gpu"),)),))
SHAPE = Shape(2, 4, 2, 4, (2, 2), 2, 64, 32, blocking=False, gathers=True)
PROGRAM = staged(SHAPE)


def found(program: Program, segment: str, name: str) -> Instruction:
    return next(i for i in program.roles[0].segment(segment).instructions if title(i) == name)


def test_kernels_are_priced_on_what_a_rank_holds() -> None:
    """16 of 64 samples are a microbatch, 4 on each of four ranks; of 32 outputs 16."""
    call, op = found(PROGRAM, "forward", "s0.l0.0"), operator("linear")
    assert isinstance(call, Compute)
    assert op is not None
    x, w, y = (
        tensor("f32", batch=4, feature=32),
        tensor("f32", out=16, **{"in": 32}),
        tensor("f32", batch=4, feature=16),
    )
    expected = seconds(op, "forward", Shapes((x, w), (y,), dict(call.attrs)), "", "", GPU).seconds
    for samples in (4, 1):  # of a placed buffer the largest share counts, on every rank
        assert default_price(PROGRAM, CLUSTER)(call, PROGRAM.roles[0], samples) == expected


def test_collectives_are_priced_in_all_groups_of_the_stage_at_once() -> None:
    role = PROGRAM.roles[0]
    assert role.mesh is not None
    fabric, price = Fabric(CLUSTER, role.mesh, processing(GPU)), default_price(PROGRAM, CLUSTER)
    sums = found(PROGRAM, "forward", "sum_h0")
    assert price(sums, role, 4) == fabric.algorithms("allreduce", 4 * 4 * 16, ("model",))["ring"]
    gather = found(PROGRAM, "forward", "gather0")
    assert price(gather, role, 4) == fabric.cheapest("allgather", 4 * 16 * 32, ("data",))[1]
    both = found(PROGRAM, "update", "norm")
    assert price(both, role, 4) == fabric.algorithms("allreduce", 4 * 16 * 32, ("data", "model"))["ring"]


@pytest.mark.parametrize("kind", ["reduce_scatter", "all_to_all", "broadcast"])
def test_every_kind_has_a_price(kind: CollectiveKind) -> None:
    role = PROGRAM.roles[0]
    assert role.mesh is not None
    made = Collective("c", kind, "data", "", "flat", 4096)
    bucketed = replace(role, buffers=(*role.buffers, replace(role.buffers[0], name="flat", placement=())))
    fabric = Fabric(CLUSTER, role.mesh, processing(GPU))
    assert default_price(PROGRAM, CLUSTER)(made, bucketed, 4) == fabric.cheapest(kind, 4096.0, ("data",))[1]


def test_a_halo_is_an_exchange_with_both_neighbours() -> None:
    role = PROGRAM.roles[0]
    assert role.mesh is not None
    made = Collective("c", "halo", "data", "neighbours", "x", 4096, target="dx")
    fabric = Fabric(CLUSTER, role.mesh, processing(GPU))
    assert default_price(PROGRAM, CLUSTER)(made, role, 4) == fabric.neighbours(4096.0, "data")


def test_messages_go_along_the_joined_mesh() -> None:
    send = found(PROGRAM, "forward", "y0")
    assert isinstance(send, Send)
    joined = Mesh((("pipeline", 2), ("data", 4), ("model", 2)))
    expected = Fabric(CLUSTER, joined, processing(GPU)).send(4.0 * 4 * 32, "pipeline")
    assert default_price(PROGRAM, CLUSTER)(send, PROGRAM.roles[0], 4) == expected


def test_stages_of_other_meshes_send_link_by_link() -> None:
    """Without one mesh of all stages each message costs what its own link takes; the slowest counts."""
    other = replace(PROGRAM.roles[1], mesh=Mesh((("data", 2), ("model", 4)), 8))
    program = replace(PROGRAM, roles=(PROGRAM.roles[0], other))
    send = found(program, "forward", "y0")
    assert default_price(program, CLUSTER)(send, program.roles[0], 4) == 3e-6 + 4 * 4 * 32 / 2e10


def test_a_pipeline_on_a_mesh_is_simulated() -> None:
    timeline = simulate(PROGRAM, "train_step", default_price(PROGRAM, CLUSTER), 0.5)
    each = simulate(PROGRAM, "train_step", default_price(PROGRAM, CLUSTER), 0.5, folded=False)
    assert len(timeline.lanes) == 2
    assert timeline.makespan == each.makespan > 0
    assert all(role.exposed > 0 and 0 < role.bubble < 1 and role.peak_bytes > 0 for role in timeline.roles)
