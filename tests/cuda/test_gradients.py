"""Sums of gradients, regularisers, clipping, and dropout in CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.philox import key
from tests.cuda.calling import compare, drawn, empty, launches, needs_compiler

pytestmark = [needs_compiler, pytest.mark.parametrize("dtype", ["f32", "f64"])]

SHAPES = ((3,), (20, 500), (1,))


def gradients(dtype: str) -> list[Any]:
    return [drawn(dtype, *shape) for shape in SHAPES]


def test_sums(dtype: str) -> None:
    for count in (1, 2, 4):
        compare(("sum", "sum", ""), dtype, [*(drawn(dtype, 9) + at for at in range(count)), empty(9)])
    compare(("sum", "add", ""), dtype, [*gradients(dtype), *gradients(dtype)])


def test_regularisers(dtype: str) -> None:
    weights = [np.round(each) for each in gradients(dtype)]
    for told in ({"l1": 0.25}, {"l2": 0.5}, {"l1": 0.25, "l2": 0.5}):
        compare(("regularise", "regularise", ""), dtype, [*weights, *gradients(dtype)], **told)


@pytest.mark.parametrize("bound", [0.5, 1e6])
def test_clipping(bound: float, dtype: str) -> None:
    for kind in ("value", "norm"):
        compare(("clip", "clip", ""), dtype, gradients(dtype), 32, also={"bound": bound}, kind=kind)
    compare(("sums", "clip", ""), dtype, [*gradients(dtype), np.zeros(1)], 32, copies=(1, 4, 2))
    told = {"kind": "norm", "bound": bound, "copies": (1, 4, 2)}
    compare(("clip", "clip", ""), dtype, [*gradients(dtype), np.array([7.0])], 32, also=told)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.75])
def test_dropout(p: float, dtype: str) -> None:
    for shape in ((3,), (5, 7), (2, 3, 5, 4)):
        x, mask = drawn(dtype, *shape), empty(*shape, dtype=np.uint8)
        told = {"p": p, "key": key(7, "a.dropout"), "step": 2**31 + 5, "position": 11}
        compare(("dropout", "forward", ""), dtype, [x, empty(*shape), mask], also=told)
        compare(("dropout", "dx", ""), dtype, [x, (x > 0).astype(np.uint8), empty(*shape)], p=p)


def test_parts_of_samples_are_left_to_numpy(dtype: str) -> None:
    arrays = [drawn(dtype, 2, 3), empty(2, 3), empty(2, 3, dtype=np.uint8)]
    told = {"p": 0.5, "key": (1, 2), "step": 0, "position": 0, "origin": (((0, 2), (3, 6)),)}
    assert launches(("dropout", "forward", ""), arrays, **told) is None
