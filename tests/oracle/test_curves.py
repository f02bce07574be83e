"""Training curves: the program and PyTorch from the same weights on the same batches, each going its own way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: its training is not compared with")

from tests.oracle.comparison import curves

pytestmark = pytest.mark.oracle

SPECS = Path(__file__).parents[2] / "specs"
STEPS = 100


SIZES: dict[str, dict[str, int]] = {
    "char_lm": {"hidden": 48, "tokens": 24},
    "autoencoder": {},
    "denoising_autoencoder": {},
}


@pytest.mark.parametrize("name", SIZES)
def test_curves(name: str, tmp_path: Path) -> None:
    """float64: rounding grows from step to step, yet the curves lie on one another, and go down."""
    losses = curves(SPECS / f"{name}.dlspec", tmp_path, steps=STEPS, **SIZES[name])
    assert losses.shape == (STEPS, 2)
    assert np.abs(losses[:, 0] / losses[:, 1] - 1).max() < 1e-9
    assert losses[-10:].mean() < 0.9 * losses[:10].mean()
