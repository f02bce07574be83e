"""Seconds of kernels: the roofline, its counts, what layouts change, and measured profiles."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

from dlc.cluster.topology import Device
from dlc.cost.compute import conversion_seconds, priced, seconds
from dlc.cost.phases import Phase, phases
from dlc.cost.profile import interval
from dlc.cost.profile_json import read_profile
from dlc.cost.rates import gemm_efficiency
from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType, tensor
from dlc.ops import OPS, operator
from dlc.ops.operator import LAYOUTS, Operator, Shapes

CORE = Device("core", bandwidth=1e10, compute=(("f32", 5e10),))
GPU = Device("gpu", kind="gpu", bandwidth=9e11, compute=(("f32", 1.57e13), ("f16", 1.25e14)), launch=5e-6)


def op(name: str) -> Operator:
    found = operator(name)
    assert found is not None
    return found


def conv_shapes(
    stage: str, n: int = 8, c: int = 16, k: int = 32, extent: int = 28, window: int = 3, stride: int = 1, pad: int = 1
) -> Shapes:
    out = (extent + 2 * pad - window) // stride + 1
    x = tensor("f32", batch=n, channel=c, height=extent, width=extent)
    y = tensor("f32", batch=n, channel=k, height=out, width=out)
    w = tensor("f32", out=k, **{"in": c}, height=window, width=window)
    attrs: dict[str, Attr] = {
        "filters": k,
        "window": (window, window),
        "stride": (stride, stride),
        "pad": ((pad, pad), (pad, pad)),
        "dilation": (1, 1),
        "groups": 1,
        "bias": False,
    }
    inputs, outputs = {"forward": ((x, w), (y,)), "dx": ((y, w), (x,)), "dw": ((y, x), (w,))}[stage]
    return Shapes(inputs, outputs, attrs)


CASES = [
    (stage, algorithm, layout)
    for stage, algorithm, layout in product(("forward", "dx", "dw"), op("conv").algorithms, LAYOUTS)
    if algorithm.excluded(stage, conv_shapes(stage)) is None
    and layout in algorithm.layouts
    and "cpu" in algorithm.devices
]


@pytest.mark.parametrize(("stage", "algorithm", "layout"), CASES, ids=lambda case: getattr(case, "name", case))
def test_every_legal_algorithm_has_a_model(stage: str, algorithm: object, layout: str) -> None:
    """At least its operands go through memory; no phase is better than the device's peak figures."""
    shapes, name = conv_shapes(stage), algorithm.name  # type: ignore[attr-defined]
    parts = phases(op("conv"), stage, shapes, name, layout)
    touched = sum(t.bytes for t in (*shapes.inputs, *shapes.outputs))
    assert sum(part.bytes for part in parts) >= touched
    found = seconds(op("conv"), stage, shapes, name, layout, CORE)
    assert found.source == "analytic"
    assert found.seconds > max(sum(p.flops for p in parts) / 5e10, touched / 1e10)


def test_direct_and_im2col_count_two_operations_a_multiply_add() -> None:
    for stage, name in product(("forward", "dx", "dw"), ("direct", "im2col")):
        shapes = conv_shapes(stage)
        flops = sum(p.flops for p in phases(op("conv"), stage, shapes, name, "NHWC") if p.unit == "matrix")
        assert flops == 2 * 8 * 16 * 32 * 28 * 28 * 9


def test_winograd_multiplies_less_by_the_published_factors() -> None:
    shapes = conv_shapes("forward")
    direct = 2 * 8 * 16 * 32 * 28 * 28 * 9
    for name, factor in (("winograd(2)", 2.25), ("winograd(4)", 4.0)):
        parts = phases(op("conv"), "forward", shapes, name, "NHWC")
        assert direct / sum(p.flops for p in parts if p.unit == "matrix") == pytest.approx(factor)


def test_an_algorithm_without_a_model_is_an_error() -> None:
    with pytest.raises(ValueError, match="implicit_gemm"):
        seconds(op("conv"), "forward", conv_shapes("forward"), "implicit_gemm", "NCHW", CORE)


