"""Every order of a plan block holds in the plan, in its program, and in what that computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.driver import Compiled, Options, plan_spec, read
from dlc.ir.check import check
from dlc.ir.mesh import Mesh
from dlc.ir.program import Compute
from dlc.ir.request import Split
from passes.planning.orders import Orders
from tests.passes.planning.ordered import ROOT, collectives, deep, error, instructions, machine, planned, refused, spec
from tests.slices import first
from tests.specs.reduced import REDUCED

BATCH, IMAGE = "batch", ("height", "width")
EQUAL = 1e-5
"""Of values in single precision, added up in another order."""


def splits(made: Compiled, address: str) -> set[tuple[str, str]]:
    return {(split.axis, split.over) for split in made.plan.op(address).partition}


def warned(made: Compiled) -> list[str]:
    return [warning.code for warning in made.warnings if warning.code.startswith("W05")]


def calls(made: Compiled) -> list[Compute]:
    return [i for i in instructions(made) if isinstance(i, Compute)]


# --- the samples of the design ---------------------------------------------------------------------------------------


def test_gpt2_is_planned_as_written() -> None:
    made = plan_spec(read(str(ROOT / "specs" / "gpt2.dlspec")), Options())
    plan, step = made.plan, made.planned.step if made.planned else None
    assert step is not None
    assert plan.mesh == (("pipeline", 4), ("data", 2), ("model", 4))
    assert (plan.schedule, plan.microbatches, plan.chunks) == ("one_f_one_b", 16, 1)
    assert plan.predicted.peak_bytes <= 34 * 2**30
    whole = plan.predicted.step_seconds - step.parts.sums - step.parts.update
    assert step.parts.bubble <= 0.25 * whole
    for op in plan.ops:
        if op.address.startswith("body["):
            assert op.recompute
            if int(op.address[5 : op.address.index("]")]) < 3:
                assert op.stage == 0
        if op.address.endswith("self_attention.out"):
            assert ("reduce", "model") in splits(made, op.address)
    assert {op.stage for op in plan.ops} == {0, 1, 2, 3}
    assert check(made.program) == ()


@pytest.mark.slow
def test_resnet50_is_planned_as_written() -> None:
    given = {"blocks": "[1,1,1,1]", "batch": "256", "size": "64"}
    made = plan_spec(read(str(ROOT / "specs" / "resnet50.dlspec"), given), Options(parameters=given))
    stem, logits = made.plan.op("stem.conv_bn.conv"), made.plan.op("logits.linear")
    assert ({part.algorithm for part in stem.passes}, stem.layout) == ({"implicit_gemm"}, "NHWC")
    for node in made.graph.forward:
        if node.op == "conv":
            algorithms = {part.algorithm for part in made.plan.op(node.address).passes}
            pinned = node.attr("window") == (3, 3) and node.attr("stride") == (1, 1)
            assert not pinned or algorithms == {"winograd(4)"}
            assert not algorithms & {"fft", "fft_tiled"}
    mesh = Mesh(made.plan.mesh)
    over = tuple(split.over for split in logits.partition if split.axis == "feature")
    assert [tuple(group) for group in mesh.groups(over)] == [tuple(range(8 * n, 8 * n + 8)) for n in range(4)]
    assert "W0503" in warned(made)
    assert check(made.program) == ()


# --- meshes and strategies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mesh", "found"),
    [
        ("a = node; b = core", (("a", 2), ("b", 4))),
        ("model = core / 2; data = core / 2; x = node", (("x", 2), ("model", 2), ("data", 2))),
        ("pipeline = node; z = core", (("pipeline", 2), ("z", 4))),
        ("z = core / 2; pipeline = node; y = core / 2", (("pipeline", 2), ("z", 2), ("y", 2))),
        ("one = node / 1; two = node / 2; b = core", (("two", 2), ("b", 4))),
    ],
)
def test_meshes_are_taken_as_written(tmp_path: Path, mesh: str, found: tuple[tuple[str, int], ...]) -> None:
    made = planned(tmp_path, spec(f"mesh {{ {mesh} }}", machine(4, 2)))
    assert made.plan.mesh == found
    assert all(split.over in dict(found) for op in made.plan.ops for split in op.partition)


def test_a_group_that_is_taken_whole_is_resized_with_its_axis(tmp_path: Path) -> None:
    made = planned(tmp_path, spec("mesh { a = node; b = core }", machine(4, 2)), 6)
    assert made.plan.mesh == (("a", 2), ("b", 3))


ALONE = {"data": {BATCH}, "model": {"channel", "feature", "reduce"}, "spatial": set(IMAGE)}


@pytest.mark.parametrize("strategy", list(ALONE))
@pytest.mark.parametrize("mesh", first(1, ["", "mesh { a = core / 2; b = core / 4 }"]))
def test_a_strategy_restricts_every_axis(tmp_path: Path, strategy: str, mesh: str) -> None:
    made = planned(tmp_path, spec(f"strategy = {strategy}\n{mesh}"))
    plan = made.plan
    if strategy == "data" and not mesh:
        assert plan.mesh == (("data", 8),)
        assert not any(op.partition for op in plan.ops)
        return
    assert {split.axis for op in plan.ops for split in op.partition} <= ALONE[strategy]
    assert any(op.partition for op in plan.ops)
    if strategy != "model":  # of a loss whose classes are split there is no kernel yet
        assert error(made) < EQUAL


@pytest.mark.parametrize(
    ("degrees", "mesh"),
    first(
        3,
        [
            ("data = 2, model = 4", {"data": 2, "model": 4}),
            ("data = 2, spatial = 4", {"data": 2, "spatial": 4}),
            ("data = 2, model = 2, spatial = 2", {"data": 2, "spatial": 2, "model": 2}),
            ("pipeline = 2, model = auto", {"pipeline": 2, "model": 4}),
            ("pipeline = auto, data = 4", {"pipeline": 2, "data": 4}),
        ],
    ),
)
def test_degrees_of_hybrids_are_kept(tmp_path: Path, degrees: str, mesh: dict[str, int]) -> None:
    made = planned(tmp_path, spec(f"strategy = hybrid({degrees})"))
    assert dict(made.plan.mesh) == mesh
    families = {"data": {BATCH}, "model": ALONE["model"], "spatial": ALONE["spatial"]}
    for op in made.plan.ops:
        assert all(split.axis in families[split.over] for split in op.partition)


@pytest.mark.parametrize("spec_name", ["lenet5", "alexnet", "transformer_encoder"])
@pytest.mark.parametrize("ranks", first(1, [7, 3, 5, 12]))
def test_ranks_that_divide_nothing_have_plans(spec_name: str, ranks: int) -> None:
    """In f64: the bias of keys has no gradient but what rounding leaves, which Adam makes steps of in f32."""
    given = {name: str(value) for name, value in REDUCED[spec_name].items()}
    options = Options(ranks=ranks, parameters=given, precision="f64")
    made = plan_spec(read(str(ROOT / "specs" / f"{spec_name}.dlspec"), given), options)
    assert check(made.program) == ()
    assert made.plan.ranks == ranks
    if made.program.roles[0].mesh is not None:
        assert error(made) < EQUAL


# --- pins and forbids ------------------------------------------------------------------------------------------------


def test_partitions_go_over_axes_groups_and_products_of_axes(tmp_path: Path) -> None:
    orders = """mesh { x = core / 2; y = core / 2; z = core / 2 }
    pin c5.conv { partition = [split(channel, over = x), split(reduce, over = y)] }
    pin f6.linear { partition = split(feature, over = core) }
    pin c3.conv { partition = replicate }
    forbid c1.conv { partition = split(batch, over = z) }
    """
    made = planned(tmp_path, spec(orders))
    assert splits(made, "c5.conv") >= {("channel", "x"), ("reduce", "y")}
    assert splits(made, "f6.linear") == {("feature", "x"), ("feature", "y"), ("feature", "z")}
    assert made.plan.op("c3.conv").partition == ()
    assert (BATCH, "z") not in splits(made, "c1.conv")
    assert error(made) < EQUAL


def test_ops_that_are_replicated_stay_so_where_all_others_split_the_batch(tmp_path: Path) -> None:
    made = planned(tmp_path, spec("strategy = data\npin c5 { partition = replicate }"))
    assert all(not made.plan.op(name).partition for name in ("c5.conv", "c5.tanh", "c5.flatten"))
    assert splits(made, "c3.conv") == {(BATCH, "data")}
    assert error(made) < EQUAL


def test_layouts_and_algorithms_are_kept(tmp_path: Path) -> None:
    orders = "pin c3 { layout = CHWN }\npin c1 { layout = NHWC }\npin c3.conv { algorithm = fft }"
    made = planned(tmp_path, spec(f"{orders}\nforbid c5.conv {{ layout = CHWN }}"))
    assert {made.plan.op(name).layout for name in ("c1.conv", "c1.tanh")} == {"NHWC"}
    assert {made.plan.op(name).layout for name in ("c3.conv", "c3.tanh")} == {"CHWN"}
    assert made.plan.op("c5.conv").layout in ("NCHW", "NHWC")
    assert {part.algorithm for part in made.plan.op("c3.conv").passes} == {"fft"}


def test_the_layout_of_all_ops_is_kept_and_pins_take_precedence(tmp_path: Path) -> None:
    made = planned(tmp_path, spec("layout = CHWN\npin c5.conv { layout = NCHW }"))
    layouts = {op.address: op.layout for op in made.plan.ops}
    assert {layouts[name] for name in ("c1.conv", "s2.avgpool", "c3.conv", "c3.tanh", "s4.avgpool")} == {"CHWN"}
    assert layouts["c5.conv"] == "NCHW"
    found = refused(tmp_path, spec("layout = CHWN\nforbid c5.conv { layout = CHWN }"))
    assert (found.code, "every layout of c5.conv" in found.message) == ("E0512", True)


SCHEDULES = {"gpipe": 2, "one_f_one_b": 2, "zero_bubble": 2, "interleaved": 4}


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_ops_are_in_the_stages_that_pins_name(tmp_path: Path, schedule: str) -> None:
    orders = f"""strategy = hybrid(pipeline = 2, data = 4)
    pipeline.schedule = {schedule}
    pipeline.microbatches = 4
    pin s2 {{ stage = 1 }}
    """
    made = planned(tmp_path, spec(orders))
    assert (made.plan.schedule, made.plan.microbatches) == (schedule, 4)
    assert len(made.plan.stages) == SCHEDULES[schedule]
    assert made.plan.op("s2.avgpool").stage == 1
    assert [op.stage for op in made.plan.ops] == sorted(op.stage for op in made.plan.ops)


def test_ops_are_kept_out_of_stages_that_forbids_name(tmp_path: Path) -> None:
    orders = "strategy = hybrid(pipeline = 4, data = 2)\n{}"
    free = planned(tmp_path, spec(orders.format("")))
    at = free.plan.op("s4.avgpool").stage
    made = planned(tmp_path, spec(orders.format(f"forbid s4 {{ stage = {at} }}")))
    assert made.plan.op("s4.avgpool").stage != at
    assert made.plan.predicted.step_seconds >= free.plan.predicted.step_seconds


def test_windows_hold_exactly_the_cuts_that_keep_ops_in_their_stages() -> None:
    """Against all cuts of a line of eight ops."""
    from itertools import combinations

    for pins in (((3, 1),), ((0, 0), (7, 3)), ((2, 0), (3, 2)), ((5, 1), (6, 1)), ((4, 2), (3, 2), (7, 2))):
        for parts in (1, 2, 3, 4):
            windows = Orders(8, stages=pins).windows(parts)
            kept = []
            for inner in combinations(range(1, 8), parts - 1):
                bounds = (0, *inner, 8)
                if all(stage < parts and bounds[stage] <= op < bounds[stage + 1] for op, stage in pins):
                    kept.append(inner)
            if windows is None:
                assert kept == []
                continue
            reached = [
                inner
                for inner in combinations(range(1, 8), parts - 1)
                if all(low <= b <= high for b, (low, high) in zip(inner, windows, strict=True))
            ]
            assert reached == kept


def test_what_is_computed_again_is_what_pins_say(tmp_path: Path) -> None:
    made = planned(tmp_path, spec("pin c3 { recompute = yes }\nforbid f6 { recompute = no }"))
    assert [op.address for op in made.plan.ops if op.recompute] == ["c3.conv", "c3.tanh", "f6.linear", "f6.tanh"]
    everything = planned(tmp_path, spec("recompute = all\npin c3 { recompute = no }"))
    kept = {op.address for op in everything.plan.ops if not op.recompute}
    assert kept == {"c3.conv", "c3.tanh", "loss.cross_entropy", "metrics.accuracy"}
    for each in (made, everything):
        assert error(each) < EQUAL


def test_activations_are_computed_again_as_written(tmp_path: Path) -> None:
    """Of a network that needs 5 MiB a device with all activations, 3 MiB without."""
    orders = "strategy = data\npipeline.microbatches = 1\nlimit memory <= {} MiB\nrecompute = {}"
    counts = {}
    for limit in (4, 6):
        for recompute in ("auto", "all") if limit == 4 else ("auto", "none", "all"):
            made = planned(tmp_path, deep(orders.format(limit, recompute)))
            assert made.plan.predicted.peak_bytes <= limit * 2**20
            counts[limit, recompute] = sum(op.recompute for op in made.plan.ops)
    everything = 2 * 16 + 1
    assert (counts[6, "auto"], counts[6, "none"], counts[6, "all"]) == (0, 0, everything)
    assert 0 < counts[4, "auto"] < counts[4, "all"] == everything
    assert refused(tmp_path, deep(orders.format(4, "none"))).code == "E0509"


def test_ops_go_through_as_many_samples_at_a_time_as_pins_say(tmp_path: Path) -> None:
    made = planned(tmp_path, spec("strategy = model\npin c3.conv { microbatch = 5 }"))
    assert made.plan.op("c3.conv").microbatch == 7  # 32 samples, 5 at a time
    kernels = [i for i in calls(made) if i.address.split("@")[0] == "c3.conv"]
    assert kernels
    assert all(dict(each.attrs)["parts"] == 7 for each in kernels)
    forbidden = planned(tmp_path, spec("strategy = model\nforbid c3.conv { microbatch = 32 }"))
    assert forbidden.plan.op("c3.conv").microbatch > 1


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", ["none", "optimizer", "gradients", "weights"])
def test_sharding_is_as_written(tmp_path: Path, shard: str) -> None:
    made = planned(tmp_path, spec(f"shard = {shard}\npipeline.microbatches = 2"))
    assert (made.plan.shard, made.plan.microbatches) == (shard, 2)


ALLREDUCES = {
    "tree": {"tree"},
    "butterfly": {"butterfly"},
    "ring": {"ring", "embedded_ring"},
    "rabenseifner": {"rabenseifner"},
    "hierarchical": {"hierarchical", "hierarchical_ring", "hierarchical_halving", "ring", "rabenseifner"},
    "mpi": {"mpi"},
    "shared": {"shared"},
}


@pytest.mark.parametrize("algorithm", list(ALLREDUCES))
@pytest.mark.parametrize("strategy", first(1, ["hybrid(data = 4, model = 2)", "data"]))
def test_sums_go_by_the_allreduce_that_is_written(tmp_path: Path, algorithm: str, strategy: str) -> None:
    cluster = machine(8) if algorithm == "shared" else machine(4, 2)
    made = planned(tmp_path, spec(f"strategy = {strategy}\nallreduce = {algorithm}", cluster))
    found = {each.algorithm for each in collectives(made, "allreduce") if each.name != "totals"}
    assert found
    assert found <= ALLREDUCES[algorithm]
    if algorithm == "hierarchical" and strategy == "data":
        assert any(name.startswith("hierarchical") for name in found)


@pytest.mark.parametrize("strategy", ["data", "hybrid(data = 4, model = 2)"])
@pytest.mark.parametrize("able", first(1, ["overlap = 0.5", ""]))
def test_communication_goes_on_behind_computing_as_written(tmp_path: Path, strategy: str, able: str) -> None:
    waits = {}
    for overlap in ("yes", "no", "auto"):
        made = planned(tmp_path, spec(f"strategy = {strategy}\noverlap = {overlap}", machine(8, more=able)))
        sums = [each for each in collectives(made, "allreduce") if "bucket" in each.name]
        assert sums
        waits[overlap] = {each.blocking for each in sums}
    assert waits == {"yes": {False}, "no": {True}, "auto": {not able}}


@pytest.mark.parametrize("strategy", ["data", "hybrid(pipeline = 2, data = 4)"])
def test_batches_behind_an_update_share_its_sums(tmp_path: Path, strategy: str) -> None:
    """A step of n batches takes a + n·b, in the model and about so in the simulation, and gradients add up."""
    made = [
        planned(tmp_path, spec(f"strategy = {strategy}\npipeline.microbatches = 2", train=f"accumulate = {n}"))
        for n in (2, 3, 4)
    ]
    assert [each.plan.batches for each in made] == [2, 3, 4]
    seconds = [each.plan.predicted.step_seconds for each in made]
    simulated = [each.plan.predicted.simulated_seconds for each in made]
    assert seconds[2] - seconds[1] == pytest.approx(seconds[1] - seconds[0], rel=1e-6)
    assert simulated[2] - simulated[1] == pytest.approx(simulated[1] - simulated[0], rel=1e-3)
    assert simulated[1] - simulated[0] == pytest.approx(seconds[1] - seconds[0], rel=0.2)
    assert seconds[1] - seconds[0] < seconds[0] / 2


# --- what pins cost --------------------------------------------------------------------------------------------------


def test_pins_that_change_nothing_or_cost_much_are_told(tmp_path: Path) -> None:
    mesh = "mesh { data = node; model = core }\n"
    free = planned(tmp_path, spec(mesh, machine(4, 2)))
    taken = ", ".join(f"split({s.axis}, over = {s.over})" for s in free.plan.op("c3.conv").partition)
    same = planned(tmp_path, spec(f"{mesh}pin c3.conv {{ partition = [{taken}] }}", machine(4, 2)))
    assert warned(same) == ["W0501"]
    assert same.plan.predicted.step_seconds == pytest.approx(free.plan.predicted.step_seconds)
    costly = planned(tmp_path, spec(f"{mesh}pin c3.conv {{ partition = replicate }}", machine(4, 2)))
    assert warned(costly) == ["W0502"]
    assert costly.plan.op("c3.conv").partition == ()
    (warning,) = (each for each in costly.warnings if each.code == "W0502")
    assert "replicate" in warning.message
    assert costly.plan.predicted.step_seconds > free.plan.predicted.step_seconds


# --- what cannot be followed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "code", "words"),
    [
        ("mesh { data = core / 2; pipeline = core / 4 }", "E0524", "`pipeline`"),
        ("pipeline.microbatches = 5", "E0516", "a divisor of the batch of 32"),
        ("strategy = model\npipeline.schedule = gpipe", "E0526", "`strategy = model` has none"),
        ("mesh { a = core }\npipeline.schedule = gpipe", "E0526", "the mesh has no axis"),
        ("strategy = hybrid(data = 8)\npipeline.schedule = gpipe", "E0526", "`pipeline = 1`"),
    ],
)
def test_orders_that_mean_nothing_are_refused(tmp_path: Path, orders: str, code: str, words: str) -> None:
    found = refused(tmp_path, spec(orders))
    assert (found.code, words in found.message) == (code, True)
    assert found.primary is not None


def test_a_split_is_one_of_the_plan(tmp_path: Path) -> None:
    made = planned(tmp_path, spec("mesh { a = core }\npin c5.conv { partition = split(channel, over = a) }"))
    assert made.plan.op("c5.conv").partition == (Split("channel", "a"),)
