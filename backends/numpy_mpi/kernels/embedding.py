"""Rows of a table: one for each token, one for each position.

Of a table that is split by rows, `origin` says which are at hand: other tokens give zeros, and no gradient.
"""

from __future__ import annotations

import numpy as np

from .layout import Array, Origin

LONG = 16
"""Runs of more equal tokens are added up one by one."""


def embedding_forward(x: Array, weight: Array, y: Array, *, origin: Origin | None = None, **_: object) -> None:
    """Tokens [...], weight [vocab, width] -> y [..., width]; tokens were checked when they were read."""
    if origin is None:
        np.take(weight, x, axis=0, out=y, mode="clip")
        return
    rows = x - origin[1][0][0]
    np.take(weight, rows, axis=0, out=y, mode="clip")
    np.copyto(y, 0, where=((rows < 0) | (rows >= len(weight)))[..., None])


def embedding_dw(dy: Array, x: Array, dweight: Array, *, origin: Origin | None = None, **_: object) -> None:
    """Each row of dweight is the sum of dy over the places of its token, in their order; others are zero.

    Places are sorted by token. Of runs of equal tokens the first places of all are added at once, then the second
    ones, and so on; a long run is added up by itself. `np.add.at` and `np.add.reduceat` take 30 times as long.
    """
    tokens, rows = x.reshape(-1), dy.reshape(-1, dy.shape[-1])
    if origin is not None:
        tokens = tokens - origin[2][0][0]
        here = (tokens >= 0) & (tokens < len(dweight))
        tokens, rows = tokens[here], rows[here]
    order = np.argsort(tokens, kind="stable")
    ordered = tokens[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    lengths = np.diff(starts, append=tokens.size)
    short = lengths <= LONG
    dweight.fill(0)
    for number in range(min(LONG, lengths.max(initial=0))):
        places = starts[short & (lengths > number)] + number
        dweight[ordered[places]] += rows[order[places]]
    for start, length in zip(starts[~short], lengths[~short], strict=True):
        np.add.reduce(rows[order[start : start + length]], axis=0, out=dweight[ordered[start]])


def position_embedding_forward(x: Array, weight: Array, y: Array, **_: object) -> None:
    """Anything [..., seq], weight [seq, width] -> y [..., seq, width], the same for all samples."""
    np.copyto(y, weight)


def position_embedding_dw(dy: Array, dweight: Array, **_: object) -> None:
    """dy summed over all axes before the positions."""
    np.add.reduce(dy.reshape(-1, *dweight.shape), axis=0, out=dweight)
