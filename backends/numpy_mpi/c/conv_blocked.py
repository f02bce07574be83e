"""Convolution as the sum that it is, forward and dx, images in blocks of channels: [sample][block][row][column][lane].

The loop nest is that of `conv_direct`. A vector of channels of all pixels of a row lies together: a tile reads and
writes one stretch of memory for each block of channels and row of the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .conv import NUMBERS, Conv, arguments
from .conv_direct import Text, Tile, packing, relu
from .correlation import Axis, Correlation, backward_axis, forward_axis
from .source import CFunction, fill
from .target import Target, tiles


@dataclass(frozen=True, slots=True)
class Blocked(Correlation):
    """A correlation of images in blocks of as many channels as a vector has lanes."""

    @property
    def plain(self) -> bool:
        """Whether the source serves as its own strip."""
        return self.conv.taps == 1 and not self.conv.padded

    @property
    def pixel(self) -> int:
        """From one pixel of a block to the next."""
        return self.lanes

    @property
    def blocks(self) -> int:
        """Blocks of channels that images of the source consist of."""
        return self.c // self.lanes


def fits(conv: Conv, target: Target, block: int) -> bool:
    """Whether there are functions for images in blocks of so many channels: vectors of the target, which they fill."""
    lanes = target.lanes(conv.dtype)
    return lanes == block and conv.groups == 1 and conv.channels % lanes == conv.filters % lanes == 0


def forward(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """x, weight, [bias] -> y; `tile` is (pixels, vectors), the best of `target.tiles` unless given. Needs `fits`."""
    return _function(conv, target, name, forward_axis, tile, backward=False)


def dx(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """dy, weight, [what a ReLU gave] -> dx."""
    return _function(conv, target, name, backward_axis, tile, backward=True)


def pack_forward(conv: Conv, target: Target, name: str) -> CFunction:
    """weight, [bias] -> packed, for `forward` of the same convolution where that is `packed`."""
    return packing(_correlation(conv, target, name, forward_axis, backward=False), BlockedText)


def pack_dx(conv: Conv, target: Target, name: str) -> CFunction:
    """weight -> packed, for `dx`."""
    return packing(_correlation(conv, target, name, backward_axis, backward=True), BlockedText)


def _correlation(conv: Conv, target: Target, name: str, axis: Callable[..., Axis], *, backward: bool) -> Blocked:
    y, x = (axis(*along) for along in zip(conv.window, conv.stride, conv.dilation, strict=True))
    return Blocked(conv, target, name, y, x, backward)


def _function(
    conv: Conv, target: Target, name: str, axis: Callable[..., Axis], tile: tuple[int, int] | None, *, backward: bool
) -> CFunction:
    of = _correlation(conv, target, name, axis, backward=backward)
    widest = max(of.columns(taps)[1] for taps in of.x.phases)
    text = BlockedText(of, *(tile or tiles(target, of.vectors, widest)[0]))
    return CFunction(name, text.function(), arguments(conv, backward=backward), NUMBERS, of.scratch)


STRIP = """\
/* `count` rows of the source from `first` on, with the zeros around them, to [sample][block][row][column][lane]. */
static void ${name}_strip(const $dtype *restrict source, $dtype *restrict strip,
                          long samples, long rows, long first, long count)
{
    #pragma omp for collapse(2) schedule(static)
    for (long i = 0; i < samples * $source_blocks; i++)
        for (long j = 0; j < count; j++) {
            $dtype *to = strip + (i * count + j) * $pitch;
            const long row = first + j;
            if (row < 0 || row >= rows) {
                memset(to, 0, $pitch * sizeof($dtype));
                continue;
            }
            const $dtype *from = source + ((i * rows + row) * $source_width + $crop) * $lanes;
            memset(to, 0, $left * sizeof($dtype));
            memcpy(to + $left, from, ($right - $left) * sizeof($dtype));
            memset(to + $right, 0, ($pitch - $right) * sizeof($dtype));
        }
}
"""

TILE = """\
/* $T row(s) of $P pixel(s), $V vector(s): sums over blocks of channels, `block` elements apart; of each over
   taps_y x taps_x taps, which are `apart` and `aside` from one another, and `run` elements of a tap. */
static void ${name}_tile${T}x${P}x${V}(const $dtype *const x[$T], const $dtype *restrict w, const $dtype *restrict bias,
                                       $dtype *const y[$T], long taps_y, long apart, long taps_x, long aside, long run,
                                       long block, long plane$shift)
{
    ${dtype}v a[$T][$P][$V];
    UNROLL for (long t = 0; t < $T; t++)
        UNROLL for (long p = 0; p < $P; p++)
            UNROLL for (long v = 0; v < $V; v++)
                a[t][p][v] = $start;
    for (long c = 0; c < $source_blocks; c++)
        for (long i = 0; i < taps_y; i++)
            for (long j = 0; j < taps_x; j++)
$sum    UNROLL for (long t = 0; t < $T; t++)
        UNROLL for (long p = 0; p < $P; p++)
            UNROLL for (long v = 0; v < $V; v++)
                *(${dtype}u *)(y[t] + $place) = $store;
}
"""

SUM = """\
                for (long q = c * block + i * apart + j * aside, end = q + run; q < end; q++, w += $V * $lanes)
                    UNROLL for (long t = 0; t < $T; t++)
                        UNROLL for (long p = 0; p < $P; p++)
                            UNROLL for (long v = 0; v < $V; v++)
                                a[t][p][v] += x[t][q + p * $step] * *(const ${dtype}u *)(w + v * $lanes);
