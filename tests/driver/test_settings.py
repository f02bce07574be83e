"""Nothing that a file says is ignored: each setting with another value than its default changes what is compiled, or
is refused (E0701). The cases are made from the language's own schemas, so a new setting is tested as soon as it is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dlc.diagnostics import DiagnosticError
from dlc.driver import Compiled, emit_files
from dlc.expand.clusters import DEVICE, LINK
from dlc.expand.pins import KEYS as PIN_KEYS
from dlc.expand.rates import PIECES
from dlc.expand.requests import LIMITS, SETTINGS, STRATEGIES
from dlc.expand.settings import Field
from dlc.expand.training import CHOICES, COUNTS, KEYS, LISTS, Schemas
from dlc.ir.program import Collective, Compute, Instruction
from dlc.job import family_of
from dlc.ops.blocks import BLOCKED
from tests.driver.conftest import CLUSTER, NETWORK, TRAIN, Compile, spec
from tests.slices import first

UNITS = {"size": "MiB", "rate": "GB/s", "compute": "GFLOP/s", "time": "us", "length": "epochs"}


def another(field: Field) -> str:
    """A value of the field that is not its default."""
    if field.kind == "word":
        return next(choice for choice in field.choices if choice != field.default)
    match field.kind:
        case "flag":
            return "no" if field.default is True else "yes"
        case "path" | "name":
            return '"elsewhere"'
        case "window":
            return "2x3"
        case "list":
            return f"[{field.choices[0]}]"
        case "number":
            low = field.above if field.above is not None else field.minimum
            start = field.default if isinstance(field.default, int | float) and field.default else 0.5
            return repr(start / 2 if low is None or start / 2 > low else start * 2 + 1)
        case "count":
            return str(field.default + 1 if isinstance(field.default, int) else 3)
    return f"3 {UNITS[field.kind]}"


def calls(kind: str, fields: tuple[Field, ...]) -> Iterator[tuple[str, str]]:
    """(a call, the call that it changes): each argument but the required ones changed by itself."""
    required = [f"{field.key} = {another(field)}" for field in fields if field.required]

    def call(*arguments: str) -> str:
        return f"{kind}({', '.join((*required, *arguments))})" if (*required, *arguments) else kind

    yield call(), ""
    for field in fields:
        if not field.required and field.choices != (field.default,):
            yield call(f"{field.key} = {another(field)}"), call()


def outcome(compiled: Compile, text: str, **options: object) -> Compiled | None:
    """The compiled job; None where the backend refuses it, and nothing else is wrong with it."""
    try:
        return compiled(text, **options)
    except DiagnosticError as error:
        if {diagnostic.code for diagnostic in error.diagnostics} != {"E0701"}:
            raise
        return None


def signature(job: Compiled) -> tuple[object, ...]:
    """All that is made of a job, but the digest of its text and the places in it that plan.json names."""
    files = emit_files(job)
    ops = tuple((op.address, op.layout, op.passes) for op in job.plan.ops)
    buckets = tuple(replace(bucket, reason=job.plan.ops[0].reason) for bucket in job.plan.buckets)
    return files["train.py"], files["rates.py"], sorted(files), ops, buckets, job.plan.predicted


def assert_kept(compiled: Compile, changed: str, base: str, **options: object) -> bool:
    """Whether the changed text is honoured; otherwise it is refused."""
    found, before = outcome(compiled, changed, **options), outcome(compiled, base, **options)
    assert found is None or before is None or signature(found) != signature(before)
    return found is not None


# The train block.


def train(setting: str) -> str:
    """A job whose train block has one more setting, or another value of one that it has."""
    key = setting.partition("=")[0].strip()
    lines = [line for line in TRAIN.splitlines() if line.split("=")[0].strip() != key]
    return spec(train="\n".join([*lines[:-1], f"  {setting}", "}"]) + "\n")


def train_cases() -> Iterator[tuple[str, str]]:
    settings: dict[str, Schemas] = {key: schemas for key, (_, schemas) in (*CHOICES.items(), *LISTS.items())}
    del settings["data"]
    for key, schemas in settings.items():
        for kind, fields in schemas.items():
            for changed, base in calls(kind, tuple(fields)):
                yield f"{key} = {changed}", f"{key} = {base}" if base else "seed = 0"
    for field in COUNTS:
        if field.key not in ("epochs", "steps"):
            yield f"{field.key} = {another(field)}", f"{field.key} = {field.default}"
    for kind, fields in PIECES.items():
        lasting = tuple(field for field in fields if field.key != "over")
        for changed, base in calls(kind, lasting):
            if all(field.key != "over" or not field.required for field in fields):
                yield f"lr = {changed}", f"lr = {base or 'constant(0.125)'}"


DEFAULTS = (
    "init = pytorch", "precision = f32", "precision = tf32", "update = synchronous", "compress = none",
    "optimizer = sgd",
)  # fmt: skip
"""What is so anyway; a CPU has no tf32 and computes in f32."""


CASES = list(train_cases())


@pytest.mark.parametrize(
    ("changed", "base"), first(len(CASES) // 2, [*CASES[::2], *CASES[1::2]]), ids=lambda value: value
)
def test_train_settings_are_honoured_or_refused(compiled: Compile, changed: str, base: str) -> None:
    if changed in DEFAULTS:
        assert signature(compiled(train(changed))) == signature(compiled(train(base)))
    else:
        assert_kept(compiled, train(changed), train(base))


HONOURED = (
    "optimizer", "regularise", "clip", "init", "precision", "seed", "lr", "epochs", "steps", "data", "loss", "metrics",
    "accumulate", "checkpoint", "stop",
)  # fmt: skip


def test_the_train_settings_that_are_honoured(compiled: Compile) -> None:
    """Each of the others is refused, whatever it says; these have at least one value that is not."""
    kept = {changed.partition(" ")[0] for changed, _ in train_cases() if outcome(compiled, train(changed)) is not None}
    assert kept == {*HONOURED, "update", "compress"} - {"epochs", "steps", "data", "loss", "metrics"}
    assert set(HONOURED) <= set(KEYS)


SCHEDULES = (
    "constant(0.1, over = 3 steps) then constant(0.2)",
    "constant(0.1, over = 4 steps) then constant(0.2)",
    "constant(0.1, over = 3 epochs) then constant(0.2)",
    "step(0.1, every = 2 steps, over = 3 steps) then constant(0.2)",
    "exponential(0.1, every = 2 steps, over = 3 steps) then constant(0.2)",
    "cosine(to = 0.01, over = 5 epochs, rate = 0.1)",
    "cosine(to = 0.01, over = 6 epochs, rate = 0.1)",
    "cosine(to = 0.02, over = 5 epochs, rate = 0.1)",
    "cosine(to = 0.01, over = 5 epochs, rate = 0.2)",
    "polynomial(to = 0.01, over = 5 epochs, rate = 0.1)",
    "polynomial(to = 0.01, over = 5 epochs, rate = 0.1, power = 2)",
    "warmup(to = 0.1, over = 5 steps)",
    "warmup(to = 0.1, over = 5 steps) then cosine(over = 9 steps)",
    "warmup(to = 0.1, over = 5 steps) then polynomial(over = 9 steps)",
)


def test_schedules_differ(compiled: Compile) -> None:
    made = {signature(compiled(train(f"lr = {schedule}")))[:2] for schedule in SCHEDULES}
    assert len(made) == len(SCHEDULES)


SAMPLES = {
    "digits": (1, 8),
    "digits(scale = 2)": (1, 16),
    "digits(shuffle = no)": (1, 8),
    "digits(last = keep)": (1, 8),
    "digits(test = 0.5)": (1, 8),
    "digits(test = 0)": (1, 8),
    'mnist("folder")': (1, 28),
    'mnist("other")': (1, 28),
    'mnist("folder", pad = 2)': (1, 32),
    'mnist("folder", shuffle = no)': (1, 28),
    'mnist("folder", last = keep)': (1, 28),
    'cifar10("folder")': (3, 32),
    'cifar10("folder", shuffle = no)': (3, 32),
    'npz("file.npz")': (2, 8),
    'npz("file.npz", test = 0.5)': (2, 8),
    "synthetic": (2, 8),
    "synthetic(samples = 100)": (2, 8),
    'images("folder", size = 16)': (3, 16),
    'images("folder", size = 16, augment = [flip])': (3, 16),
}
"""Data sets, and the channels and extent of their samples."""


def fed(data: str, network: str = NETWORK) -> str:
    """A job on a data set, its network made to fit."""
    channels, extent = SAMPLES[data]
    image = f"channel = {channels}, height = {extent}, width = {extent}"
    network = network.replace("channel = 1, height = 8, width = 8", image)
    return spec(network=network, train=TRAIN.replace("digits", data))


def test_data_sets_differ_or_are_refused(compiled: Compile) -> None:
    made = {data: outcome(compiled, fed(data)) for data in SAMPLES}
    assert {data.partition("(")[0] for data, job in made.items() if job is None} == {"images"}
    found = [signature(job)[:3] for job in made.values() if job is not None]
    assert all(one != other for i, one in enumerate(found) for other in found[:i])


TWO = NETWORK.replace("output logits", "side = c1 -> global_avgpool -> flatten -> linear(10)\n  output logits, side")
LOSSES = (
    "cross_entropy(logits, data.label)",
    "cross_entropy(side, data.label)",
    "cross_entropy(logits, data.label, smoothing = 0.1)",
    "cross_entropy(logits, data.label) + cross_entropy(side, data.label)",
    "cross_entropy(logits, data.label) + 0.3 * cross_entropy(side, data.label)",
    "cross_entropy(logits, data.label) + 0.4 * cross_entropy(side, data.label)",
    "mse(logits, side)",
    "half_mse(logits, side)",
    "l1(logits, side)",
    "huber(logits, side)",
    "huber(logits, side, delta = 2)",
    "bce(logits, side)",
    "hinge(logits, data.label)",
    "kl(logits, side)",
    "kl(logits, side, temperature = 2)",
    "reconstruction(logits, side)",
)


def test_losses_and_metrics_differ_or_are_refused(compiled: Compile) -> None:
    jobs = [outcome(compiled, spec(network=TWO, train=TRAIN.replace(LOSSES[0], loss))) for loss in LOSSES]
    made = [signature(job)[0] for job in jobs if job is not None]
    assert len(set(made)) == len(made) == len(LOSSES)
    metrics = (
        "accuracy(logits, data.label)",
        "accuracy(logits, data.label, top = 2)",
        "perplexity(logits, data.label)",
    )
    assert len({signature(compiled(train(f"metrics = [{metric}]")))[0] for metric in (*metrics, "")}) == 4


# The plan block: what is honoured has to be seen in the plan or the program.


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


PIPELINE = "strategy = pipeline, "
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


# The cluster: figures change the predicted step, what no figure can say is refused.

WIDE = CLUSTER.replace("topology { core[2] over shm }", "topology { node[2] over shm { core[3] over shm } }")
HEAVY = NETWORK.replace("linear(10)", "linear(4000) -> linear(10)")


def on(cluster: str) -> str:
    return spec("overlap = no", network=HEAVY, cluster=cluster)


def device(setting: str) -> str:
    key = setting.partition(" = ")[0]
    settings = ["memory = 4 GiB", "bandwidth = 10 GB/s", "compute.f32 = 50 GFLOP/s"]
    kept = [other for other in settings if not other.startswith(f"{key} ")]
    return on(WIDE.replace(", ".join(settings), ", ".join((*kept, setting))))


UNUSED = ("compute.f64", "compute.tf32", "compute.f16", "compute.bf16")
"""Peaks of element types that the job does not compute in."""

DEVICES = {
    **{field.key: f"{field.key} = {another(field)}" for field in DEVICE},
    "memory": "memory = 1 MiB",
    "bandwidth": "bandwidth = 3 GB/s",
    "compute.f32": "compute.f32 = 3 GFLOP/s",
}


@pytest.mark.parametrize("key", [key for key in DEVICES if key not in (*UNUSED, "profile", "memory")])
def test_device_settings_are_honoured_or_refused(compiled: Compile, key: str) -> None:
    """How much a device hides counts where the plan has something to hide."""
    hiding = (lambda text: text.replace("overlap = no", "strategy = data, overlap = yes")) if key == "overlap" else str
    assert_kept(compiled, hiding(device(DEVICES[key])), hiding(on(WIDE)))


def test_the_memory_of_a_device_is_kept(compiled: Compile) -> None:
    """The batch alone does not fit 1 MiB, the best plan does; nothing fits 64 KiB."""
    assert compiled(device(DEVICES["memory"])).plan.predicted.peak_bytes <= 2**20
    for tight in (
        device(DEVICES["memory"]).replace("overlap = no", "strategy = data, shard = none"),
        device("memory = 64 KiB"),
    ):
        with pytest.raises(DiagnosticError) as error:
            compiled(tight)
        assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["E0509"]


def test_a_profile_is_read(compiled: Compile) -> None:
    with pytest.raises(DiagnosticError) as error:
        compiled(device(DEVICES["profile"]))
    assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["E0416"]


def test_the_peak_of_the_precision_counts(compiled: Compile) -> None:
    double = train("precision = f64")
    slow = double.replace("50 GFLOP/s", "50 GFLOP/s, compute.f64 = 2 GFLOP/s")
    assert compiled(slow).plan.predicted.compute_seconds > compiled(double).plan.predicted.compute_seconds


LINKS = {
    **{field.key: f"{field.key} = {another(field)}" for field in LINK if not field.required},
    "bandwidth": "bandwidth = 1 GB/s",
    "latency": "latency = 40 us",
    "shape": "shape = ring",
    "edges": "edges = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]",
}


@pytest.mark.parametrize("key", LINKS)
@pytest.mark.parametrize("allreduce", ["ring", "tree"])
def test_link_settings_change_what_an_allreduce_takes(compiled: Compile, key: str, allreduce: str) -> None:
    flat = CLUSTER.replace("core[2]", "core[6]")
    settings = [s for s in ("bandwidth = 8 GB/s", "latency = 1 us") if not s.startswith(key)]
    changed = flat.replace("bandwidth = 8 GB/s, latency = 1 us", ", ".join((*settings, LINKS[key])))
    seconds = [
        compiled(spec(f"allreduce = {allreduce}", network=HEAVY, cluster=cluster)).plan.predicted.communication_seconds
        for cluster in (flat, changed)
    ]
    if (key, allreduce) in {("shape", "ring"), ("duplex", "tree")}:
        assert seconds[1] >= seconds[0]  # a ring needs no more, and a tree sends one way at a time
    else:
        assert seconds[1] > seconds[0]
