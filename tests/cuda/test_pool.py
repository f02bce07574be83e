"""Pools in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.layout import TO_LOGICAL
from tests.cuda.calling import Array, compare, empty, needs_compiler

Windows = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]

WINDOWS: list[Windows] = [
    ((8, 6), (2, 2), (2, 2), ((0, 0), (0, 0)), (4, 3)),
    ((7, 9), (3, 3), (2, 2), ((1, 1), (1, 1)), (4, 5)),
    ((6, 5), (3, 2), (1, 3), ((0, 2), (1, 0)), (6, 2)),
    ((7, 8), (2, 3), (2, 2), ((0, 0), (1, 1)), (4, 5)),  # the last windows hang over the end
    ((11,), (3,), (2,), ((1, 1),), (6,)),
    ((4, 5, 6), (2, 3, 2), (2, 1, 2), ((0, 0), (1, 1), (0, 1)), (2, 5, 3)),
]
DTYPES = ("f32", "f64")

pytestmark = needs_compiler


def shape(samples: int, channels: int, extents: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Of an array in a layout."""
    logical = (samples, channels, *extents)
    return tuple(logical[TO_LOGICAL[layout].index(axis)] for axis in range(4)) if len(logical) == 4 else logical


def image(seed: int, *extents: int) -> Array:
    """With elements that are equal."""
    found: Array = np.random.default_rng(seed).normal(0, 1, extents).round(1)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", TO_LOGICAL)
@pytest.mark.parametrize("windows", WINDOWS)
def test_windows(windows: Windows, layout: str, dtype: str) -> None:
    inputs, window, stride, pad, outputs = windows
    told: dict[str, Any] = {"window": window, "stride": stride, "pad": pad, "layout": layout}
    for samples, channels in ((3, 5), (1, 1), (0, 2)):
        x_shape, y_shape = shape(samples, channels, inputs, layout), shape(samples, channels, outputs, layout)
        x, dy, indices = image(1, *x_shape), image(2, *y_shape), np.zeros(y_shape, np.int32)
        compare(("maxpool", "forward", ""), dtype, [x, empty(*y_shape), indices], **told)
        taps = np.random.default_rng(3).integers(0, np.prod(window), y_shape, np.int32)
        compare(("maxpool", "dx", ""), dtype, [dy, taps, empty(*x_shape)], **told)
        for count_pad in (True, False):
            compare(("avgpool", "forward", ""), dtype, [x, empty(*y_shape)], **told, count_pad=count_pad)
            compare(("avgpool", "dx", ""), dtype, [dy, empty(*x_shape)], **told, count_pad=count_pad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", TO_LOGICAL)
@pytest.mark.parametrize("extents", [(3, 5, (7, 7)), (2, 33, (1, 1)), (1, 1, (13, 6)), (0, 3, (2, 2)), (2, 3, (70,))])
def test_whole_images(extents: tuple[int, int, tuple[int, ...]], layout: str, dtype: str) -> None:
    samples, channels, pixels = extents
    x_shape = shape(samples, channels, pixels, layout)
    y_shape = shape(samples, channels, tuple(1 for _ in pixels), layout)
    x, dy = image(1, *x_shape), image(2, *y_shape)
    indices = np.random.default_rng(3).integers(0, np.prod(pixels), y_shape, np.int32)
    shifted = x + 3  # a mean near 0 would be what rounding leaves of its terms
    compare(("global_avgpool", "forward", ""), dtype, [shifted, empty(*y_shape)], layout=layout)
    compare(("global_avgpool", "dx", ""), dtype, [dy, empty(*x_shape)], layout=layout)
    compare(("global_maxpool", "forward", ""), dtype, [x, empty(*y_shape), indices.copy()], layout=layout)
    compare(("global_maxpool", "dx", ""), dtype, [dy, indices, empty(*x_shape)], layout=layout)


def test_what_is_no_number() -> None:
    x = np.array([np.nan, 1, 2, np.nan, -np.inf, -np.inf, 3, np.inf]).reshape(1, 1, 2, 4)
    told: dict[str, Any] = {"window": (2, 2), "stride": (2, 2), "pad": ((0, 0), (0, 0))}
    compare(("maxpool", "forward", ""), "f64", [x, empty(1, 1, 1, 2), np.zeros((1, 1, 1, 2), np.int32)], **told)
    compare(("global_maxpool", "forward", ""), "f64", [x, empty(1, 1, 1, 1), np.zeros((1, 1, 1, 1), np.int32)])
