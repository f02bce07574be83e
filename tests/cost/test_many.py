"""Many local shapes priced at once: each as if it were priced alone, for every operator, pass, algorithm and layout."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from dlc.cluster.topology import Device
from dlc.cost.compute import seconds
from dlc.cost.many import candidate, candidates, seconds_many
from dlc.cost.profile import Profile, Rates
from dlc.cost.profile_json import read_profile
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ops import LAYERS, LOSSES, OPTIMIZERS, operator
from dlc.ops.operator import LAYOUTS, Operator, Shapes
from tests.operators.cases import cases

CPU = Device("core", bandwidth=1e10, compute=(("f32", 5e10),))
GPU = Device("gpu", kind="gpu", bandwidth=9e11, compute=(("f32", 1.57e13), ("f16", 1.25e14)), launch=5e-6)
TILED = replace(GPU, name="tiled", cores=80)
MEASURED = read_profile(
    {
        "schema": 2,
        "device": "core",
        "call": 2e-6,
        "bandwidth": [{"run": 4096, "rate": 8e9}, {"run": 4, "rate": 1e9}],
        "gemm": [
            {
                "dtype": dtype,
                "m": [4, 64],
                "n": [4, 32, 1024],
                "k": [8],
                "rate": [[[1e9], [2e9], [4e9]], [[3e9], [8e9], [9e9]]],
            }
            for dtype in ("f32", "f64")
        ],
    }
)
CASES = cases()
STAGES = ("forward", "dx", "dw", "dt")
CANDIDATES = 7


def sharded(shapes: Shapes, rng: np.random.Generator) -> Shapes:
    """Local extents of candidates: each extent cut into so many parts, wherever it stands; some by no candidate."""
    extents = sorted({extent for t in (*shapes.inputs, *shapes.outputs) for extent in t.shape if extent > 1})
    local: dict[int, Any] = {1: 1}
    for extent in extents:
        parts = rng.integers(1, 6, CANDIDATES)
        local[extent] = -(-extent * 3 // parts) if rng.random() < 0.8 else extent
    if extents:
        local[extents[0]] = -(-extents[0] * 3 // rng.integers(1, 6, CANDIDATES))

    def cut(types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return tuple(
            TensorType(t.dtype, tuple(Axis(a.name, local.get(a.extent, a.extent)) for a in t.axes)) for t in types
        )

    return Shapes(cut(shapes.inputs), cut(shapes.outputs), shapes.attrs)


def assert_equal(
    op: Operator, stage: str, shapes: Shapes, algorithm: str, layout: str, device: Device, profile: Profile | None
) -> None:
    found = seconds_many(op, stage, shapes, algorithm, layout, device, profile)
    assert found.shape == (candidates(shapes),)
    expected = [
        seconds(op, stage, candidate(shapes, index), algorithm, layout, device, profile).seconds
        for index in range(len(found))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def ways(op: Operator, stage: str, shapes: Shapes, device: Device) -> list[tuple[str, str]]:
    """(algorithm, layout) that an op can be computed by on a device."""
    images = op.layout_free and any(len(type_.axes) == 4 for type_ in shapes.inputs)
    legal = [a for a in op.algorithms if a.excluded(stage, shapes) is None and device.kind in a.devices]
    if op.algorithms:
        return [(a.name, layout) for a in legal for layout in (LAYOUTS if images else ("NCHW",)) if layout in a.layouts]
    return [("", layout) for layout in (LAYOUTS if images else ("",))]


@pytest.mark.parametrize("device", [CPU, GPU, TILED], ids=lambda device: device.name)
@pytest.mark.parametrize("name", CASES)
def test_each_candidate_costs_what_it_costs_alone(name: str, device: Device) -> None:
    rng = np.random.default_rng(7)
    op = CASES[name](rng).op
    stages = [stage for stage in STAGES if stage == "forward" or any(g.suffix == stage for g in op.operator.gradients)]
    for stage in stages:
        shapes = op.shapes(stage)
        for (algorithm, layout), profile in product(ways(op.operator, stage, shapes, device), (None, MEASURED)):
            assert_equal(op.operator, stage, sharded(shapes, rng), algorithm, layout, device, profile)


def test_every_layer_and_loss_has_a_case() -> None:
    covered = {name.split("/")[0] for name in CASES}
    assert {op.name for op in (*LAYERS, *LOSSES) if not op.view} <= covered


@pytest.mark.parametrize("device", [CPU, GPU], ids=lambda device: device.name)
@pytest.mark.parametrize("name", ["sum", "regularise", "clip", *(rule.name for rule in OPTIMIZERS)])
def test_what_a_step_does_with_gradients(name: str, device: Device) -> None:
    rng = np.random.default_rng(11)
    op = operator(name)
    assert op is not None
    weight = tensor("f32", out=24, **{"in": 36})
    attrs = {p.name: p.default for p in op.parameters if p.default is not None}
    attrs |= {"kind": "norm", "bound": 1.0, "l2": 0.1}
    stage = {"sum": "sum", "regularise": "regularise", "clip": "clip"}.get(name, "update")
    assert_equal(op, stage, sharded(Shapes((weight,) * 4, (weight,), attrs), rng), "", "", device, None)


def test_a_measured_candidate_costs_what_was_measured() -> None:
    op = operator("tanh")
    assert op is not None
    kernel = {
        "op": "tanh",
        "pass": "forward",
        "algorithm": "",
        "layout": "",
        "inputs": ["f32[batch = 4, feature = 12]"],
        "outputs": ["f32[batch = 4, feature = 12]"],
        "seconds": 3e-5,
    }
    profile = read_profile(json.loads(json.dumps({"schema": 2, "device": "core", "kernels": [kernel]})))
    x = TensorType("f32", (Axis("batch", np.array([2, 4, 8])), Axis("feature", 12)))  # type: ignore[arg-type]
    found = seconds_many(op, "forward", Shapes((x,), (x,), {}), "", "", CPU, profile)
    assert found[1] == 3e-5
    assert found[0] < found[2] != 3e-5
    rates = (Rates(1, (("f32", 1e12),), 1e9), Rates(2, (("f32", 2e12),), 1e9))
    for known in (profile, replace(profile, call=0.0, rates=rates), replace(profile, call=0.0, rates=rates, beside=2)):
        assert_equal(op, "forward", Shapes((x,), (x,), {}), "", "", CPU, known)
    assert seconds_many(op, "forward", Shapes((x,), (x,), {}), "", "", CPU, known)[1] == pytest.approx(6e-5)


def test_shapes_of_one_candidate_give_one_price() -> None:
    op, x = operator("relu"), tensor("f32", batch=4, feature=12)
    assert op is not None
    found = seconds_many(op, "forward", Shapes((x,), (x,), {}), "", "", CPU)
    assert found.tolist() == [seconds(op, "forward", Shapes((x,), (x,), {}), "", "", CPU).seconds]


def test_groups_of_a_convolution_are_those_that_the_shard_has() -> None:
    """Half of the channels and filters of a grouped convolution is a convolution with half of the groups."""
    op = operator("conv")
    assert op is not None

    def shapes(parts: int, groups: int) -> Shapes:
        x = tensor("f32", batch=4, channel=32 // parts, height=14, width=14)
        y = tensor("f32", batch=4, channel=64 // parts, height=14, width=14)
        w = tensor("f32", out=64 // parts, **{"in": 8}, height=3, width=3)
        window = {"window": (3, 3), "stride": (1, 1), "pad": ((1, 1), (1, 1)), "dilation": (1, 1)}
        return Shapes((x, w), (y,), {"filters": 64, "groups": groups, "bias": False, **window})

    for device, algorithm in product((CPU, GPU, TILED), ("im2col", "winograd(2)", "fft")):
        shard = seconds(op, "forward", shapes(2, 4), algorithm, "NHWC", device)
        assert shard == seconds(op, "forward", replace(shapes(2, 2)), algorithm, "NHWC", device)
