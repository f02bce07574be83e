"""Launches of batch normalisation: those of each group that has samples at hand.

Parts of a channel's values are summed up by a block each; then a warp a channel adds up what these know.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .cu_bn_groups import Group, channels_of, groups_of, zero_unless_begun, zeros
from .launch import Array, Room, Steps, each


class Values(NamedTuple):
    """What y is computed of besides a mean and a deviation, and whether it passes a ReLU then."""

    x: Array
    scale: Array
    shift: Array
    y: Array
    added: Array | None = None
    relu: bool = False

    def of(self, group: Group, mean: Array, rstd: Array | Room) -> Steps:
        """y of a mean and 1/√(variance + ε) by channel."""
        added = None if self.added is None else group.of(self.added)
        arrays = (group.of(self.x), mean, rstd, self.scale, self.shift, added, group.of(self.y))
        return group.each_value("bn_forward_values", *arrays, more=int(self.relu))


def bn_forward(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, y: Array, *tables: Array, **told: Any
) -> Steps | None:
    """Sums, then values."""
    return normalise(Values(x, scale, shift, y), *tables, **told)


def normalise(values: Values, batch_mean: Array, batch_rstd: Array, *, eps: float, **told: Any) -> Steps | None:
    """y of a group's own mean and variance."""
    groups = groups_of(values.x, **told)
    if groups is None:
        return None
    steps = zeros(groups, values.scale.size, batch_mean, batch_rstd)
    for group in groups:
        mean, rstd = batch_mean[group.row], batch_rstd[group.row]
        summed, known, parts = group.sums("bn_forward_moments", 3, group.of(values.x))
        finished = group.finish("bn_forward_finish", known, mean, rstd, parts, float(eps))
        steps += (*summed, *finished, *values.of(group, mean, rstd))
    return steps


def bn_sums(x: Array, sums: Array, **told: Any) -> Steps | None:
    """Of the samples at hand."""
    groups = groups_of(x, **told)
    if groups is None:
        return None
    steps = zeros(groups, channels_of(x, **told), sums)
    for group in groups:
        summed, known, parts = group.sums("bn_forward_moments", 3, group.of(x))
        steps += (*summed, *group.finish("bn_sums_finish", known, sums[group.row], parts))
    return steps


def bn_squares(x: Array, sums: Array, squares: Array, **told: Any) -> Steps | None:
    """Of the samples at hand, around the mean of all."""
    groups = groups_of(x, **told)
    if groups is None:
        return None
    steps = zeros(groups, channels_of(x, **told), squares)
    for group in groups:
        summed, known, parts = group.sums("bn_forward_moments", 3, group.of(x))
        tables = (sums[group.row], squares[group.row])
        steps += (*summed, *group.finish("bn_squares_finish", known, *tables, parts, float(group.values)))
    return steps


def bn_apply(
    x: Array, scale: Array, shift: Array, sums: Array, squares: Array, y: Array, *tables: Array, **told: Any
) -> Steps | None:
    """Values of whole sums."""
    return apply(Values(x, scale, shift, y), sums, squares, *tables, **told)


def apply(
    values: Values, sums: Array, squares: Array, batch_mean: Array, batch_rstd: Array, *, eps: float, **told: Any
) -> Steps | None:
    """y of a group's whole sums and sums of squares."""
    groups = groups_of(values.x, **told)
    if groups is None:
        return None
    steps = zeros(groups, values.scale.size, batch_mean, batch_rstd)
    for group in groups:
        mean, rstd = batch_mean[group.row], batch_rstd[group.row]
        tables = (sums[group.row], squares[group.row], mean, rstd)
        steps += group.each_channel("bn_apply_finish", *tables, numbers=(float(group.values), float(eps)))
        steps += values.of(group, mean, rstd)
    return steps


def bn_inference(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, y: Array, **told: Any
) -> Steps | None:
    """Values of the running averages."""
    return infer(Values(x, scale, shift, y), mean, variance, **told)


def infer(
    values: Values, mean: Array, variance: Array, *, eps: float, layout: str = "NCHW", **_: object
) -> Steps | None:
    """y of the running averages."""
    steps: Steps = ()
    x = values.x
    samples = x.shape[3] if x.ndim == 4 and layout == "CHWN" else x.shape[0]
    groups = groups_of(x, max(1, samples), samples, layout=layout)
    if groups is None:
        return None
    for group in groups:
        rstd = Room(group.channels)
        steps += group.each_channel("bn_inference_finish", variance, rstd, numbers=(float(eps),))
        steps += values.of(group, mean, rstd)
    return steps


