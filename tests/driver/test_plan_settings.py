"""Nothing that a plan block says is ignored: what is honoured has to be seen in the plan or the program, anything else
is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from dlc.diagnostics import DiagnosticError
from dlc.driver import Compiled
from dlc.expand.pins import KEYS as PIN_KEYS
from dlc.expand.requests import LIMITS, SETTINGS, STRATEGIES
from dlc.ir.program import Collective, Compute, Instruction
from dlc.job import family_of
from dlc.ops.blocks import BLOCKED
from dlc.ops.packing import PACK
from tests.driver.conftest import NETWORK, Compile, spec
from tests.driver.honoured import WIDE, outcome


def instructions(job: Compiled, *segments: str) -> Iterator[Instruction]:
    """Those of the named segments of all roles, of all segments without names."""
    for role in job.program.roles:
        for segment in role.segments:
            if not segments or segment.name in segments:
                yield from segment.instructions


def sums(job: Compiled) -> set[str]:
    """The algorithms by which gradients are summed."""
    found = (i for i in instructions(job, "backward") if isinstance(i, Collective))
    return {i.algorithm for i in found if i.kind == "allreduce"}


def kinds(job: Compiled) -> set[str]:
    """The kinds of collectives of a training step."""
    found = (i for i in instructions(job, "forward", "backward", "update") if isinstance(i, Collective))
    return {i.kind for i in found}


def layouts(job: Compiled) -> set[str]:
    return {op.layout for op in job.plan.ops if op.layout and "flatten" not in op.address}


def convolves_by(job: Compiled) -> set[str]:
    return {part.algorithm for part in job.plan.op("c1.conv").passes}


def computed_twice(job: Compiled) -> set[str]:
    """The ops of which a pass runs twice in a step."""
    made = Counter((i.address, i.kernel) for i in instructions(job, "forward", "backward") if isinstance(i, Compute))
    return {address for (address, _), times in made.items() if times > 1}


def computes_once(job: Compiled) -> bool:
    return not computed_twice(job) and not any(op.recompute for op in job.plan.ops)


def waits(job: Compiled) -> bool:
    return all(i.blocking for i in instructions(job) if isinstance(i, Collective))


def splits(job: Compiled, address: str) -> set[str]:
    return {split.axis for split in job.plan.op(address).partition}


def stage_of(job: Compiled, address: str) -> int:
    return job.plan.op(address).stage


def in_data(job: Compiled) -> bool:
    return job.plan.mesh == (("data", 2),) and bool(job.plan.shards)


def bubble(job: Compiled) -> float:
    return job.plan.predicted.bubble_seconds / job.plan.predicted.step_seconds


def sent_bytes(job: Compiled) -> int:
    """What the collectives of a step move, as far as a bound on it goes."""
    found = instructions(job, "forward", "backward", "reduce", "update")
    return sum(i.bytes for i in found if isinstance(i, Collective))


def packed(job: Compiled) -> bool:
    """Whether weights are packed once, for all microbatches."""
    return any(isinstance(i, Compute) and i.kernel[1] == PACK for i in instructions(job))


PIPELINE = "strategy = pipeline, "
FOUR = "pipeline.microbatches = 4, kernels = c, "
DATA = "strategy = data, "

PLANS: dict[str, Callable[[Compiled], bool]] = {
    "objective = step_time": lambda job: True,
    "objective = memory": lambda job: job.plan.predicted.peak_bytes < 12 * 2**10,
    "objective = communication": lambda job: job.plan.predicted.communication_seconds < 8e-6,
    "strategy = auto": lambda job: job.plan.mesh == (("data", 2),),
    "strategy = data": in_data,
    "strategy = model": lambda job: job.plan.mesh == (("model", 2),) and not in_data(job),
    "strategy = spatial": lambda job: splits(job, "c1.conv") <= {"height", "width"} and "halo" in kinds(job),
    "strategy = pipeline": lambda job: len(job.plan.stages) == len(job.program.roles) == 2,
    "strategy = hybrid(model = 2)": lambda job: job.plan.mesh == (("model", 2),),
    "strategy = hybrid(data = 2)": lambda job: job.plan.mesh == (("data", 2),),
    "strategy = hybrid(pipeline = 2)": lambda job: len(job.plan.stages) == 2,
    "mesh { data = core }": lambda job: job.plan.mesh == (("data", 2),),
    "mesh { model = core }": lambda job: job.plan.mesh == (("model", 2),),
    "mesh { rows = core }": lambda job: job.plan.mesh == (("rows", 2),),
    **{f"{DATA}allreduce = {name}": lambda job, name=name: sums(job) == {name} for name in
       ("tree", "butterfly", "ring", "rabenseifner", "mpi", "shared")},
    f"{DATA}allreduce = auto": lambda job: len(sums(job)) == 1,
    **{f"layout = {name}": lambda job, name=name: layouts(job) == {name} for name in ("NCHW", "NHWC", "CHWN")},
    "layout = auto": lambda job: bool(layouts(job)),
    **{f"{PIPELINE}pipeline.schedule = {name}": lambda job, name=name: job.plan.schedule == name for name in
       ("gpipe", "one_f_one_b", "interleaved", "zero_bubble")},
    "pipeline.schedule = auto": lambda job: True,
    f"{PIPELINE}pipeline.microbatches = 4": lambda job: job.plan.microbatches == 4,
    "pipeline.microbatches = auto": lambda job: True,
    f"{DATA}shard = none": lambda job: job.plan.shard == "none" and kinds(job) == {"allreduce"},
    **{f"{DATA}shard = {name}": lambda job, name=name: job.plan.shard == name and "allgather" in kinds(job) for name in
       ("optimizer", "gradients", "weights")},
    f"{DATA}recompute = auto": computes_once,
    "recompute = none": computes_once,
    f"{DATA}recompute = all": lambda job: {"c1.conv", "c1.relu"} <= computed_twice(job),
    "overlap = auto": waits,
    "overlap = no": waits,
    f"{DATA}overlap = yes": lambda job: not waits(job),
    **{f"fusion = {word}": lambda job: True for word in ("auto", "yes", "no")},  # there is nothing to fuse
    **{f"pack = {word}": lambda job: not packed(job) for word in ("auto", "yes", "no")},  # each weight is read once
    f"{PIPELINE}{FOUR}pack = yes": packed,
    f"{PIPELINE}{FOUR}pack = no": lambda job: not packed(job),
    **{f"kernels = {name}": lambda job, name=name: job.plan.kernels == name for name in ("numpy", "c")},
    "kernels = auto": lambda job: job.plan.kernels == family_of("auto"),
    "limit memory <= 24 KiB": lambda job: job.plan.predicted.peak_bytes <= 24 * 2**10,
    "limit workspace <= 3 KiB": lambda job: True,
    "limit communication <= 1 KiB": lambda job: 0 < sent_bytes(job) <= 2**10,
    f"{PIPELINE}limit bubble <= 0.1": lambda job: bubble(job) <= 0.1,
    "pin c1.conv { algorithm = fft }": lambda job: convolves_by(job) == {"fft"},
    "pin c1.conv { layout = CHWN }": lambda job: job.plan.op("c1.conv").layout == "CHWN",
    "recompute = all, pin c1.conv { recompute = no }": lambda job: "c1.conv" not in computed_twice(job),
    "pin c1.conv { recompute = no }": computes_once,
    "pin c1.conv { recompute = yes }": lambda job: job.plan.op("c1.conv").recompute,
    "pin c1.conv { partition = split(batch, over = core) }":
        lambda job: in_data(job) or splits(job, "c1.conv") == {"batch"},
    "pin c1.conv { partition = split(channel, over = core) }": lambda job: splits(job, "c1.conv") == {"channel"},
    "pin logits.linear { partition = replicate }": lambda job: job.plan.op("logits.linear").partition == (),
    f"{PIPELINE}pin c1.relu {{ stage = 1 }}": lambda job: stage_of(job, "c1.relu") == 1,
    f"{DATA}pin c1.conv {{ microbatch = 2 }}": lambda job: job.plan.op("c1.conv").microbatch == 2,
    "forbid c1.conv { algorithm = im2col }": lambda job: "im2col" not in convolves_by(job),
    "forbid c1.conv { layout = NCHW }": lambda job: job.plan.op("c1.conv").layout != "NCHW",
    "forbid c1.conv { recompute = yes }": computes_once,
    "forbid c1.conv { recompute = no }": lambda job: job.plan.op("c1.conv").recompute,
    "forbid c1.conv { partition = split(batch, over = core) }": lambda job: "batch" not in splits(job, "c1.conv"),
    "forbid logits.linear { partition = split(feature, over = core) }":
        lambda job: "feature" not in splits(job, "logits.linear"),
    f"{PIPELINE}forbid c1.relu {{ stage = 0 }}": lambda job: stage_of(job, "c1.relu") == 1,
    f"{DATA}forbid c1.conv {{ microbatch = 4 }}": lambda job: job.plan.op("c1.conv").microbatch > 1,
}  # fmt: skip
"""What is honoured, and how that shows; `True` where the default is what it says."""

REFUSED = (
    "pin c1.conv { algorithm = implicit_gemm }",
    "pin c1.conv { algorithm = cudnn }",
    "pin c1.conv { algorithm = winograd(3) }",
)
"""What this backend has no kernel for."""


@pytest.mark.parametrize("plan", PLANS)
def test_plan_settings_are_honoured(compiled: Compile, plan: str) -> None:
    assert PLANS[plan](compiled(spec(plan)))


@pytest.mark.parametrize("plan", REFUSED)
def test_plan_settings_are_refused(compiled: Compile, plan: str) -> None:
    assert outcome(compiled, spec(plan)) is None


@pytest.mark.parametrize(
    ("settings", "fuses"),
    [
        ("kernels = numpy, fusion = yes", True),
        ("kernels = numpy", False),
        ("kernels = c", True),
        ("kernels = c, fusion = no", False),
        ("kernels = c, fusion = auto", True),
    ],
)
def test_kernels_are_fused_as_the_plan_says(compiled: Compile, settings: str, fuses: bool) -> None:
    network = NETWORK.replace("-> relu", "-> bn(group = batch) -> relu", 1)
    job = compiled(spec(f"layout = NCHW, {settings}", network=network))
    assert any(isinstance(i, Compute) and i.members for i in instructions(job)) == fuses


@pytest.mark.parametrize("name", BLOCKED)
def test_channels_lie_in_blocks(compiled: Compile, name: str) -> None:
    network = NETWORK.replace("conv(4, 3x3) -> relu", "conv(16, 3x3) -> relu -> conv(32, 3x3) -> relu")
    assert layouts(compiled(spec(f"layout = {name}, kernels = c", network=network))) >= {name}


def test_a_hierarchical_allreduce_goes_by_nodes(compiled: Compile) -> None:
    job = compiled(spec(f"{DATA}allreduce = hierarchical", cluster=WIDE))
    assert sums(job) == {"hierarchical"}


def test_a_bound_that_nothing_keeps_names_itself(compiled: Compile) -> None:
    with pytest.raises(DiagnosticError) as error:
        compiled(spec("forbid c1.conv { stage = 0 }"))
    assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["E0527"]


def test_every_plan_setting_has_a_case() -> None:
    """Each word of each setting, strategy, limit and pin of the language."""
    cases = (
        "allreduce = hierarchical",
        *(f"layout = {name}" for name in BLOCKED),
        *(case.removeprefix(PIPELINE).removeprefix(DATA) for case in (*PLANS, *REFUSED)),
    )
    words = {f"{field.key} = {word}" for field in SETTINGS for word in field.choices} | {
        "overlap = yes",
        "overlap = no",
        "fusion = yes",
        "fusion = no",
        "pack = yes",
        "pack = no",
    }
    assert {word for word in words if word not in cases} == set()
    assert {kind for kind in STRATEGIES if not any(case.startswith(f"strategy = {kind}") for case in cases)} == set()
    assert {limit for limit in LIMITS if not any(case.startswith(f"limit {limit} ") for case in cases)} == set()
    for verb in ("pin", "forbid"):
        assert {key for key in PIN_KEYS if not any(c.startswith(verb) and f"{{ {key} =" in c for c in cases)} == set()


@pytest.mark.parametrize("plan", ["strategy = model", "mesh { model = core }"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_strategy_follows_the_number_of_ranks(compiled: Compile, plan: str, ranks: int) -> None:
    assert compiled(spec(plan), ranks=ranks).plan.mesh == (("model", ranks),)
