"""What the C functions of batch normalisation are told for a call of the NumPy kernel of the same name."""

from __future__ import annotations

from math import prod

from .layout import Array, block_of
from .native import Numbers

ORDERS = {"NHWC": 0, "NCHW": 1, "CHWN": 2}
"""How C numbers the layouts; with blocks of channels by how many a block has."""

SEGMENT = 32768
"""Elements that are worth a part of their own."""

BLOCK, PARTS = 128, 32
"""Channels that are worked on together, and how many parts there are at most, of blocks and rows."""


def extents(x: Array, layout: str) -> tuple[int, int, int, int]:
    """Samples, channels, pixels, and the number of the order in which they lie."""
    if block := block_of(layout):
        return x.shape[0], x.shape[1], x.shape[2] * x.shape[3], block
    if x.ndim != 4 or layout == "NCHW":
        pixels = prod(x.shape[2:])
        return x.shape[0], x.shape[1], pixels, int(pixels != 1)
    if layout == "NHWC":
        return x.shape[0], x.shape[3], x.shape[1] * x.shape[2], 0
    return x.shape[3], x.shape[0], x.shape[1] * x.shape[2], 2


def segments(rows: int, channels: int) -> int:
    """In how many parts rows of channels are summed up; no result may depend on the number of threads."""
    return max(1, min(PARTS // -(-channels // BLOCK), rows * channels // SEGMENT, rows // 16))


class Call:
    """The numbers that all functions begin with."""

    def __init__(
        self,
        x: Array,
        layout: str,
        group: int,
        count: int,
        position: int = 0,
        first: int = 0,
        pixels: int | None = None,
        **_: object,
    ) -> None:
        self.n, self.channels, at_hand, order = extents(x, layout)
        whole = at_hand if pixels is None else pixels
        self.segments = segments(min(group, self.n) * at_hand, self.channels)
        self.numbers = (self.n, self.channels, at_hand, order, group, count, position, first, whole)
        begun, end = (position - first) % group, position + self.n
        self.whole = whole == at_hand and not begun and (end >= count or not (end - first) % group)

    def table(self, *tables: Array) -> tuple[int, int] | None:
        """Rows and columns of tables of sums; None where they are not alike."""
        rows, width = tables[0].shape
        return (rows, width) if all(table.shape == (rows, width) for table in tables) else None


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
    eps: float,
    layout: str = "NCHW",
    **at: int,
) -> Numbers | None:
    """Whole groups alone."""
    call = Call(x, layout, **at)
    scratch = (3 * call.segments + 1) * call.channels
    return Numbers((*call.numbers, len(batch_mean), call.segments, float(eps)), scratch) if call.whole else None


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
) -> Numbers | None:
    """Any call."""
    return Numbers((*extents(x, layout), float(eps)))


def bn_sums(x: Array, sums: Array, *, layout: str = "NCHW", **at: int) -> Numbers | None:
    """Any call, but of channels in blocks."""
    if block_of(layout):
        return None
    call = Call(x, layout, **at)
    return Numbers((*call.numbers, *sums.shape, call.segments), call.segments * call.channels)


def bn_squares(x: Array, sums: Array, squares: Array, *, layout: str = "NCHW", **at: int) -> Numbers | None:
    """Any call, but of channels in blocks."""
    if block_of(layout):
        return None
    call = Call(x, layout, **at)
    table = call.table(sums, squares)
    return Numbers((*call.numbers, *table, call.segments), (call.segments + 1) * call.channels) if table else None


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
    eps: float,
    layout: str = "NCHW",
    **at: int,
) -> Numbers | None:
    """Any call, but of channels in blocks."""
    if block_of(layout):
        return None
    call = Call(x, layout, **at)
    table = call.table(sums, squares)
    return Numbers((*call.numbers, len(batch_mean), table[1], float(eps)), call.channels) if table else None


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
    layout: str = "NCHW",
    **at: int,
) -> Numbers | None:
    """Whole groups alone."""
    call = Call(x, layout, **at)
    scratch = (2 * call.segments + 5) * call.channels
    return Numbers((*call.numbers, *batch_mean.shape, call.segments), scratch) if call.whole else None


def bn_grad_sums(
    dy: Array,
    x: Array,
    batch_mean: Array,
    batch_rstd: Array,
    dy_sums: Array,
    dyx_sums: Array,
    *,
    layout: str = "NCHW",
    **at: int,
) -> Numbers | None:
    """Any call, but of channels in blocks."""
    if block_of(layout):
        return None
    call = Call(x, layout, **at)
    table = call.table(dy_sums, dyx_sums)
    return Numbers((*call.numbers, *table, call.segments), 2 * call.segments * call.channels) if table else None


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
    layout: str = "NCHW",
    **at: int,
) -> Numbers | None:
    """Any call, but of channels in blocks."""
    if block_of(layout):
        return None
    call = Call(x, layout, **at)
    table = call.table(dy_sums, dyx_sums)
    return Numbers((*call.numbers, *table, call.segments), 3 * call.channels) if table else None


def bn_statistics(
    x: Array,
    batch_mean: Array,
    batch_rstd: Array,
    mean_sum: Array,
    variance_sum: Array,
    *,
    eps: float,
    groups: int | None = None,
    layout: str = "NCHW",
    group: int,
    count: int,
    **at: int,
) -> Numbers | None:
    """Any call."""
    call = Call(x, layout, group, count, **at)
    return Numbers((*call.numbers, groups or -(-count // group), float(eps)))


def bn_update(
    mean: Array, variance: Array, mean_sum: Array, variance_sum: Array, *, momentum: float, **_: object
) -> Numbers | None:
    """Any call."""
    return Numbers((mean.size, float(momentum)))
