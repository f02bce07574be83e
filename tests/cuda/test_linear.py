"""Linear maps and conversions of layouts in CUDA."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.calling import compare, drawn, empty, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("lead", "inputs", "outputs"), [((1,), 1, 1), ((5, 3), 7, 33), ((600,), 4, 70)])
def test_linear(lead: tuple[int, ...], inputs: int, outputs: int, transposed: bool, dtype: str) -> None:
    x, dy, bias = drawn(dtype, *lead, inputs), drawn(dtype, *lead, outputs), drawn(dtype, outputs)
    weight = drawn(dtype, *((inputs, outputs) if transposed else (outputs, inputs)))
    for found in ([bias], []):
        compare(("linear", "forward", ""), dtype, [x, weight, *found, empty(*lead, outputs)], transposed=transposed)
        results = [empty(*weight.shape), *(empty(outputs) for _ in found)]
        compare(("linear", "dw", ""), dtype, [dy, x, *results], 40, transposed=transposed)
    compare(("linear", "dx", ""), dtype, [dy, weight, empty(*lead, inputs)], 40, transposed=transposed)


def test_sums_of_many_rows_are_made_in_several_rounds() -> None:
    dy, x = drawn("f64", 70000, 3), drawn("f64", 70000, 1)
    compare(("linear", "dw", ""), "f64", [dy, x, empty(3, 1), empty(3)], 200)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("n", "c", "h", "w"), [(1, 1, 1, 1), (3, 40, 5, 7), (33, 5, 8, 9), (0, 3, 2, 2)])
def test_layouts(n: int, c: int, h: int, w: int, dtype: str) -> None:
    extents = dict(zip("NCHW", (n, c, h, w), strict=True))
    for source in ("NCHW", "NHWC", "CHWN"):
        for target in {"NCHW", "NHWC", "CHWN"} - {source}:
            x, y = (tuple(extents[axis] for axis in layout) for layout in (source, target))
            compare(("convert", "forward", ""), dtype, [drawn(dtype, *x), empty(*y)], 0, source=source, target=target)


def test_integers_are_left_to_numpy() -> None:
    from backends.cupy_mpi.kernels.cu_layout import convert

    assert convert(*[np.zeros((1, 2, 3, 4), np.int32)] * 2, source="NCHW", target="NHWC") is None
