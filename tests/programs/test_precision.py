"""Mixed precision: any plan equals the serial program, learns as f32 does, and skips a step on all ranks together."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dlc.driver import Compiled, Options, emit_files, plan_spec, read
from dlc.folders import write_folder
from dlc.verification import Runner, compare
from tests.oracle.programs import EmittedProgram
from tests.programs.conftest import HERE, SPECS
from tests.programs.resumable import Resumable, differences, program, state
from tests.programs.started import started
from tests.programs.test_random_plans import in_turns
from tests.slices import first, later
from tests.specs.reduced import REDUCED

Array = npt.NDArray[Any]

F16, BF16 = "mixed(compute = f16, loss_scale = 1024)", "mixed(compute = bf16)"

BOX = """
cluster box {{
  device core {{
    kind = cpu
    memory = 4 GiB
    bandwidth = 10 GB/s
    compute.f32 = 50 GFLOP/s
  }}
  link shm {{ bandwidth = 8 GB/s, latency = 1 us }}
  topology {{ core[{ranks}] over shm }}
}}
plan {network} on box {{ {plan} }}
"""

PLANS = {
    "data": "strategy = data",
    "model": "strategy = model",
    "spatial": "strategy = spatial",
    "pipeline": "strategy = pipeline; pipeline.microbatches = 2; pipeline.schedule = one_f_one_b",
    "zero bubble": "strategy = pipeline; pipeline.microbatches = 2; pipeline.schedule = zero_bubble",
    "ZeRO 1": "strategy = data; shard = optimizer",
    "ZeRO 2": "strategy = data; shard = gradients",
    "ZeRO 3": "strategy = data; shard = weights",
    "data and model": "strategy = hybrid(data = 2, model = 2); recompute = all",
    "pipeline and data": "strategy = hybrid(pipeline = 2, data = 2); pipeline.microbatches = 2; shard = optimizer",
}

FEW = {("ZeRO 3", BF16), ("zero bubble", F16), ("data and model", BF16)}
"""What every run compares; the slow suite has all."""


def planned(folder: Path, name: str, precision: str, plan: str, ranks: int) -> Compiled:
    """A spec of specs/, reduced, or of this folder, in a precision and under a plan."""
    path = next(path for path in (HERE / f"{name}.dlspec", SPECS / f"{name}.dlspec") if path.exists())
    text = re.sub(r"\n(plan|cluster) [^{]*\{.*?\n\}\n", "\n", path.read_text(), flags=re.S)
    text = re.sub(r"\n  (precision|checkpoint) *=[^\n]*", "", text)
    text = re.sub(r"data( *)= (images|cifar10|mnist)\([^\n]*\)", r"data\1= synthetic(samples = 16, classes = 10)", text)
    text = re.sub("group = (batch|5)", "group = 6", text)  # groups lie within microbatches
    network = re.search(r"\ntrain (\w+)", text)
    assert network is not None
    head, start, rest = text.partition(f"\ntrain {network[1]} {{")
    shutil.copytree(SPECS, folder, dirs_exist_ok=True)
    made = folder / f"{name}.dlspec"
    box = BOX.format(ranks=ranks, network=network[1], plan=plan)
    made.write_text(f"{head}{start}\n  precision = {precision}{rest}{box}")
    reduced = REDUCED.get(name, {}) if path.parent == SPECS else {}
    parameters = {key: str(value).replace(" ", "") for key, value in reduced.items()}
    return plan_spec(read(str(made), parameters), Options(ranks=ranks, parameters=parameters))


def assert_equal_to_serial(compiled: Compiled, steps: int = 2, run: Runner = in_turns) -> None:
    verdict = compare(compiled, emit_files(compiled), "mixed", steps, run=run)
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("plan", "precision"),
    [
        (plan, precision) if (plan, precision) in FEW else later((plan, precision))
        for plan in PLANS
        for precision in (F16, BF16)
    ],
)
def test_any_plan_equals_the_serial_program(plan: str, precision: str, tmp_path: Path) -> None:
    """Batch norm over ranks, dropout, grouped convolutions, clipping and Adam."""
    assert_equal_to_serial(planned(tmp_path, "residual", precision, PLANS[plan], 4))


@pytest.mark.parametrize(
    ("name", "plan", "precision"),
    [
        ("gpt2_small", "pipeline and data", F16),
        ("lstm", "pipeline", F16),
        later(("gpt2_small", "data and model", BF16)),
        later(("gpt2_small", "ZeRO 3", F16)),
        later(("googlenet", "data and model", F16)),
        later(("resnet50", "spatial", BF16)),
    ],
)
def test_networks_of_other_kinds_do(name: str, plan: str, precision: str, tmp_path: Path) -> None:
    """Weights of two stages, sums of losses, recurrences, halos."""
    assert_equal_to_serial(planned(tmp_path, name, precision, PLANS[plan], 2 if plan == "pipeline" else 4), steps=1)


@pytest.mark.parametrize("optimizer", first(1, ["lamb(weight_decay = 0.1)", "lars", "sgd(momentum = 0.9)"]))
def test_rules_by_norms_and_regularisers_see_masters(optimizer: str, tmp_path: Path) -> None:
    compiled = planned(tmp_path, "residual", F16, PLANS["ZeRO 2"], 3)
    path = Path(compiled.source.spec.path)
    path.write_text(
        path.read_text().replace("optimizer = adam\n", f"optimizer = {optimizer}\n  regularise = [l2(1e-3)]\n")
    )
    assert_equal_to_serial(plan_spec(read(str(path)), Options(ranks=3)))


@pytest.mark.mpi
@pytest.mark.parametrize("precision", first(1, [F16, BF16]))
def test_real_ranks_do_too(precision: str, tmp_path: Path) -> None:
    assert_equal_to_serial(planned(tmp_path, "residual", precision, PLANS["pipeline and data"], 4), run=started)


def emitted(compiled: Compiled, folder: Path) -> EmittedProgram:
    write_folder(emit_files(compiled), str(folder))
    return EmittedProgram(folder, compiled.source.spec.root, compiled.plan.ranks)


@pytest.mark.parametrize(("name", "steps"), first(1, [("lenet5", 30), ("residual", 45), ("gpt2_small", 24)]))
@pytest.mark.parametrize("precision", ["mixed(compute = f16)", BF16])
def test_it_learns_as_in_f32(name: str, steps: int, precision: str, tmp_path: Path) -> None:
    curves = {}
    for number, at in enumerate(("f32", precision)):
        made = emitted(planned(tmp_path, name, at, PLANS["data"], 1), tmp_path / f"program{number}")
        curves[at] = losses(made, steps, tmp_path / f"record{number}")
    expected, found = curves["f32"], curves[precision]
    assert np.mean(np.abs(found - expected) / expected) < 0.05
    assert found[-steps // 4 :].mean() < 0.9 * found[0]


def losses(made: EmittedProgram, steps: int, folder: Path) -> Array:
    """The loss of each step of a run."""
    folder.mkdir()
    made.run(steps=steps, record=str(folder))
    return np.array([float(np.load(folder / f"step{step:06}.npz")["loss"]) for step in range(steps)])


IN_ONE_SAMPLE = """dlspec 1
network small {
  input image: f32[batch = 4, channel = 1, height = 8, width = 8]
  hidden = image -> conv(4, 3x3, pad = same) -> bn(group = 2) -> relu -> flatten -> linear(8) -> relu
  logits = hidden -> linear(3)
  output logits
}
train small {
  data      = npz("samples.npz", shuffle = no)
  loss      = cross_entropy(logits, data.label)
  optimizer = adam
  lr        = constant(0.01)
  clip      = norm(1.0)
  steps     = 4
  precision = PRECISION
}
"""


@pytest.mark.parametrize("plan", first(3, ["data", "pipeline", "ZeRO 3", "model", "ZeRO 1", "ZeRO 2"]))
def test_an_overflow_on_one_rank_is_skipped_by_all(plan: str, tmp_path: Path) -> None:
    """One sample of the second batch is beyond f16: under data parallelism one rank alone sees it."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 1, 8, 8)).astype(np.float32)
    images[6] = 1e6
    np.savez(tmp_path / "samples.npz", image=images, label=rng.integers(0, 3, 16).astype(np.int32))
    text = IN_ONE_SAMPLE.replace("PRECISION", "mixed(compute = f16)")
    path = tmp_path / "small.dlspec"
    path.write_text(text + BOX.format(ranks=2, network="small", plan=PLANS[plan]))
    made = emitted(plan_spec(read(str(path)), Options(ranks=2)), tmp_path / "program")
    (tmp_path / "record").mkdir()
    made.run(steps=4, record=str(tmp_path / "record"))
    steps = [dict(np.load(tmp_path / "record" / f"step{step:06}.npz")) for step in range(4)]
    scales = [scale(step) for step in steps]
    assert scales == [(2.0**16, [1, 0, 0]), (2.0**15, [0, 1, 1]), (2.0**15, [1, 0, 1]), (2.0**15, [2, 0, 1])]
    for number, step in enumerate(steps):
        moved = [name for name in weights(step) if not np.array_equal(step[f"before.{name}"], step[f"after.{name}"])]
        assert bool(moved) == (number != 1), number
        assert all(np.isfinite(array).all() for name, array in step.items() if name.startswith("after."))
    assert all(step[f"after.{name}"].dtype == np.float32 for step in steps for name in weights(step))


