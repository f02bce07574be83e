"""Batch norm in CUDA, alone and fused: its text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.layout import TO_LOGICAL
from tests.cuda.calling import Array, compare, empty, needs_compiler

SHAPES = [(6, 5, (4, 3)), (5, 34, (1, 1)), (7, 2, (33,)), (9, 3, ()), (1, 1, (2, 2)), (0, 3, (2, 2))]
GROUPS: list[dict[str, int]] = [
    {"group": 16, "count": 16},
    {"group": 4, "count": 15, "position": 2},
    {"group": 4, "count": 30, "position": 7, "first": 4, "pixels": 50},
]

pytestmark = needs_compiler


def shape(samples: int, channels: int, pixels: tuple[int, ...], layout: str) -> tuple[int, ...]:
    logical = (samples, channels, *pixels)
    return tuple(logical[TO_LOGICAL[layout].index(axis)] for axis in range(4)) if len(logical) == 4 else logical


def drawn(*shape: int, mean: float = 0) -> Array:
    """As they are in the shorter type, so that both types begin with the same numbers."""
    found: Array = np.random.default_rng(sum(shape)).normal(mean, 1, shape).astype(np.float32).astype(np.float64)
    return found


@pytest.mark.parametrize(("told", "dtype"), list(zip(GROUPS, ("f32", "f64", "f32"), strict=True)))
@pytest.mark.parametrize("layout", TO_LOGICAL)
@pytest.mark.parametrize("extents", SHAPES)
def test_it(extents: tuple[int, int, tuple[int, ...]], layout: str, told: dict[str, int], dtype: str) -> None:
    samples, channels, pixels = extents
    x = drawn(*shape(samples, channels, pixels, layout), mean=3)
    rows = 5
    rest: dict[str, Any] = {**told, "layout": layout}
    c, table = (channels,), (rows, channels)
    scale, shift, running = drawn(*c), drawn(*c), abs(drawn(*c))
    y, added, dy = empty(*x.shape), drawn(*x.shape), drawn(*x.shape)[::-1].copy()
    tables, wide = (empty(*table), empty(*table)), (empty(rows, channels + 2), empty(rows, channels + 2))
    known = (drawn(*table), abs(drawn(*table)) + 0.5)
    sums = (drawn(rows, channels + 2), abs(drawn(rows, channels + 2)) + 9)

    def check(op: str, stage: str, *arrays: Array, **more: Any) -> None:
        compare((op, stage, ""), dtype, list(arrays), bound=16, **{**rest, **more})

    eps = {"eps": 1e-3}
    whole = {"group": 4, "count": samples, "position": 0, "first": 0, "pixels": None}
    for op, more in (("bn", ()), ("bn_relu", ()), ("bn_add_relu", (added,))):
        check(op, "forward", x, scale, shift, running, running, *more, y, *tables, **eps, **whole)
        check(op, "apply", x, scale, shift, *sums, *more, y, *tables, **eps)
        check(op, "inference", x, scale, shift, running, running, *more, y, **eps)
    check("bn", "sums", x, wide[0])
    check("bn", "squares", x, sums[0], wide[1])
    check("bn", "dx", dy, x, scale, *known, y, empty(*c), empty(*c))
    check("bn_relu", "dx", dy, added, x, scale, *known, y, empty(*c), empty(*c))
    check("bn", "grad_sums", dy, x, *known, *wide)
    check("bn", "grad_apply", dy, x, scale, *known, *sums, y, empty(*c), empty(*c))
    check("bn", "statistics", x, *known, empty(*c), empty(*c), **eps, groups=None)
    check("bn", "update", scale, running, shift, running, momentum=0.1)


@pytest.mark.parametrize("layout", TO_LOGICAL)
def test_many_parts_and_a_large_mean(layout: str) -> None:
    """The variance is right where the mean is 1000 times the deviation."""
    x = drawn(*shape(5, 3, (33, 31), layout), mean=1000)
    arrays = [x, *(np.ones(3) for _ in range(4)), empty(*x.shape), empty(1, 3), empty(1, 3)]
    compare(("bn", "forward", ""), "f32", arrays, bound=3000, group=5, count=5, eps=1e-5, layout=layout)
    dy = drawn(*x.shape)[::-1].copy()
    dx = [dy, x, np.ones(3), np.full((1, 3), 1000.0), np.ones((1, 3)), empty(*x.shape), empty(3), empty(3)]
    compare(("bn", "dx", ""), "f32", dx, bound=64, group=5, count=5, layout=layout)
