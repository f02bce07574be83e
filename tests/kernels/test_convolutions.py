"""Convolutions and pools over one to three axes: parts of a batch, layouts and algorithms give what the whole does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT
from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS
from tests.kernels.calling import Known, Op, relative_error

LINE = tensor("f64", batch=5, channel=4, length=13)
IMAGE = tensor("f64", batch=5, channel=4, height=7, width=6)
VOLUME = tensor("f64", batch=5, channel=4, depth=3, height=5, width=4)
SIGNALS = (LINE, IMAGE, VOLUME)

ARGUMENTS: dict[str, dict[str, Attr]] = {
    "conv": {"filters": 6, "window": 3, "pad": 1, "groups": 2},
    "depthwise_conv": {"window": 3, "pad": "same", "stride": 2, "multiplier": 2},
    "conv_transpose": {"filters": 6, "window": 3, "stride": 2, "pad": 1, "output_pad": 1, "groups": 2},
    "local_conv": {"filters": 3, "window": 2, "stride": 2, "pad": 1},
    "maxpool": {"window": 3, "stride": 2, "pad": 1, "ceil": True},
    "avgpool": {"window": 3, "stride": 2, "pad": 1, "count_pad": False},
    "global_avgpool": {},
    "global_maxpool": {},
    "upsample": {"factor": 3, "mode": "linear"},
}


def ways(name: str, x: TensorType) -> Iterator[Op]:
    """An op in every layout, by every algorithm that can compute it."""
    op = operator(name)
    assert op is not None
    for layout in LAYOUTS if x is IMAGE else ("NCHW",):
        for algorithm in [algorithm.name for algorithm in op.algorithms] or [""]:
            made = Op(op, (x,), ARGUMENTS[name], layout, algorithm)
            if all(made.excluded(stage) is None for stage in ("forward", "dx", "dw")):
                yield made


def drawn(op: Op, seed: int = 0) -> Known:
    rng = np.random.default_rng(seed)
    return op.draw(rng) | {"dy": rng.standard_normal(op.types["y"].shape)}


@pytest.mark.parametrize("x", SIGNALS, ids=["line", "image", "volume"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_all_ways_agree_on_the_whole_and_on_parts(name: str, x: TensorType) -> None:
    """The parts have fewer samples than the workspaces are for, down to none."""
    every = list(ways(name, x))
    known = drawn(every[0])
    expected = every[0].backward(every[0].forward(known))
    weights = [f"d{weight.role}" for weight in every[0].inferred.weights]
    for op in every:
        parts = []
        for some in (slice(0), slice(0, 1), slice(1, 4), slice(4, 5)):
            part = known | {role: known[role][some] for role in ("x", "dy")}
            parts.append(op.backward(op.forward(part)))
        for role in ("y", "dx"):
            joined = np.concatenate([part[role] for part in parts])
            assert relative_error(joined, expected[role]) < 1e-13, (op.layout, op.algorithm, role)
        for role in weights:
            assert relative_error(sum(part[role] for part in parts), expected[role]) < 1e-13, (op.layout, op.algorithm)


@pytest.mark.parametrize("x", SIGNALS, ids=["line", "image", "volume"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_single_precision_stays_single(name: str, x: TensorType) -> None:
    narrow = Op(operator(name), (x.with_dtype("f32"),), ARGUMENTS[name], algorithm=next(ways(name, x)).algorithm)
    known = {role: array.astype(np.float32) for role, array in drawn(narrow).items()}
    found = narrow.backward(narrow.forward(known))
    floating = [role for role in found if found[role].dtype.kind == "f"]
    assert {found[role].dtype for role in floating} == {np.dtype(np.float32)}
    wide = next(ways(name, x))
    exact = wide.backward(wide.forward({role: array.astype(np.float64) for role, array in known.items()}))
    assert max(relative_error(found[role], exact[role]) for role in floating) < 2e-6


@pytest.mark.parametrize("x", SIGNALS, ids=["line", "image", "volume"])
def test_a_transposed_convolution_is_the_adjoint_of_its_convolution(x: TensorType) -> None:
    """⟨conv(a), b⟩ = ⟨a, conv_transpose(b)⟩ with the same weight."""
    given: dict[str, Attr] = {"window": 3, "stride": 2, "pad": 1, "bias": False}
    conv = Op(operator("conv"), (x,), {"filters": 6, **given}, algorithm="im2col")
    behind = tuple((extent - 1) % 2 for extent in x.shape[2:])
    transposed = Op(
        operator("conv_transpose"),
        conv.inferred.results,
        {"filters": 4, "output_pad": behind, **given},
        algorithm="direct",
    )
    a, b, weight = drawn(conv)["x"], drawn(transposed)["x"], drawn(conv)["weight"]
    y, back = conv.forward({"x": a, "weight": weight})["y"], transposed.forward({"x": b, "weight": weight})["y"]
    assert back.shape == a.shape
    assert np.vdot(y, b) == pytest.approx(np.vdot(a, back), rel=1e-13)


def test_a_local_convolution_with_equal_weights_is_a_convolution() -> None:
    conv = Op(operator("conv"), (IMAGE,), {"filters": 3, "window": 2, "stride": 2}, algorithm="direct")
    local = Op(operator("local_conv"), (IMAGE,), {"filters": 3, "window": 2, "stride": 2})
    known = drawn(conv)
    weight = np.broadcast_to(known["weight"], local.types["weight"].shape)
    bias = np.broadcast_to(known["bias"][:, None, None], local.types["bias"].shape)
    found = local.forward({"x": known["x"], "weight": weight, "bias": bias})
    assert relative_error(found["y"], conv.forward(known)["y"]) < 1e-14


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_of_equal_elements_is_the_largest(layout: str) -> None:
    op = Op(operator("global_maxpool"), (IMAGE,), {}, layout)
    found = op.backward(op.forward({"x": np.ones(IMAGE.shape), "dy": np.full((5, 4, 1, 1), 2.0)}))
    expected = np.zeros(IMAGE.shape)
    expected[:, :, 0, 0] = 2
    assert not found["indices"].any()
    assert np.array_equal(found["dx"], expected)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsampling_keeps_a_constant_and_shares_out_its_gradient(mode: str) -> None:
    op = Op(operator("upsample"), (VOLUME,), {"factor": (1, 2, 3), "mode": mode})
    found = op.backward(op.forward({"x": np.full(VOLUME.shape, 3.0), "dy": np.ones(op.types["y"].shape)}))
    assert np.allclose(found["y"], 3, rtol=1e-15)
    assert found["dx"].sum() == pytest.approx(op.types["y"].elements, rel=1e-13)


@pytest.mark.parametrize("x", SIGNALS, ids=["line", "image", "volume"])
@pytest.mark.parametrize("name", ["avgpool", "global_avgpool", "upsample"])
def test_stand_ins_make_integers_of_integers(name: str, x: TensorType) -> None:
    rng = np.random.default_rng(1)
    real = Op(operator(name), (x,), ARGUMENTS[name])
    known: dict[str, Any] = {
        "x": rng.integers(-3, 4, x.shape).astype(np.float64),
        "dy": rng.integers(-3, 4, real.types["y"].shape).astype(np.float64),
    }
    for layout in LAYOUTS if x is IMAGE else ("NCHW",):
        op = Op(operator(name), (x,), ARGUMENTS[name], layout, table=EXACT)
        found = op.backward(op.forward(known))
        assert all(np.array_equal(found[role], np.rint(found[role])) for role in ("y", "dx"))
        assert 0 < np.abs(found["y"]).max() <= (3 * x.elements if name == "global_avgpool" else 3)
        assert found["dx"].any()
