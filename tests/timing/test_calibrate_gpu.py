"""`dlc calibrate --gpu`, emulated: every job is called, and plans for GPUs rest on what comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.cupy_mpi.timing import Copies, GpuError, GpuTiming, Launches, Products, jobs, properties, time_on_gpu
from backends.numpy_mpi.timing import Case
from dlc.calibration import gpu, gpu_points
from dlc.calibration.gpu import GpuFindings
from dlc.calibration.gpu_report import report
from dlc.cli import main
from dlc.cluster.topology import Device
from dlc.cost.compute import overhead, seconds, summed
from dlc.cost.phases import Phase
from dlc.cost.profile import Profile
from dlc.cost.profile_json import profile_document, read_profile
from dlc.driver import Options, SourcedError, plan_spec, read
from dlc.launch import find_mpiexec
from dlc.ops import operator
from tests.cuda.calling import needs_compiler

H200 = Device("h200", "gpu", 10**11, 4.8e12, (("f32", 67e12), ("bf16", 990e12)), 4e-6, 132)
WHAT = {"gpu": "NVIDIA H200", "multiprocessors": "132", "memory": str(10**11)}


def found(factor: float = 2.0) -> GpuFindings:
    """As if each kernel took so many times what its phases say, products reached 30 TFLOP/s, and copies 4 TB/s."""
    made = GpuFindings(WHAT)
    made.launches = [GpuTiming(Launches(graph=False), 9e-6), GpuTiming(Launches(graph=True), 1.5e-6)]
    made.copies = [GpuTiming(each, each.bytes / rate + 1e-6) for each, rate in _copies()]
    made.products = {
        dtype: [GpuTiming(each, 2e-13 * each.m * each.n * each.k / 3) for each in gpu_points.products(dtype)]
        for dtype in ("f32", "bf16")
    }
    cases = [each for each in (*gpu_points.convolutions(), *gpu_points.others()) if operator(each.op)]
    made.kernels = [GpuTiming(each, factor * _analytic(each), 0.02) for each in cases]
    return made


def _copies() -> Iterator[tuple[Copies, float]]:
    for way, rate in (("inside", 2e12), ("to", 5e10), ("from", 4e10)):
        yield from ((each, rate) for each in gpu_points.copies([way]))


def _analytic(case: Case, profile: Profile | None = None) -> float:
    op = operator(case.op)
    assert op is not None
    return seconds(op, case.stage, case.shapes, case.algorithm, case.layout, H200, profile).seconds


@pytest.fixture(scope="module")
def profile() -> Profile:
    return found().profile()


def test_every_point_has_a_call_in_cuda_and_is_named_once() -> None:
    cases = [*gpu_points.convolutions(), *gpu_points.others()]
    made = jobs.folder_of(cases)
    assert len(made.told) == len(cases) == len(set(map(str, cases))) > 400
    assert {each.op for each in cases} >= {"conv", "bn", "lstm", "attention", "linear", "sgd", "cross_entropy"}
    assert b"/* instance conv_implicit_gemm_forward<" in made.files["kernels.cu"]
    assert b"KERNELS.on_processor" not in made.files["compiled.py"]


def test_all_of_it_is_gone_through_without_a_gpu() -> None:
    """Each part but messages, at tiny sizes: nothing is left out, and all of it is in the profile and the table."""
    parts = [part for part in gpu.PARTS if part != "mpi"]
    made = gpu.measure_gpu(parts, gpu.EMULATED_EFFORT, lambda _: nullcontext())
    assert not made.notes
    known = made.profile()
    assert known.kind == "gpu"
    assert known.call
    assert known.launch
    assert [each.way for each in known.copies] == ["to", "from"]
    assert {each.dtype for each in known.gemm} == set(gpu_points.TYPES)
    assert len(known.samples) == len(gpu_points.convolutions(tiny=True)) + len(gpu_points.others(tiny=True))
    assert "matrix products, bf16" in report(known, made)


@needs_compiler
def test_kernels_are_called_as_programs_call_them() -> None:
    """The CUDA text on the processor: launches of plain kernels and of instances, none left to NumPy."""
    known = {each.algorithm: each for each in gpu_points.convolutions(tiny=True) if each.stage == "forward"}
    dropout = next(each for each in gpu_points.others(tiny=True) if each.op == "dropout")
    chosen = [known["implicit_gemm"], dropout, Launches(graph=True)]
    timed = list(time_on_gpu(chosen, rounds=3, seconds=0.1, emulate="cuda"))
    assert [each.wrong for each in timed if each.wrong] == []
    assert not any(each.on_processor for each in timed)
    assert all(each.seconds > 0 for each in timed)


def test_a_call_that_fails_leaves_the_others() -> None:
    wrong = Copies("sideways", 64)
    timed = list(time_on_gpu([wrong._replace(bytes=-1), Products("f32", 2, 2, 2)], rounds=3, emulate="numpy"))
    assert "copy" in timed[0].wrong
    assert timed[1].seconds > 0


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.skipif(find_mpiexec() is None, reason="there is no mpiexec")
def test_messages_begin_and_end_on_devices() -> None:
    made = gpu.measure_gpu(["mpi"], gpu.EMULATED_EFFORT, lambda _: nullcontext())
    assert not made.notes
    assert {each.kind for each in made.profile().messages} == {"allreduce", "exchange"}


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(GpuError, match=r"there is no GPU that CuPy can use|CuPy cannot be used"):
        properties()
    assert main(["calibrate", "--gpu", "-o", str(tmp_path / "p.json")]) == 2
    assert main(["calibrate", "--gpu", "--only", "numpy"]) == 2
    assert "there is no part `numpy` of a GPU" in capsys.readouterr().err
    assert not (tmp_path / "p.json").exists()


def test_a_profile_comes_back_as_it_was_written(profile: Profile) -> None:
    again = read_profile(json.loads(json.dumps(profile_document(profile))))
    assert json.dumps(profile_document(again)) == json.dumps(profile_document(profile))
    assert (again.kind, again.launch, again.call) == ("gpu", 9e-6, 1.5e-6)
    assert [each.way for each in again.copies] == ["to", "from"]


def test_a_measured_kernel_is_what_it_was(profile: Profile) -> None:
    case = gpu_points.convolutions()[0]
    op = operator(case.op)
    assert op is not None
    figure = seconds(op, case.stage, case.shapes, case.algorithm, case.layout, H200, profile)
    assert (figure.seconds, figure.source) == (pytest.approx(2 * _analytic(case)), "measured")


def test_kernels_of_other_shapes_take_as_much_longer(profile: Profile) -> None:
    """All samples took twice what the device's peaks say: so do others, by the profile's own rates and factors."""
    case = next(each for each in gpu_points.others() if each.op == "bn" and each.stage == "dx")
    shapes = replace(
        case.shapes, **{name: tuple(_wider(t) for t in getattr(case.shapes, name)) for name in ("inputs", "outputs")}
    )
    other = replace(case, shapes=shapes)
    assert _analytic(other, profile) == pytest.approx(2 * _analytic(other), rel=0.25)


def _wider(type_: Any) -> Any:
    return type_.with_extent("batch", 48) if type_.batched else type_


def test_products_are_priced_by_the_grid(profile: Profile) -> None:
    """30 TFLOP/s at all points; many small ones that one kernel makes are as good as one that is as large."""
    one = Phase(2.0 * 4096 * 64 * 512, unit="matrix", extents=(4096, 64, 512))
    many = Phase(2.0 * 4096 * 64 * 512, unit="matrix", extents=(64, 64, 512), products=64)
    for part in (one, many):
        assert summed((part,), "f32", H200, profile).compute == pytest.approx(part.flops / 30e12, rel=1e-3)


def test_a_call_costs_what_a_launch_in_a_graph_does(profile: Profile) -> None:
    assert overhead(H200, profile) == 1.5e-6


SPEC = """dlspec 1
network tiny {
  input image: f32[batch = 16, channel = 1, height = 8, width = 8]
  logits = image -> conv(4, 3x3) -> relu -> flatten -> linear(10)
  output logits
}
cluster one {
  device d { kind = KIND, memory = 4 GiB, bandwidth = 4 TB/s, compute.f32 = 50 TFLOP/s, profile = "p.json" }
  topology { d[1] }
}
train tiny {
  data      = digits
  loss      = cross_entropy(logits, data.label)
  optimizer = sgd
  lr        = constant(0.1)
  epochs    = 1
}
"""


def test_plans_for_gpus_rest_on_it(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(profile_document(profile)))
    path = tmp_path / "tiny.dlspec"
    path.write_text(SPEC.replace("KIND", "gpu"))
    made = plan_spec(read(str(path)), Options())
    assert {each.figure.source for op in made.plan.ops for each in op.passes} <= {"measured", "interpolated"}
    path.write_text(SPEC.replace("KIND", "cpu"))
    with pytest.raises(SourcedError) as raised:
        plan_spec(read(str(path)), Options())
    assert "it is of a gpu, the device is of kind cpu" in raised.value.diagnostics[0].message