def bn_dx(
    dy: Array,
    x: Array,
    scale: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dx: Array,
    dscale: Array,
    dshift: Array,
    **told: Any,
) -> Steps | None:
    """Sums, then values."""
    return gradients(dy, None, x, scale, batch_mean, batch_rstd, dx, dscale, dshift, **told)


def gradients(
    dy: Array,
    y: Array | None,
    x: Array,
    scale: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dx: Array,
    dscale: Array,
    dshift: Array,
    **told: Any,
) -> Steps | None:
    """The gradients by x, scale and shift; where y is given dy counts where y > 0."""
    groups = groups_of(x, **told)
    if groups is None:
        return None
    steps: Steps = ()
    for group in groups:
        sums, products = Room(group.channels), Room(group.channels)
        steps += sums_of_dy(group, dy, y, x, batch_mean, batch_rstd, sums, products)
        steps += values_of_dx(group, dy, y, x, scale, batch_mean, batch_rstd, sums, products, dx)
        steps += shares_of(group, sums, products, dscale, dshift)
    return (*zero_unless_begun(groups, dscale, dshift), *steps)


def sums_of_dy(
    group: Group,
    dy: Array,
    y: Array | None,
    x: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dy_sums: Array | Room,
    dyx_sums: Array | Room,
) -> Steps:
    """Σ dy and Σ dy·x̂ of a group's samples at hand."""
    mean, rstd = batch_mean[group.row], batch_rstd[group.row]
    slopes = (group.of(dy), None if y is None else group.of(y))
    summed, known, parts = group.sums("bn_dx_sums", 2, *slopes, group.of(x), mean)
    return (*summed, *group.finish("bn_dx_finish", known, rstd, dy_sums, dyx_sums, parts))


def values_of_dx(
    group: Group,
    dy: Array,
    y: Array | None,
    x: Array,
    scale: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dy_sums: Array | Room,
    dyx_sums: Array | Room,
    dx: Array,
) -> Steps:
    """The gradient by x, of whole sums."""
    slopes = (group.of(dy), None if y is None else group.of(y), group.of(x), scale)
    tables = (batch_mean[group.row], batch_rstd[group.row], dy_sums, dyx_sums)
    return group.each_value("bn_dx_values", *slopes, *tables, group.of(dx), more=1 / group.values)


def shares_of(group: Group, dy_sums: Array | Room, dyx_sums: Array | Room, dscale: Array, dshift: Array) -> Steps:
    """What a group that begins here adds to the gradients by scale and shift."""
    numbers = (int(group.adds), group.share)
    return group.each_channel("bn_dx_shares", dy_sums, dyx_sums, dscale, dshift, numbers=numbers) if group.first else ()


def bn_grad_sums(
    dy: Array, x: Array, batch_mean: Array, batch_rstd: Array, dy_sums: Array, dyx_sums: Array, **told: Any
) -> Steps | None:
    """Of the samples at hand."""
    groups = groups_of(x, **told)
    if groups is None:
        return None
    steps = zeros(groups, batch_mean.shape[-1], dy_sums, dyx_sums)
    for group in groups:
        tables = (dy_sums[group.row], dyx_sums[group.row])
        steps += sums_of_dy(group, dy, None, x, batch_mean, batch_rstd, *tables)
    return steps


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
    **told: Any,
) -> Steps | None:
    """Values of whole sums."""
    groups = groups_of(x, **told)
    if groups is None:
        return None
    steps = zero_unless_begun(groups, dscale, dshift)
    for group in groups:
        tables = (dy_sums[group.row], dyx_sums[group.row])
        steps += values_of_dx(group, dy, None, x, scale, batch_mean, batch_rstd, *tables, dx)
        steps += shares_of(group, *tables, dscale, dshift)
    return steps


def bn_statistics(
    x: Array,
    batch_mean: Array,
    batch_rstd: Array,
    mean_sum: Array,
    variance_sum: Array,
    *,
    group: int,
    count: int,
    eps: float,
    groups: int | None = None,
    **told: Any,
) -> Steps | None:
    """A group after the other."""
    found = groups_of(x, group, count, **told)
    if found is None:
        return None
    steps = zero_unless_begun(found, mean_sum, variance_sum)
    for one in (begun for begun in found if begun.first):
        tables = (batch_mean[one.row], batch_rstd[one.row], mean_sum, variance_sum)
        unbiased = one.values / max(1, one.values - 1)
        numbers = (int(one.adds), float(groups or -(-count // group)), unbiased, float(eps))
        steps += one.each_channel("", *tables, numbers=numbers)
    return steps


def bn_update(
    mean: Array, variance: Array, mean_sum: Array, variance_sum: Array, *, momentum: float, **_: object
) -> Steps:
    """A thread a channel."""
    return each(mean.size, mean, variance, mean_sum, variance_sum, numbers=(float(momentum),))
