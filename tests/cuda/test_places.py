"""Arithmetic with repeated operands, values joined, cut, padded and transposed, and products of matrices, in CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cuda.calling import compare, drawn, empty, launches, needs_compiler

pytestmark = [needs_compiler, pytest.mark.parametrize("dtype", ["f32", "f64"])]

OPS = ("add", "sub", "mul", "div")
LAYOUTS = ("NCHW", "NHWC", "CHWN")

Shape = tuple[int, ...]
REPEATED: list[tuple[Shape, Shape, dict[str, Any]]] = [
    ((3, 4), (3, 4), {}),
    ((3, 4), (4,), {}),
    ((5, 1), (5, 7), {}),
    ((2, 3, 4), (4,), {}),
    ((2, 3, 5, 4), (3,), {"axes": (1,)}),
    ((2, 3, 5, 4), (2, 3, 1, 1), {}),
    ((2, 1, 5, 4), (2, 3, 1, 4), {}),
]


def image(shape: Shape, layout: str) -> Shape:
    return tuple(shape["NCHW".index(axis)] for axis in layout) if len(shape) == 4 else shape


def wide(dtype: str, shape: Shape) -> Any:
    """None of them near 0."""
    values = drawn(dtype, *shape)
    return values + np.copysign(0.5, values)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("first", "second", "told"), REPEATED)
def test_operands_that_are_repeated(op: str, first: Shape, second: Shape, told: dict[str, Any], dtype: str) -> None:
    rank = max(len(first), len(second))
    spread = tuple(second if rank == len(second) else tuple(3 if at == 1 else 1 for at in range(4)))
    result = np.broadcast_shapes(first, spread if "axes" in told else second)
    for layout in LAYOUTS if rank == 4 else ("NCHW",):
        a, b, y = image(first, layout), image(second, layout), image(result, layout)
        compare((op, "forward", ""), dtype, [wide(dtype, a), wide(dtype, b), empty(*y)], layout=layout, **told)
        operands = [] if op in ("add", "sub") else [wide(dtype, a), wide(dtype, b)]
        results = [empty(*a), empty(*b)]
        compare((op, "dx", ""), dtype, [drawn(dtype, *y), *operands, *results], 64, layout=layout, **told)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("first", [False, True])
def test_numbers(op: str, first: bool, dtype: str) -> None:
    x, told = wide(dtype, (7, 5)), {"scalar": 2.5, **({"scalar_first": first} if op in ("sub", "div") else {})}
    compare((op, "forward", ""), dtype, [x, empty(7, 5)], **told)
    given = [x] if op == "div" else []
    compare((op, "dx", ""), dtype, [drawn(dtype, 7, 5), *given, empty(7, 5)], **told)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_joined_and_cut(layout: str, axis: int, dtype: str) -> None:
    shape, at, told = [2, 4, 3, 6], axis, {"axis": axis, "layout": layout}
    parts = [image((*shape[:at], n, *shape[at + 1 :]), layout) for n in (1, 3)]
    whole = image((*shape[:at], 4, *shape[at + 1 :]), layout)
    values = [drawn(dtype, *part) for part in parts]
    compare(("concat", "forward", ""), dtype, [*values, empty(*whole)], 0, **told)
    compare(("concat", "dx", ""), dtype, [drawn(dtype, *whole), *(empty(*part) for part in parts)], 0, **told)
    several = {"n": (1, 3), **told}
    compare(("split", "forward", ""), dtype, [drawn(dtype, *whole), *(empty(*part) for part in parts)], 0, **several)
    for reached in ((0, 1), (1,)):
        given = [values[number] for number in reached]
        compare(("split", "dx", ""), dtype, [*given, empty(*whole)], 0, reached=reached, **several)
    for start, stop, step, count in ((1, 3, 1, 2), (0, None, 3, 2)):
        cut = image((*shape[:at], count, *shape[at + 1 :]), layout)
        chosen = {"start": start, "stop": stop, "step": step, **told}
        compare(("slice", "forward", ""), dtype, [drawn(dtype, *whole), empty(*cut)], 0, **chosen)
        compare(("slice", "dx", ""), dtype, [drawn(dtype, *cut), empty(*whole)], 0, **chosen)


@pytest.mark.parametrize(("shape", "order"), [((5, 3), None), ((2, 3, 4, 5), (0, 2, 1, 3)), ((2, 3, 4), (2, 0, 1))])
def test_transposed(shape: Shape, order: Shape | None, dtype: str) -> None:
    turned = np.empty(shape).transpose(order).shape if order else (*shape[:-2], shape[-1], shape[-2])
    compare(("transpose", "forward", ""), dtype, [drawn(dtype, *shape), empty(*turned)], 0, order=order)
    compare(("transpose", "dx", ""), dtype, [drawn(dtype, *turned), empty(*shape)], 0, order=order)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padded(layout: str, dtype: str) -> None:
    told = {"amount": ((1, 2), (0, 3)), "axis": (2, 3), "layout": layout}
    x, y = image((2, 3, 4, 5), layout), image((2, 3, 7, 8), layout)
    compare(("pad", "forward", ""), dtype, [drawn(dtype, *x), empty(*y)], 0, value=1.5, **told)
    compare(("pad", "dx", ""), dtype, [drawn(dtype, *y), empty(*x)], 0, **told)
    assert launches(("pad", "forward", ""), [drawn(dtype, *x), empty(*y)], mode="edge", **told) is None


@pytest.mark.parametrize(("a", "b"), [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 6, 3, 4), (2, 6, 4, 5))])
def test_products(a: Shape, b: Shape, dtype: str) -> None:
    y = (*a[:-1], b[-1])
    compare(("matmul", "forward", ""), dtype, [drawn(dtype, *a), drawn(dtype, *b), empty(*y)])
    given = [drawn(dtype, *y), drawn(dtype, *a), drawn(dtype, *b), empty(*a), empty(*b)]
    compare(("matmul", "dx", ""), dtype, given, 16)
    repeated = [drawn(dtype, 2, 3, 4), drawn(dtype, 1, 4, 5), empty(2, 3, 5)]
    assert launches(("matmul", "forward", ""), repeated) is None
