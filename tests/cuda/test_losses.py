"""Cross-entropy and the metrics of logits in CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cuda.calling import compare, drawn, empty, launches, needs_compiler

pytestmark = needs_compiler


def labels(shape: tuple[int, ...], classes: int) -> Any:
    return np.random.default_rng(classes).integers(0, classes, shape).astype(np.int32)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("shape", "classes"), [((1,), 1), ((7,), 10), ((300,), 3), ((4, 9), 700)])
def test_losses_and_metrics(shape: tuple[int, ...], classes: int, dtype: str) -> None:
    logits, label = 4 * drawn(dtype, *shape, classes), labels(shape, classes)
    for told in ({}, {"smoothing": 0.125}):
        results = [empty(), empty(*logits.shape)]
        compare(("cross_entropy", "forward", ""), dtype, [logits, label, *results], 32, count=11, **told)
        given = [np.array(0.5), np.abs(logits), label, empty(*logits.shape)]
        compare(("cross_entropy", "dx", ""), dtype, given, 32, count=11, **told)
    for top in (1, min(classes, 5)):
        compare(("accuracy", "forward", ""), dtype, [logits, label, empty()], top=top)
    compare(("perplexity", "forward", ""), dtype, [logits, label, empty()], 32)


def test_equal_logits_and_such_that_are_no_numbers() -> None:
    logits = np.array([[1.0, 1, 1], [2, 2, 0], [np.nan, 1, 2], [0, np.nan, 2]])
    for label in (0, 1, 2):
        compare(("accuracy", "forward", ""), "f64", [logits, np.full(4, label, np.int32), empty()])


def test_large_logits_overflow_nowhere() -> None:
    logits = np.array([[3e4, -3e4, 0.0], [1e30, 1e30, -1e30]])
    compare(("cross_entropy", "forward", ""), "f64", [logits, labels((2,), 3), empty(), empty(2, 3)], count=2)


def test_classes_that_are_split_over_ranks_are_left_to_numpy() -> None:
    arrays = [np.zeros((2, 3)), np.zeros(2, np.int32), empty(), empty(2, 3)]
    assert launches(("cross_entropy", "forward", ""), arrays, count=2, origin=(((0, 6),),)) is None
