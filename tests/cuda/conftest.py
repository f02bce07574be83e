"""DLC_CUDA_SEED draws other numbers than every day's: `python -m benchmarks.gpu` gives another one each time."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

SEED = os.environ.get("DLC_CUDA_SEED", "")


@pytest.fixture(autouse=bool(SEED))
def _drawn_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    known = np.random.default_rng

    def afresh(seed: Any = 0) -> np.random.Generator:
        return known([int(SEED), *np.atleast_1d(seed).tolist()])

    monkeypatch.setattr(np.random, "default_rng", afresh)
