"""Batch norm with what follows it: in NumPy the single kernels one after the other, in C the same in fewer passes."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.bn_fused import FUNCTIONS
from backends.numpy_mpi.kernels import bn, bn_fused
from backends.numpy_mpi.kernels.arithmetic import add_forward
from backends.numpy_mpi.kernels.elementwise import relu_dx, relu_forward
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, physical
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, runnable, threads

SHAPES = ((1, 3, 2, 2), (6, 33, 5, 4), (4, 300, 7, 7), (8, 20))
BOUNDS = {"f32": 2e-5, "f64": 1e-13}
VECTORS = ("scale", "shift", "mean", "variance")
READS = {
    "bn_relu_forward": ("x", *VECTORS),
    "bn_relu_inference": ("x", *VECTORS),
    "bn_relu_dx": ("dy", "y", "x", "scale", "batch_mean", "batch_rstd"),
    "bn_add_relu_forward": ("x", *VECTORS, "added"),
    "bn_add_relu_inference": ("x", *VECTORS, "added"),
}
WRITES = {"forward": ("y", "batch_mean", "batch_rstd"), "inference": ("y",), "dx": ("dx", "dscale", "dshift")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(FUNCTIONS, "c_bn_fused", runnable()[0], tmp_path_factory.mktemp("bn_fused"))


def known(shape: tuple[int, ...], layout: str, group: int, dtype: str) -> dict[str, Any]:
    """Arrays by name, those of results with anything in them."""
    rng, rows = np.random.default_rng(group), -(-shape[0] // group)
    images = {n: np.array(physical(rng.standard_normal(shape), layout), order="C") for n in ("x", "dy", "added", "y")}
    vectors = {name: rng.random(shape[1]) + 0.5 for name in VECTORS}
    tables = {name: rng.random((rows, shape[1])) for name in ("batch_mean", "batch_rstd")}
    results = {"dx": np.full_like(images["x"], JUNK), **{n: np.full(shape[1], JUNK) for n in ("dscale", "dshift")}}
    return {name: array.astype(DTYPES[dtype]) for name, array in (images | vectors | tables | results).items()}


def cases() -> Any:
    for shape, layout, group in product(SHAPES, TO_LOGICAL, (2, 8)):
        if len(shape) == 4 or layout == "NCHW":
            yield shape, layout, {"group": group, "count": shape[0], "layout": layout, "eps": 1e-5}


def test_numpy_kernels_do_what_the_single_ones_do() -> None:
    for shape, layout, told in cases():
        at = known(shape, layout, told["group"], "f64")
        x, y, added, dy = (at[name] for name in ("x", "y", "added", "dy"))
        vectors, tables = [at[name] for name in VECTORS], [at["batch_mean"], at["batch_rstd"]]
        first, second, saved = np.empty_like(x), np.empty_like(x), [table.copy() for table in tables]
        bn.bn_forward(x, *vectors, first, *saved, **told)
        relu_forward(first, second)
        bn_fused.bn_relu_forward(x, *vectors, y, *tables, **told)
        assert np.array_equal(y, second)
        assert np.array_equal(tables, saved)
        found, expected = ([np.empty_like(x), np.empty(shape[1]), np.empty(shape[1])] for _ in range(2))
        bn_fused.bn_relu_dx(dy, y, x, vectors[0], *tables, *found, **told)
        relu_dx(dy, second, first)
        bn.bn_dx(first, x, vectors[0], *saved, *expected, **told)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        bn.bn_forward(x, *vectors, first, *saved, **told)
        add_forward(first, added, second)
        relu_forward(second, first)
        bn_fused.bn_add_relu_forward(x, *vectors, added, y, *tables, **told)
        assert np.array_equal(y, first)
        bn.bn_inference(x, *vectors, first, **told)
        relu_forward(first, second)
        bn_fused.bn_relu_inference(x, *vectors, y, **told)
        assert np.array_equal(y, second)
        add_forward(first, added, second)
        relu_forward(second, first)
        bn_fused.bn_add_relu_inference(x, *vectors, added, y, **told)
        assert np.array_equal(y, first)


@pytest.mark.skipif(not runnable(), reason="there is no C compiler")
@pytest.mark.parametrize("dtype", DTYPES)
def test_c_gives_what_numpy_gives(built: Bound, dtype: str) -> None:
    """The same on one and two threads."""
    for (shape, layout, told), name in product(cases(), READS):
        op, _, stage = name.rpartition("_")
        arrays = known(shape, layout, told["group"], dtype)
        if stage == "dx":  # saved values as the forward kernel gives them, y with zeros
            inputs = [arrays[n] for n in READS["bn_relu_forward"]]
            bn_fused.bn_relu_forward(*inputs, *(arrays[n] for n in WRITES["forward"]), **told)
        expected = {n: array.astype(np.float64) for n, array in arrays.items()}
        getattr(bn_fused, name)(*(expected[n] for n in (*READS[name], *WRITES[stage])), **told)
        found = []
        for count in (1, 2):
            threads(built.library, count)
            given = {n: array.copy() for n, array in arrays.items()}
            assert built.call((op, stage, ""), dtype, [given[n] for n in (*READS[name], *WRITES[stage])], **told)
            found.append(given)
        for result in WRITES[stage]:
            assert np.array_equal(found[0][result], found[1][result]), (name, result)
            off = np.linalg.norm(found[0][result] - expected[result])
            assert off < BOUNDS[dtype] * max(1.0, np.linalg.norm(expected[result])), (name, result, shape, layout)


def test_not_a_number_stays_that(built: Bound) -> None:
    at = known((8, 20), "NCHW", 8, "f32")
    at["x"][3, 4] = np.nan
    told = {"eps": 1e-5, "layout": "NCHW"}
    assert built.call(("bn_relu", "inference", ""), "f32", [at[n] for n in ("x", *VECTORS, "y")], **told)
    assert np.isnan(at["y"]).sum() == 1
