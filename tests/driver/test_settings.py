"""Nothing that a file says is ignored: each setting with another value than its default changes what is compiled, or
is refused (E0701). The cases are made from the language's own schemas, so a new setting is tested as soon as it is one.
"""

from __future__ import annotations

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
from dlc.ir.program import Collective, Compute
from tests.driver.conftest import CLUSTER, NETWORK, TRAIN, Compile, spec

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


DEFAULTS = ("init = pytorch", "precision = f32", "update = synchronous", "compress = none", "optimizer = sgd")


@pytest.mark.parametrize(("changed", "base"), list(train_cases()), ids=lambda value: value)
def test_train_settings_are_honoured_or_refused(compiled: Compile, changed: str, base: str) -> None:
    if changed in DEFAULTS:
        assert signature(compiled(train(changed))) == signature(compiled(train(base)))
    else:
        assert_kept(compiled, train(changed), train(base))


HONOURED = (
    "optimizer", "regularise", "clip", "init", "precision", "seed", "lr", "epochs", "steps", "data", "loss", "metrics",
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


# The plan block: what is honoured has to be seen in the program.


def algorithms(job: Compiled) -> set[str]:
    """Those of all collectives of a training step."""
    (role,) = job.program.roles
    found = (i.algorithm for i in role.segment("backward").instructions if isinstance(i, Collective))
    return set(found)


def layouts(job: Compiled) -> set[str]:
    return {op.layout for op in job.plan.ops if op.layout and "flatten" not in op.address}


def convolves_by(job: Compiled) -> set[str]:
    return {part.algorithm for part in job.plan.op("c1.conv").passes}


def computes_once(job: Compiled) -> bool:
    (role,) = job.program.roles
    run = (i for name in ("forward", "backward") for i in role.segment(name).instructions)
    made = [i.address for i in run if isinstance(i, Compute)]
    return len(made) == len(set(made))


def waits(job: Compiled) -> bool:
    (role,) = job.program.roles
    return all(i.blocking for segment in role.segments for i in segment.instructions if isinstance(i, Collective))


def scratch(job: Compiled) -> int:
    (role,) = job.program.roles
    return sum(buffer.type.bytes for buffer in role.buffers if buffer.name == "arena")


PLANS: dict[str, Callable[[Compiled], bool]] = {
    "objective = step_time": lambda job: True,
    "strategy = auto": lambda job: job.plan.mesh == (("data", 2),),
    "strategy = data": lambda job: job.plan.mesh == (("data", 2),),
    "mesh { data = core }": lambda job: job.plan.mesh == (("data", 2),),
    **{f"allreduce = {name}": lambda job, name=name: algorithms(job) == {name} for name in
       ("tree", "butterfly", "ring", "rabenseifner", "mpi", "shared")},
    "allreduce = auto": lambda job: len(algorithms(job)) == 1,
    **{f"layout = {name}": lambda job, name=name: layouts(job) == {name} for name in ("NCHW", "NHWC", "CHWN")},
    "layout = auto": lambda job: bool(layouts(job)),
    "pipeline.schedule = auto": lambda job: True,
    "pipeline.microbatches = auto": lambda job: True,
    "shard = none": lambda job: True,
    "recompute = auto": computes_once,
    "recompute = none": computes_once,
    "overlap = auto": waits,
    "overlap = no": waits,
    "limit memory <= 50 KiB": lambda job: job.plan.predicted.peak_bytes <= 50 * 2**10,
    "limit workspace <= 3 KiB": lambda job: 0 < scratch(job) <= 3 * 2**10,
    "pin c1.conv { algorithm = fft }": lambda job: convolves_by(job) == {"fft"},
    "pin c1.conv { layout = CHWN }": lambda job: job.plan.op("c1.conv").layout == "CHWN",
    "pin c1.conv { recompute = no }": computes_once,
    "pin c1.conv { partition = split(batch, over = core) }": lambda job: job.plan.mesh == (("data", 2),),
    "forbid c1.conv { algorithm = im2col }": lambda job: "im2col" not in convolves_by(job),
    "forbid c1.conv { layout = NCHW }": lambda job: job.plan.op("c1.conv").layout != "NCHW",
    "forbid c1.conv { recompute = yes }": computes_once,
    "forbid logits.linear { partition = split(feature, over = core) }": lambda job: True,
    "forbid c1.conv { partition = replicate }": lambda job: True,
}  # fmt: skip
"""What is honoured, and how that shows; `True` where the default is what it says."""

REFUSED = (
    "objective = memory",
    "objective = communication",
    *(f"strategy = {kind}" for kind in ("model", "spatial", "pipeline", "hybrid(model = 2)", "hybrid(data = 2)")),
    "mesh { model = core }",
    "mesh { rows = core }",
    "allreduce = hierarchical",
    *(f"pipeline.schedule = {name}" for name in ("gpipe", "one_f_one_b", "interleaved", "zero_bubble")),
    "pipeline.microbatches = 2",
    *(f"shard = {name}" for name in ("optimizer", "gradients", "weights")),
    "recompute = all",
    "overlap = yes",
    "limit bubble <= 0.5",
    "limit communication <= 1 MiB",
    "pin c1.conv { algorithm = implicit_gemm }",
    "pin c1.conv { algorithm = winograd(3) }",
    "pin c1.conv { recompute = yes }",
    "pin c1.conv { stage = 0 }",
    "pin c1.conv { microbatch = 4 }",
    "pin logits.linear { partition = split(feature, over = core) }",
    "pin logits.linear { partition = replicate }",
    "forbid c1.conv { recompute = no }",
    "forbid c1.conv { stage = 0 }",
    "forbid c1.conv { microbatch = 4 }",
    "forbid c1.conv { partition = split(batch, over = core) }",
)


@pytest.mark.parametrize("plan", PLANS)
def test_plan_settings_are_honoured(compiled: Compile, plan: str) -> None:
    assert PLANS[plan](compiled(spec(plan)))


@pytest.mark.parametrize("plan", REFUSED)
def test_plan_settings_are_refused(compiled: Compile, plan: str) -> None:
    assert outcome(compiled, spec(plan)) is None


def test_every_plan_setting_has_a_case() -> None:
    """Each word of each setting, strategy, limit and pin of the language."""
    cases = (*PLANS, *REFUSED)
    words = {f"{field.key} = {word}" for field in SETTINGS for word in field.choices} | {
        "overlap = yes",
        "overlap = no",
    }
    assert {word for word in words if word not in cases} == set()
    assert {kind for kind in STRATEGIES if not any(case.startswith(f"strategy = {kind}") for case in cases)} == set()
    assert {limit for limit in LIMITS if not any(case.startswith(f"limit {limit} ") for case in cases)} == set()
    for verb in ("pin", "forbid"):
        assert {key for key in PIN_KEYS if not any(c.startswith(verb) and f"{{ {key} =" in c for c in cases)} == set()


@pytest.mark.parametrize("plan", ["strategy = model", "mesh { model = core }"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_what_is_refused_is_refused_on_any_number_of_ranks(compiled: Compile, plan: str, ranks: int) -> None:
    assert outcome(compiled, spec(plan), ranks=ranks) is None


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
    """`overlap` goes with the plan's `overlap = no`, which says that nothing is hidden."""
    if key == "overlap":
        assert outcome(compiled, device(DEVICES[key]).replace("overlap = no\n", "layout = auto\n")) is None
    else:
        assert_kept(compiled, device(DEVICES[key]), on(WIDE))


def test_a_device_without_the_memory_is_refused(compiled: Compile) -> None:
    with pytest.raises(DiagnosticError) as error:
        compiled(device(DEVICES["memory"]))
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
