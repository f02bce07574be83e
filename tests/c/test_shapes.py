"""Values joined, cut and sliced in C: every element where NumPy has it, in every layout and along every axis."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c.shapes import FUNCTIONS, PARTS
from backends.numpy_mpi.kernels import shapes
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, physical
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, runnable, threads

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

SHAPES = ((1, 1, 1, 1), (3, 5, 4, 2), (0, 2, 3, 3), (2, 70, 30, 31), (7, 6), (3, 4, 5))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound(FUNCTIONS, "c_shapes", runnable()[0], tmp_path_factory.mktemp("shapes"))


def cases() -> Any:
    """Extents, layouts, axes, element types."""
    for shape, layout, dtype in product(SHAPES, TO_LOGICAL, DTYPES):
        if len(shape) == 4 or layout == "NCHW":
            for axis in range(len(shape)):
                yield shape, layout, axis, DTYPES[dtype], dtype


def drawn(shape: tuple[int, ...], axis: int, extent: int, layout: str, dtype: Any) -> Any:
    """Numbers of an array whose extent along one axis is another."""
    shape = (*shape[:axis], extent, *shape[axis + 1 :])
    return np.array(physical(np.random.default_rng(extent).standard_normal(shape), layout), dtype, order="C")


def check(
    built: Bound, key: tuple[str, str, str], dtype: str, reads: list[Any], writes: list[Any], **told: Any
) -> None:
    for array in writes:
        array.fill(JUNK)
    expected = [array.copy() for array in writes]
    getattr(shapes, "_".join(key[:2]))(*reads, *expected, **told)
    for count in (1, 2):
        threads(built.library, count)
        for array in writes:
            array.fill(JUNK)
        assert built.call(key, dtype, [*reads, *writes], **told), (key, told)
        assert all(np.array_equal(a, b) for a, b in zip(writes, expected, strict=True)), (key, told)


def test_values_that_are_joined_and_cut(built: Bound) -> None:
    for (shape, layout, axis, dtype, name), parts in product(cases(), PARTS):
        extents = tuple(shape[axis] * 2 + k for k in range(parts))
        several = [drawn(shape, axis, extent, layout, dtype) for extent in extents]
        whole = drawn(shape, axis, sum(extents), layout, dtype)
        told = {"axis": axis, "layout": layout}
        check(built, ("concat", "forward", str(parts)), name, several, [whole.copy()], **told)
        check(built, ("concat", "dx", str(parts)), name, [whole], [part.copy() for part in several], **told)
        told |= {"n": extents}
        check(built, ("split", "forward", str(parts)), name, [whole], [part.copy() for part in several], **told)
        reached = tuple(range(parts))
        check(built, ("split", "dx", str(parts)), name, several, [whole.copy()], **told, reached=reached)
        assert not built.call(("split", "dx", str(parts)), name, [*several[1:], whole], **told, reached=reached[1:])


def test_stretches(built: Bound) -> None:
    for shape, layout, axis, dtype, name in cases():
        for start, stop in ((0, 2), (1, 4), (2, 6)):
            x, y = (drawn(shape, axis, extent, layout, dtype) for extent in (6, stop - start))
            told = {"axis": axis, "layout": layout, "start": start, "stop": stop, "step": 1}
            if x.size:
                check(built, ("slice", "forward", ""), name, [x], [y], **told)
                check(built, ("slice", "dx", ""), name, [y], [x], **told)
            assert not built.call(("slice", "forward", ""), name, [x, y], **told | {"step": 2})
