"""What programs of any partition look like: sound, simulated, read back from their text, as small as their plans."""

from __future__ import annotations

import re
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from dlc.cost.memory import peak_bytes
from dlc.cost.price import default_price
from dlc.cost.timeline import simulate
from dlc.ir.check import check
from dlc.ir.graph import Graph
from dlc.ir.passing import passing
from dlc.ir.program import Collective, Compute, Copy, Program, Wait
from dlc.ir.text import from_text, to_text
from passes.lower import lower
from tests.passes.lowering.made import PIPELINE, collectives, program, run
from tests.passes.lowering.plans import Rule, by, megatron, on, plan_of, reduced, trained
from tests.passes.lowering.test_numbers import BOTH, CASES, DATA, TWO
from tests.passes.sample_networks import Network, lenet, resnet50
from tests.slices import first


@pytest.mark.parametrize("overlap", first(1, [0.8, 0.0]))
@pytest.mark.parametrize("case", CASES)
def test_programs_are_sound_and_can_be_simulated(case: str, overlap: float) -> None:
    graph, choices = lenet(8), dict(CASES[case])
    made = program(graph, choices.pop("mesh"), choices.pop("rule"), overlap, **choices)
    assert check(made) == ()
    cluster = on(made.ranks, overlap=overlap).cluster
    for entry in ("train_step", "eval_step", "predict"):
        assert simulate(made, entry, default_price(made, cluster), overlap).makespan > 0
    assert from_text(to_text(made)) == made


@pytest.mark.parametrize(
    ("name", "mesh", "rule"),
    first(
        2,
        [
            ("unet", {"model": 4}, by(model="height width")),
            ("gpt2", {"data": 4, "model": 4}, megatron),
            ("resnet50", {"data": 2, "model": 2}, by(data="batch", model="height channel")),
            ("inception_v3", {"data": 2, "model": 4}, BOTH),
            ("mobilenet_v1", {"data": 4, "model": 2}, BOTH),
        ],
    ),
)
def test_larger_meshes_of_the_zoo(name: str, mesh: dict[str, int], rule: Rule) -> None:
    graph, base = reduced(name, precision="f32")
    plan = plan_of(graph, mesh, rule)
    made = lower(graph, plan, on(plan.ranks, base))
    assert check(made) == ()
    assert from_text(to_text(made)) == made


# --- moves ------------------------------------------------------------------------------------------------------


def pair(batch: int = 8) -> Graph:
    """Two linear maps: by output features, then by input features."""
    net = Network(batch)
    x = net("relu", net("linear", net("flatten", net.image(4, 2)), features=12))
    return trained(net, net("linear", x, features=8))


def column_then_row(node: Any, space: Any) -> dict[str, str]:
    """Megatron's pair: the first map by columns, what follows by features, the second by rows."""
    axis = {"n1.linear": "feature", "n2.relu": "feature", "n3.linear": "reduce"}.get(node.address, "")
    return {"model": axis}


def test_a_pair_of_maps_takes_one_allreduce_each_way() -> None:
    """Column split, then row split: cost-models.md §5. There is no way back to the first layer's input."""
    made = program(pair(), {"model": 2}, column_then_row)
    assert collectives(made, "forward") == [("allreduce", "model", "n3.linear")]
    assert collectives(made, "backward") == []


def test_gradients_of_several_uses_are_summed_before_their_allreduce() -> None:
    """q, k and v split by features each give a part of a sum; one allreduce serves all three."""
    net = Network(4)
    x = net("tanh", net("linear", net("flatten", net.image(2, 2)), features=6))
    q, k, v = (net("linear", x, features=4) for _ in range(3))
    graph = trained(net, net("add", net("add", q, k), v))

    def rule(node: Any, _space: Any) -> dict[str, str]:
        return {"model": "feature"} if node.address in {q, k, v} or node.op == "add" else {}

    made = program(graph, {"model": 2}, rule)
    sums = [i.outputs[0] for i in run(made, "worker", "backward") if isinstance(i, Compute) and i.kernel[0] == "sum"]
    assert sums == [f"{x}@grad"]
    assert collectives(made, "backward") == [("allreduce", "model", f"{x}@grad")]


def test_halos_go_and_come_back() -> None:
    made = program(lenet(4), {"model": 2}, by(model="height"))
    forward = [i for i in run(made, "worker", "forward") if isinstance(i, Collective) and i.kind == "halo"]
    assert [i.buffer for i in forward] == [
        "image",
        "n2.avgpool",
        "n4.tanh",
    ]  # a pool of 28 rows reads its own, of 10 not
    facts = dict(forward[0].attrs)
    assert (facts["before"], facts["after"], facts["results"], facts["add"]) == (0, 4, 28, False)
    assert forward[0].bytes == 2 * 4 * 32 * 4  # 16 rows each: the first 14 results read 18, the last 14 begin at 14
    back = [i for i in run(made, "worker", "backward") if isinstance(i, Collective) and i.kind == "halo"]
    assert [i.target.partition("@")[0] for i in back] == ["n4.tanh", "n2.avgpool"]
    assert all(dict(i.attrs)["add"] for i in back)