@pytest.mark.parametrize("optimizer", ["adam", "lamb"])
def test_a_skipped_step_is_no_update(optimizer: str, tmp_path: Path) -> None:
    """Behind it the moments are corrected as if its batch had never been: the weights are those of a run without."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((16, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 16).astype(np.int32)
    text = IN_ONE_SAMPLE.replace("PRECISION", "mixed(compute = f16, loss_scale = 1024)").replace("adam", optimizer)
    text = text.replace("shuffle = no", "shuffle = no, test = 0")
    found = []
    for name, kept in (("with", [*range(16)]), ("without", [*range(4), *range(8, 16)])):
        folder = tmp_path / name
        folder.mkdir()
        given = images.copy()
        given[6] = 1e6
        np.savez(folder / "samples.npz", image=given[kept], label=labels[kept])
        path = folder / "small.dlspec"
        path.write_text(text + BOX.format(ranks=2, network="small", plan=PLANS["model"]))
        made = emitted(plan_spec(read(str(path)), Options(ranks=2)), folder / "program")
        (folder / "record").mkdir()
        made.run(steps=len(kept) // 4, record=str(folder / "record"))
        found.append(dict(np.load(folder / "record" / f"step{len(kept) // 4 - 1:06}.npz")))
    for name in weights(found[0]):
        np.testing.assert_allclose(found[0][f"after.{name}"], found[1][f"after.{name}"], rtol=1e-6, err_msg=name)


def weights(step: dict[str, Array]) -> list[str]:
    """What a step trains or averages, and the optimizer's states."""
    names = (name.removeprefix("after.") for name in step if name.startswith("after."))
    return [name for name in names if "seed" not in name and "unscale" not in name]


