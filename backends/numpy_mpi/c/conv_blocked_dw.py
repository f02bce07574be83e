"""The weight gradient of a convolution, images in blocks of channels: [sample][block][row][column][lane].

As `conv_dw` does: a tile keeps the sums of some channels of one tap by some vectors of filters in registers while it
goes over the pixels of a strip of x. Here what it reads of x and of dy is one stretch of memory a row, of which it uses
every line of the caches whole; of NHWC it uses a few elements of each pixel, as far apart as there are channels.
"""

from __future__ import annotations

from .conv import NUMBERS, Conv
from .conv_blocked import STRIP, Blocked, BlockedText
from .conv_dw import BIAS_RESULT, parts_of
from .correlation import forward_axis
from .source import CFunction, fill, indented
from .target import Target


def dw(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """dy, x -> dweight, [dbias]; `tile` is (channels, vectors), of channels a part of a block. Needs
    `conv_blocked.fits`."""
    y, x = (forward_axis(*along) for along in zip(conv.window, conv.stride, conv.dilation, strict=True))
    read = Blocked(conv, target, name, y, x, backward=False)
    channels, vectors = tile or _tile(target, read)
    vectors = min(vectors, read.vectors)
    sums = conv.filters * (conv.taps * conv.channels + conv.bias)
    values = BlockedText(read, 1, vectors).values | {
        "columns": conv.outputs[1],
        "filters": conv.filters,
        "channels": channels,
        "parts": read.lanes // channels,
        "items": conv.taps * read.blocks * (read.lanes // channels),
        "apart": conv.dilation[0] * read.pitch,
        "aside": conv.dilation[1] * read.lanes,
        "sums": sums,
        "begin_bias": sums - conv.filters,
        "dbias": f", {conv.dtype} *restrict dbias" * conv.bias,
        "source": PLAIN if read.plain else STRIPPED,
        "bias_sums": "${name}_bias(gradient, plane, scratch + $begin_bias, samples, band);" * conv.bias,
        "bias_result": BIAS_RESULT * conv.bias,
    }
    sizes = parts_of(read.vectors, vectors)
    calls = [f"${{name}}_tile{channels}x{v}(from, image, of, plane, to, samples, band);\n" for v in sizes]
    either = calls[0] if len(calls) == 1 else f"if (width == $width)\n    {calls[0]}else\n    {calls[1]}"
    parts = [
        *([] if read.plain else [STRIP]),
        *([BIAS] if conv.bias else []),
        *(fill(TILE, P=channels, V=v, **values) for v in sizes),
        fill(SUMS, calls=indented(either, 3), **values),
        MAIN,
    ]
    names = ("dy", "x", "dweight", *(["dbias"] * conv.bias))
    strip = 0 if read.plain else (read.strip_rows + read.y.span) * read.pitch * read.blocks
    text = "\n".join(fill(part, **values) for part in parts)
    return CFunction(name, text, names, NUMBERS, lambda n, threads: sums + strip)


def _tile(target: Target, read: Blocked) -> tuple[int, int]:
    """Half a block, or all of it where there are registers; three vectors, or two where these leave no rest."""
    channels = min(read.lanes, 8 if target.registers > 16 else 4)
    return channels, 2 if read.vectors % 3 and read.vectors % 2 == 0 else 3


TILE = """\
/* $P channel(s) of a tap by $V vector(s) of filters, summed over all pixels of the strip. */
static void ${name}_tile${P}x${V}(const $dtype *restrict x, long image, const $dtype *restrict dy, long plane,
                                  $dtype *restrict sums, long samples, long rows)
{
    ${dtype}v a[$P][$V];
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++)
            a[p][v] = (${dtype}v){0};
    for (long i = 0; i < samples; i++)
        for (long u = 0; u < rows; u++) {
            const $dtype *from = x + i * image + u * $stride * $pitch;
            const $dtype *of = dy + i * $result_blocks * plane + u * $columns * $lanes;
            for (long q = 0; q < $columns; q++, from += $step, of += $lanes)
                UNROLL for (long p = 0; p < $P; p++)
                    UNROLL for (long v = 0; v < $V; v++)
                        a[p][v] += from[p] * *(const ${dtype}u *)(of + v * plane);
        }
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++)
            *(${dtype}u *)(sums + (p * $V + v) * $lanes) += a[p][v];
}
"""

SUMS = """\
/* All tiles of the sums over a strip of `samples` times `band` rows; a block of dy is `plane` elements. */
static void ${name}_sums(const $dtype *restrict strip, long image, const $dtype *restrict dy, long plane,
                         $dtype *restrict sums, long samples, long band)
{
    #pragma omp for collapse(2) schedule(static) nowait
    for (long block = 0; block < $all_blocks; block++)
        for (long item = 0; item < $items; item++) {
            const long part = item % $parts * $channels, tap = item / $parts % $taps, c = item / ($taps * $parts);
            const long k0 = block * $width, width = least($width, $padded_k - k0), r = tap / $S, s = tap % $S;
            const $dtype *from = strip + c * (image / $source_blocks) + r * $apart + s * $aside + part;
            const $dtype *of = dy + k0 / $lanes * plane;
            $dtype *to = sums + k0 * $values + (tap * $c + c * $lanes + part) * width;
$calls        }
}
"""

BIAS = """\
/* The bias' gradient: sums of dy over the pixels of a strip. */
static void ${name}_bias(const $dtype *restrict dy, long plane, $dtype *restrict sums, long samples, long rows)
{
    #pragma omp for schedule(static) nowait
    for (long k = 0; k < $filters; k += $lanes) {
        ${dtype}v a = {0};
        for (long i = 0; i < samples; i++) {
            const $dtype *of = dy + (i * $result_blocks + k / $lanes) * plane;
            for (long q = 0; q < rows * $columns; q++)
                a += *(const ${dtype}u *)(of + q * $lanes);
        }
        *(${dtype}u *)(sums + k) += a;
    }
}
"""

STRIPPED = """\
                const long image = ((band - 1) * $stride + $span) * $image_pitch;
                $dtype *strip = scratch + $sums;
                ${name}_strip(x + i0 * rows * $source_width * $source_channels, strip,
                    samples, rows, begin * $stride - pad_top, (band - 1) * $stride + $span);"""

PLAIN = """\
                const long image = rows * $image_pitch;
                const $dtype *strip = x + i0 * image + (begin * $stride - pad_top) * $pitch;"""

MAIN = """\
void $name(const $dtype *restrict dy, const $dtype *restrict x, $dtype *restrict dweight$dbias,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const long end = most(0, lowered(rows + pad_top + pad_bottom - $reach, $row_stride) + 1);
    const long height = most(1, least(end, ($strip_rows - $span) / $stride + 1));
    const long images = height < end ? 1 : most(1, $strip_rows / ((height - 1) * $stride + $span));
    const long plane = end * $columns * $lanes;
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (long j = 0; j < $sums; j++)
            scratch[j] = 0;
        for (long i0 = 0; i0 < n; i0 += images)
            for (long begin = 0; begin < end; begin += height) {
                const long samples = least(images, n - i0), band = least(height, end - begin);
                const $dtype *gradient = dy + i0 * $result_blocks * plane + begin * $columns * $lanes;
$source
                $bias_sums
                ${name}_sums(strip, image, gradient, plane, scratch, samples, band);
                #pragma omp barrier  /* the strip is read before it is written again */
            }
        #pragma omp for schedule(static) nowait
        for (long k0 = 0; k0 < $padded_k; k0 += $lanes) {
            const long first = k0 / $width * $width, width = least($width, $padded_k - first);
            const $dtype *block = scratch + first * $values + (k0 - first);
            $dtype part[$lanes * $lanes];  /* [value][lane] */
            for (long q0 = 0; q0 < $values; q0 += $lanes) {
                for (long q = q0; q < q0 + $lanes; q++)
                    *(${dtype}u *)(part + (q - q0) * $lanes) =
                        *(const ${dtype}u *)(block + (q % $taps * $c + q / $taps) * width);
                ${dtype}_spread(part, dweight + k0 * $values + q0, $values, $lanes, $lanes);
            }
        }$bias_result
    }
}
"""
