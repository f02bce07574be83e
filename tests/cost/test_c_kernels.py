"""Prices of kernels in C: of convolutions against the rates on record, and of nothing that there is no C for."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from backends.numpy_mpi.c.general import GENERAL
from benchmarks.c_kernels import LAYERS
from dlc.calibration.points import cases
from dlc.cluster.topology import Device
from dlc.cost.c_kernels import FUSED, PASSES, taps_inside
from dlc.cost.compute import kernel, seconds
from dlc.cost.profile import Profile
from dlc.ir.tensor import tensor
from dlc.ops import operator
from dlc.ops.conv_algorithms import conv_shape
from dlc.ops.operator import Shapes

RECORD = Path(__file__).parents[2] / "benchmarks" / "records" / "c_kernels.json"

CORE = Device("core", memory=2**34, bandwidth=12e9, compute=(("f32", 115e9),), kernels="c")
"""The core that the record was made on."""

WORST = {"direct NHWC": 0.10, "winograd(2) NHWC": 0.15, "winograd(4) NHWC": 0.15, "direct CHWN": 0.30}
"""Mean of |log(predicted/measured)|."""


def shapes(layer: str, stage: str) -> tuple[Shapes, float]:
    """A layer of the benchmark, and its operations."""
    (n, channels, extent, filters), args = LAYERS[layer]
    stride, pad, window = args.get("stride", 1), args.get("pad", 0), args["window"]
    out = (extent + 2 * pad - window) // stride + 1
    x = tensor("f32", batch=n, channel=channels, height=extent, width=extent)
    y = tensor("f32", batch=n, channel=filters, height=out, width=out)
    weight = tensor("f32", filter=filters, channel=channels, ky=window, kx=window)
    inputs, output = {"forward": ((x, weight), y), "dx": ((y, weight), x), "dw": ((y, x), weight)}[stage]
    attrs = {"filters": filters, "window": (window,) * 2, "stride": (stride,) * 2, "pad": ((pad,) * 2,) * 2}
    attrs |= {"dilation": (1, 1), "groups": 1, "bias": False}
    return Shapes(inputs, (output,), attrs), 2.0 * n * out * out * filters * channels * window**2  # type: ignore[arg-type]


def test_convolutions_take_what_was_measured() -> None:
    errors, conv = defaultdict[str, list[float]](list), operator("conv")
    assert conv is not None
    for row in json.loads(RECORD.read_text())["rows"]:
        known, operations = shapes(row["layer"], row["stage"])
        for name, rate in row["rates"].items():
            if name.startswith("c "):
                algorithm, layout = ("direct", "CHWN") if name == "c chwn" else (name[2:], "NHWC")
                found = seconds(conv, row["stage"], known, algorithm, layout, CORE).seconds
                errors[f"{algorithm} {layout}"].append(abs(log(found * rate * 1e9 / operations)))
    means = {name: sum(each) / len(each) for name, each in errors.items()}
    assert means.keys() == WORST.keys()
    assert all(means[name] < bound for name, bound in WORST.items()), means


def test_direct_sums_are_chosen_before_products_of_numpy_where_they_are_faster() -> None:
    """1x1 convolutions of few channels, for which BLAS pads its tiles: in each the record has the same order."""
    conv = operator("conv")
    assert conv is not None
    for row in json.loads(RECORD.read_text())["rows"]:
        if "1x1" in row["layer"]:
            known, _ = shapes(row["layer"], row["stage"])
            direct, numpy = (
                seconds(conv, row["stage"], known, way, "NHWC", CORE).seconds for way in ("direct", "im2col")
            )
            assert direct < numpy
            assert row["rates"]["c direct"] > 0.95 * row["rates"]["numpy"]


def test_vectors_are_those_of_the_device_or_of_the_machine_that_was_measured() -> None:
    """24 filters fill vectors of 8 and are padded to 32 for those of 16, which are taken where nobody says."""
    conv = operator("conv")
    assert conv is not None
    x, y = (tensor("f32", batch=1, channel=count, height=8, width=8) for count in (16, 24))
    weight = tensor("f32", filter=24, channel=16, ky=1, kx=1)
    attrs = {"window": (1, 1), "stride": (1, 1), "pad": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1, "bias": False}
    known = Shapes((x, weight), (y,), {**attrs, "filters": 24})  # type: ignore[dict-item]

    def operations(isa: str, instructions: str = "") -> float:
        measured = Profile("core", fingerprint=(("instructions", instructions),)) if instructions else None
        parts = kernel(conv, "forward", known, "direct", "NHWC", replace(CORE, isa=isa), measured)
        return sum(part.flops for part in parts)

    exact = 2.0 * 8 * 8 * 16 * 24
    assert operations("avx2") == operations("neon") == operations("", "avx2 fma") == exact
    assert operations("") == operations("avx512") == operations("", "avx512f avx2 fma") == exact / 24 * 32
    assert operations("avx512", "avx2 fma") == exact / 24 * 32, "what the spec says of a device comes first"


@pytest.mark.parametrize("transposed", [False, True])
def test_linear_maps_of_few_rows_take_what_reading_the_weight_takes(transposed: bool) -> None:
    """Others what their products take."""
    linear = operator("linear")
    assert linear is not None
    attrs = {"bias": False} | ({"transposed": True} if transposed else {})

    def known(rows: int, fan_in: int, fan_out: int) -> float:
        x, y = tensor("f32", batch=rows, width=fan_in), tensor("f32", batch=rows, width=fan_out)
        extents = (fan_in, fan_out) if transposed else (fan_out, fan_in)
        weight = tensor("f32", fan_out=extents[0], fan_in=extents[1])
        return seconds(linear, "forward", Shapes((x, weight), (y,), attrs), "", "", CORE).seconds

    read = 4.0 * 4096 * 9216 / CORE.bandwidth
    assert known(4, 9216, 4096) == pytest.approx(read, rel=0.05)
    assert known(512, 512, 2048) == pytest.approx(2 * 512 * 512 * 2048 / 90e9, rel=0.1), "as recorded"


@pytest.mark.parametrize(("op", "stage"), [*PASSES, *((op, "forward") for op in FUSED)])
def test_what_is_priced_as_c_is_there(op: str, stage: str) -> None:
    assert any(key[:2] == (op, stage) for key in GENERAL)


@pytest.mark.parametrize(
    ("window", "stride", "pad", "dilation"), [(5, 1, 2, 1), (3, 2, 1, 1), (3, 1, 4, 2), (4, 3, 0, 2)]
)
def test_taps_that_read_inside_are_counted(window: int, stride: int, pad: int, dilation: int) -> None:
    extent, reach = 11, (window - 1) * dilation + 1
    out = (extent + 2 * pad - reach) // stride + 1
    x = tensor("f32", batch=2, channel=3, height=extent, width=extent)
    y = tensor("f32", batch=2, channel=4, height=out, width=out)
    weight = tensor("f32", filter=4, channel=3, ky=window, kx=window)
    attrs = {"window": (window,) * 2, "stride": (stride,) * 2, "pad": ((pad,) * 2,) * 2, "dilation": (dilation,) * 2}
    known = Shapes((x, weight), (y,), {**attrs, "filters": 4, "groups": 1, "bias": False})
    inside = sum(0 <= at * stride + tap * dilation - pad < extent for at in range(out) for tap in range(window))
    assert taps_inside(conv_shape("forward", known)) == inside**2


def test_cells_take_more_of_long_sequences_of_few_values() -> None:
    """As many products, by a quarter of the values: what stands between them is done for four times as many."""
    op = operator("gru")
    assert op is not None
    device = Device("core", bandwidth=1e12, compute=(("f32", 1e11),), kernels="c")

    def taken(batch: int, hidden: int) -> float:
        (case, *_) = cases(op, (tensor("f32", batch=batch, seq=20, width=hidden),), {"hidden": hidden}, "", "", "c")
        return seconds(op, "forward", case.shapes, "", "", device).seconds

    assert 1.1 < taken(320, 128) / taken(20, 512) < 1.5
