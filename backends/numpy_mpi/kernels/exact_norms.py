"""Integer stand-ins of norms and attention; see `exact`.

They see the same rows, groups, neighbours and heads as the real kernels. What a gradient of a weight adds up over
samples is not folded, so that the shares of ranks add up.
"""

from __future__ import annotations

import numpy as np

from .attention import attend, attend_dx, halves, later, projections
from .exact import fold, folded
from .layout import Array, Origin, logical
from .linear import linear_dw, linear_dx, linear_forward
from .lrn import add_neighbours
from .norms import grouped, of_groups, per_channel, products, reduced, wide


def layernorm_forward(x: Array, scale: Array, shift: Array, y: Array, mean: Array, rstd: Array, **_: object) -> None:
    """(x - mean)·rstd·scale + shift, folded; mean is the folded sum of a row, rstd that of its squares."""
    normalise(x, scale, shift, y, mean, rstd)


def layernorm_dx(dy: Array, x: Array, scale: Array, mean: Array, rstd: Array, dx: Array, **_: object) -> None:
    """g - Σ g - (x - mean)·rstd·Σ g·(x - mean), folded, g = dy·scale."""
    normalise_dx(dy, x, scale, mean, rstd, dx)


def layernorm_dw(dy: Array, x: Array, mean: Array, rstd: Array, dscale: Array, dshift: Array, **_: object) -> None:
    """Σ dy·(x - mean)·rstd and Σ dy over all rows, dy folded before."""
    g, kept = folded(dy), (x.ndim - 1,)
    dscale[...] = products(g, folded(x - wide(mean, x)) * wide(rstd, x), kept)
    dshift[...] = products(g, np.ones_like(g), kept)


