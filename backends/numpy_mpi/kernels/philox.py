"""Philox4x32-10: random numbers that are a function of a key and a counter, in whatever order they are drawn.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11. Streams are
keyed by the seed and an address of the network, so they do not depend on how the network is distributed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import Array, Origin

Words = NDArray[np.uint32]
Key = tuple[int, int]

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)  # the key's increments: golden ratio and sqrt(3) - 1
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def key(seed: int, address: str) -> Key:
    """Two 32-bit words: the first eight bytes of SHA-256 of `SEED:ADDRESS`, each word little-endian."""
    digest = hashlib.sha256(f"{seed}:{address}".encode()).digest()
    return (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))


def philox4x32(counter: tuple[Any, Any, Any, Any], key: Key, rounds: int = 10) -> tuple[Words, ...]:
    """Four words for each counter of four words; the words of a counter broadcast against each other."""
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    for r in range(rounds):
        k0, k1 = (np.uint64((word + r * step) & 0xFFFFFFFF) for word, step in zip(key, WEYL, strict=True))
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
    return (*[word.astype(np.uint32) for word in np.broadcast_arrays(c0, c1, c2, c3)],)


def words(rows: Any, columns: int, key: Key, step: int = 0) -> Words:
    """[row, column] of words: word `column % 4` of the counter (step, row, column // 4, 0)."""
    row = np.asarray(rows, dtype=np.uint64)[:, None]
    quarter = np.arange(-(-columns // 4), dtype=np.uint64)[None, :]
    drawn = philox4x32((step, row, quarter, 0), key)
    return np.stack(drawn, axis=-1).reshape(row.shape[0], 4 * quarter.shape[1])[:, :columns]


def words_of(rows: Any, columns: Any, key: Key, step: int = 0) -> Words:
    """The words of `words` in these columns, which ascend: only the blocks of four that they lie in are drawn."""
    row = np.asarray(rows, dtype=np.uint64)[:, None]
    quarters, place = np.unique(columns // 4, return_inverse=True)
    drawn = np.stack(philox4x32((step, row, quarters[None, :], 0), key), axis=-1)
    chosen: Words = drawn[:, place, columns % 4]
    return chosen


def uniform(words: Words) -> NDArray[np.float64]:
    """Numbers in [0, 1) on a grid of 2**-24: the same in every precision down to f32."""
    return (words >> np.uint32(8)).astype(np.float64) * 2.0**-24


def dropout_forward(
    x: Array,
    y: Array,
    mask: Array,
    *,
    p: float,
    key: Key,
    step: int,
    position: int,
    origin: Origin | None = None,
    **_: object,
) -> None:
    """y = x·mask/(1 - p) with mask 0 at a rate of p; drawn for sample `position` + i of the global batch.

    Elements are counted in logical order; of a part of each sample, as they are in the whole. Allocates the words.
    """
    np.copyto(mask, drawn(x, key, step, position, origin) >= p, casting="unsafe")
    _scale(x, mask, y, p)


def drawn(x: Array, key: Key, step: int, position: int, origin: Origin | None) -> NDArray[np.float64]:
    """A number in [0, 1) for each element of x."""
    samples = np.arange(position, position + len(x))
    if origin is None:
        found = words(samples, x[:1].size, key, step)
    else:
        found = words_of(samples, _columns(x.shape[1:], origin[0][1:]), key, step)
    return uniform(found).reshape(x.shape)


def _columns(extents: tuple[int, ...], origin: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """The numbers in whole samples of the elements of a part of these extents, in order."""
    columns = np.zeros(1, np.int64)
    for extent, (start, whole) in zip(extents, origin, strict=True):
        columns = (columns[:, None] * whole + np.arange(start, start + extent)).reshape(-1)
    return columns


def dropout_dx(dy: Array, mask: Array, dx: Array, *, p: float, **_: object) -> None:
    """dx = dy·mask/(1 - p)."""
    _scale(dy, mask, dx, p)


def _scale(x: Array, mask: Array, y: Array, p: float) -> None:
    np.multiply(x, mask, out=y)
    np.multiply(y, 1 / (1 - p), out=y)
