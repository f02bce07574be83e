"""What a plan asks to be measured, what is kept of it, and what the plan makes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends.numpy_mpi.timing import Case, Timing
from dlc import driver, tuning
from dlc.cluster.topology import Device
from dlc.commands.tuning import measured
from dlc.cost.profile import KernelKey
from dlc.driver import Compiled, Options
from dlc.tuning import Ask, Kept, Measured, asks, fingerprint, key_of, tune

SPECS = Path(__file__).resolve().parents[2] / "specs"
DEVICE = Device("core", kernels="numpy")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLC_CACHE", str(tmp_path))
    return tmp_path


class Planner:
    """Plans LeNet-5 and counts how often."""

    def __init__(self, **options: object) -> None:
        self.options = Options(parameters={"batch": "4"}, ranks=1, kernels="numpy", **options)  # type: ignore[arg-type]
        self.source, self.made = driver.read(str(SPECS / "lenet5.dlspec"), self.options.parameters), list[Compiled]()

    def __call__(self, kernels: Measured) -> Compiled:
        self.made.append(driver.plan_spec(self.source, replace(self.options, measured=kernels)))
        return self.made[-1]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """Cases that are timed; times follow a rule: CHWN is the slowest layout, direct the fastest algorithm."""
    found: list[Case] = []

    def time(cases: list[Case], threads: int, seconds: float) -> Iterator[Timing]:
        for case in cases:
            found.append(case)
            taken = 1e-6 * (50 if case.layout == "CHWN" else 1) * (1 if case.algorithm == "direct" else 3)
            yield Timing(case, taken, 0.0, 1, taken)

    monkeypatch.setattr(tuning, "time_kernels", time)
    return found


def conv_asks(made: Compiled) -> list[Ask]:
    return [ask for ask in asks(made) if ask.cases[0].op == "conv"]


def test_every_way_to_compute_a_convolution_is_asked_for() -> None:
    found = conv_asks(Planner()(()))
    passes = {(ask.cases[0].stage, ask.cases[0].shapes.inputs) for ask in found}
    assert len(passes) == len(found) == 8  # three convolutions, the first has no dx
    free = [ask for ask in found if ask.cases[0].shapes.attrs["filters"] == 16]
    assert all({case.layout for case in ask.cases} == {"NCHW", "NHWC", "CHWN"} for ask in free)
    pinned = [ask for ask in found if ask.cases[0].shapes.attrs["filters"] == 6]
    assert [len(ask.cases) for ask in pinned] == [1, 1], "the spec pins it"
    assert [ask.seconds for ask in asks(Planner()(()))] == sorted(
        (a.seconds for a in asks(Planner()(()))), reverse=True
    )


def test_what_is_measured_decides_and_is_said(timed: list[Case]) -> None:
    plan = Planner()
    found = tune(plan, DEVICE, 60.0)
    keys = [key_of(case) for case in timed]
    assert len(set(keys)) == len(keys) == found.timed > 20, "identical kernels are timed once"
    assert found.left_out == 0
    made = plan(found.kernels)
    ways = [case.algorithm for case in timed if case.op == "conv" and case.stage == "dw"]
    assert "direct" in ways
    assert "direct" in {made.plan.op(address).algorithm("dw") for address in ("c3.conv", "c5.conv")}
    assert "CHWN" not in {op.layout for op in made.plan.ops}
    assert {p.figure.source for op in made.plan.ops for p in op.passes if "conv" in op.address} == {"measured"}
    assert made.plan.predicted.step_seconds < plan.made[0].plan.predicted.step_seconds


def test_the_second_time_nothing_is_timed_and_the_plan_is_the_same(timed: list[Case]) -> None:
    first = tune(Planner(), DEVICE, 60.0)
    count, again = len(timed), Planner()
    second = tune(again, DEVICE, 60.0)
    assert (second.timed, len(timed), len(again.made)) == (0, count, 1)
    assert {sample.key: sample for sample in second.kernels} == {sample.key: sample for sample in first.kernels}
    assert again(second.kernels).plan == again(first.kernels).plan


def test_without_time_nothing_is_measured(timed: list[Case]) -> None:
    found = tune(Planner(), DEVICE, 0.0)
    assert (found.timed, found.kernels, timed) == (0, (), [])
    assert found.left_out > 20


def test_figures_of_other_devices_are_kept_apart(timed: list[Case], cache: Path) -> None:
    tune(Planner(), DEVICE, 60.0)
    assert Kept(DEVICE).read()
    assert not Kept(replace(DEVICE, cores=2)).read()
    assert not Kept(replace(DEVICE, kernels="c")).read()
    (file,) = cache.glob("tuned-*.json")
    assert file.name == f"tuned-{fingerprint('numpy')}-numpy-1.json"
    json.loads(file.read_text(encoding="utf-8"))


def test_a_damaged_file_is_made_again(timed: list[Case]) -> None:
    Kept(DEVICE).path.write_text("{", encoding="utf-8")
    assert tune(Planner(), DEVICE, 60.0).timed > 20
    assert Kept(DEVICE).read()


def test_elementwise_kernels_are_timed_in_one_layout(timed: list[Case]) -> None:
    found = {sample.key: sample.seconds for sample in tune(Planner(), DEVICE, 60.0).kernels}
    (tanh,) = {case.shapes.inputs for case in timed if (case.op, case.stage) == ("tanh", "forward")} & {
        case.shapes.inputs for case in timed if case.shapes.inputs[0].shape == (4, 6, 28, 28)
    }
    keys = [key for key in found if key[:2] == ("tanh", "forward") and key[4] == tuple(map(str, tanh))]
    assert {key[3] for key in keys} == {"NCHW", "NHWC", "CHWN"}
    assert len({found[key] for key in keys}) == 1


def test_what_others_disturbed_is_tried_again_and_then_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Convolutions have no cores the first time, direct ones never: these stay as they are predicted."""
    tried = Counter[KernelKey]()

    def time(cases: list[Case], threads: int, seconds: float) -> Iterator[Timing]:
        for case in cases:
            tried[key_of(case)] += 1
            held = case.algorithm == "direct" or (case.op == "conv" and tried[key_of(case)] == 1)
            yield Timing(case, 1e-9 if held else 1e-6, 0.0, 1, 1e-6, held=held)

    monkeypatch.setattr(tuning, "time_kernels", time)
    device, plan = replace(DEVICE, cores=2), Planner()
    found = measured(plan, device, 60.0)
    assert {sample.seconds for sample in found} == {1e-6}
    assert {sample.algorithm for sample in found if sample.op == "conv"} >= {"im2col"}
    assert "direct" not in {sample.algorithm for sample in (*found, *Kept(device).read().values())}
    assert {times for key, times in tried.items() if key[0] == "conv"} == {2}
    direct = [key for key in tried if key[2] == "direct"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{len(direct)} kernels are left out, their 2 threads had to wait for cores")
    assert {p.figure.source for op in plan(found).plan.ops for p in op.passes if "direct" in p.algorithm} <= {
        "analytic", "interpolated"}  # fmt: skip


def test_kernels_are_truly_timed() -> None:
    found = tune(Planner(), DEVICE, 0.001)  # one process
    assert found.timed > 0
    assert all(0 < sample.seconds < 1 for sample in found.kernels)