def test_choices_that_were_measured() -> None:
    """The orderings of execution.md's table and of `benchmarks/choice.py`."""

    def time(stage: str, algorithm: str, layout: str, **shape: int) -> float:
        return seconds(op("conv"), stage, conv_shapes(stage, **shape), algorithm, layout, CORE).seconds

    large = {"c": 128, "k": 128}
    assert time("forward", "im2col", "NHWC", **large) < time("forward", "im2col", "NCHW", **large)
    assert time("forward", "winograd(4)", "NHWC", **large) < time("forward", "im2col", "NHWC", **large)
    assert time("forward", "im2col", "NCHW", **large) < time("forward", "fft", "NCHW", **large)
    one = {"window": 1, "pad": 0}
    assert time("forward", "im2col", "NCHW", **one) < time("forward", "direct", "NCHW", **one)
    first = {"c": 1, "k": 6, "extent": 32, "window": 5, "pad": 0, "n": 32}
    assert time("forward", "im2col", "CHWN", **first) < time("forward", "im2col", "NHWC", **first)


@pytest.mark.parametrize(
    ("channels", "extent", "gflops"),
    [(64, 56, 47e9), (128, 28, 59e9)],
)
def test_im2col_comes_near_to_the_measured_rates(channels: int, extent: int, gflops: float) -> None:
    """execution.md: NumPy im2col in NCHW on a core of 110 GF/s that copies 10 GB/s."""
    core = Device("core", bandwidth=1e10, compute=(("f32", 1.1e11),))
    shapes = conv_shapes("forward", c=channels, k=channels, extent=extent)
    found = seconds(op("conv"), "forward", shapes, "im2col", "NCHW", core).seconds
    assert 2 * 8 * channels**2 * 9 * extent**2 / found == pytest.approx(gflops, rel=0.3)


def test_every_operator_is_priced() -> None:
    x = tensor("f32", batch=4, feature=12)
    for operator_ in OPS:
        if operator_.name in ("relu", "tanh", "sigmoid", "gelu", "flatten", "sgd", "adam"):
            attrs: dict[str, Attr] = {"weight_decay": 0.0, "momentum": 0.9, "nesterov": False}
            stage = "update" if operator_.role == "optimizer" else "forward"
            found = seconds(operator_, stage, Shapes((x, x), (x,), attrs), "", "", CORE).seconds
            assert (found == 0) == operator_.view


def test_more_work_takes_longer_and_a_faster_device_less() -> None:
    def time(device: Device, n: int) -> float:
        return seconds(op("conv"), "forward", conv_shapes("forward", n=n), "im2col", "NHWC", device).seconds

    assert time(CORE, 8) < time(CORE, 16) < 2.2 * time(CORE, 8)
    assert time(replace(CORE, compute=(("f32", 1e11),)), 8) < time(CORE, 8)
    assert time(replace(CORE, bandwidth=2e10), 8) < time(CORE, 8)
    assert time(GPU, 8) < time(CORE, 8)


def test_bound_names_what_most_of_the_time_goes_to() -> None:
    assert priced((Phase(flops=1e9),), "f32", CORE).bound == "compute"
    assert priced((Phase(bytes=1e9),), "f32", CORE).bound == "memory"
    assert priced((Phase(bytes=10, calls=100),), "f32", CORE).bound == "launch"


def test_gemm_efficiency_is_symmetric_and_rises_to_one() -> None:
    assert gemm_efficiency(16, 300, 64) == gemm_efficiency(300, 16, 64)
    assert gemm_efficiency(4, 4, 4) < gemm_efficiency(64, 64, 64) < gemm_efficiency(4096, 4096, 4096) < 1


def test_conversions_cost_more_than_a_copy() -> None:
    type_: TensorType = tensor("f32", batch=8, channel=16, height=28, width=28)
    assert conversion_seconds(type_, CORE) > 2 * type_.bytes / 1e10


