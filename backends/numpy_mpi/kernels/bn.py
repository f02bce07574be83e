"""Batch normalisation over groups of consecutive samples of the global batch, in three layouts.

Sample i at hand is number `position` + i of a global batch of `count` samples and belongs to group
(position + i)//group; a remainder makes a smaller group. Tables are [groups of the global batch, channels]; those of a
microbatch, whose first sample is number `first`, have its groups alone. A group that spans ranks is computed in phases:
each rank fills its part of a table, and the tables are added up over the ranks before the next phase. What is added up
over groups (dscale, dshift, the running averages) is written by the rank that has a group's first sample, so that every
group counts once. Where rows of images are split, `pixels` is how many a whole image has: a rank then gives its pixels'
share of dscale and dshift.

The variance is taken in a second pass, around the mean: its error does not grow with the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .layout import Array, by_planes, logical


class Span(NamedTuple):
    """One group as far as its samples are at hand."""

    row: int  # of the group in tables
    samples: slice  # of x
    values: int  # how many values a channel has in the whole group
    first: bool  # whether the group's first sample is at hand


@by_planes(0, results=(5,))
def bn_forward(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    y: Array,
    batch_mean: Array,
    batch_rstd: Array,
    *,
    group: int,
    eps: float,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """y = (x - mean)·rstd·scale + shift by its group; `mean` and `variance`, the running averages, are not used."""
    sums, squares = np.empty_like(batch_mean), np.empty_like(batch_mean)
    at: dict[str, Any] = {"group": group, "count": count, "position": position, "first": first, "pixels": pixels}
    bn_sums(x, sums, **at, layout=layout)
    bn_squares(x, sums, squares, **at, layout=layout)
    bn_apply(x, scale, shift, sums, squares, y, batch_mean, batch_rstd, **at, eps=eps, layout=layout)


@by_planes(0)
def bn_sums(
    x: Array,
    sums: Array,
    *,
    group: int,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """x -> each group's sum over the samples at hand."""
    x = logical(x, layout)
    (sums,) = fitting(x, sums)
    sums.fill(0)
    for span in spans(x, group, count, position, first, pixels):
        np.add.reduce(x[span.samples], axis=summed(x), out=sums[span.row])