def test_a_part_that_lies_together_is_a_view() -> None:
    """Whole samples are sliced without a copy, channels of each sample with one."""
    net = Network(8)
    first = net("tanh", net.image(4, 3))
    graph = trained(net, net("tanh", net("tanh", net("linear", net("flatten", first), features=4))))

    def rule(axis: str) -> Rule:
        return lambda node, _space: {"model": axis} if node.op == "tanh" and node.address != first else {}

    for axis, copies in (("batch", 0), ("feature", 1)):
        made = program(graph, {"model": 2}, rule(axis))
        assert len([i for i in run(made, "worker", "forward") if isinstance(i, Copy)]) == copies


def test_workspaces_are_those_of_a_part() -> None:
    def scratch(mesh: dict[str, int], rule: Rule) -> int:
        (role,) = program(lenet(8), mesh, rule).roles
        return role.buffer("n3.conv.columns").type.bytes

    whole = scratch({"data": 1}, lambda _node, _space: {})
    assert scratch({"data": 4}, DATA) < whole
    assert scratch({"model": 2}, by(model="height")) < whole


# --- sums over a step -------------------------------------------------------------------------------------------


def test_gradients_are_summed_over_the_axes_along_which_they_are_parts() -> None:
    made = program(lenet(8), TWO, BOTH, shard="none")
    (role,) = made.roles
    members = {b.name: b.view_of for b in role.buffers if b.name.endswith("weight@grad")}
    groups = {i.buffer: i.group for i in run(made, "worker", "backward") if isinstance(i, Collective)}
    assert {groups[parent] for parent in members.values() if parent} == {"data"}


def test_buckets_fill_up_in_the_order_of_the_backward_pass() -> None:
    graph = resnet50(4)
    made = program(graph, {"data": 2}, DATA)
    (role,) = made.roles
    sizes = [b.type.bytes for b in role.buffers if re.fullmatch(r"bucket\d+", b.name)]
    assert sizes[0] <= 9 * 2**20  # one weight of the last layer is larger than the first bucket's capacity
    assert all(size <= 25 * 2**20 for size in sizes[1:])
    assert sum(sizes) >= 4 * graph.parameters


def test_sums_go_on_beside_the_backward_pass_and_are_waited_for() -> None:
    made = program(lenet(8), {"data": 2}, DATA, overlap=0.5)
    (begun,) = [i for i in run(made, "worker", "backward") if isinstance(i, Collective)]
    assert not begun.blocking
    update = run(made, "worker", "update")
    assert update[0] == Wait(begun.name)
    assert len([i for i in update if isinstance(i, Wait)]) == 1


def test_the_first_sums_that_began_are_used_first() -> None:
    """A bucket's sum begins behind the last of its gradients; its weights are updated while later ones go on."""
    made = program(resnet50(2), {"data": 2}, DATA, overlap=0.5)
    backward, update = run(made, "worker", "backward"), run(made, "worker", "update")
    begun = [i for i in backward if isinstance(i, Collective) and not i.blocking]
    assert len(begun) > 3
    (role,) = made.roles
    views = {i.name: {b.name for b in role.buffers if b.view_of == i.buffer} for i in begun}
    for sum_ in begun:
        before = backward[backward.index(sum_) - 1]
        assert isinstance(before, Collective) or views[sum_.name].intersection(before.outputs)
    ends = [i.name for i in update if isinstance(i, Wait)]
    assert ends == [i.name for i in begun if i.name in ends]
    for at, name in enumerate(ends[:-1]):
        between = update[update.index(Wait(name)) : update.index(Wait(ends[at + 1]))]
        assert any(isinstance(i, Compute) and views[name].intersection(i.inputs) for i in between)


def test_microbatches_add_up_from_zero() -> None:
    made = program(lenet(8), {"data": 2}, DATA, microbatches=2)
    assert [i.kernel[0] for i in run(made, "worker", "begin") if isinstance(i, Compute)] == ["zero"]
    assert collectives(made, "backward") == []
    assert [kind for kind, _, _ in collectives(made, "reduce")] == ["allreduce"]
    rows = [row.segment for row in made.roles[0].entries[0].schedule]
    assert rows == ["begin", *("load", "forward", "backward") * 2, "reduce", "update"]