# Profiles.

PROFILE = {
    "schema": 2,
    "device": "core",
    "call": 2e-6,
    "bandwidth": [{"run": 4096, "rate": 8e9}, {"run": 4, "rate": 1e9}],
    "gemm": [{"dtype": "f32", "m": [16, 64], "n": [16, 1024], "k": [64], "rate": [[[1e9], [2e9]], [[3e9], [8e9]]]}],
    "kernels": [
        {
            "op": "tanh",
            "pass": "forward",
            "algorithm": "",
            "layout": "",
            "attrs": {},
            "inputs": ["f32[batch = 4, feature = 12]"],
            "outputs": ["f32[batch = 4, feature = 12]"],
            "seconds": 3e-5,
        }
    ],
}


def test_a_measured_kernel_counts_as_it_was_measured() -> None:
    profile = read_profile(json.loads(json.dumps(PROFILE)))
    x, other = tensor("f32", batch=4, feature=12), tensor("f32", batch=4, feature=13)
    found = seconds(op("tanh"), "forward", Shapes((x,), (x,), {}), "", "", CORE, profile)
    assert (found.seconds, found.source) == (3e-5, "measured")
    assert (
        seconds(op("tanh"), "forward", Shapes((other,), (other,), {}), "", "", CORE, profile).source == "interpolated"
    )


def test_rates_are_interpolated_between_neighbours() -> None:
    profile = read_profile(PROFILE)
    assert profile.gemm_rate("f32", 16, 16, 64) == 1e9
    assert profile.gemm_rate("f32", 32, 16, 64) == pytest.approx(2e9)  # half way in the logarithm
    assert profile.gemm_rate("f32", 32, 128, 64) == pytest.approx(3.5e9)
    assert profile.gemm_rate("f32", 1000, 9999, 640) == 8e9  # beyond the edges
    assert profile.gemm_rate("f32", 1000, 9999, 16) == 2e9  # and before them, where it takes as long as with 64
    assert profile.gemm_rate("f64", 16, 16, 64) is None
    assert profile.bandwidth_of(128) == pytest.approx(4.5e9)
    assert profile.bandwidth_of(4) == 1e9
    assert profile.bandwidth_of(1) == 2.5e8  # a jump takes as long whatever lies between two
    assert profile.bandwidth_of(float("inf")) == 8e9


def test_a_profile_takes_the_place_of_the_formulas() -> None:
    profile = read_profile(PROFILE)
    product_ = Phase(flops=2e9, bytes=0, unit="matrix", extents=(64, 1024, 64))
    assert priced((product_,), "f32", CORE, profile).seconds == pytest.approx(0.25 + 2e-6)
    assert priced((Phase(bytes=1e9, run=4, calls=0),), "f32", CORE, profile).seconds == pytest.approx(1.0)
    only_kernels = read_profile({**PROFILE, "gemm": [], "bandwidth": []})
    assert priced((product_,), "f32", CORE, only_kernels).source == "analytic"


def test_a_profile_says_how_far_its_predictions_are_off() -> None:
    """The worst case: intervals of parts add up to the interval of the whole."""
    profile = read_profile({**PROFILE, "spread": 0.25})
    assert profile.interval(2.0) == pytest.approx((1.6, 2.5))
    parts = [profile.interval(seconds) for seconds in (0.5, 1.5)]
    assert tuple(map(sum, zip(*parts, strict=True))) == pytest.approx(profile.interval(2.0))
    assert read_profile(PROFILE).interval(2.0) == interval(2.0) == pytest.approx((2 / 1.7, 3.4))


def test_profiles_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        read_profile({**PROFILE, "spread": -0.1})
    with pytest.raises(ValueError, match="schema 1"):
        read_profile({**PROFILE, "schema": 1})
    with pytest.raises(ValueError, match="2 x 2 x 1"):
        read_profile({**PROFILE, "gemm": [{**PROFILE["gemm"][0], "rate": [[[1e9]]]}]})  # type: ignore[index, dict-item]
