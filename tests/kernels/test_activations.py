"""Activations far from zero, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.elementwise import BLOCK
from tests.kernels.calling import kernel

FAR = np.array([-3e38, -1e4, -103, -88.8, -50, -17, -3, 0, 3, 17, 88.8, 1e4, 3e38], np.float32)


@pytest.mark.parametrize("op", ["sigmoid", "silu"])
def test_tails_keep_their_relative_precision(op: str) -> None:
    """(1 + tanh(x/2))/2 would be 0 from -17 on."""
    x = np.linspace(-80, 80, 1601, dtype=np.float32)
    y, dx = np.empty_like(x), np.empty_like(x)
    kernel(op, "forward")(x, y)
    kernel(op, "dx")(np.ones_like(x), y if op == "sigmoid" else x, dx)
    wide = x.astype(np.float64)
    s = 1 / (1 + np.exp(-wide))
    expected, slope = (s, s * (1 - s)) if op == "sigmoid" else (s * wide, s * (1 + wide * (1 - s)))
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    near = wide < 5  # beyond, 1 - s is lost to rounding
    np.testing.assert_allclose(dx[near], slope[near], rtol=2e-5, atol=1e-40)


@pytest.mark.parametrize(
    "op", ["relu", "leaky_relu", "elu", "gelu", "gelu tanh", "silu", "hard_swish", "sigmoid", "tanh"]
)
def test_nothing_overflows(op: str) -> None:
    name, attrs = op.split()[0], {"slope": 0.01, "alpha": 1.0, "approximate": "tanh" if " " in op else "none"}
    x = FAR if name != "gelu" and name != "hard_swish" else np.clip(FAR, -1e12, 1e12)  # PyTorch's overflow too
    y, dx = np.empty_like(x), np.empty_like(x)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        kernel(name, "forward")(x, y, **attrs)
        reads_result = name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh")
        kernel(name, "dx")(np.ones_like(x), y if reads_result else x, dx, **attrs)
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0, 3.0])
def test_leaky_relu_with_any_slope(slope: float) -> None:
    x = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    y, dx = np.empty_like(x), np.empty_like(x)
    kernel("leaky_relu", "forward")(x, y, slope=slope)
    kernel("leaky_relu", "dx")(np.full_like(x, 2.0), y, dx, slope=slope)
    assert y.tolist() == np.where(x > 0, x, slope * x).tolist()
    assert dx.tolist() == np.where(x > 0, 2.0, 2.0 * slope).tolist()


@pytest.mark.parametrize("op", ["elu", "gelu", "silu", "hard_swish"])
def test_blocks_cover_everything(op: str) -> None:
    """Large arrays are computed a block at a time: as element by element."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2 * BLOCK + 5))
    attrs = {"alpha": 0.5, "approximate": "none"}
    places = np.array([0, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 4])
    for whole, few in (((x,), (x[places],)), ((dy, x), (dy[places], x[places]))):
        found, expected = np.empty_like(x), np.empty(places.size)
        for inputs, out in ((whole, found), (few, expected)):
            kernel(op, "forward" if len(inputs) == 1 else "dx")(*inputs, out, **attrs)
        np.testing.assert_allclose(found[places], expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("step", range(1, 10))
def test_sigmoid_of_views(step: int, dtype: Any) -> None:
    """Of gates of recurrent cells that do not lie together."""
    memory = np.random.default_rng(step).standard_normal(7 * step).astype(dtype)
    view, expected = memory[::step], np.empty(7, dtype)
    kernel("sigmoid", "forward")(view.copy(), expected)
    kernel("sigmoid", "forward")(view, view)
    assert np.array_equal(view, expected)
