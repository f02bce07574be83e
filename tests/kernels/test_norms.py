"""Kernels of norms, embeddings and attention where there is more to them than values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT
from backends.numpy_mpi.kernels.attention import causal_mask_forward
from backends.numpy_mpi.kernels.embedding import embedding_dw
from backends.numpy_mpi.kernels.initial import initialise
from backends.numpy_mpi.kernels.lrn import lrn_forward
from backends.numpy_mpi.kernels.softmax import softmax_forward
from backends.numpy_mpi.kernels.weight_norm import norms, weight_norm_dw, weight_norm_forward
from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator
from tests.kernels.calling import Op

IMAGE = tensor("f64", batch=6, channel=4, height=3, width=2)
SEQUENCE = tensor("f64", batch=6, seq=5, width=4)
SCORES = tensor("f64", batch=6, heads=2, seq=3, key=3)


def test_a_row_far_from_zero_is_normalised_in_f32() -> None:
    """The variance is taken around the mean: 4096 squared has no room for it beside itself."""
    x = tensor("f32", batch=1, feature=4)
    op = Op(operator("layernorm"), (x,), {})
    known = {"x": np.float32([[4095, 4096, 4097, 4096]]), "scale": np.ones(4, np.float32)}
    found = op.forward(known | {"shift": np.zeros(4, np.float32)})
    assert found["y"][0] == pytest.approx([-np.sqrt(2), 0, np.sqrt(2), 0], rel=1e-4, abs=1e-6)


def test_a_causal_softmax_hides_later_keys_and_nothing_is_no_number() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 5)) * 100
    masked, y = np.empty_like(x), np.empty_like(x)
    causal_mask_forward(x, masked)
    assert (masked == -np.inf).sum() == 2 * 10
    softmax_forward(masked, y, axis=2)
    assert np.isfinite(y).all()
    assert np.array_equal(np.triu(y, 1), np.zeros_like(y))
    assert np.allclose(y.sum(axis=-1), 1)


def test_attention_is_causal() -> None:
    """What comes later changes no earlier result, and is asked for no gradient by one."""
    rng = np.random.default_rng(1)
    op = Op(operator("attention"), (SEQUENCE,), {"heads": 2, "causal": True})
    known = op.draw(rng)
    later = known | {"x": np.concatenate([known["x"][:, :3], rng.standard_normal((6, 2, 4))], axis=1)}
    y = op.forward(known)["y"]
    assert np.array_equal(op.forward(later)["y"][:, :3], y[:, :3])
    dy = rng.standard_normal(y.shape) * (np.arange(5) < 3)[:, None]
    assert not op.backward(op.forward(known) | {"dy": dy})["dx"][:, 3:].any()


@pytest.mark.parametrize("tokens", [[[3, 3], [3, 3]], [[0, 9], [4, 0]], [[7, 7], [2, 7]]])
def test_gradients_of_equal_tokens_are_added_up_in_order(tokens: list[list[int]]) -> None:
    dy = np.random.default_rng(2).standard_normal((2, 2, 3)).astype(np.float32)
    x, dweight, expected = np.int32(tokens), np.full((10, 3), 7, np.float32), np.zeros((10, 3), np.float32)
    np.add.at(expected, x, dy)
    embedding_dw(dy, x, dweight)
    assert np.array_equal(dweight, expected)


def test_the_paper_of_alexnet_is_alpha_times_size() -> None:
    """bₖ = k + α·Σ a², Krizhevsky et al., section 3.3: their α = 1e-4 over 5 channels is 5e-4 here."""
    a = np.random.default_rng(3).standard_normal((1, 7, 1, 1)) * 30
    y, base = np.empty_like(a), np.empty_like(a)
    lrn_forward(a, y, base, size=5, alpha=5e-4, beta=0.75, k=2.0)
    for i in range(7):
        total = sum(a[0, j, 0, 0] ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))
        assert y[0, i, 0, 0] == pytest.approx(a[0, i, 0, 0] / (2 + 1e-4 * total) ** 0.75)


def test_a_window_over_more_channels_than_there_are() -> None:
    x = np.ones((1, 2, 1, 1))
    y, base = np.empty_like(x), np.empty_like(x)
    lrn_forward(x, y, base, size=9, alpha=9.0, beta=1.0, k=1.0)
    assert y.ravel().tolist() == [1 / 3, 1 / 3]


def test_a_normalised_weight_starts_as_its_direction() -> None:
    direction, weight = np.empty((5, 2, 3, 3)), np.empty((5, 2, 3, 3))
    magnitude = np.empty((5, 1, 1, 1))
    initialise(direction, kind="kaiming_uniform", key=(1, 2), fan_in=18)
    initialise(magnitude, kind="norms", key=(3, 4), of=direction)
    weight_norm_forward(direction, magnitude, weight)
    assert np.allclose(weight, direction, rtol=1e-15)
    assert np.allclose(norms(weight, magnitude), magnitude)


def test_shares_of_a_normalised_weights_gradient_add_up() -> None:
    """Each rank's part may pass by itself, in exact mode bit by bit."""
    rng = np.random.default_rng(4)
    operands = tensor("f64", out=3, **{"in": 4}), tensor("f64", out=3, **{"in": 1})
    known = {"direction": rng.integers(-9, 9, (3, 4)) + 0.25, "magnitude": rng.integers(-9, 9, (3, 1)) + 0.5}
    parts = [rng.integers(-50, 50, (3, 4)).astype(float) for _ in range(2)]
    op = Op(operator("weight_norm"), operands, {}, table=EXACT)
    found = [op.backward(known | {"dy": dy}) for dy in (*parts, parts[0] + parts[1])]
    for role in ("ddirection", "dmagnitude"):
        assert np.array_equal(found[0][role] + found[1][role], found[2][role])
    dv, dg = np.empty((3, 4)), np.empty((3, 1))
    weight_norm_dw(parts[0], known["direction"], known["magnitude"], dv, dg)
    assert np.allclose((dv * known["direction"]).sum(axis=1), 0, atol=1e-12), "a direction's length changes nothing"


