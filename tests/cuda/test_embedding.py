"""Embeddings in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cuda.calling import compare, empty, needs_compiler

pytestmark = needs_compiler

PARTS: list[dict[str, Any]] = [{}, {"begin": 3, "rows": 5}]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("places", "rows", "width"), [((3, 7), 11, 5), ((1,), 1, 1), ((0, 4), 6, 3), ((2100,), 9, 33)])
def test_tokens(places: tuple[int, ...], rows: int, width: int, part: dict[str, Any], dtype: str) -> None:
    """Of a part of the table too, where other tokens count for nothing."""
    rng = np.random.default_rng(1)
    x, dy = rng.integers(0, rows, places, np.int32), rng.normal(0, 1, (*places, width))
    here, begin = part.get("rows", rows), part.get("begin", 0)
    weight, table = rng.normal(0, 1, (here, width)), ((begin, rows), (0, width))
    token = tuple((0, extent) for extent in places)
    given: dict[str, Any] = {"origin": (token, table)} if part else {}
    compare(("embedding", "forward", ""), dtype, [x, weight, empty(*places, width)], bound=1, **given)
    given = {"origin": ((*token, (0, width)), token, table)} if part else {}
    compare(("embedding", "dw", ""), dtype, [dy, x, empty(here, width)], bound=64, **given)


def test_more_pieces_than_threads() -> None:
    """A block of 32 threads looks through 32 pieces at a time."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 3, 2048 * 32 + 5, np.int32)
    compare(("embedding", "dw", ""), "f64", [rng.normal(0, 1, (x.size, 1)), x, empty(3, 1)], bound=4096)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("samples", "seq", "width"), [(3, 5, 7), (1, 1, 1), (0, 3, 2)])
def test_positions(samples: int, seq: int, width: int, dtype: str) -> None:
    rng, x = np.random.default_rng(1), np.zeros((samples, seq), np.int32)
    weight, dy = rng.normal(0, 1, (seq, width)), rng.normal(0, 1, (samples, seq, width))
    compare(("position_embedding", "forward", ""), dtype, [x, weight, empty(samples, seq, width)], bound=1)
    compare(("position_embedding", "dw", ""), dtype, [dy, empty(seq, width)])
