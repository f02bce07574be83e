"""The weight gradient of a convolution, images in NHWC, of which strips are put in the order that tiles read them in.

It is a product of matrices as deep as there are pixels, and works as those do (`gemm.py`): of x a strip of rows goes to
[block of a tile's channels][sample][row][column][channel], with the zeros around it, and of dy to [block of a tile's
filters][sample][row][column][filter], zeros where filters do not fill vectors. A tile, the sums of some channels of one
tap by some vectors of filters, then reads two runs of memory, and every line of them whole; as images lie it would use
a few elements of each pixel (`conv_dw.py`). A strip is as long as keeps a block of dy in the first cache.

A thread owns sums, not samples, so that the order of additions does not depend on how many threads there are. A strip
is summed by itself first, for rounding errors to grow less.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from . import conv_dw
from .conv import NUMBERS, Conv
from .conv_dw import BIAS, BIAS_RESULT, RESULT, parts_of
from .correlation import forward_axis
from .source import CFunction, fill, indented
from .target import WIDTHS, Target

PIXELS = 256
"""Of dy in a strip: of a block of two or three vectors they take about half of a first-level cache."""

RUN = 8
"""Pixels of which one block after another is copied: they are still in the cache when the next block is."""


MOST_VECTORS = 3
"""Of filters that are one block."""

LINE = 64
"""Bytes: pixels of so many stay together, and pairs of taps and channels are summed as they lie side by side."""


def dw(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """dy, x -> dweight, [dbias]; `tile` is (pairs, vectors), of pairs of a tap and a channel."""
    vectors = -(-conv.group_filters // target.lanes(conv.dtype))
    wide = min(tile[1], vectors) if tile else vectors if vectors <= MOST_VECTORS else 2
    run = _run(conv)
    most = min(tile[0] if tile else target.pixels(wide), run)
    return Packed(conv, target, name, -(-run // -(-run // most)), wide).function()


def best(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """The weight gradient of images in NHWC, packed where that `pays`."""
    return (dw if pays(conv, target) else conv_dw.dw)(conv, target, name, tile)


def pays(conv: Conv, target: Target) -> bool:
    """Whether copying costs less than it gains, by rates of AVX2 (decision 0040).

    It gains where filters are several blocks, so that a tile uses a part of what a pixel of dy has. Vectors as long as
    a line of the caches use lines whole as they lie: with AVX-512 there is as good as nothing to gain. What is copied
    has to be used about as often as a vector has lanes.
    """
    c, k, lanes = conv.group_channels, conv.group_filters, target.lanes(conv.dtype)
    if target.vector_bytes >= LINE or -(-k // lanes) <= (MOST_VECTORS if conv.taps > 1 else MOST_VECTORS + 1):
        return False
    sampled = prod(step for step, wide in zip(conv.stride, conv.window, strict=True) if wide > 1)
    return conv.taps * c * k >= lanes * (c * sampled + k)


def _run(conv: Conv) -> int:
    """How many values of a strip lie side by side that tiles are cut from."""
    together = conv.dilation[1] == 1 and conv.group_channels * WIDTHS[conv.dtype] <= LINE
    return conv.group_channels * (conv.window[1] if together else 1)


@dataclass(frozen=True, slots=True)
class Packed:
    """The weight gradient of `conv` by tiles of so many pairs of taps and channels and vectors of filters."""

    conv: Conv
    target: Target
    name: str
    pairs: int
    vectors: int

    @property
    def together(self) -> bool:
        """Whether a strip of x is one block with all channels of a pixel, and tiles go on from tap to tap of a row."""
        return _run(self.conv) > self.conv.group_channels

    @property
    def channels(self) -> int:
        """Of a block of x."""
        return self.conv.group_channels if self.together else self.pairs

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        return self.target.lanes(self.conv.dtype)

    @property
    def padded_k(self) -> int:
        """Filters of a group with those that fill the last vector."""
        return -(-self.conv.group_filters // self.lanes) * self.lanes

    @property
    def bias_room(self) -> int:
        """Elements of the bias' sums."""
        return -(-self.conv.filters // self.lanes) * self.lanes * self.conv.bias

    @property
    def sums(self) -> int:
        """Elements of the sums, those of the bias behind them."""
        conv = self.conv
        return conv.groups * self.padded_k * conv.taps * conv.group_channels + self.bias_room

    @property
    def steps(self) -> tuple[int, int]:
        """From what a result reads to what the next one reads, in rows and columns of a strip.

        Where a window is one wide nothing between is read, nor copied.
        """
        (r, s), (y, x) = self.conv.window, self.conv.stride
        return (1 if r == 1 else y), (1 if s == 1 else x)

    @property
    def spans(self) -> tuple[int, int]:
        """Rows and columns that a result reads."""
        axes = zip(self.conv.window, self.conv.stride, self.conv.dilation, strict=True)
        rows, columns = (forward_axis(*along).span for along in axes)
        return rows, columns

    @property
    def strip_width(self) -> int:
        """Columns of a strip of x."""
        return (self.conv.outputs[1] - 1) * self.steps[1] + self.spans[1]

    def rows_of(self, height: int) -> int:
        """Rows of x that so many rows of dy read."""
        return (height - 1) * self.steps[0] + self.spans[0]

    @property
    def strip(self) -> tuple[int, int]:
        """Rows of dy and samples of a strip of whole images."""
        rows, columns = (max(1, extent) for extent in self.conv.outputs)
        height = min(rows, max(1, PIXELS // columns))
        return height, 1 if height < rows else max(1, PIXELS // (rows * columns))

    def scratch(self, n: int, threads: int) -> int:
        """Elements of scratch: the sums, a strip of dy and one of x."""
        height, images = self.strip
        source = min(n, images) * self.rows_of(height) * self.strip_width * self.conv.channels
        return self.sums + self.gradient + source

    @property
    def gradient(self) -> int:
        """Elements of a strip of dy."""
        return max(PIXELS, self.conv.outputs[1]) * self.conv.groups * self.padded_k

    def values(self) -> dict[str, object]:
        """What templates are filled with."""
        conv, (height, images) = self.conv, self.strip
        (_, columns), (take_y, take_x) = conv.outputs, (
            stride // step for stride, step in zip(conv.stride, self.steps, strict=True)
        )  # fmt: skip
        left, width = -(-conv.pad[1][0] // take_x), self.strip_width
        right = min(width, -(-(conv.width + conv.pad[1][0]) // take_x))
        tiles = -(-conv.window[1] * conv.group_channels // self.pairs)
        parts = -(-conv.group_channels // self.channels)
        return {
            "name": self.name,
            "dtype": conv.dtype,
            "lanes": self.lanes,
            "c": conv.group_channels,
            "k": conv.group_filters,
            "channels": conv.channels,
            "filters": conv.filters,
            "padded_k": self.padded_k,
            "groups": conv.groups,
            "taps": conv.taps,
            "S": conv.window[1],
            "values": conv.taps * conv.group_channels,
            "width": self.vectors * self.lanes,
            "blocks": -(-self.padded_k // (self.vectors * self.lanes)),
            "part": self.channels,
            "run_of_row": conv.window[1] * conv.group_channels,
            "pairs": self.pairs,
            "tiles": tiles,
            "items": conv.window[0] * tiles if self.together else f"{parts} * {conv.taps}",
            "item": ITEM_OF_RUNS if self.together else ITEM,
            "first": "(r * $run_of_row + q)" if self.together else "(tap * $c + c0)",
            "parts": parts,
            "source_width": conv.width,
            "columns": columns,
            "strip_width": width,
            "left": min(left, width),
            "right": max(min(left, width), right),
            "first_column": left * take_x - conv.pad[1][0],
            "take_y": take_y,
            "take_x": take_x,
            "step_y": self.steps[0],
            "step_x": self.steps[1],
            "span": self.spans[0],
            "apart": conv.dilation[0] * width,
            "aside": conv.dilation[1],
            "reach": conv.reach[0],
            "row_stride": conv.stride[0],
            "filters_read": READ_PART if self.padded_k > conv.group_filters else READ,
            "height": height,
            "strip_rows": images * self.rows_of(height),
            "pixels": PIXELS,
            "run": RUN,
            "sums": self.sums,
            "begin_bias": self.sums - self.bias_room,
            "bias_room": self.bias_room,
            "begin_strip": self.sums + self.gradient,
            "dbias": f", {conv.dtype} *restrict dbias" * conv.bias,
            "bias_sums": "${name}_bias(dy + at, scratch + $begin_bias, samples * band * $columns);\n                "
            * conv.bias,
            "bias_result": BIAS_RESULT * conv.bias,
        }

    def function(self) -> CFunction:
        """All of the text."""
        conv, values, run = self.conv, self.values(), _run(self.conv)
        across, along = parts_of(self.padded_k // self.lanes, self.vectors), parts_of(run, self.pairs)
        tile = TILE_OF_PIXELS if conv.taps == 1 else TILE
        calls = "".join(
            f"if (pairs == {p} && width == {v * self.lanes})\n"
            f"    ${{name}}_tile{p}x{v}(from, of, to, samples, band, rows, fresh);\n"
            for p in along
            for v in across
        )
        blocks = parts_of(conv.group_channels, self.channels)
        copies = "".join(
            f"if (part == {p})\n    ${{name}}_copy{p}(source, row >= 0 && row < rows, to);\n" for p in blocks
        )
        pixel = {p: self.channels if self.together else p for p in along}
        parts = [
            *(fill(COPY, P=p, **values) for p in blocks),
            fill(STRIP, copies=indented(copies, 4), **values),
            fill(GRADIENT, **values),
            *([fill(BIAS, **values)] if conv.bias else []),
            *(fill(tile, P=p, V=v, pixel=pixel[p], **values) for p in along for v in across),
            fill(SUMS, calls=indented(calls, 3), **values),
            fill(MAIN, **values),
        ]
        names = ("dy", "x", "dweight", *(["dbias"] * conv.bias))
        return CFunction(self.name, "\n".join(parts), names, NUMBERS, self.scratch)


COPY = """\
/* $P channel(s) of a row of x, with the zeros at its ends, to [column][channel]; zeros alone where there is no row. */
static void ${name}_copy${P}(const $dtype *restrict from, int inside, $dtype *restrict to)
{
    memset(to, 0, (inside ? $left : $strip_width) * $P * sizeof($dtype));
    if (!inside)
        return;
    for (long q = $left; q < $right; q++)
        memcpy(to + q * $P, from + ($first_column + (q - $left) * $take_x) * $channels, $P * sizeof($dtype));
    memset(to + $right * $P, 0, ($strip_width - $right) * $P * sizeof($dtype));
}
"""

STRIP = """\
/* `count` rows of x from `first` on, every $take_y, to [block][sample][row][column][channel]. */
static void ${name}_strip(const $dtype *restrict x, $dtype *restrict strip, long samples, long rows, long first,
                          long count)
{
    #pragma omp for collapse(3) schedule(static) nowait
    for (long i = 0; i < samples; i++)
        for (long j = 0; j < count; j++)
            for (long block = 0; block < $groups * $parts; block++) {
                const long c0 = block % $parts * $part, part = least($part, $c - c0), row = first + j * $take_y;
                const long c = block / $parts * $c + c0;
                const $dtype *source = x + (i * rows + row) * $source_width * $channels + c;
                $dtype *to = strip + (c * samples * count + (i * count + j) * part) * $strip_width;
$copies            }
}
"""

GRADIENT = """\
/* Pixels of dy to [block][pixel][filter], with zeros where filters do not fill vectors. */
static void ${name}_gradient(const $dtype *restrict dy, $dtype *restrict gradient, long pixels)
{
    #pragma omp for schedule(static)
    for (long q0 = 0; q0 < pixels; q0 += $run)
        for (long block = 0; block < $groups * $blocks; block++) {
            const long g = block / $blocks, k0 = block % $blocks * $width, width = least($width, $padded_k - k0);
            $dtype *to = gradient + (g * $padded_k + k0) * pixels;
            for (long q = q0; q < least(q0 + $run, pixels); q++)
                for (long v = 0; v < width; v += $lanes)
                    *(${dtype}u *)(to + q * width + v) = $filters_read;
        }
}
"""

READ = "*(const ${dtype}u *)(dy + q * $filters + g * $k + k0 + v)"
READ_PART = "${dtype}_load(dy + q * $filters + g * $k + k0 + v, $k - k0 - v)"

HEAD_OF_TILE = """\
/* $P channel(s) of a tap by $V vector(s) of filters, summed over all pixels of the strip. */
static void ${name}_tile${P}x${V}(const $dtype *restrict x, const $dtype *restrict dy, $dtype *restrict sums,
                                  long samples, long band, long rows, int fresh)
{
    ${dtype}v a[$P][$V];
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++)
            a[p][v] = (${dtype}v){0};
"""

END_OF_TILE = """\
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++) {
            ${dtype}u *to = (${dtype}u *)(sums + (p * $V + v) * $lanes);
            *to = a[p][v] + (fresh ? (${dtype}v){0} : (${dtype}v)*to);
        }
}
"""

TILE = (
    HEAD_OF_TILE
    + """\
    for (long i = 0; i < samples; i++)
        for (long u = 0; u < band; u++) {
            const $dtype *from = x + (i * rows + u * $step_y) * $strip_width * $pixel;
            for (long q = 0; q < $columns; q++, from += $step_x * $pixel, dy += $V * $lanes)
                UNROLL for (long p = 0; p < $P; p++)
                    UNROLL for (long v = 0; v < $V; v++)
                        a[p][v] += from[p] * *(const ${dtype}u *)(dy + v * $lanes);
        }
"""
    + END_OF_TILE
)

TILE_OF_PIXELS = (
    HEAD_OF_TILE
    + """\
    for (long q = 0; q < samples * band * $columns; q++, x += $pixel, dy += $V * $lanes)
        UNROLL for (long p = 0; p < $P; p++)
            UNROLL for (long v = 0; v < $V; v++)
                a[p][v] += x[p] * *(const ${dtype}u *)(dy + v * $lanes);
"""
    + END_OF_TILE
)
"""Of a single tap, whose strips hold the pixels that are read and no others."""

SUMS = """\
/* All tiles of the sums over a strip of `samples` times `band` rows of dy, which read `rows` rows of x each. */
static void ${name}_sums(const $dtype *restrict strip, const $dtype *restrict gradient, $dtype *restrict sums,
                         long samples, long band, long rows, int fresh)
{
    #pragma omp for collapse(2) schedule(static) nowait
    for (long block = 0; block < $groups * $blocks; block++)
        for (long item = 0; item < $items; item++) {
            const long g = block / $blocks, k0 = block % $blocks * $width, width = least($width, $padded_k - k0);
$item
            const $dtype *of = gradient + (g * $padded_k + k0) * samples * band * $columns;
            $dtype *to = sums + (g * $padded_k + k0) * $values + $first * width;
$calls        }
}
"""

ITEM = """\
            const long c0 = item / $taps * $part, pairs = least($part, $c - c0), tap = item % $taps;
            const $dtype *from = strip + (g * $c + c0) * samples * rows * $strip_width
                + (tap / $S * $apart + tap % $S * $aside) * pairs;"""

ITEM_OF_RUNS = """\
            const long r = item / $tiles, q = item % $tiles * $pairs, pairs = least($pairs, $run_of_row - q);
            const $dtype *from = strip + g * $c * samples * rows * $strip_width + r * $apart * $c + q;"""
"""Where all channels of a pixel are one block."""

MAIN = (
    """\
void $name(const $dtype *restrict dy, const $dtype *restrict x, $dtype *restrict dweight$dbias,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const long end = most(0, lowered(rows + pad_top + pad_bottom - $reach, $row_stride) + 1);
    const long height = most(1, least(end, $height)), whole = (height - 1) * $step_y + $span;
    const long images = height < end ? 1 : most(1, least($pixels / (height * $columns), $strip_rows / whole));
    const long zeros = n > 0 && end > 0 ? $begin_bias : 0;  /* a first strip writes what others are added to */
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (long j = zeros; j < $sums; j++)
            scratch[j] = 0;
        for (long i0 = 0; i0 < n; i0 += images)
            for (long begin = 0; begin < end; begin += height) {
                const long samples = least(images, n - i0), band = least(height, end - begin);
                const long at = (i0 * end + begin) * $columns * $filters, count = (band - 1) * $step_y + $span;
                ${name}_strip(x + i0 * rows * $source_width * $channels, scratch + $begin_strip, samples, rows,
                    begin * $row_stride - pad_top, count);
                ${name}_gradient(dy + at, scratch + $sums, samples * band * $columns);
                $bias_sums${name}_sums(scratch + $begin_strip, scratch + $sums, scratch, samples, band, count,
                    i0 + begin == 0);
                #pragma omp barrier  /* the strips are read before they are written again */
            }
"""
    + RESULT
)