def groupnorm_forward(
    x: Array,
    scale: Array,
    shift: Array,
    *arrays: Array,
    groups: int,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """As `layernorm_forward` over each group of channels; tables have the sums over whole images."""
    *tables, y, mean, rstd = arrays
    x, y = grouped(x, groups, layout), grouped(y, groups, layout)
    if not tables:
        normalise(x, per_channel(scale, x), per_channel(shift, x), y, mean, rstd)
        return
    for table, row in zip(tables, (mean, rstd), strict=True):
        fold(of_groups(table, x), row)
    centred = folded(x - wide(mean, x))
    fold(centred * wide(rstd, x) * per_channel(scale, x) + per_channel(shift, x), y)


def groupnorm_squares(
    x: Array,
    scale: Array,
    shift: Array,
    sums: Array,
    squares: Array,
    *,
    groups: int,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """Σ of the squares of x - mean, folded, over the pixels at hand."""
    x = grouped(x, groups, layout)
    squares.fill(0)
    centred = folded(x - wide(folded(of_groups(sums, x)), x))
    of_groups(squares, x)[...] = products(centred, centred, (0, 1))


def groupnorm_slopes(
    dy: Array,
    x: Array,
    scale: Array,
    mean: Array,
    rstd: Array,
    sums: Array,
    *,
    groups: int,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """Σ g and Σ g·(x - mean), the difference folded, over the pixels at hand, g = dy·scale."""
    dy, x = grouped(dy, groups, layout), grouped(x, groups, layout)
    g = dy * per_channel(scale, x)
    sums.fill(0)
    total, slope = (of_groups(half, x) for half in np.split(sums, 2))
    total[...] = g.sum(axis=reduced(x, mean))
    slope[...] = products(g, folded(x - wide(mean, x)), (0, 1))


def groupnorm_dx(
    dy: Array,
    x: Array,
    scale: Array,
    mean: Array,
    rstd: Array,
    *arrays: Array,
    groups: int,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """As `layernorm_dx` over each group of channels; a table has the sums over whole images."""
    *tables, dx = arrays
    dy, x, dx = (grouped(array, groups, layout) for array in (dy, x, dx))
    if not tables:
        normalise_dx(dy, x, per_channel(scale, x), mean, rstd, dx)
        return
    total, slope = (folded(of_groups(half, x)) for half in np.split(tables[0], 2))
    centred = folded(x - wide(mean, x))
    fold(dy * per_channel(scale, x) - wide(total, x) - centred * wide(slope * rstd, x), dx)


def groupnorm_dw(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    dscale: Array,
    dshift: Array,
    *,
    groups: int,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """As `layernorm_dw` over samples and pixels."""
    g, x = folded(grouped(dy, groups, layout)), grouped(x, groups, layout)
    dscale.reshape(x.shape[1:3])[...] = products(g, folded(x - wide(mean, x)) * wide(rstd, x), (1, 2))
    dshift.reshape(x.shape[1:3])[...] = products(g, np.ones_like(g), (1, 2))


def rmsnorm_forward(x: Array, scale: Array, y: Array, rstd: Array, **_: object) -> None:
    """x·rstd·scale, folded; rstd is the folded sum of the squares of a row's folded elements."""
    standard = folded(x)
    fold((standard * standard).sum(axis=-1), rstd)
    fold(standard * rstd[..., None] * scale, y)


def rmsnorm_dx(dy: Array, x: Array, scale: Array, rstd: Array, dx: Array, **_: object) -> None:
    """g - x·rstd·Σ g·x, folded, g = dy·scale."""
    g, standard = dy * scale, folded(x)
    slope = folded((g * standard).sum(axis=-1)) * rstd
    fold(g - standard * slope[..., None], dx)


def rmsnorm_dw(dy: Array, x: Array, rstd: Array, dscale: Array, **_: object) -> None:
    """Σ dy·x·rstd over all rows, dy and x folded before."""
    dscale[...] = products(folded(dy), folded(x) * rstd[..., None], (x.ndim - 1,))


def normalise(x: Array, scale: Array, shift: Array, y: Array, mean: Array, rstd: Array) -> None:
    """Rows and reduced axes are those of the real kernels."""
    fold(x.sum(axis=reduced(x, mean)), mean)
    centred = folded(x - wide(mean, x))
    fold((centred * centred).sum(axis=reduced(x, mean)), rstd)
    fold(centred * wide(rstd, x) * scale + shift, y)


def normalise_dx(dy: Array, x: Array, scale: Array, mean: Array, rstd: Array, dx: Array) -> None:
    """Sums go over the same elements as the real kernels'."""
    g, centred = dy * scale, folded(x - wide(mean, x))
    total = folded(g.sum(axis=reduced(x, mean)))
    slope = folded((g * centred).sum(axis=reduced(x, mean))) * rstd
    fold(g - wide(total, x) - centred * wide(slope, x), dx)


def lrn_forward(x: Array, y: Array, base: Array, *, size: int, layout: str = "NCHW", **_: object) -> None:
    """base is the folded sum of the neighbours' folded elements; y = x·(1 + |base|), folded."""
    x, y, base = (logical(array, layout) for array in (x, y, base))
    add_neighbours(folded(x), size, base)
    fold(base, base)
    fold(folded(x) * (1 + np.abs(base)), y)


def lrn_dx(dy: Array, x: Array, base: Array, dx: Array, *, size: int, layout: str = "NCHW", **_: object) -> None:
    """dy·(1 + |base|) - x·Σ dy·x over the neighbours behind, folded."""
    dy, x, base, dx = (logical(array, layout) for array in (dy, x, base, dx))
    add_neighbours(folded(dy * folded(x)), size, dx, behind=True)
    fold(dy * (1 + np.abs(base)) - folded(x) * dx, dx)


def weight_norm_forward(direction: Array, magnitude: Array, y: Array, **_: object) -> None:
    """The direction plus its magnitude, folded."""
    fold(direction + magnitude, y)


def weight_norm_dw(
    dy: Array, direction: Array, magnitude: Array, ddirection: Array, dmagnitude: Array, **_: object
) -> None:
    """dy·(1 + |magnitude|), and Σ dy·direction over the row: linear in dy, as the shares of ranks must add up."""
    np.multiply(dy, 1 + np.abs(folded(magnitude)), out=ddirection)
    dmagnitude[...] = (dy * folded(direction)).sum(axis=tuple(range(1, dy.ndim)), keepdims=True)


def causal_mask_forward(x: Array, y: Array, *, origin: Origin | None = None, **_: object) -> None:
    """0 stands for -∞."""
    np.copyto(y, x)
    np.copyto(y, 0, where=later(x, origin))


def attention_forward(x: Array, *rest: Array, heads: int, causal: bool, **_: object) -> None:
    """As the real kernel; q, k and v, probabilities and context are folded."""
    inside, outside, (y, qkv, probabilities, context) = projections(rest)
    linear_forward(x, *inside, qkv)
    fold(qkv, qkv)
    attend(qkv, probabilities, context, heads, causal, _weigh)
    fold(context, context)
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
    """As the real kernel; gradients of scores and of q, k and v are folded."""
    into, outward = halves(gradients)
    dcontext, dqkv = np.empty_like(context), np.empty_like(qkv)
    linear_dx(dy, out_proj_weight, dcontext)
    linear_dw(dy, context, *outward)
    attend_dx(dcontext, qkv, probabilities, dqkv, heads, _weigh_dx)
    fold(dqkv, dqkv)
    linear_dx(dqkv, in_proj_weight, dx)
    linear_dw(dqkv, x, *into)


def _weigh(scores: Array, hidden: Array | None, width: int) -> None:
    """The scores and their sum, folded; hidden ones are 0 before and after."""
    fold(scores, scores)
    shown = 1 if hidden is None else ~hidden
    np.multiply(scores, shown, out=scores)
    np.add(scores, scores.sum(axis=-1, keepdims=True), out=scores)
    fold(scores, scores)
    np.multiply(scores, shown, out=scores)


def _weigh_dx(dscores: Array, probabilities: Array, width: int) -> None:
    np.multiply(dscores, probabilities, out=dscores)
    np.subtract(dscores, dscores.sum(axis=-1, keepdims=True), out=dscores)
    fold(dscores, dscores)