@by_planes(0)
def bn_squares(
    x: Array,
    sums: Array,
    squares: Array,
    *,
    group: int,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """x, whole sums -> each group's sum of (x - mean)² over the samples at hand; allocates one array like a group."""
    x = logical(x, layout)
    sums, squares = fitting(x, sums, squares)
    squares.fill(0)
    for span in spans(x, group, count, position, first, pixels):
        difference = x[span.samples] - per_channel(sums[span.row] / span.values, x)
        squares[span.row] = _products(difference, difference)


@by_planes(0, results=(5,))
def bn_apply(
    x: Array,
    scale: Array,
    shift: Array,
    sums: Array,
    squares: Array,
    y: Array,
    batch_mean: Array,
    batch_rstd: Array,
    *,
    group: int,
    eps: float,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """x, whole sums and sums of squares -> y, batch_mean, batch_rstd = 1/√(variance + ε) with the biased variance."""
    x, y = logical(x, layout), logical(y, layout)
    sums, squares = fitting(x, sums, squares)
    batch_mean.fill(0)
    batch_rstd.fill(0)
    for span in spans(x, group, count, position, first, pixels):
        mean, rstd = batch_mean[span.row], batch_rstd[span.row]
        np.divide(sums[span.row], span.values, out=mean)
        np.divide(1, np.sqrt(squares[span.row] / span.values + eps), out=rstd)
        _normalise(x[span.samples], mean, rstd * scale, shift, y[span.samples])


@by_planes(0, results=(5,))
def bn_inference(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    y: Array,
    *,
    eps: float,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """y = (x - mean)·scale/√(variance + ε) + shift with the running averages."""
    _normalise(logical(x, layout), mean, scale / np.sqrt(variance + eps), shift, logical(y, layout))


@by_planes(0, 1, results=(5,))
def bn_dx(
    dy: Array,
    x: Array,
    scale: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dx: Array,
    dscale: Array,
    dshift: Array,
    *,
    group: int,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """The gradients by x, scale and shift."""
    sums, products = np.empty_like(batch_mean), np.empty_like(batch_mean)
    at: dict[str, Any] = {"group": group, "count": count, "position": position, "first": first, "pixels": pixels}
    bn_grad_sums(dy, x, batch_mean, batch_rstd, sums, products, **at, layout=layout)
    bn_grad_apply(dy, x, scale, batch_mean, batch_rstd, sums, products, dx, dscale, dshift, **at, layout=layout)


@by_planes(0, 1)
def bn_grad_sums(
    dy: Array,
    x: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dy_sums: Array,
    dyx_sums: Array,
    *,
    group: int,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """Each group's sums of dy and of dy·x̂, x̂ = (x - mean)·rstd, over the samples at hand; allocates a group."""
    dy, x = logical(dy, layout), logical(x, layout)
    dy_sums, dyx_sums = fitting(x, dy_sums, dyx_sums)
    dy_sums.fill(0)
    dyx_sums.fill(0)
    for span in spans(x, group, count, position, first, pixels):
        part = dy[span.samples]
        np.add.reduce(part, axis=summed(x), out=dy_sums[span.row])
        difference = x[span.samples] - per_channel(batch_mean[span.row], x)
        dyx_sums[span.row] = _products(part, difference) * batch_rstd[span.row]


@by_planes(0, 1, results=(7,))
def bn_grad_apply(
    dy: Array,
    x: Array,
    scale: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dy_sums: Array,
    dyx_sums: Array,
    dx: Array,
    dscale: Array,
    dshift: Array,
    *,
    group: int,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """dx = scale·rstd·(dy - mean(dy) - x̂·mean(dy·x̂)); dscale = Σ dy·x̂ and dshift = Σ dy over the groups begun here."""
    dy, x, dx = logical(dy, layout), logical(x, layout), logical(dx, layout)
    share = share_of(pixels, x)
    dy_sums, dyx_sums = fitting(x, dy_sums, dyx_sums)
    dscale.fill(0)
    dshift.fill(0)
    for span in spans(x, group, count, position, first, pixels):
        mean, rstd = batch_mean[span.row], batch_rstd[span.row]
        slope = rstd * dyx_sums[span.row] / span.values
        part = dx[span.samples]
        np.subtract(x[span.samples], per_channel(mean, x), out=part)
        np.multiply(part, per_channel(-slope, x), out=part)
        np.add(part, dy[span.samples], out=part)
        np.subtract(part, per_channel(dy_sums[span.row] / span.values, x), out=part)
        np.multiply(part, per_channel(scale * rstd, x), out=part)
        if span.first:
            np.add(dscale, share * dyx_sums[span.row], out=dscale)
            np.add(dshift, share * dy_sums[span.row], out=dshift)


@by_planes()
def bn_statistics(
    x: Array,
    batch_mean: Array,
    batch_rstd: Array,
    mean_sum: Array,
    variance_sum: Array,
    *,
    group: int,
    eps: float,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    groups: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """The groups begun here: their means and unbiased variances, over the number of groups of the global batch.

    That is `groups` where it is given: of several batches each may end in a smaller group.
    """
    x = logical(x, layout)
    mean_sum.fill(0)
    variance_sum.fill(0)
    groups = groups or -(-count // group)
    for span in spans(x, group, count, position, first, pixels):
        if span.first:
            biased = 1 / np.square(batch_rstd[span.row]) - eps
            unbiased = biased * (span.values / max(1, span.values - 1))
            np.add(mean_sum, batch_mean[span.row] / groups, out=mean_sum)
            np.add(variance_sum, unbiased / groups, out=variance_sum)


def bn_update(
    mean: Array, variance: Array, mean_sum: Array, variance_sum: Array, *, momentum: float, **_: object
) -> None:
    """The running averages move towards this step's by the share `momentum`, in place."""
    for running, new in ((mean, mean_sum), (variance, variance_sum)):
        np.multiply(running, 1 - momentum, out=running)
        np.add(running, momentum * new, out=running)


def spans(x: Array, group: int, count: int, position: int, first: int = 0, pixels: int | None = None) -> Iterator[Span]:
    """The groups that the samples of x belong to, in order."""
    pixels = prod(x.shape[2:]) if pixels is None else pixels
    start, end = position, position + x.shape[0]
    while start < end:
        row = (start - first) // group
        begin = first + row * group
        stop = min(end, begin + group)
        members = min(group, count - begin)
        yield Span(row, slice(start - position, stop - position), members * pixels, start == begin)
        start = stop


def share_of(pixels: int | None, x: Array) -> float:
    """Which share of the pixels of whole images is at hand."""
    return 1.0 if pixels is None else prod(x.shape[2:]) / pixels


def fitting(x: Array, *tables: Array) -> list[Array]:
    """Tables of sums, which have room for the largest part, as far as the channels at hand go."""
    return [table[:, : x.shape[1]] for table in tables]


def summed(x: Array) -> tuple[int, ...]:
    """All axes but the channel."""
    return (0, *range(2, x.ndim))


def per_channel(values: Array, x: Array) -> Array:
    """Values [channel] so that they broadcast against x."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _products(a: Array, b: Array) -> Array:
    """Σ a·b for each channel."""
    axes = list(range(a.ndim))
    product: Array = np.einsum(a, axes, b, axes, [1])
    return product


def _normalise(x: Array, mean: Array, factor: Array, shift: Array, y: Array) -> None:
    np.subtract(x, per_channel(mean, x), out=y)
    np.multiply(y, per_channel(factor, x), out=y)
    np.add(y, per_channel(shift, x), out=y)
