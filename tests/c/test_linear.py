"""Linear maps in C against the NumPy kernels in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import linear
from backends.numpy_mpi.c.target import Target
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, each_target, runnable, threads
from tests.kernels.calling import kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

BOUNDS = {"f32": 4e-6, "f64": 1e-14}
"""Largest errors as parts of the largest result."""

SHAPES = (
    *((32, 1, 32), (45, 7, 60), (70, 800, 96), (33, 40, 3000), (300, 33, 31)),
    *((1, 1, 1), (1, 40, 9), (4, 3000, 33), (7, 35, 3001), (15, 6, 5), (16, 5000, 130)),
)
"""Rows, inputs, outputs: more than a panel of either operand is deep or wide, and no multiples of a tile; few rows."""


@pytest.fixture(scope="module", params=each_target())
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    target: Target = request.param
    return bound(linear.FUNCTIONS, "c_linear", target, tmp_path_factory.mktemp("linear"))


def drawn(shape: tuple[int, int, int], transposed: bool, dtype: Any) -> dict[str, Any]:
    """Operands and places for results."""
    rng = np.random.default_rng(4)
    rows, inputs, outputs = shape
    weight = (inputs, outputs) if transposed else (outputs, inputs)
    shapes = {"x": (rows, inputs), "dy": (rows, outputs), "weight": weight, "bias": (outputs,)}
    arrays = {name: rng.standard_normal(extents) for name, extents in shapes.items()}
    arrays |= {"y": np.full((rows, outputs), JUNK), "dweight": np.full(weight, JUNK), "dbias": np.full(outputs, JUNK)}
    arrays["dx"] = np.full((rows, inputs), JUNK)
    return {name: array.astype(np.float32).astype(dtype) for name, array in arrays.items()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("transposed", "biased"), [(False, True), (True, True), (False, False)])
def test_as_numpy_in_float64(
    library: Bound, dtype: str, shape: tuple[int, int, int], transposed: bool, biased: bool
) -> None:
    exact = drawn(shape, transposed, np.float64)
    found = [drawn(shape, transposed, DTYPES[dtype]) for _ in (1, 2)]
    stages = {"forward": ("x", "weight", *["bias"] * biased, "y"), "dx": ("dy", "weight", "dx")}
    stages["dw"] = ("dy", "x", "dweight", *["dbias"] * biased)
    for stage, names in stages.items():
        kernel("linear", stage)(*(exact[name] for name in names), transposed=transposed)
        for count, arrays in enumerate(found, start=1):
            threads(library.library, count)
            operands = [arrays[name] for name in names]
            if not library.call(("linear", stage, ""), dtype, operands, transposed=transposed):
                kernel("linear", stage)(*operands, transposed=transposed)
    for name, right in exact.items():
        assert np.array_equal(found[0][name], found[1][name]), f"{name} depends on the number of threads"
        error = np.abs(found[0][name] - right).max(initial=0)
        assert error <= BOUNDS[dtype] * max(1.0, float(np.abs(right).max(initial=0))), name


def test_what_would_leave_tiles_empty_is_for_blas(library: Bound) -> None:
    narrow = drawn((64, 20, 10), False, np.float32)
    stages = {"forward": ("x", "weight", "y"), "dx": ("dy", "weight", "dx"), "dw": ("dy", "x", "dweight")}
    for stage, names in stages.items():
        assert not library.call(("linear", stage, ""), "f32", [narrow[name] for name in names])
