"""Launches of layer, RMS and group normalisation: a block a row, for weights blocks of 32 columns and a warp each."""

from __future__ import annotations

from math import prod
from typing import Any

from .cu_sums import columns_of_blocks, parts_of_rows
from .launch import MOST_COUNTED, THREADS, Array, Launch, Room, Steps, each, reciprocal, rows

Origin = tuple[tuple[tuple[int, int], ...], ...]


def layernorm_forward(
    x: Array, scale: Array, shift: Array, y: Array, mean: Array, rstd: Array, *, eps: float, **_: object
) -> Steps:
    """A block a row."""
    return _rows(x, x, scale, shift, y, mean, rstd, more=(float(eps),))


def layernorm_dx(dy: Array, x: Array, scale: Array, mean: Array, rstd: Array, dx: Array, **_: object) -> Steps:
    """A block a row."""
    return _rows(x, dy, x, scale, mean, rstd, dx)


def layernorm_dw(dy: Array, x: Array, mean: Array, rstd: Array, dscale: Array, dshift: Array, **_: object) -> Steps:
    """Parts of 32 columns, then a warp a column."""
    return _columns(dy, x, mean, rstd, dscale, dshift)


def rmsnorm_forward(x: Array, scale: Array, y: Array, rstd: Array, *, eps: float, **_: object) -> Steps:
    """A block a row."""
    return _rows(x, x, scale, y, rstd, more=(float(eps),))


def rmsnorm_dx(dy: Array, x: Array, scale: Array, rstd: Array, dx: Array, **_: object) -> Steps:
    """A block a row."""
    return _rows(x, dy, x, scale, rstd, dx)


def rmsnorm_dw(dy: Array, x: Array, rstd: Array, dscale: Array, **_: object) -> Steps:
    """As `layernorm_dw`, without a mean and a shift."""
    return _columns(dy, x, None, rstd, dscale, None)


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
) -> Steps | None:
    """A block a sample's group; of whole sums where rows of images are split."""
    *tables, y, mean, rstd = arrays
    given = (x, scale, shift, *(table for table in tables if origin), y, mean, rstd)
    if origin is None:
        return _grouped(x, groups, layout, *given, more=(float(eps),))
    more = (_values(x, groups, origin, layout), float(eps))
    return _grouped(x, groups, layout, *given, more=more, kernel="groupnorm_forward_apply")


def groupnorm_sums(
    x: Array, scale: Array, shift: Array, sums: Array, *, groups: int, layout: str = "NCHW", **_: object
) -> Steps | None:
    """A block a sample's group."""
    steps = _grouped(x, groups, layout, x, sums)
    return None if steps is None else (*steps, *_zero(sums, x, groups, layout))


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
) -> Steps | None:
    """A block a sample's group."""
    steps = _grouped(x, groups, layout, x, sums, squares, more=(_values(x, groups, origin, layout),))
    return None if steps is None else (*steps, *_zero(squares, x, groups, layout))


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
) -> Steps | None:
    """A block a sample's group."""
    totals, slopes = _halves(sums)
    steps = _grouped(x, groups, layout, dy, x, scale, mean, rstd, totals, slopes)
    return None if steps is None else (*steps, *_zero(totals, x, groups, layout), *_zero(slopes, x, groups, layout))


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
) -> Steps | None:
    """A block a sample's group; of whole sums where rows of images are split."""
    *tables, dx = arrays
    sums = _halves(tables[0]) if origin else (None, None)
    values = (
        _values(x, groups, origin, layout) if origin else float(_extents(x, layout)[1] // groups * _pixels(x, layout))
    )
    return _grouped(x, groups, layout, dy, x, scale, mean, rstd, *sums, dx, more=(values,))


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
) -> Steps | None:
    """A block a channel."""
    if x.size >= MOST_COUNTED:
        return None
    (samples, channels), pixels = _extents(x, layout), _pixels(x, layout)
    together, outer, inner, channel = {
        "NCHW": (pixels, channels * pixels, 1, pixels),
        "NHWC": (pixels, channels * pixels, channels, 1),
        "CHWN": (samples, samples, 1, pixels * samples),
    }[_layout(x, layout)]
    lie = (groups, channels // groups, together, outer, inner, channel, int(_layout(x, layout) == "CHWN"))
    return rows(channels, dy, x, mean, rstd, dscale, dshift, lie, reciprocal(together), samples * pixels)


def _rows(x: Array, *arrays: Array, more: tuple[float, ...] = ()) -> Steps:
    """A block for each row of the last axis."""
    width = x.shape[-1]
    return rows(prod(x.shape[:-1]), *arrays, width, *more, threads=_threads(width))


def _columns(dy: Array, x: Array, mean: Array | None, rstd: Array, dscale: Array, dshift: Array | None) -> Steps:
    """Σ dy·x̂ and Σ dy of each column."""
    count, width = prod(x.shape[:-1]), x.shape[-1]
    parts = parts_of_rows(width, count)
    room = Room(2 * parts * width)
    blocks = (columns_of_blocks(width), parts)
    return (
        Launch((dy, x, mean, rstd, room, count, width), blocks, kernel="layernorm_dw_sums"),
        *rows(width, room, dscale, dshift, parts, kernel="layernorm_dw_finish", threads=32),
    )


def _grouped(
    x: Array, groups: int, layout: str, *arrays: Array | None, more: tuple[float, ...] = (), kernel: str = ""
) -> Steps | None:
    """A block for each sample's group, told how its elements lie."""
    if x.size >= MOST_COUNTED:
        return None
    (samples, channels), pixels = _extents(x, layout), _pixels(x, layout)
    each_group = channels // groups
    together, outer, inner, sample, group = {
        "NCHW": (pixels, pixels, 1, channels * pixels, each_group * pixels),
        "NHWC": (each_group, channels, 1, channels * pixels, each_group),
        "CHWN": (pixels, pixels * samples, samples, 1, each_group * pixels * samples),
    }[_layout(x, layout)]
    last = int(_layout(x, layout) == "NHWC")
    lie = (groups, each_group, together, outer, inner, sample, group, last)
    values = each_group * pixels
    told = (lie, reciprocal(together), values, *more)
    return rows(samples * groups, *arrays, *told, kernel=kernel, threads=_threads(values))


def _zero(table: Array, x: Array, groups: int, layout: str) -> Steps:
    """What a table has behind the groups of the samples at hand."""
    rest: Any = table[_extents(x, layout)[0] * groups :]
    return each(rest.size, rest, kernel="groupnorm_sums_zero")


def _halves(table: Array) -> tuple[Array, Array]:
    return table[: len(table) // 2], table[len(table) // 2 :]


def _layout(x: Array, layout: str) -> str:
    return layout if x.ndim == 4 else "NCHW"


def _extents(x: Array, layout: str) -> tuple[int, int]:
    """(samples, channels)."""
    samples, channels = {"NCHW": (0, 1), "NHWC": (0, 3), "CHWN": (3, 0)}[_layout(x, layout)]
    return x.shape[samples], x.shape[channels]


def _pixels(x: Array, layout: str) -> int:
    return prod(x.shape[2:] if _layout(x, layout) == "NCHW" else x.shape[1:3])


def _values(x: Array, groups: int, origin: Origin, layout: str) -> float:
    """How many a group of a whole sample has."""
    return float(_extents(x, layout)[1] // groups * prod(whole for _, whole in origin[0][2:]))


def _threads(width: int) -> int:
    """Of a block for a row: about one for 4 elements, in whole warps."""
    return min(THREADS, max(32, -(-width // 128) * 32))
