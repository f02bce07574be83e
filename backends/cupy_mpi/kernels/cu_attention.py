"""Launches of what attention is made of: a thread an element of the result."""

from __future__ import annotations

from math import inf

from .cu_attention_whole import attention_dx, attention_forward
from .launch import MOST_COUNTED, Array, Steps, each, reciprocal

__all__ = ["attention_dx", "attention_forward"]

Origin = tuple[tuple[tuple[int, int], ...], ...]


def split_heads_forward(x: Array, y: Array, **_: object) -> Steps | None:
    """[batch, seq, heads·width] -> [batch, heads, seq, width]."""
    return _heads(x, y, y, "split_heads_forward")


def split_heads_dx(dy: Array, dx: Array, **_: object) -> Steps | None:
    """Back again."""
    return _heads(dy, dx, dy, "merge_heads_forward")


def merge_heads_forward(x: Array, y: Array, **_: object) -> Steps | None:
    """[batch, heads, seq, width] -> [batch, seq, heads·width]."""
    return _heads(x, y, x, "merge_heads_forward")


def merge_heads_dx(dy: Array, dx: Array, **_: object) -> Steps | None:
    """Back again."""
    return _heads(dy, dx, dx, "split_heads_forward")


def causal_mask_forward(x: Array, y: Array, *, origin: Origin | None = None, **_: object) -> Steps | None:
    """Hidden scores are infinitely small."""
    return _masked(x, y, origin, -inf)


def causal_mask_dx(dy: Array, dx: Array, *, origin: Origin | None = None, **_: object) -> Steps | None:
    """Hidden scores have no gradient."""
    return _masked(dy, dx, origin, 0.0)


def _heads(x: Array, y: Array, cut: Array, kernel: str) -> Steps | None:
    """`cut` is the one of [batch, heads, seq, width]."""
    extents = cut.shape[1:]
    return each(y.size, x, y, numbers=(*extents, *map(reciprocal, extents)), kernel=kernel) if _counted(y) else None


def _masked(x: Array, y: Array, origin: Origin | None, hidden: float) -> Steps | None:
    """`origin` says where the queries and keys at hand begin."""
    extents, ahead = x.shape[-2:], 0 if origin is None else origin[0][-2][0] - origin[0][-1][0]
    numbers = (*extents, *map(reciprocal, extents), ahead, hidden)
    return each(x.size, x, y, numbers=numbers, kernel="causal_mask_forward") if _counted(x) else None


def _counted(x: Array) -> bool:
    return bool(x.size < MOST_COUNTED)
