"""Stand-ins for `dlc verify --exact`: integers in, integers out, so that sums are equal bit for bit in any order.

Activations, norms, losses, means and update rules are replaced by functions of the same signatures that look at the
same operands, sum over the same samples and use the same counts and positions, but compute with integers
(reliability.md, exact mode). They are no derivatives of each other: what matters is that a wrong shard, group, count
or order of steps changes the result.

Activations, norms and the gradients behind them are folded into the integers -3..3, weights start in -2..2: a sum of m
products is at most 9m. float64 adds integers exactly below 2**53, so m may be 10**15 (float32: below 2**24, too few;
programs are verified in float64). Inputs must be integers as well. Rates are powers of two, and so exact too.
Linear maps, convolutions (direct and im2col), maxpool, sums, shapes and clipping by value are exact as they are.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .bn import bn_grad_sums, bn_sums, fitting, per_channel, spans, summed
from .dot import square_sum
from .gradients import clip as clip_exactly
from .gradients import clip_squares as clip_squares_of
from .layout import Array, Origin, logical, physical, physical_axis
from .philox import Key, drawn, words


def fold(x: Array, y: Array) -> None:
    """y = the integer in -3..3 that x, rounded down, is congruent to modulo 7."""
    np.floor(x, out=y)
    np.add(y, 3, out=y)
    np.remainder(y, 7, out=y)
    np.subtract(y, 3, out=y)


def folded(x: Array) -> Array:
    """The same as a new array."""
    y = np.empty_like(x)
    fold(x, y)
    return y


def share(count: int) -> int:
    """Stands for the division by `count`: a small factor that differs between neighbouring counts."""
    return 1 + count % 4


def relu_forward(x: Array, y: Array, **_: object) -> None:
    """max(x, 0), folded."""
    np.maximum(x, 0, out=y)
    fold(y, y)


def tanh_forward(x: Array, y: Array, **_: object) -> None:
    """x, folded."""
    fold(x, y)


def sigmoid_forward(x: Array, y: Array, **_: object) -> None:
    """x + 1, folded."""
    np.add(x, 1, out=y)
    fold(y, y)


def activation_dx(dy: Array, y: Array, dx: Array, **_: object) -> None:
    """dy·(1 + |y|), folded; stands for the gradient of every activation."""
    np.multiply(np.abs(y) + 1, dy, out=dx)  # it may lie where dy or y does
    fold(dx, dx)


def softmax_forward(x: Array, y: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """x + Σx along the axis, folded."""
    fold(x, y)
    np.add(y, y.sum(axis=physical_axis(axis, layout, y.ndim), keepdims=True), out=y)
    fold(y, y)


def softmax_dx(dy: Array, y: Array, dx: Array, *, axis: int, layout: str = "NCHW", **_: object) -> None:
    """y·dy - Σ y·dy along the axis, folded."""
    np.multiply(dy, y, out=dx)
    np.subtract(dx, dx.sum(axis=physical_axis(axis, layout, y.ndim), keepdims=True), out=dx)
    fold(dx, dx)


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
    """x where the real mask keeps it; nothing is scaled."""
    np.copyto(mask, drawn(x, key, step, position, origin) >= p, casting="unsafe")
    np.multiply(x, mask, out=y)


def dropout_dx(dy: Array, mask: Array, dx: Array, **_: object) -> None:
    """dy where x was kept."""
    np.multiply(dy, mask, out=dx)


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
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """The phases in a row, as the real kernel's."""
    sums, squares = np.empty_like(batch_mean), np.empty_like(batch_mean)
    at: dict[str, Any] = {"group": group, "count": count, "position": position, "first": first, "pixels": pixels}
    bn_sums(x, sums, **at, layout=layout)
    bn_squares(x, sums, squares, **at, layout=layout)
    bn_apply(x, scale, shift, sums, squares, y, batch_mean, batch_rstd, **at, layout=layout)


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
    """Each group's sum of (x - sum)², the difference folded, over the samples at hand."""
    x = logical(x, layout)
    sums, squares = fitting(x, sums, squares)
    squares.fill(0)
    for span in spans(x, group, count, position, first, pixels):
        difference = folded(x[span.samples] - per_channel(sums[span.row], x))
        np.add.reduce(difference * difference, axis=summed(x), out=squares[span.row])


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
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """(x - mean)·rstd·scale + shift, folded, with the folded sums as mean and the folded squares as rstd."""
    x, y = logical(x, layout), logical(y, layout)
    sums, squares = fitting(x, sums, squares)
    batch_mean.fill(0)
    batch_rstd.fill(0)
    for span in spans(x, group, count, position, first, pixels):
        mean, rstd = batch_mean[span.row], batch_rstd[span.row]
        fold(sums[span.row] + span.values, mean)
        fold(squares[span.row], rstd)
        centred = folded(x[span.samples] - per_channel(mean, x))
        fold(centred * per_channel(rstd * scale, x) + per_channel(shift, x), y[span.samples])