EXACT_CASES: dict[str, tuple[TensorType, dict[str, Attr], tuple[str, ...]]] = {
    "layernorm": (SEQUENCE, {}, ("dscale", "dshift")),
    "rmsnorm": (SEQUENCE, {}, ("dscale",)),
    "groupnorm": (IMAGE, {"groups": 2}, ("dscale", "dshift")),
    "lrn": (IMAGE, {"size": 3}, ()),
    "causal_mask": (SCORES, {}, ()),
    "attention": (SEQUENCE, {"heads": 2, "causal": True}, ("din_proj_weight", "dout_proj_weight", "dout_proj_bias")),
}


def integers(rng: np.random.Generator, *shape: int) -> Any:
    return rng.integers(-40, 41, shape).astype(np.float64)


@pytest.mark.parametrize("name", EXACT_CASES)
def test_stand_ins_give_integers_whatever_the_shards(name: str) -> None:
    rng = np.random.default_rng(5)
    x, args, summed = EXACT_CASES[name]
    op = Op(operator(name), (x,), args, table=EXACT)
    known = {role: integers(rng, *op.types[role].shape) for role in op.inputs}
    known["dy"] = integers(rng, *x.shape)
    whole = op.backward(op.forward(known))
    assert all(np.array_equal(array, np.rint(array)) for array in whole.values())
    shards = [{role: known[role][part] for role in ("x", "dy")} for part in (slice(0, 2), slice(2, 6))]
    parts = [op.backward(op.forward(known | shard)) for shard in shards]
    for role in ("y", "dx"):
        assert np.array_equal(np.concatenate([part[role] for part in parts]), whole[role])
    for role in summed:
        assert np.array_equal(parts[0][role] + parts[1][role], whole[role])


@pytest.mark.parametrize("name", EXACT_CASES)
def test_stand_ins_see_every_element(name: str) -> None:
    """Another number in any place of a sample changes its result or its gradient."""
    rng = np.random.default_rng(6)
    x, args, _ = EXACT_CASES[name]
    op = Op(operator(name), (x,), args, table=EXACT)
    known = {role: integers(rng, *op.types[role].shape) for role in op.inputs} | {"dy": integers(rng, *x.shape)}
    if "shift" in known:
        known["scale"] = rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], known["scale"].shape)
    found = op.backward(op.forward(known))
    changed = 0
    for place in range(x.elements // 6):
        other = known["x"].copy()
        other.reshape(6, -1)[:, place] += 1
        again = op.backward(op.forward(known | {"x": other}))
        changed += any(not np.array_equal(again[role], found[role]) for role in ("y", "dx"))
    hidden = 6 if name == "causal_mask" else 0
    assert changed == x.elements // 6 - hidden
