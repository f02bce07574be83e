"""Batch norm in C: every function against the NumPy kernel in double precision, in all layouts, groups and phases."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.bn import FUNCTIONS
from backends.numpy_mpi.kernels import bn
from backends.numpy_mpi.kernels.layout import block_of, physical, repacked
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, runnable, threads

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

BOUNDS = {"f32": 1e-6, "f64": 1e-14}
LAYOUTS = ("NHWC", "NCHW", "CHWN")
SHAPES = (
    (1, 1, 1, 1),
    (2, 3, 5, 4),
    (8, 64, 7, 7),
    (5, 33, 3, 1),
    (3, 300, 2, 2),
    (6, 20),
    (4, 7, 9),
    (64, 16, 30, 30),
)
GROUPS = (1, 2, 3, 8, 64)
IN_BLOCKS = (
    ((2, 8, 5, 4), "NCHW8c", 1),
    ((8, 64, 7, 7), "NCHW8c", 3),
    ((5, 32, 9, 1), "NCHW16c", 8),
    ((64, 16, 30, 30), "NCHW4c", 64),
)
"""Blocks that are vectors of what runs here, and others."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(FUNCTIONS, "c_bn", runnable()[0], tmp_path_factory.mktemp("bn"))


def cases() -> Iterator[tuple[tuple[int, ...], str, int]]:
    """Shapes in logical order, layouts, groups of samples."""
    for shape, layout, group in product(SHAPES, LAYOUTS, GROUPS):
        large = shape[0] == 64
        if (layout == "NCHW" or len(shape) == 4) and large == (group == 64):
            yield shape, layout, group


def held(image: Any, layout: str) -> Any:
    """An image as it lies in memory."""
    return repacked(image, "NCHW", layout) if block_of(layout) else np.array(physical(image, layout), order="C")


def error(found: Any, expected: Any) -> float:
    """Relative to the result, or to ones where it is smaller: some are differences of equal numbers."""
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), np.sqrt(expected.size)))


