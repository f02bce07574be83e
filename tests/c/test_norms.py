"""Layer and RMS normalisation in C against the NumPy kernels in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import norms
from backends.numpy_mpi.c.target import Target
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

BOUNDS = {"f32": 2e-6, "f64": 4e-15}
"""Largest errors as parts of the largest result; sums of a few hundred."""

SHAPES = ((1, 1), (3, 2), (5, 19), (70, 33), (130, 300), (0, 4))


@pytest.fixture(scope="module", params=each_target())
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    target: Target = request.param
    return bound(norms.FUNCTIONS, "c_norms", target, tmp_path_factory.mktemp("norms"))


def known(rows: int, columns: int, dtype: Any) -> dict[str, Any]:
    """Operands whose mean is as large as their spread, and places for results."""
    rng = np.random.default_rng(2)
    arrays = {name: rng.standard_normal((rows, columns)) + 1 for name in ("x", "dy")}
    arrays |= {name: rng.standard_normal(columns) for name in ("scale", "shift")}
    arrays |= {name: np.full((rows, columns), JUNK) for name in ("y", "dx")}
    arrays |= {name: np.full(columns, JUNK) for name in ("dscale", "dshift")}
    arrays |= {name: np.full(rows, JUNK) for name in ("mean", "rstd")}
    return {name: array.astype(np.float32).astype(dtype) for name, array in arrays.items()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["layernorm", "rmsnorm"])
def test_as_numpy_in_float64(library: Bound, op: str, dtype: str, shape: tuple[int, int]) -> None:
    exact, found = known(*shape, np.float64), [known(*shape, DTYPES[dtype]) for _ in (1, 2)]
    for stage in ("forward", "dx", "dw"):
        names, told = norms.ARGUMENTS[op, stage], {"eps": 1e-5} if stage == "forward" else {}
        kernel(op, stage)(*(exact[name] for name in names), **told)
        for count, arrays in enumerate(found, start=1):
            threads(library.library, count)
            assert library.call((op, stage, ""), dtype, [arrays[name] for name in names], **told)
    for name, right in exact.items():
        assert np.array_equal(found[0][name], found[1][name]), f"{name} depends on the number of threads"
        error = np.abs(found[0][name] - right).max(initial=0)
        assert error <= BOUNDS[dtype] * max(1.0, float(np.abs(right).max(initial=0))), name


def test_nothing_finite_is_hidden(library: Bound) -> None:
    """A row with a NaN gives NaN, and only that row."""
    arrays = known(3, 20, np.float32)
    arrays["x"][1, 7] = np.nan
    names = norms.ARGUMENTS["layernorm", "forward"]
    assert library.call(("layernorm", "forward", ""), "f32", [arrays[name] for name in names], eps=1e-5)
    assert np.isnan(arrays["y"]).all(axis=1).tolist() == [False, True, False]
    assert np.isfinite(arrays["y"][::2]).all()
