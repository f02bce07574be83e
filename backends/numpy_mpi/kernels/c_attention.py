"""What attention in C is told."""

from __future__ import annotations

from .c_room import ROOM, THREADS, TILE, table
from .layout import Array
from .native import Numbers


def attention_forward(x: Array, *rest: Array, heads: int, causal: bool, threads: int = THREADS, **_: object) -> Numbers:
    """x, in projection, out projection -> y, qkv, probabilities, context."""
    batch, seq, inner = x.shape
    wide = inner // heads
    own = (seq + TILE) * wide + (wide + TILE) * seq + TILE * (max(seq, wide) + 1)
    told = (batch, seq, inner, heads, int(len(rest) == 8), int(causal), threads)
    return Numbers((table((x, *rest)), *told), threads * own + ROOM, arrays=0)


def attention_dx(
    dy: Array, x: Array, *rest: Array, heads: int, causal: bool, threads: int = THREADS, **_: object
) -> Numbers:
    """dy, x, both weights, qkv, probabilities, context -> dx and the gradients of the projections."""
    batch, seq, inner = x.shape
    wide = inner // heads
    own = (seq + TILE) * wide + 3 * (wide + TILE) * seq + seq * seq + TILE * (max(seq, wide) + 1)
    told = (batch, seq, inner, heads, int(len(rest) == 10), int(causal), threads)
    return Numbers((table((dy, x, *rest)), *told), threads * own + 4 * x.size + ROOM, arrays=0)