class Drawn:
    """Arrays for one case; results of `call` by name."""

    def __init__(
        self, built: Bound, shape: tuple[int, ...], layout: str, group: int, mean: float = 1.0, **told: int
    ) -> None:
        self.built, self.layout, self.rng = built, layout, np.random.default_rng(sum(shape) + group)
        self.channels, self.rows, self.spare = shape[1], -(-shape[0] // group), 0
        self.told: dict[str, Any] = {"group": group, "count": shape[0], "layout": layout, "eps": 1e-5} | told
        images = {name: self.rng.standard_normal(shape) + mean * (name == "x") for name in ("x", "dy")}
        vectors = {name: self.rng.random(self.channels) + 0.5 for name in ("scale", "shift", "mean", "variance")}
        self.known = {n: held(a, layout) for n, a in images.items()} | vectors

    def empty(self, name: str) -> Any:
        shape = (self.channels,)
        if name in ("y", "dx"):
            shape = self.known["x"].shape
        elif name.endswith("s") or name.startswith("batch"):
            shape = (self.rows, self.channels + (0 if name.startswith("batch") else self.spare))
        return np.full(shape, JUNK)

    def call(self, dtype: str, stage: str, reads: str, writes: str, numpy: bool = False) -> dict[str, Any]:
        """Results of the C function, or of the NumPy kernel."""
        arrays = [self.known[name].astype(DTYPES[dtype]) for name in reads.split()]
        results = {name: self.empty(name).astype(DTYPES[dtype]) for name in writes.split()}
        if numpy:
            getattr(bn, f"bn_{stage}")(*arrays, *results.values(), **self.told)
        else:
            assert self.built.call(("bn", stage, ""), dtype, [*arrays, *results.values()], **self.told)
        return {n: a[:, : self.channels] if n.endswith("sums") or n == "squares" else a for n, a in results.items()}

    def check(self, dtype: str, stage: str, reads: str, writes: str) -> None:
        """The same on one and two threads, and as NumPy has it in double precision, which `known` gets."""
        rounded = {n: a.astype(DTYPES[dtype]).astype(np.float64) for n, a in self.known.items()}
        self.known.update(rounded)
        expected = self.call("f64", stage, reads, writes, numpy=True)
        peer, found = self.call(dtype, stage, reads, writes, numpy=True), []
        for count in (1, 2):
            threads(self.built.library, count)
            found.append(self.call(dtype, stage, reads, writes))
        for name, value in expected.items():
            assert np.array_equal(found[0][name], found[1][name]), (stage, name)
            allowed = max(BOUNDS[dtype], 2 * error(peer[name], value))
            assert error(found[0][name], value) < allowed, (stage, name)
        self.known.update({name: self.widened(name, value) for name, value in expected.items()})

    def widened(self, name: str, value: Any) -> Any:
        """Tables as they were before their room for more was cut off."""
        spare = self.empty(name).shape[-1] - value.shape[-1]
        return np.pad(value, ((0, 0), (0, spare)), constant_values=JUNK) if spare else value


PHASES = (
    ("sums", "x", "sums"),
    ("squares", "x sums", "squares"),
    ("apply", "x scale shift sums squares", "y batch_mean batch_rstd"),
    ("grad_sums", "dy x batch_mean batch_rstd", "dy_sums dyx_sums"),
    ("grad_apply", "dy x scale batch_mean batch_rstd dy_sums dyx_sums", "dx dscale dshift"),
    ("statistics", "x batch_mean batch_rstd", "mean_sum variance_sum"),
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_gives_what_the_numpy_kernel_gives(built: Bound, dtype: str) -> None:
    for shape, layout, group in cases():
        drawn = Drawn(built, shape, layout, group)
        drawn.check(dtype, "inference", "x scale shift mean variance", "y")
        drawn.check(dtype, "forward", "x scale shift mean variance", "y batch_mean batch_rstd")
        drawn.check(dtype, "dx", "dy x scale batch_mean batch_rstd", "dx dscale dshift")
        for phase in PHASES:
            drawn.check(dtype, *phase)


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_in_blocks(built: Bound, dtype: str) -> None:
    """Whole groups; the phases of groups that span ranks are NumPy's."""
    for shape, layout, group in IN_BLOCKS:
        drawn = Drawn(built, shape, layout, group)
        drawn.check(dtype, "inference", "x scale shift mean variance", "y")
        drawn.check(dtype, "forward", "x scale shift mean variance", "y batch_mean batch_rstd")
        drawn.check(dtype, "dx", "dy x scale batch_mean batch_rstd", "dx dscale dshift")
        drawn.check(dtype, *PHASES[-1])
        arrays = drawn.known["x"], drawn.empty("sums")
        assert not built.call(("bn", "sums", ""), dtype, arrays, **drawn.told)


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_and_images_of_which_a_part_is_at_hand(built: Bound, dtype: str) -> None:
    """Samples that begin and end inside groups of a microbatch, rows of images, tables with room for more."""
    rng = np.random.default_rng(0)
    for layout, _ in product(LAYOUTS, range(12)):
        n, group, first = (int(v) for v in rng.integers(1, 6, 3))
        position = first + int(rng.integers(0, 5))
        told = {"count": position + n + int(rng.integers(0, 4)), "position": position, "first": first, "pixels": 18}
        drawn = Drawn(built, (n, 5, 3, 4), layout, group, **told)
        drawn.rows, drawn.spare = -(-(told["count"] - first) // group), 3
        for phase in PHASES:
            drawn.check(dtype, *phase)
        values = (drawn.known[name] for name in ("x", "scale", "shift", "mean", "variance"))
        results = (drawn.empty(name) for name in ("y", "batch_mean", "batch_rstd"))
        assert not built.call(("bn", "forward", ""), dtype, [*values, *results], **drawn.told)


@pytest.mark.parametrize("near", [0, 2])
@pytest.mark.parametrize(("dtype", "far"), [("f32", 1e4), ("f64", 1e9)])
def test_the_variance_of_numbers_far_from_zero(built: Bound, dtype: str, far: float, near: int) -> None:
    """Two passes bear it, sums of squares do not; nor do sums around the first numbers, where these are not far."""
    for layout in (*LAYOUTS, "NCHW8c"):
        drawn = Drawn(built, (64, 16, 30, 30), "NCHW", 64, mean=far)
        x = drawn.known["x"]
        x[:near] -= far
        x[...] = x.astype(DTYPES[dtype])
        variance = np.var(x.astype(np.longdouble), axis=(0, 2, 3))
        drawn.known["x"], drawn.told["layout"] = held(x, layout), layout
        found = drawn.call(dtype, "forward", "x scale shift mean variance", "y batch_mean batch_rstd")
        assert error(found["batch_rstd"][0] * np.sqrt(variance + 1e-5), np.ones(16)) < 32 * np.finfo(DTYPES[dtype]).eps


def test_running_averages(built: Bound) -> None:
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        arrays = [rng.standard_normal(37).astype(DTYPES[dtype]) for _ in range(4)]
        expected = [array.copy() for array in arrays]
        bn.bn_update(*expected, momentum=0.1)
        assert built.call(("bn", "update", ""), dtype, arrays, momentum=0.1)
        assert all(error(a, b) < BOUNDS[dtype] for a, b in zip(arrays, expected, strict=True))
