"""Attention in C against the NumPy kernels in float64."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import attention, gemm
from backends.numpy_mpi.c.target import TARGETS, Target
from backends.numpy_mpi.kernels import c_room
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

BOUNDS = {"f32": 4e-6, "f64": 1e-14}
"""Largest errors as parts of the largest result."""

SHAPES = ((1, 1, 1, 1), (2, 5, 6, 3), (3, 33, 40, 2), (2, 70, 33, 1), (0, 4, 4, 2))
"""Batch, sequence, width, heads."""


@pytest.fixture(scope="module", params=each_target())
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    target: Target = request.param
    return bound(attention.FUNCTIONS, "c_attention", target, tmp_path_factory.mktemp("attention"))


def drawn(batch: int, seq: int, width: int, heads: int, dtype: Any) -> dict[str, Any]:
    """Operands, and places for results."""
    rng = np.random.default_rng(5)
    known = {"x": (batch, seq, width), "dy": (batch, seq, width)}
    weights = {"win": (3 * width, width), "bin": (3 * width,), "wout": (width, width), "bout": (width,)}
    results = {"y": (batch, seq, width), "qkv": (batch, seq, 3 * width), "context": (batch, seq, width)}
    results |= {"probabilities": (batch, heads, seq, seq), "dx": (batch, seq, width)}
    arrays = {name: rng.standard_normal(shape) for name, shape in known.items()}
    arrays |= {name: rng.standard_normal(shape) * width**-0.5 for name, shape in weights.items()}
    arrays |= {name: np.full(shape, JUNK) for name, shape in results.items()}
    arrays |= {f"d{name}": np.full(shape, JUNK) for name, shape in weights.items()}
    return {name: array.astype(np.float32).astype(dtype) for name, array in arrays.items()}


def stages(biased: bool) -> dict[str, tuple[str, ...]]:
    inward, outward = (("win", "bin"), ("wout", "bout")) if biased else (("win",), ("wout",))
    gradients = tuple(f"d{name}" for name in (*inward, *outward))
    return {
        "forward": ("x", *inward, *outward, "y", "qkv", "probabilities", "context"),
        "dx": ("dy", "x", "win", "wout", "qkv", "probabilities", "context", "dx", *gradients),
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("causal", "biased"), [(False, True), (True, True), (True, False)])
def test_as_numpy_in_float64(
    library: Bound, dtype: str, shape: tuple[int, int, int, int], causal: bool, biased: bool
) -> None:
    exact, found = drawn(*shape, np.float64), [drawn(*shape, DTYPES[dtype]) for _ in (1, 2)]
    told: dict[str, Any] = {"heads": shape[3], "causal": causal}
    for stage, names in stages(biased).items():
        kernel("attention", stage)(*(exact[name] for name in names), **told)
        for count, arrays in enumerate(found, start=1):
            threads(library.library, count)
            assert library.call(("attention", stage, ""), dtype, [arrays[name] for name in names], **told)
    for name, right in exact.items():
        assert np.array_equal(found[0][name], found[1][name]), f"{name} depends on the number of threads"
        error = np.abs(found[0][name] - right).max(initial=0)
        assert error <= BOUNDS[dtype] * max(1.0, float(np.abs(right).max(initial=0))), name


def test_room_is_enough() -> None:
    assert c_room.ROOM >= gemm.ROOM
    for target, dtype in product(TARGETS.values(), DTYPES):
        assert max(gemm.rows(target), gemm.width(target, dtype), target.lanes(dtype)) <= c_room.TILE
        assert c_room.TILE % gemm.width(target, dtype) == 0