def test_stages_of_zero() -> None:
    """State, gradients and weights in shards; with each stage a rank holds less."""
    found = {}
    for shard in ("none", "optimizer", "gradients", "weights"):
        made = program(lenet(8), {"data": 4}, DATA, shard=shard, microbatches=2)
        found[shard] = {b.name: b.placement for b in made.roles[0].buffers}
        kinds = [kind for kind, _, _ in collectives(made, "forward", "backward", "reduce", "update")]
        assert ("reduce_scatter" in kinds) == ("allgather" in kinds) == (shard != "none")
    name = "n9.linear.weight"
    assert {shard: places[f"{name}@velocity"] for shard, places in found.items()} == {
        "none": ("",), "optimizer": ("out",), "gradients": ("out",), "weights": ("out",)
    }  # fmt: skip
    assert found["gradients"][f"{name}@grad.total"] == ("out",)
    assert (found["gradients"][name], found["weights"][name]) == (("",), ("out",))
    assert found["weights"][f"{name}.whole@n9.linear@dx"] == ("",)


def test_sharding_saves_memory() -> None:
    graph = trained_wide()
    sizes = [
        peak_bytes(program(graph, {"data": 4}, DATA, shard=shard, microbatches=2))
        for shard in ("none", "optimizer", "gradients", "weights")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def trained_wide() -> Graph:
    """Much weight in many buckets, few samples."""
    net = Network(8)
    x = net("flatten", net.image(4, 8))
    for _ in range(5):
        x = net("tanh", net("linear", x, features=2048))
    return trained(net, x)


# --- recomputation ----------------------------------------------------------------------------------------------


def test_runs_are_computed_again_where_their_gradients_begin() -> None:
    made = program(lenet(8), {"data": 2}, DATA, recompute="tanh avgpool")
    again = [i.address for i in run(made, "worker", "backward") if isinstance(i, Compute) and "@" not in i.address]
    assert again == ["n4.tanh", "n1.tanh"]  # dx of tanh reads its result; a view of n7.tanh is read elsewhere
    (role,) = made.roles
    assert role.buffer("n1.tanh").view_of == "transient"
    left = passing(role, "train_step")
    assert "n1.tanh" not in left
    assert "n2.avgpool" in left  # the next convolution reads it, forward and backward


def test_recomputation_saves_memory() -> None:
    kept = program(resnet50(8), {"data": 2}, DATA)
    less = program(resnet50(8), {"data": 2}, DATA, recompute="conv bn relu")
    assert peak_bytes(less) < 0.9 * peak_bytes(kept)


# --- size and time ----------------------------------------------------------------------------------------------


def test_a_program_grows_with_neither_ranks_nor_microbatches() -> None:
    small = program(lenet(64), {"pipeline": 2, "data": 2}, DATA, **PIPELINE)
    large = program(lenet(64), {"pipeline": 2, "data": 32}, DATA, **PIPELINE | {"microbatches": 2})

    def sizes(made: Program) -> list[int]:
        return [len(role.buffers) + sum(len(s.instructions) for s in role.segments) for role in made.roles]

    assert sizes(small) == sizes(large)


@pytest.mark.slow
def test_twelve_thousand_nodes_take_no_more_than_as_much_longer_as_they_are() -> None:
    from dlc.driver import Options, context_of, read, training_graph

    def lowered(blocks: int) -> tuple[int, float]:
        parameters = {"blocks": str(blocks)}
        job, base = context_of(read("specs/resnet1001.dlspec", parameters), Options(ranks=1, parameters=parameters))
        graph = training_graph(job, base, Options())
        plan, begin = plan_of(graph, {"data": 8, "model": 2}, BOTH), process_time()
        made = lower(graph, plan, on(16, base))
        seconds = process_time() - begin
        assert sum(len(segment.instructions) for segment in made.roles[0].segments) > len(graph.nodes)
        return len(graph.nodes), seconds

    lowered(2)
    (few, short), (many, long) = lowered(14), lowered(111)
    assert many > 12_000
    assert long < 3 * many / few * short


# --- golden texts -----------------------------------------------------------------------------------------------

GOLDEN: dict[str, tuple[dict[str, int], Rule, dict[str, Any]]] = {
    "pair": ({"data": 2, "model": 2}, lambda n, s: {"data": "batch", **column_then_row(n, s)}, {}),
    "pipeline": ({"pipeline": 2}, DATA, {"schedule": "one_f_one_b", "microbatches": 2, "stages": 2}),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_texts(name: str) -> None:
    """Whole programs. To write them anew, delete them and run this test twice."""
    mesh, rule, more = GOLDEN[name]
    text = to_text(program(pair(), mesh, rule, **more))
    path = Path(__file__).parent / "golden" / f"{name}.txt"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} is new: read it and run again")
    assert text == path.read_text(encoding="utf-8")
