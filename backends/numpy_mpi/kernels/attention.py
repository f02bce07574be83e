"""Attention: heads, the causal mask, and multi-head self-attention as one operator.

A. Vaswani et al., "Attention Is All You Need", 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from .layout import Array, Origin
from .linear import linear_dw, linear_dx, linear_forward
from .softmax import softmax_forward


def split_heads_forward(x: Array, y: Array, **_: object) -> None:
    """x [batch, seq, heads·width] -> y [batch, heads, seq, width]."""
    np.copyto(y, heads_of(x, y.shape[1]))


def split_heads_dx(dy: Array, dx: Array, **_: object) -> None:
    """The parts of dy side by side."""
    merge_heads_forward(dy, dx)


def merge_heads_forward(x: Array, y: Array, **_: object) -> None:
    """x [batch, heads, seq, width] -> y [batch, seq, heads·width]."""
    np.copyto(heads_of(y, x.shape[1]), x)


def merge_heads_dx(dy: Array, dx: Array, **_: object) -> None:
    """dy cut into heads."""
    split_heads_forward(dy, dx)


def heads_of(x: Array, heads: int) -> Array:
    """A view [batch, heads, seq, width] of x [batch, seq, heads·width]."""
    batch, seq, width = x.shape
    return x.reshape(batch, seq, heads, width // heads).transpose(0, 2, 1, 3)


def causal_mask_forward(x: Array, y: Array, *, origin: Origin | None = None, **_: object) -> None:
    """Scores [..., query, key]; those of keys after the query become -∞, which softmax turns into 0."""
    np.copyto(y, x)
    np.copyto(y, -np.inf, where=later(x, origin))


def causal_mask_dx(dy: Array, dx: Array, *, origin: Origin | None = None, **_: object) -> None:
    """dy where a key is not after the query, else 0."""
    np.copyto(dx, dy)
    np.copyto(dx, 0, where=later(dy, origin))


def later(scores: Array, origin: Origin | None = None) -> Array:
    """[query, key]: whether the key is after the query; of a part of the scores, by their places in the whole."""
    ahead = 0 if origin is None else origin[0][-2][0] - origin[0][-1][0]
    queries, keys = scores.shape[-2:]
    return ~np.tri(queries, keys, ahead, dtype=np.bool_)


def attention_forward(x: Array, *rest: Array, heads: int, causal: bool, **_: object) -> None:
    """x [batch, seq, width], in and out projections -> y, qkv, probabilities [batch, heads, seq, key], context.

    q, k, v = x·W_inᵀ + b_in; probabilities = softmax(q·kᵀ/√(width/heads)); context = probabilities·v, heads merged;
    y = context·W_outᵀ + b_out.
    """
    inside, outside, (y, qkv, probabilities, context) = projections(rest)
    linear_forward(x, *inside, qkv)
    attend(qkv, probabilities, context, heads, causal, _weigh)
    linear_forward(context, *outside, y)


def attention_dx(
    dy: Array,
    x: Array,
    in_proj_weight: Array,
    out_proj_weight: Array,
    qkv: Array,
    probabilities: Array,
    context: Array,
    dx: Array,
    *gradients: Array,
    heads: int,
    **_: object,
) -> None:
    """The gradients by x and by the weights and biases; allocates gradients of qkv, probabilities and context."""
    into, outward = halves(gradients)
    dcontext, dqkv = np.empty_like(context), np.empty_like(qkv)
    linear_dx(dy, out_proj_weight, dcontext)
    linear_dw(dy, context, *outward)
    attend_dx(dcontext, qkv, probabilities, dqkv, heads, _weigh_dx)
    linear_dx(dqkv, in_proj_weight, dx)
    linear_dw(dqkv, x, *into)


def projections(arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
    """(weight, bias) of the in and of the out projection, biases where there are any, and the four results."""
    return *halves(arrays[:-4]), arrays[-4:]


def halves(arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """What belongs to the in projection, and to the out projection."""
    middle = len(arrays) // 2
    return arrays[:middle], arrays[middle:]


def parts(qkv: Array, heads: int) -> tuple[Array, ...]:
    """Views q, k and v [batch, heads, seq, width] of qkv [batch, seq, 3·heads·width]."""
    return (*[heads_of(part, heads) for part in np.split(qkv, 3, axis=-1)],)


def attend(
    qkv: Array,
    probabilities: Array,
    context: Array,
    heads: int,
    causal: bool,
    weigh: Callable[[Array, Array | None, int], None],
) -> None:
    """Fill probabilities and context; `weigh(scores, hidden, width)` turns scores into probabilities in place."""
    q, k, v = parts(qkv, heads)
    np.matmul(q, k.swapaxes(-1, -2), out=probabilities)
    weigh(probabilities, later(probabilities) if causal else None, q.shape[-1])
    np.copyto(heads_of(context, heads), np.matmul(probabilities, v))


def attend_dx(
    dcontext: Array,
    qkv: Array,
    probabilities: Array,
    dqkv: Array,
    heads: int,
    weigh_dx: Callable[[Array, Array, int], None],
) -> None:
    """Fill dqkv; `weigh_dx(dprobabilities, probabilities, width)` makes gradients of scores of the former."""
    (q, k, v), (dq, dk, dv) = parts(qkv, heads), parts(dqkv, heads)
    dy = heads_of(dcontext, heads)
    np.copyto(dv, np.matmul(probabilities.swapaxes(-1, -2), dy))
    dscores = np.matmul(dy, v.swapaxes(-1, -2))
    weigh_dx(dscores, probabilities, q.shape[-1])
    np.copyto(dq, np.matmul(dscores, k))
    np.copyto(dk, np.matmul(dscores.swapaxes(-1, -2), q))


def _weigh(scores: Array, hidden: Array | None, width: int) -> None:
    """Softmax of the scores over √width; hidden ones have probability 0."""
    np.multiply(scores, 1 / sqrt(width), out=scores)
    if hidden is not None:
        np.copyto(scores, -np.inf, where=hidden)
    softmax_forward(scores, scores, axis=scores.ndim - 1)


def _weigh_dx(dscores: Array, probabilities: Array, width: int) -> None:
    """The gradient of softmax, p·(dp - Σ dp·p), over √width."""
    np.subtract(dscores, np.einsum("nhqk,nhqk->nhq", dscores, probabilities)[..., None], out=dscores)
    np.multiply(dscores, probabilities, out=dscores)
    np.multiply(dscores, 1 / sqrt(width), out=dscores)
