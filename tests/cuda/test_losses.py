"""Cross-entropy and the metrics of logits in CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cuda.calling import compare, drawn, empty, needs_compiler

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


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("shape", "parts"), [((7,), ((0, 4), (4, 10))), ((3, 5), ((0, 1), (1, 40), (40, 300)))])
def test_classes_that_are_split_over_ranks(shape: tuple[int, ...], parts: Any, dtype: str) -> None:
    """Three steps: the largest logits, the sums of exponentials, then each part's probabilities and loss."""
    whole = parts[-1][1]
    logits, label = 4 * drawn(dtype, *shape, whole), labels(shape, whole)
    table = np.zeros(label.size + 3)
    table[: label.size] = logits.max(axis=-1).reshape(-1)
    sums = np.zeros_like(table)
    sums[: label.size] = np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1).reshape(-1)
    for start, end in parts:
        at_hand = np.ascontiguousarray(logits[..., start:end])
        compare(("sums", "cross_entropy", "forward0"), dtype, [at_hand, label, empty(table.size)])
        compare(("sums", "cross_entropy", "forward1"), dtype, [at_hand, label, table, empty(table.size)], 32)
        for smoothing in (0.0, 0.125):
            told: dict[str, Any] = {"count": 11, "smoothing": smoothing}
            of_logits = (((0, len(logits)), (start, whole)), None)
            results = [empty(), empty(*at_hand.shape)]
            given = [at_hand, label, table, sums]
            compare(("cross_entropy", "forward", ""), dtype, [*given, *results], 32, origin=of_logits, **told)
            arrays = [np.array(0.5), np.abs(at_hand), label, empty(*at_hand.shape)]
            compare(("cross_entropy", "dx", ""), dtype, arrays, 32, origin=(None, of_logits[0]), **told)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("shape", "classes"), [((1,), 1), ((7,), 10), ((4, 9), 700)])
def test_margins(shape: tuple[int, ...], classes: int, dtype: str) -> None:
    logits, label = 2 * drawn(dtype, *shape, classes), labels(shape, classes)
    compare(("hinge", "forward", ""), dtype, [logits, label, empty()], 32, count=11)
    compare(("hinge", "dx", ""), dtype, [np.array(0.5), logits, label, empty(*logits.shape)], count=11)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("shape", "classes"), [((1,), 2), ((7,), 10), ((4, 9), 700)])
def test_distillation(shape: tuple[int, ...], classes: int, dtype: str) -> None:
    """A probability that is 0 counts nothing."""
    logits, target = 2 * drawn(dtype, *shape, classes), 3 * drawn(dtype, *shape, classes)[..., ::-1].copy()
    target[..., 0] = -2000
    for temperature in (1.0, 2.5):
        told: dict[str, Any] = {"count": 11, "temperature": temperature}
        results = [empty(), empty(*logits.shape)]
        compare(("kl", "forward", ""), dtype, [logits, target, *results], 64, **told)
        compare(("kl", "dx", ""), dtype, [np.array(0.5), logits, empty(*logits.shape)], **told)
        compare(("kl", "dt", ""), dtype, [np.array(0.5), logits, target, empty(*logits.shape)], 64, **told)
