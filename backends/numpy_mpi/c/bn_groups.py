"""Groups of samples in C: where they and the channels of them lie in each layout."""

from __future__ import annotations

from collections.abc import Callable

from .source import CFunction
from .target import Target

Names = tuple[str, ...]
Make = Callable[[Target, str], CFunction]

BLOCK = 128
"""Channels that are worked on together: their sums stay in the nearest cache."""

CHUNK = 8192
"""Elements of a chunk: 32 or 64 KiB."""

NARROW, WIDE = 64, 1024
"""Channels up to which some rows are normalised at once, for longer ones are too many streams for the memory; and how
many channels at most are normalised before the next row: what is known of them stays in the nearest cache."""

SMALL = 16384
"""Elements below which one thread does all."""

GROUPS = ("n", "channels", "pixels", "order", "group", "count", "position", "first", "whole")
"""Numbers that place the samples at hand: samples, channels and pixels of each at hand; the order, 0 where channels lie
innermost, 1 for NCHW, 2 for CHWN, and for channels in blocks how many a block has; then as the NumPy kernels have them,
`whole` the pixels of a whole image."""

WIDEST = 16
"""Channels of the widest block."""

STATISTIC = ("batch_mean", "batch_rstd")

SPAN = """\
/* One group of samples as far as it is at hand: samples `from` to `to`, the row of the group in tables, how many values
   a channel has in the whole group, whether its first sample is at hand. */
struct bn_span { long from, to, row, values, begins; };

static inline struct bn_span bn_span(
    long from, long n, long group, long count, long position, long first, long whole)
{
    const long start = position + from, row = (start - first) / group, begin = first + row * group;
    const long to = least(position + n, begin + group) - position;
    return (struct bn_span){from, to, row, least(group, count - begin) * whole, start == begin};
}

/* Where a channel of a span lies in NCHW (order 1) and CHWN (order 2): `rows` stretches of `length` elements. */
struct bn_place { long begin, rows, length, apart, channel_apart; };

static inline struct bn_place bn_place(struct bn_span span, long n, long channels, long pixels, long order)
{
    const long samples = span.to - span.from;
    if (order == 1)
        return (struct bn_place){span.from * channels * pixels, samples, pixels, channels * pixels, pixels};
    if (samples == n)
        return (struct bn_place){0, 1, pixels * n, 0, pixels * n};
    return (struct bn_place){span.from, pixels, samples, n, pixels * n};
}
"""


def parameters(real: str, reads: Names, writes: Names) -> str:
    """Arrays as a C function declares them."""
    return ", ".join([f"const {real} *restrict {n}" for n in reads] + [f"{real} *restrict {n}" for n in writes])
