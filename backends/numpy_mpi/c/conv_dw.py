"""The weight gradient of a convolution, images in NHWC with the filters in vectors.

Of x a strip of rows is copied with the zeros around it, as for the forward pass. A tile keeps the sums of some (tap,
channel) pairs by some vectors of filters in registers while it goes over the pixels of a strip; between strips they lie
in scratch as [block of vectors][tap][channel][lane]. A thread owns sums, not samples, so that the order of additions
does not depend on how many threads there are. A strip is summed by itself first, for rounding errors to grow less.
"""

from __future__ import annotations

from dataclasses import dataclass

from .conv import NUMBERS, Conv
from .conv_direct import Text
from .conv_strips import STRIP
from .correlation import Correlation, forward_axis
from .source import CFunction, fill, indented
from .target import Target, tiles

STRIP_BYTES = 512 * 1024
"""How much of x is worked on at a time."""


def dw(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """dy, x -> dweight, [dbias]; `tile` is (pairs, vectors), the best of `target.tiles` unless given."""
    y, x = (forward_axis(*along) for along in zip(conv.window, conv.stride, conv.dilation, strict=True))
    read = Correlation(conv, target, name, y, x, backward=False, strip_bytes=STRIP_BYTES)
    return Sums(conv, read).function(*(tile or tiles(target, read.vectors, _run(read)[0])[0]))


def _run(read: Correlation) -> tuple[int, int]:
    """How many values lie side by side under a row of the window, and how many such runs there are."""
    if read.conv.dilation[1] == 1 and read.pixel == read.c:
        return read.conv.window[1] * read.c, 1
    return read.c, read.conv.window[1]


@dataclass(frozen=True, slots=True)
class Sums:
    """The weight gradient of `conv`, whose forward pass reads x as `read` does."""

    conv: Conv
    read: Correlation

    @property
    def copied(self) -> bool:
        """Whether dy must be copied, for its channels to fill vectors."""
        return self.read.k % self.read.lanes > 0

    @property
    def gradient_channels(self) -> int:
        """Channels of a pixel of dy as it is read."""
        return self.conv.groups * self.read.padded_k if self.copied else self.conv.filters

    @property
    def sums(self) -> int:
        """Elements of the sums, those of the bias behind them."""
        return self.conv.groups * self.read.padded_k * self.conv.taps * self.read.c + self.bias_room

    @property
    def bias_room(self) -> int:
        """Elements of the bias' sums."""
        return -(-self.conv.filters // self.read.lanes) * self.read.lanes * self.conv.bias

    @property
    def strip(self) -> int:
        """Elements of a full strip of x."""
        read = self.read
        return 0 if read.plain else (read.strip_rows + read.y.span) * read.pitch * self.conv.groups

    def scratch(self, n: int, threads: int) -> int:
        """Elements of scratch: the sums, a strip of x, and of dy."""
        gradient = min(n * self.conv.outputs[0], self.read.strip_rows) * self.conv.outputs[1] * self.gradient_channels
        return self.sums + self.strip + self.copied * gradient

    def function(self, pairs: int, vectors: int) -> CFunction:
        """All of the text."""
        read, conv = self.read, self.conv
        run, runs = _run(read)
        text, vectors = Text(read, 1, vectors), min(vectors, read.vectors)
        pairs = min(pairs, run)
        channels = self.gradient_channels
        values = text.values | {
            "columns": conv.outputs[1],
            "gradient_channels": channels,
            "gradient_pitch": conv.outputs[1] * channels,
            "gradient_k": read.padded_k if self.copied else read.k,
            "filters": conv.filters,
            "run": run,
            "runs": runs,
            "pairs": pairs,
            "tiles": -(-run // pairs),
            "items": conv.window[0] * runs * -(-run // pairs),
            "apart": conv.dilation[0] * read.pitch,
            "aside": conv.dilation[1] * read.pixel,
            "sums": self.sums,
            "begin_bias": self.sums - self.bias_room,
            "bias_room": self.bias_room,
            "begin_gradient": self.sums + self.strip,
            "dbias": f", {conv.dtype} *restrict dbias" if conv.bias else "",
            "source": PLAIN if read.plain else STRIPPED,
            "gradient": COPIED if self.copied else GIVEN,
            "bias_sums": "${name}_bias(gradient, scratch + $begin_bias, samples * band * $columns);" * conv.bias,
            "bias_result": BIAS_RESULT * conv.bias,
            "order": "",
        }
        sizes = [(p, v) for v in parts_of(read.vectors, vectors) for p in parts_of(run, pairs)]
        parts = [
            *([] if read.plain else [STRIP]),
            *([COPY_GRADIENT] if self.copied else []),
            *([BIAS] if conv.bias else []),
            *(fill(TILE, P=p, V=v, **values) for p, v in sizes),
            fill(SUMS, calls=indented(self.calls(run, pairs, vectors), 3), **values),
            MAIN,
        ]
        names = ("dy", "x", "dweight", *(["dbias"] * conv.bias))
        return CFunction(read.name, "\n".join(fill(part, **values) for part in parts), names, NUMBERS, self.scratch)

    def calls(self, run: int, pairs: int, vectors: int) -> str:
        """The calls of tiles, for whole ones and those at the ends."""

        def along(v: int) -> str:
            whole, *rest = (
                f"${{name}}_tile{p}x{v}(from, image, of, gradient_image, to, samples, band);\n"
                for p in parts_of(run, pairs)
            )
            if not rest:
                return whole
            return f"if (q + {pairs} <= {run})\n    {whole}else\n    {rest[0]}"

        first, *last = map(along, parts_of(self.read.vectors, vectors))
        if not last:
            return first
        return "if (width == $width) {\n" + indented(first) + "} else {\n" + indented(last[0]) + "}\n"


def parts_of(whole: int, size: int) -> tuple[int, ...]:
    """The sizes of parts of a whole: `size`, and that of the last if it is smaller."""
    return (size, whole % size) if whole % size else (size,)


TILE = """\
/* $P (tap, channel) pair(s) by $V vector(s) of filters, summed over all pixels of the strip. */
static void ${name}_tile${P}x${V}(const $dtype *restrict x, long image, const $dtype *restrict dy, long gradient_image,
                                  $dtype *restrict sums, long samples, long rows)
{
    ${dtype}v a[$P][$V];
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++)
            a[p][v] = (${dtype}v){0};
    for (long i = 0; i < samples; i++)
        for (long u = 0; u < rows; u++) {
            const $dtype *from = x + i * image + u * $stride * $pitch;
            const $dtype *of = dy + i * gradient_image + u * $gradient_pitch;
            for (long q = 0; q < $columns; q++, from += $step, of += $gradient_channels)
                UNROLL for (long p = 0; p < $P; p++)
                    UNROLL for (long v = 0; v < $V; v++)
                        a[p][v] += from[p] * *(const ${dtype}u *)(of + v * $lanes);
        }
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++)
            *(${dtype}u *)(sums + (p * $V + v) * $lanes) += a[p][v];
}
"""

SUMS = """\
/* All tiles of the sums over a strip of `samples` times `band` rows. */
static void ${name}_sums(const $dtype *restrict strip, long image, const $dtype *restrict dy, long gradient_image,
                         $dtype *restrict sums, long samples, long band)
{
    #pragma omp for collapse(2) schedule(static) nowait
    for (long block = 0; block < $all_blocks; block++)
        for (long item = 0; item < $items; item++) {
            const long r = item / ($runs * $tiles), s = item / $tiles % $runs, q = item % $tiles * $pairs;
            const long g = block / $blocks, k0 = block % $blocks * $width, width = least($width, $padded_k - k0);
            const $dtype *from = strip + g * samples * image + r * $apart + s * $aside + q;
            const $dtype *of = dy + g * $gradient_k + k0;
            $dtype *to = sums + (g * $padded_k + k0) * $values + ((r * $runs + s) * $run + q) * width;
$calls        }
}
"""

COPY_GRADIENT = """\
/* dy to [pixel][group][k], with zeros where channels do not fill vectors. */
static void ${name}_gradient(const $dtype *restrict dy, $dtype *restrict gradient, long pixels)
{
    #pragma omp for schedule(static)
    for (long q = 0; q < pixels; q++)
        for (long g = 0; g < $groups; g++) {
            memcpy(gradient + (q * $groups + g) * $padded_k, dy + q * $filters + g * $k, $k * sizeof($dtype));
            memset(gradient + (q * $groups + g) * $padded_k + $k, 0, ($padded_k - $k) * sizeof($dtype));
        }
}
"""

BIAS = """\
/* The bias' gradient: sums of dy over the pixels of a strip. */
static void ${name}_bias(const $dtype *restrict dy, $dtype *restrict sums, long pixels)
{
    #pragma omp for schedule(static) nowait
    for (long k = 0; k < $filters; k += $lanes) {
        ${dtype}v a = {0};
        for (long q = 0; q < pixels; q++)
            a += ${dtype}_load(dy + q * $filters + k, $filters - k);
        *(${dtype}u *)(sums + k) += a;
    }
}
"""

STRIPPED = """\
                const long image = ((band - 1) * $stride + $span) * $pitch;
                $dtype *strip = scratch + $sums;
                ${name}_strip(x + i0 * rows * $source_width * $source_channels, strip,
                    samples, rows, begin * $stride - pad_top, (band - 1) * $stride + $span);"""

PLAIN = """\
                const long image = rows * $pitch;
                const $dtype *strip = x + i0 * image + (begin * $stride - pad_top) * $pitch;"""

GIVEN = """\
                const $dtype *of = gradient;
                const long gradient_image = end * $gradient_pitch;"""

COPIED = """\
                const $dtype *of = scratch + $begin_gradient;
                const long gradient_image = band * $gradient_pitch;
                ${name}_gradient(gradient, scratch + $begin_gradient, samples * band * $columns);"""

BIAS_RESULT = """
        #pragma omp for schedule(static) nowait
        for (long k = 0; k < $filters; k++)
            dbias[k] = scratch[$begin_bias + k];"""

RESULT = """\
        #pragma omp for collapse(2) schedule(static) nowait
        for (long g = 0; g < $groups; g++)
            for (long k0 = 0; k0 < $padded_k; k0 += $lanes) {
                const long first = k0 / $width * $width, width = least($width, $padded_k - first);
                const $dtype *block = scratch + (g * $padded_k + first) * $values + (k0 - first);
                $dtype part[$lanes * $lanes];  /* [value][lane] */
                for (long q0 = 0; q0 < $values; q0 += $lanes) {
                    const long count = least($lanes, $values - q0);
                    for (long q = q0; q < q0 + count; q++)
                        *(${dtype}u *)(part + (q - q0) * $lanes) =
                            *(const ${dtype}u *)(block + (q % $taps * $c + q / $taps) * width);
                    ${dtype}_spread(part, dweight + (g * $k + k0) * $values + q0, $values,
                                    least($lanes, $k - k0), count);
                }
            }$bias_result
    }
}
"""
"""The sums, [block of filters][tap][channel][filter], to dweight."""

MAIN = (
    """\
void $name(const $dtype *restrict dy, const $dtype *restrict x, $dtype *restrict dweight$dbias,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const long end = most(0, lowered(rows + pad_top + pad_bottom - $reach, $row_stride) + 1);
    const long height = most(1, least(end, ($strip_rows - $span) / $stride + 1));
    const long images = height < end ? 1 : most(1, $strip_rows / ((height - 1) * $stride + $span));
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (long j = 0; j < $sums; j++)
            scratch[j] = 0;
        for (long i0 = 0; i0 < n; i0 += images)
            for (long begin = 0; begin < end; begin += height) {
                const long samples = least(images, n - i0), band = least(height, end - begin);
                const $dtype *gradient = dy + (i0 * end + begin) * $columns * $filters;
$source
$gradient
                $bias_sums
                ${name}_sums(strip, image, of, gradient_image, scratch, samples, band);
                #pragma omp barrier  /* the strip is read before it is written again */
            }
"""
    + RESULT
)
