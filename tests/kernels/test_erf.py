"""The error function against the one of Python's standard library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.erf import erf

NEAR_AND_FAR = np.concatenate([np.linspace(-7, 7, 40_001), 10.0 ** np.arange(-300, 0), [0.0]])


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 5e-16), (np.float32, 4e-7)])
def test_relative_error(dtype: type, bound: float) -> None:
    x: Any = NEAR_AND_FAR.astype(dtype)
    x = x[(x == 0) | (np.abs(x) >= np.finfo(dtype).tiny / np.finfo(dtype).eps)]
    expected = np.array([math.erf(float(each)) for each in x])
    found = erf(x)
    assert found.dtype == dtype
    assert (np.abs(found - expected) <= bound * np.abs(expected)).all()


def test_ends() -> None:
    x = np.array([-np.inf, -40.0, 40.0, np.inf])
    assert erf(x).tolist() == [-1, -1, 1, 1]
    assert np.isnan(erf(np.array([np.nan]))).all()
    assert math.copysign(1, erf(np.array([-0.0]))[0]) == -1
