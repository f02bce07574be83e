"""Layer, group and RMS normalisation: each sample by itself.

All three are one computation on views whose leading axes count the rows and whose other axes are reduced. The variance
is taken around the mean: its error does not grow with the mean.

Ranks that have different rows of the same images fill tables of sums, for each sample and group at hand, which are
added up over the ranks before group norm goes on; a table may be longer than it needs to be. `origin` tells how many
pixels whole images have.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from .layout import Array, Origin, logical


def layernorm_forward(
    x: Array, scale: Array, shift: Array, y: Array, mean: Array, rstd: Array, *, eps: float, **_: object
) -> None:
    """y = (x - mean)·rstd·scale + shift over the last axis; rstd = 1/√(variance + ε), the variance biased."""
    normalise(x, scale, shift, y, mean, rstd, eps)


def layernorm_dx(dy: Array, x: Array, scale: Array, mean: Array, rstd: Array, dx: Array, **_: object) -> None:
    """dx = rstd·(g - mean(g) - x̂·mean(g·x̂)), g = dy·scale and x̂ = (x - mean)·rstd."""
    normalise_dx(dy, x, scale, mean, rstd, dx)


def layernorm_dw(dy: Array, x: Array, mean: Array, rstd: Array, dscale: Array, dshift: Array, **_: object) -> None:
    """dscale = Σ dy·x̂, dshift = Σ dy over all rows."""
    dscale[...] = products(dy, standardised(x, mean, rstd), (x.ndim - 1,))
    np.add.reduce(dy, axis=tuple(range(dy.ndim - 1)), out=dshift)


def groupnorm_forward(
    x: Array,
    scale: Array,
    shift: Array,
    *arrays: Array,
    groups: int,
    eps: float,
    origin: Origin | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """The same over the channels of each group and all pixels; scale and shift belong to channels.

    x, scale, shift, [sums of x, sums of (x - mean)²] -> y, mean, rstd.
    """
    *tables, y, mean, rstd = arrays
    x, y = grouped(x, groups, layout), grouped(y, groups, layout)
    if origin is None:
        normalise(x, per_channel(scale, x), per_channel(shift, x), y, mean, rstd, eps)
        return
    values = values_of(x, origin)
    sums, squares = (of_groups(table, x) for table in tables)
    np.divide(sums, values, out=mean)
    reciprocal_root(squares / values, eps, rstd)
    np.subtract(x, wide(mean, x), out=y)
    np.multiply(y, wide(rstd, x), out=y)
    np.multiply(y, per_channel(scale, x), out=y)
    np.add(y, per_channel(shift, x), out=y)


def groupnorm_sums(
    x: Array, scale: Array, shift: Array, sums: Array, *, groups: int, layout: str = "NCHW", **_: object
) -> None:
    """x -> Σ x over the pixels at hand, for each sample and group."""
    x = grouped(x, groups, layout)
    sums.fill(0)
    np.add.reduce(x, axis=(2, *range(3, x.ndim)), out=of_groups(sums, x))


def groupnorm_squares(
    x: Array,
    scale: Array,
    shift: Array,
    sums: Array,
    squares: Array,
    *,
    groups: int,
    origin: Origin,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """x, whole sums -> Σ (x - mean)² over the pixels at hand."""
    x = grouped(x, groups, layout)
    squares.fill(0)
    centred = x - wide(of_groups(sums, x) / values_of(x, origin), x)
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
    """Σ g and, in the other half of the table, Σ g·x̂ over the pixels at hand, g = dy·scale."""
    dy, x = grouped(dy, groups, layout), grouped(x, groups, layout)
    gradient = dy * per_channel(scale, x)
    sums.fill(0)
    total, slope = (of_groups(half, x) for half in np.split(sums, 2))
    np.add.reduce(gradient, axis=reduced(x, mean), out=total)
    slope[...] = products(gradient, standardised(x, mean, rstd), (0, 1))


def groupnorm_dx(
    dy: Array,
    x: Array,
    scale: Array,
    mean: Array,
    rstd: Array,
    *arrays: Array,
    groups: int,
    origin: Origin | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """As `layernorm_dx`: dy, x, scale, mean, rstd, [sums of g and of g·x̂] -> dx."""
    *tables, dx = arrays
    dy, x, dx = (grouped(array, groups, layout) for array in (dy, x, dx))
    if origin is None:
        normalise_dx(dy, x, per_channel(scale, x), mean, rstd, dx)
        return
    total, slope = (of_groups(half, x) / values_of(x, origin) for half in np.split(tables[0], 2))
    np.multiply(dy, per_channel(scale, x), out=dx)
    np.subtract(dx, wide(total, x), out=dx)
    np.subtract(dx, standardised(x, mean, rstd) * wide(slope, x), out=dx)
    np.multiply(dx, wide(rstd, x), out=dx)


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
    """dscale = Σ dy·x̂, dshift = Σ dy over samples and pixels."""
    dy, x = grouped(dy, groups, layout), grouped(x, groups, layout)
    dscale.reshape(x.shape[1:3])[...] = products(dy, standardised(x, mean, rstd), (1, 2))
    np.add.reduce(dy, axis=(0, *range(3, dy.ndim)), out=dshift.reshape(dy.shape[1:3]))


def rmsnorm_forward(x: Array, scale: Array, y: Array, rstd: Array, *, eps: float, **_: object) -> None:
    """y = x·rstd·scale over the last axis, rstd = 1/√(mean(x²) + ε)."""
    reciprocal_root(products(x, x, range(rstd.ndim)) / x.shape[-1], eps, rstd)
    np.multiply(x, rstd[..., None], out=y)
    np.multiply(y, scale, out=y)


def rmsnorm_dx(dy: Array, x: Array, scale: Array, rstd: Array, dx: Array, **_: object) -> None:
    """dx = rstd·(g - x̂·mean(g·x̂)), g = dy·scale and x̂ = x·rstd."""
    np.multiply(dy, scale, out=dx)
    _project(dx, x * rstd[..., None], rstd)


def rmsnorm_dw(dy: Array, x: Array, rstd: Array, dscale: Array, **_: object) -> None:
    """dscale = Σ dy·x̂ over all rows."""
    dscale[...] = products(dy, x * rstd[..., None], (x.ndim - 1,))


def normalise(x: Array, scale: Array, shift: Array, y: Array, mean: Array, rstd: Array, eps: float) -> None:
    """x [rows …, reduced …] -> y, mean and rstd [rows …]; scale and shift broadcast against x."""
    np.mean(x, axis=reduced(x, mean), out=mean)
    np.subtract(x, wide(mean, x), out=y)
    reciprocal_root(products(y, y, range(mean.ndim)) / prod(x.shape[mean.ndim :]), eps, rstd)
    np.multiply(y, wide(rstd, x), out=y)
    np.multiply(y, scale, out=y)
    np.add(y, shift, out=y)


def normalise_dx(dy: Array, x: Array, scale: Array, mean: Array, rstd: Array, dx: Array) -> None:
    """dx of `normalise`; allocates one array like x."""
    np.multiply(dy, scale, out=dx)
    np.subtract(dx, dx.mean(axis=reduced(x, mean), keepdims=True), out=dx)
    _project(dx, standardised(x, mean, rstd), rstd)


def grouped(x: Array, groups: int, layout: str) -> Array:
    """A view [batch, group, channel of the group, …] of x: cutting one axis never copies."""
    x = logical(x, layout)
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def of_groups(table: Array, x: Array) -> Array:
    """The entries [batch, group] of a table that belong to the samples and groups of the view x of `grouped`."""
    return table[: x.shape[0] * x.shape[1]].reshape(x.shape[:2])


def values_of(x: Array, origin: Origin) -> int:
    """How many values a group of a whole sample has, for the view x of `grouped`."""
    return int(x.shape[2]) * prod(whole for _, whole in origin[0][2:])


def per_channel(values: Array, x: Array) -> Array:
    """Values [channel] so that they broadcast against the view x of `grouped`."""
    return values.reshape(*x.shape[1:3], *(1,) * (x.ndim - 3))


def standardised(x: Array, mean: Array, rstd: Array) -> Array:
    """x̂ = (x - mean)·rstd, a new array."""
    centred: Array = x - wide(mean, x)
    np.multiply(centred, wide(rstd, x), out=centred)
    return centred


def products(a: Array, b: Array, kept: Iterable[int]) -> Array:
    """Σ a·b over all axes but those kept."""
    axes = list(range(a.ndim))
    found: Array = np.einsum(a, axes, b, axes, list(kept))
    return found


def wide(rows: Array, x: Array) -> Array:
    """A value for each row, so that it broadcasts against x."""
    return rows.reshape(*rows.shape, *(1,) * (x.ndim - rows.ndim))


def reduced(x: Array, rows: Array) -> tuple[int, ...]:
    """The axes of x behind those that count its rows."""
    return tuple(range(rows.ndim, x.ndim))


def reciprocal_root(variance: Array, eps: float, rstd: Array) -> None:
    """rstd = 1/√(variance + ε)."""
    np.add(variance, eps, out=rstd)
    np.sqrt(rstd, out=rstd)
    np.divide(1, rstd, out=rstd)


def _project(g: Array, standard: Array, rstd: Array) -> None:
    """g = (g - x̂·mean(g·x̂))·rstd in place, for x̂ = `standard`, which is spoilt."""
    slope = products(g, standard, range(rstd.ndim)) / prod(g.shape[rstd.ndim :])
    np.multiply(standard, wide(slope, g), out=standard)
    np.subtract(g, standard, out=g)
    np.multiply(g, wide(rstd, g), out=g)