def scale(step: dict[str, Array]) -> tuple[float, list[float]]:
    """The loss scale and the counts of steps behind a step."""
    (seed,) = (array for name, array in step.items() if name.startswith("after.") and name.endswith("_seed"))
    return float(seed), step["after.s.unscale_steps"].tolist()


def test_too_many_skipped_steps_end_the_run(tmp_path: Path) -> None:
    images = np.full((8, 1, 8, 8), 1e6, np.float32)
    np.savez(tmp_path / "samples.npz", image=images, label=np.zeros(8, np.int32))
    path = tmp_path / "small.dlspec"
    text = IN_ONE_SAMPLE.replace("PRECISION", "mixed(compute = f16)").replace("steps     = 4", "steps     = 90")
    path.write_text(text + BOX.format(ranks=1, network="small", plan=PLANS["data"]))
    made = emitted(plan_spec(read(str(path)), Options(ranks=1)), tmp_path / "program")
    with pytest.raises(Exception, match="infinite or not a number in step 49 and the 49 before it"):
        made.run()


def test_a_resumed_run_goes_on_with_its_scale(tmp_path: Path) -> None:
    made = program(tmp_path, 2, "strategy = data; shard = optimizer", precision="mixed(compute = f16)")
    whole, halves = (Resumable(made.folder, 2, tmp_path / name) for name in ("whole", "halves"))
    for folder, arguments in ((whole, ["20"]), (halves, ["8"]), (halves, ["20", "--resume"])):
        ran = folder.run("--steps", *arguments)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert differences(state(whole.checkpoints), state(halves.checkpoints)) == []
    kept = state(whole.checkpoints)
    assert {"unscale@steps", "loss.cross_entropy@seed", "body.conv.weight@mean"} <= kept.keys()
    assert kept["body.conv.weight"].dtype == np.float32
