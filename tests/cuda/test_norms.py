"""Layer, RMS and group norm in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.layout import TO_LOGICAL
from tests.cuda.calling import Array, compare, empty, needs_compiler
from tests.kernels.calling import kernel

DTYPES = ("f32", "f64")

pytestmark = needs_compiler


def drawn(*shape: int, mean: float = 0) -> Array:
    """As they are in the shorter type, so that both types begin with the same numbers."""
    found: Array = np.random.default_rng(sum(shape)).normal(mean, 1, shape).astype(np.float32).astype(np.float64)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 33), (70, 20), (1, 1), (2, 300), (0, 4)])
def test_rows(shape: tuple[int, ...], dtype: str) -> None:
    x, dy, width = drawn(*shape, mean=2), drawn(*shape)[::-1].copy(), shape[-1:]
    scale, shift = drawn(*width), drawn(*width)
    mean, rstd, rows = x.mean(axis=-1), 1 / np.sqrt(x.var(axis=-1) + 1e-3), shape[:-1]
    y = empty(*shape)

    def check(op: str, stage: str, *arrays: Array, **told: Any) -> None:
        compare((op, stage, ""), dtype, list(arrays), bound=16, **told)

    check("layernorm", "forward", x, scale, shift, y, empty(*rows), empty(*rows), eps=1e-3)
    check("layernorm", "dx", dy, x, scale, mean, rstd, y)
    check("layernorm", "dw", dy, x, mean, rstd, empty(*width), empty(*width))
    check("rmsnorm", "forward", x, scale, y, empty(*rows), eps=1e-3)
    check("rmsnorm", "dx", dy, x, scale, rstd, y)
    check("rmsnorm", "dw", dy, x, rstd, empty(*width))


def test_many_rows() -> None:
    """More than one part of the rows."""
    x, dy = drawn(1100, 5, mean=2), drawn(1100, 5)[::-1].copy()
    mean, rstd = drawn(1100), abs(drawn(1100)) + 0.5
    compare(("layernorm", "dw", ""), "f32", [dy, x, mean, rstd, empty(5), empty(5)], bound=32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", TO_LOGICAL)
@pytest.mark.parametrize("extents", [(3, 6, (4, 5)), (2, 34, (3, 1)), (1, 2, (1, 1)), (0, 4, (2, 2)), (2, 4, (7,))])
def test_groups(extents: tuple[int, int, tuple[int, ...]], layout: str, dtype: str) -> None:
    samples, channels, pixels = extents
    logical, groups = (samples, channels, *pixels), 2
    shape = tuple(logical[TO_LOGICAL[layout].index(axis)] for axis in range(4)) if len(logical) == 4 else logical
    x, dy, y = drawn(*shape, mean=2), drawn(*shape)[::-1].copy(), empty(*shape)
    scale, shift, rows = drawn(channels), drawn(channels), (samples, groups)
    known = (np.empty(rows), np.empty(rows))
    kernel("groupnorm", "forward")(x, scale, shift, y.copy(), *known, groups=groups, eps=1e-3, layout=layout)
    sums, squares = drawn(samples * groups + 3), abs(drawn(samples * groups + 3)) + 9
    halves, table = drawn(2 * (samples * groups + 3)), empty(2 * (samples * groups + 3))
    first = tuple((0, extent) for extent in logical[:2])
    origin = ((*first, *((1, extent + 2) for extent in pixels)),)

    def check(stage: str, *arrays: Array, **told: Any) -> None:
        compare(("groupnorm", stage, ""), dtype, list(arrays), bound=16, groups=groups, layout=layout, **told)

    check("forward", x, scale, shift, y, empty(*rows), empty(*rows), eps=1e-3)
    check("forward", x, scale, shift, sums, squares, y, empty(*rows), empty(*rows), eps=1e-3, origin=origin)
    check("dx", dy, x, scale, *known, y)
    check("dx", dy, x, scale, *known, halves, y, origin=origin)
    check("dw", dy, x, *known, empty(channels), empty(channels))
    more: dict[str, Any] = {"groups": groups, "layout": layout, "bound": 16}
    compare(("sums", "groupnorm", "forward0"), dtype, [x, scale, shift, empty(*sums.shape)], **more)
    squared = [x, scale, shift, sums, empty(*sums.shape)]
    compare(("sums", "groupnorm", "forward1"), dtype, squared, **more, origin=origin)
    compare(("sums", "groupnorm", "dx0"), dtype, [dy, x, scale, *known, table], **more)