"""

SUM_OF_ONE = """\
                for (long q = c * block, end = q + run; q < end; q += $lanes)
                    UNROLL for (long l = 0; l < $lanes; l++, w += $V * $lanes)
                        UNROLL for (long t = 0; t < $T; t++)
                            UNROLL for (long p = 0; p < $P; p++)
                                UNROLL for (long v = 0; v < $V; v++)
                                    a[t][p][v] += x[t][q + l + p * $step] * *(const ${dtype}u *)(w + v * $lanes);
"""
"""Of a single tap, whose runs are short: of windows this takes twice as long, of 1x1 it saves a third."""

PLACE = "p * $result_step + v * plane"

ROWS = """\
/* The $columns results of the phase in each of the rows lo to hi; the strip begins with row `begin`. */
static void ${name}_rows$phase(const $dtype *restrict strip, long image, const $dtype *restrict packed,
                               const $dtype *restrict bias, $dtype *restrict result, long result_rows,
                               long samples, long begin, long lo, long hi, long behind$shift)
{
    const long count = samples * (hi - lo), apart = image / $source_blocks;
    const long plane = result_rows * $result_width * $lanes;
    #pragma omp for collapse(2) schedule(static) nowait
    for (long block = 0; block < $all_blocks; block++)
        for (long j = 0; j < raised(count, $T); j++) {
            const long k0 = block * $width;
            const $dtype *w = packed + k0 * $tap_values, *b = bias + k0;
            const $dtype *x[$T];
            $dtype *y[$T];
            for (long t = 0; t < $T; t++) {
                const long at = least(j * $T + t, count - 1), i = at / (hi - lo), u = lo + at % (hi - lo);
                x[t] = strip + i * image + (u - begin) * $stride * $pitch + $first;
                const long row = (i * $result_blocks + k0 / $lanes) * result_rows + u * $spread + $row - behind;
                y[t] = result + (row * $result_width + $column) * $lanes;
            }
$calls        }
}
"""

FORWARD_ORDER = """\
            const $dtype *from = weight + k0 * $values;
            $dtype part[$lanes * $lanes];  /* [value][lane] */
            for (long q0 = 0; q0 < $values; q0 += $lanes) {
                ${dtype}_transpose(from + q0, $values, $lanes, $lanes, part);
                for (long q = q0; q < q0 + $lanes; q++) {
                    const long c = q / $taps, at = (c / $lanes * $taps + q % $taps) * $lanes + c % $lanes;
                    *(${dtype}u *)(block + at * width) = *(${dtype}u *)(part + (q - q0) * $lanes);
                }
            }"""

BACKWARD_ORDER = """\
            $dtype part[$taps_room * $lanes];  /* [tap][lane] */
            for (long c = 0; c < $c; c++) {
                const $dtype *from = weight + (c * $k + k0) * $taps;
                for (long q = 0; q < $taps; q += $lanes)
                    ${dtype}_transpose(from + q, $taps, $lanes, least($lanes, $taps - q), part + q * $lanes);
                for (long i = 0; i < taps_y; i++)
                    for (long j = 0; j < taps_x; j++) {
                        const long at = ((c / $lanes * taps_y + i) * taps_x + j) * $lanes + c % $lanes;
                        *(${dtype}u *)(block + at * width) =
                            *(${dtype}u *)(part + ((r0 + i * r_step) * $S + s0 + j * s_step) * $lanes);
                    }
            }"""


class BlockedText(Text):
    """The text of a correlation of images in blocks."""

    strip, all_rows, told = STRIP, ROWS, ", apart, plane"

    def __init__(self, of: Blocked, pixels: int, vectors: int) -> None:
        super().__init__(of, pixels, vectors)
        self.values |= {
            "source_blocks": of.blocks,
            "result_step": of.x.spread * of.lanes,
            "result_blocks": of.k // of.lanes,
            "order": BACKWARD_ORDER if of.backward else FORWARD_ORDER,
            "place": PLACE,
        }

    @property
    def together(self) -> int:
        """Channels of a pixel that lie side by side."""
        return self.of.lanes

    def tile(self, tile: Tile) -> str:
        """The innermost loops."""
        conv, given = self.of.conv, f"y[t] + {PLACE} + shift" if self.of.backward else ""
        return fill(
            TILE,
            T=tile.rows,
            P=tile.columns,
            V=tile.vectors,
            sum=SUM_OF_ONE if conv.taps == 1 else SUM,
            start="*(const ${dtype}u *)(bias + v * $lanes)" if self.of.bias else "(${dtype}v){0}",
            store=relu("a[t][p][v]", given) if conv.relu else "a[t][p][v]",
            **self.values,
        )
