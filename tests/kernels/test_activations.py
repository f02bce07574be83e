"""Activations far from zero, in float32."""

from __future__ import annotations

import numpy as np
import pytest

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
