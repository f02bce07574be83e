"""Convolution in CHWN, the samples in vectors: for few channels, which would leave most of a vector empty.

Forward and dx: a tile keeps `filters` channels of the result by `vectors` vectors of samples at one pixel; its weights,
packed [block of filters][channel of the source][tap][filter], are read one by one. Only taps that read inside the image
are gone through, in dx only those that the stride lets meet: none multiplies zeros.

dw: a tile keeps sums of some filters by some (channel, tap) pairs, a vector of samples each, whose lanes are added up
behind a band of rows. A thread owns sums, so that the order of additions does not depend on how many threads there are.
"""

from __future__ import annotations

from math import gcd

from .conv import NUMBERS, Conv
from .conv_dw import parts_of
from .source import CFunction, fill, indented
from .target import WIDTHS, Target

BAND_BYTES = 256 * 1024
"""How much of x and dy the weight gradient works on at a time: half of a second-level cache."""


def forward(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """x, weight, [bias] -> y; `tile` is (filters, vectors of samples)."""
    return _correlation(conv, target, name, tile, backward=False)


def dx(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """dy, weight -> dx; `tile` is (channels, vectors of samples)."""
    return _correlation(conv, target, name, tile, backward=True)


def _tile(target: Target, k: int) -> tuple[int, int]:
    """As many vectors as leave room for some filters, and filters that divide evenly."""
    vectors = 4 if target.registers >= 32 else 2
    most = target.pixels(vectors)
    return -(-k // -(-k // most)), vectors


def _halves(vectors: int) -> tuple[int, ...]:
    """Numbers of vectors for ever smaller batches: half as many, down to one."""
    return (vectors, *_halves(vectors // 2)) if vectors > 1 else (1,)


def _correlation(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None, *, backward: bool) -> CFunction:
    c, k = (conv.group_filters, conv.group_channels) if backward else (conv.group_channels, conv.group_filters)
    filters, vectors = tile or _tile(target, k)
    filters = min(filters, k)
    blocks, bias = -(-k // filters), conv.bias and not backward
    inner, outer = (conv.outputs[1], conv.width) if backward else (conv.width, conv.outputs[1])
    packed = conv.groups * blocks * filters * c * conv.taps
    values = _values(conv, target, name) | {
        "c": c,
        "k": k,
        "filters": filters,
        "blocks": blocks,
        "all_blocks": blocks * conv.groups,
        "source_width": inner,
        "result_width": outer,
        "from": "((g * $c + c) * $k + k)" if backward else "((g * $k + k) * $c + c)",
        "bias_argument": "const $dtype *restrict bias, " * bias,
        "bias": "bias + g * $k + k0" if bias else "0",
        "signature": BACKWARD if backward else FORWARD,
        "position_y": "y + pad_top" if backward else "y * $stride_y - pad_top",
        "position_x": f"x + {conv.pad[1][0]}" if backward else f"x * $stride_x - {conv.pad[1][0]}",
    }
    for axis, stride, dilation in zip("yx", conv.stride, conv.dilation, strict=True):
        common = gcd(stride, dilation)
        steps = (stride, dilation, stride // common, dilation // common) if backward else (dilation,)
        values[f"steps_{axis}"] = ", ".join(map(str, steps))
        values[f"tap_step_{axis}"] = stride // common if backward else 1
        values[f"source_step_{axis}"] = -(dilation // common) if backward else dilation
    sizes = [(f, v) for f in parts_of(k, filters) for v in _halves(vectors)]
    start = "(${dtype}v){0} + bias[f]" if bias else "(${dtype}v){0}"
    tiles = [
        fill(
            TILE, F=f, V=v, start=start,
            load="*(const ${dtype}u *)(from + v * $lanes)" if v > 1 else "${dtype}_load(from, count)",
            store="*(${dtype}u *)(y + f * y_apart + v * $lanes) = a[f][v]" if v > 1
            else "${dtype}_store(y + f * y_apart, a[f][v], count)",
            **values,
        )
        for f, v in sizes
    ]  # fmt: skip
    parts = [TAPS_BACKWARD if backward else TAPS, PACK, *tiles, fill(MAIN, calls=_calls(k, filters, vectors), **values)]
    names = ("dy", "weight", "dx") if backward else ("x", "weight", *(["bias"] * bias), "y")
    return CFunction(name, "\n".join(fill(p, **values) for p in parts), names, NUMBERS, lambda n, threads: packed)


def _values(conv: Conv, target: Target, name: str) -> dict[str, object]:
    return {
        "name": name,
        "dtype": conv.dtype,
        "lanes": target.lanes(conv.dtype),
        "groups": conv.groups,
        "R": conv.window[0],
        "S": conv.window[1],
        "taps": conv.taps,
        "stride_y": conv.stride[0],
        "stride_x": conv.stride[1],
        "dilation_y": conv.dilation[0],
        "dilation_x": conv.dilation[1],
        "reach": conv.reach[0],
    }


def _calls(k: int, filters: int, vectors: int) -> str:
    """The calls of tiles for all samples at a pixel."""

    def along(size: int) -> str:
        call = (
            "${name}_tile%dx%d(at + i, plane, row, tap_y, taps_y, column, tap_x, taps_x, w, b, to + i, apart, n, %s);\n"
        )
        text = "long i = 0;\n"
        for v in _halves(vectors)[:-1]:
            text += f"for (; i + {v} * $lanes <= n; i += {v} * $lanes)\n    {call % (size, v, '$lanes')}"
        return text + f"for (; i < n; i += $lanes)\n    {call % (size, 1, 'n - i')}"

    first, *last = map(along, parts_of(k, filters))
    if not last:
        return indented(first, 5)
    return indented("if (k0 + $filters <= $k) {\n" + indented(first) + "} else {\n" + indented(last[0]) + "}\n", 5)


def dw(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """dy, x -> dweight, [dbias]; `tile` is (filters, (channel, tap) pairs)."""
    c, k = conv.group_channels, conv.group_filters
    pairs = c * conv.taps
    filters, wide = tile or (min(k, 6), 4 if target.registers >= 32 else 2)
    filters, wide = min(filters, k), min(wide, pairs)
    filters = -(-k // -(-k // filters))
    blocks, runs = -(-k // filters), -(-pairs // wide)
    left, right = conv.pad[1]
    width = conv.width + left + right
    values = _values(conv, target, name) | {
        "c": c, "k": k, "filters": filters, "pairs": pairs, "wide": wide, "blocks": blocks, "runs": runs,
        "all_blocks": blocks * conv.groups, "band": BAND_BYTES // WIDTHS[conv.dtype],
        "row": conv.filters * conv.outputs[1] + conv.channels * width * conv.stride[0],
        "all_filters": conv.filters, "channels": conv.channels,
        "columns": conv.outputs[1], "width": conv.width, "padded_width": width, "left": left,
        "dbias": f", {conv.dtype} *restrict dbias" * conv.bias,
        "bias": BIAS * conv.bias,
        "source": PAD if conv.padded else "        const long height = rows;\n        const $dtype *from = x;\n",
    }  # fmt: skip
    sizes = [(f, p) for f in parts_of(k, filters) for p in parts_of(pairs, wide)]
    calls = "".join(
        f"if (filters == {f} && pairs == {p})\n"
        f"    ${{name}}_tile{f}x{p}(of, end * $columns * n, at, offsets, to, n, band);\n"
        for f, p in sizes
    )
    tiles = [fill(DW_TILE, F=f, P=p, **values) for f, p in sizes]
    main = fill(DW_MAIN, calls=indented(calls, 5), **values)
    size = (conv.height + sum(conv.pad[0]) + conv.reach[0]) * width * conv.channels * conv.padded
    text = "\n".join((*tiles, main))
    names = ("dy", "x", "dweight", *(["dbias"] * conv.bias))
    return CFunction(name, text, names, NUMBERS, lambda n, threads: size * n)


TAPS = """\
/* The taps of a window at `position` that read inside 0..extent: how many, the first of them and where it reads. */
static inline long ${name}_taps(long position, long window, long dilation, long extent, long *tap, long *at)
{
    const long lo = most(0, raised(-position, dilation)), hi = least(window, raised(extent - position, dilation));
    *tap = lo;
    *at = position + lo * dilation;
    return hi - lo;
}
"""

TAPS_BACKWARD = """\
/* The taps that take part in the gradient at `position`: how many, the first and which of 0..extent it reads; `step`
   taps on they read `apart` before that. */
static inline long ${name}_taps(long position, long window, long stride, long dilation, long step, long apart,
                                long extent, long *tap, long *at)
{
    for (long r = 0; r < least(step, window); r++)
        if ((position - r * dilation) % stride == 0) {
            const long first = (position - r * dilation) / stride, lo = most(0, raised(first - extent + 1, apart));
            *tap = r + lo * step;
            *at = first - lo * apart;
            return least(raised(window - r, step), lowered(first, apart) + 1) - lo;
        }
    return 0;
}
"""

PACK = """\
/* Weights to [block][c][tap][filter]. */
static void ${name}_pack(const $dtype *restrict weight, $dtype *restrict packed)
{
    #pragma omp for collapse(2) schedule(static)
    for (long g = 0; g < $groups; g++)
        for (long k = 0; k < $k; k++) {
            const long k0 = k / $filters * $filters, filters = least($filters, $k - k0);
            for (long c = 0; c < $c; c++)
                for (long tap = 0; tap < $taps; tap++)
                    packed[((g * $blocks * $filters + k0) * $c + 0) * $taps + (c * $taps + tap) * filters + k - k0] =
                        weight[$from * $taps + tap];
        }
}
"""

TILE = """\
/* $F filter(s) by $V vector(s) of samples at one pixel: sums over the channels, and taps_y x taps_x taps of each. */
static void ${name}_tile${F}x${V}(const $dtype *restrict x, long plane, long row, long tap_y, long taps_y,
                                  long column, long tap_x, long taps_x, const $dtype *restrict w,
                                  const $dtype *restrict bias, $dtype *restrict y, long y_apart, long n, long count)
{
    ${dtype}v a[$F][$V];
    UNROLL for (long f = 0; f < $F; f++)
        UNROLL for (long v = 0; v < $V; v++)
            a[f][v] = $start;
    for (long c = 0; c < $c; c++)
        for (long i = 0; i < taps_y; i++) {
            const $dtype *from = x + c * plane + ((row + i * $source_step_y) * $source_width + column) * n;
            const $dtype *weight = w + ((c * $R + tap_y + i * $tap_step_y) * $S + tap_x) * $F;
            for (long j = 0; j < taps_x; j++, from += $source_step_x * n, weight += $tap_step_x * $F)
                UNROLL for (long v = 0; v < $V; v++) {
                    const ${dtype}v b = $load;
                    UNROLL for (long f = 0; f < $F; f++)
                        a[f][v] += weight[f] * b;
                }
        }
    UNROLL for (long f = 0; f < $F; f++)
        UNROLL for (long v = 0; v < $V; v++)
            $store;
}
"""

FORWARD = """\
void $name(const $dtype *restrict x, const $dtype *restrict weight, $bias_argument$dtype *restrict y,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const $dtype *source = x;
    $dtype *result = y;
    const long source_rows = rows, result_rows = lowered(rows + pad_top + pad_bottom - $reach, $stride_y) + 1;"""

BACKWARD = """\
void $name(const $dtype *restrict dy, const $dtype *restrict weight, $dtype *restrict dx,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const $dtype *source = dy;
    $dtype *result = dx;
    const long source_rows = most(0, lowered(rows + pad_top + pad_bottom - $reach, $stride_y) + 1);
    const long result_rows = rows;"""

MAIN = """\
$signature
    const long plane = source_rows * $source_width * n, apart = result_rows * $result_width * n;
    #pragma omp parallel
    {
        ${name}_pack(weight, scratch);
        #pragma omp for collapse(2) schedule(static) nowait
        for (long block = 0; block < $all_blocks; block++)
            for (long y = 0; y < result_rows; y++) {
                const long g = block / $blocks, k0 = block % $blocks * $filters;
                const $dtype *w = scratch + (g * $blocks * $filters + k0) * $c * $taps, *b = $bias;
                const $dtype *at = source + g * $c * plane;
                long tap_y = 0, row = 0, tap_x = 0, column = 0;
                const long taps_y = ${name}_taps($position_y, $R, $steps_y, source_rows, &tap_y, &row);
                for (long x = 0; x < $result_width; x++) {
                    const long taps_x =
                        ${name}_taps($position_x, $S, $steps_x, $source_width, &tap_x, &column);
                    $dtype *to = result + (g * $k + k0) * apart + (y * $result_width + x) * n;
$calls                }
            }
    }
}
"""

DW_TILE = """\
/* $F filter(s) by $P (channel, tap) pair(s): sums over some rows of pixels, all samples. */
static void ${name}_tile${F}x${P}(const $dtype *restrict dy, long apart, const $dtype *restrict x,
                                  const long *restrict offsets, $dtype *restrict sums, long n, long rows)
{
    ${dtype}v a[$F][$P], b[$P];
    UNROLL for (long f = 0; f < $F; f++)
        UNROLL for (long p = 0; p < $P; p++)
            a[f][p] = (${dtype}v){0};
    for (long y = 0; y < rows; y++)
        for (long q = 0; q < $columns; q++) {
            const $dtype *of = dy + (y * $columns + q) * n;
            const $dtype *from = x + (y * $stride_y * $padded_width + q * $stride_x) * n;
            long i = 0;
            for (; i + $lanes <= n; i += $lanes) {
                UNROLL for (long p = 0; p < $P; p++)
                    b[p] = *(const ${dtype}u *)(from + offsets[p] + i);
                UNROLL for (long f = 0; f < $F; f++)
                    UNROLL for (long p = 0; p < $P; p++)
                        a[f][p] += *(const ${dtype}u *)(of + f * apart + i) * b[p];
            }
            if (i < n) {
                UNROLL for (long p = 0; p < $P; p++)
                    b[p] = ${dtype}_load(from + offsets[p] + i, n - i);
                UNROLL for (long f = 0; f < $F; f++)
                    UNROLL for (long p = 0; p < $P; p++)
                        a[f][p] += ${dtype}_load(of + f * apart + i, n - i) * b[p];
            }
        }
    UNROLL for (long f = 0; f < $F; f++)
        UNROLL for (long p = 0; p < $P; p++)
            sums[f * $pairs + p] += ${dtype}_sum(a[f][p]);
}
"""

PAD = """\
        const long height = rows + pad_top + pad_bottom;
        $dtype *from = scratch;
        #pragma omp for collapse(2) schedule(static)
        for (long c = 0; c < $channels; c++)
            for (long j = 0; j < height; j++) {
                $dtype *to = from + (c * height + j) * $padded_width * n;
                memset(to, 0, $padded_width * n * sizeof($dtype));
                if (j >= pad_top && j < pad_top + rows)
                    memcpy(to + $left * n, x + (c * rows + j - pad_top) * $width * n, $width * n * sizeof($dtype));
            }
"""

BIAS = """\
        #pragma omp for schedule(static) nowait
        for (long k = 0; k < $all_filters; k++) {
            ${dtype}v a = {0};
            for (long i = 0; i < end * $columns * n; i += $lanes)
                a += ${dtype}_load(dy + k * end * $columns * n + i, end * $columns * n - i);
            dbias[k] = ${dtype}_sum(a);
        }
"""

DW_MAIN = """\
void $name(const $dtype *restrict dy, const $dtype *restrict x, $dtype *restrict dweight$dbias,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const long end = most(0, lowered(rows + pad_top + pad_bottom - $reach, $stride_y) + 1);
    const long height_of_band = most(1, $band / most(1, n * $row));
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (long j = 0; j < $all_filters * $pairs; j++)
            dweight[j] = 0;
$source$bias        for (long y = 0; y < end; y += height_of_band)  /* a thread has the same sums in every turn */
            #pragma omp for collapse(2) schedule(static) nowait
            for (long block = 0; block < $all_blocks; block++)
                for (long run = 0; run < $runs; run++) {
                    const long g = block / $blocks, k0 = block % $blocks * $filters;
                    const long filters = least($filters, $k - k0), pairs = least($wide, $pairs - run * $wide);
                    const $dtype *at = from + (g * $c * height + y * $stride_y) * $padded_width * n;
                    const $dtype *of = dy + ((g * $k + k0) * end + y) * $columns * n;
                    $dtype *to = dweight + (g * $k + k0) * $pairs + run * $wide;
                    const long band = least(height_of_band, end - y);
                    long offsets[$wide];
                    for (long p = 0; p < pairs; p++) {
                        const long pair = run * $wide + p, c = pair / $taps, r = pair % $taps / $S, s = pair % $S;
                        offsets[p] = ((c * height + r * $dilation_y) * $padded_width + s * $dilation_x) * n;
                    }
$calls                }
    }
}
"""