def bn_inference(
    x: Array,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    y: Array,
    *,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """(x - mean)·(scale + variance) + shift, folded."""
    x, y = logical(x, layout), logical(y, layout)
    centred = folded(x - per_channel(mean, x))
    fold(centred * per_channel(scale + variance, x) + per_channel(shift, x), y)


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
    """The phases in a row; the sums are those of the real kernel."""
    sums, products = np.empty_like(batch_mean), np.empty_like(batch_mean)
    at: dict[str, Any] = {"group": group, "count": count, "position": position, "first": first, "pixels": pixels}
    bn_grad_sums(dy, x, batch_mean, batch_rstd, sums, products, **at, layout=layout)
    bn_grad_apply(dy, x, scale, batch_mean, batch_rstd, sums, products, dx, dscale, dshift, **at, layout=layout)


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
    """dy·scale - Σdy - (x - mean)·Σ(dy·x̂), folded, and the sums at hand: shares of pixels are no integers."""
    dy, x, dx = logical(dy, layout), logical(x, layout), logical(dx, layout)
    dy_sums, dyx_sums = fitting(x, dy_sums, dyx_sums)
    for span in spans(x, group, count, position, first, pixels):
        slope = folded(dyx_sums[span.row]) * batch_rstd[span.row]
        centred = folded(x[span.samples] - per_channel(batch_mean[span.row], x))
        spread = per_channel(folded(dy_sums[span.row]), x) + centred * per_channel(slope, x)
        fold(dy[span.samples] * per_channel(scale, x) - spread, dx[span.samples])
    here, products = np.empty_like(batch_mean), np.empty_like(batch_mean)
    at = {"group": group, "count": count, "position": position, "first": first}
    bn_grad_sums(physical(dy, layout), physical(x, layout), batch_mean, batch_rstd, here, products, **at, layout=layout)
    np.add.reduce(here, axis=0, out=dshift)
    np.add.reduce(products, axis=0, out=dscale)


def bn_statistics(
    x: Array,
    batch_mean: Array,
    batch_rstd: Array,
    mean_sum: Array,
    variance_sum: Array,
    *,
    group: int,
    count: int,
    position: int = 0,
    first: int = 0,
    pixels: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> None:
    """The sums over the groups begun here."""
    mean_sum.fill(0)
    variance_sum.fill(0)
    for span in spans(logical(x, layout), group, count, position, first, pixels):
        if span.first:
            np.add(mean_sum, batch_mean[span.row], out=mean_sum)
            np.add(variance_sum, batch_rstd[span.row], out=variance_sum)


def bn_update(mean: Array, variance: Array, mean_sum: Array, variance_sum: Array, **_: object) -> None:
    """The running values and this step's are added up and folded."""
    fold(mean + mean_sum, mean)
    fold(variance + variance_sum, variance)


def clip(
    *arrays: Array,
    kind: Literal["norm", "value"],
    bound: float,
    copies: tuple[int, ...] | None = None,
    **_: object,
) -> None:
    """By norm: all gradients by a power of two that depends on the sum of squares of all of them, folded.

    Shares of a sum that several ranks have make an integer again, but for rounding.
    """
    gradients = arrays if copies is None else arrays[:-1]
    if kind == "value":
        clip_exactly(*gradients, kind=kind, bound=bound)
        return
    squares = (square_sum(folded(gradient)) for gradient in gradients)
    total = sum(squares) if copies is None else round(float(arrays[-1][0]))
    for gradient in gradients:
        np.multiply(gradient, 2.0 ** -(total % 4), out=gradient)


def clip_squares(*arrays: Array, copies: tuple[int, ...], **_: object) -> None:
    """Of the folded gradients."""
    *gradients, total = arrays
    clip_squares_of(*(folded(gradient) for gradient in gradients), total, copies=copies)


def initialise(weight: Array, *, key: Key, **_: Any) -> None:
    """Integers in -2..2, whatever the kind of initialisation."""
    drawn = words([0], weight.size, key)[0] % 5
    np.copyto(weight, drawn.reshape(weight.shape).astype(np.int64) - 2, casting="unsafe")
