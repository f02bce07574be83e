"""Pools in C over images [outer][row][column][inner], which every layout is.

In NHWC `outer` counts samples and `inner` channels, in CHWN it is the other way round: there vectors are of `inner`
elements, and a pixel's taps are read together. In NCHW `inner` is 1: there vectors are of pixels in a row.

Gradients are gathered: an element of dx adds up what its windows give, in the order of their taps, so that threads
share out rows of dx.
"""

from __future__ import annotations

from collections.abc import Callable

from .pool_global import GLOBAL
from .source import CFunction, fill
from .target import Target

Make = Callable[[Target, str], CFunction]

EXTENTS = ("outer", "inner", "height", "width", "out_height", "out_width", "r", "s", "down", "right", "top", "left")
"""Numbers: images and elements that lie together, rows and columns of x and y, of the window, strides, pads before."""

EXTENT_PARAMETERS = "long outer, long inner, long height, long width, long out_height, long out_width, long r, long s, \
long down, long right, long top, long left"

SMALL = 16384
"""Elements below which one thread does all."""

TAPS = """\
/* Which taps `from` to `to` of a window along one axis lie inside x, for the output number `at`. */
struct taps { long from, to; };

static inline struct taps taps(long at, long stride, long pad, long window, long extent)
{
    const long start = at * stride - pad;
    return (struct taps){most(0, -start), least(window, extent - start)};
}

/* The windows along one axis that cover element number `at` of x: taps `tap`, `tap` + stride, …, so many, of the
   outputs `out`, `out` - 1, … */
struct windows { long tap, out, count; };

static inline struct windows windows(long at, long stride, long pad, long window, long outputs)
{
    const long first = most(0, raised(at + pad - window + 1, stride));
    const long last = least(lowered(at + pad, stride), outputs - 1);
    return (struct windows){at + pad - last * stride, last, last - first + 1};
}

/* The outputs `from` to `to` along one axis whose tap lies inside x. */
static inline struct taps inside(long tap, long stride, long pad, long extent, long outputs)
{
    const long last = lowered(extent - 1 + pad - tap, stride);
    return (struct taps){most(0, raised(pad - tap, stride)), least(outputs, last + 1)};
}
"""

MAX_FORWARD = """\
/* The largest of a whole window for `inner` elements; its columns and rows are constants where that pays. */
static inline __attribute__((always_inline)) void ${name}_window(const $real *restrict x, $real *restrict y,
    int *restrict indices, long inner, long row_apart, long r, long s)
{
    #pragma omp simd
    for (long c = 0; c < inner; c++) {
        $real best = x[c];
        int number = 0;
        UNROLL for (long i = 0; i < r; i++)
            UNROLL for (long j = 0; j < s; j++) {
                const $real v = x[i * row_apart + j * inner + c];
                number = v > best ? (int)(i * s + j) : number;
                best = v > best || v != v ? v : best;
            }
        y[c] = best;
        indices[c] = number;
    }
}

/* One tap of several outputs: elements `apart` from one another in x. */
static inline __attribute__((always_inline)) void ${name}_tap(const $real *restrict x, $real *restrict y,
    int *restrict indices, long count, long apart, int tap)
{
    #pragma omp simd
    for (long i = 0; i < count; i++) {
        const $real v = x[i * apart], best = y[i];
        indices[i] = v > best ? tap : indices[i];
        y[i] = v > best || v != v ? v : best;
    }
}

/* One row of y, of images whose pixels are vectors. */
static void ${name}_vectors(const $real *restrict x, $real *restrict y, int *restrict indices, struct taps rows,
    long inner, long width, long out_width, long r, long s, long right, long left)
{
    const long row_apart = width * inner;
    for (long q = 0; q < out_width; q++, y += inner, indices += inner) {
        const struct taps columns = taps(q, right, left, s, width);
        const $real *from = x + (q * right - left) * inner;
        const int whole = rows.to - rows.from == r && columns.to - columns.from == s;
        if (whole && r == 3 && s == 3)
            ${name}_window(from, y, indices, inner, row_apart, 3, 3);
        else if (whole && r == 2 && s == 2)
            ${name}_window(from, y, indices, inner, row_apart, 2, 2);
        else {
            for (long c = 0; c < inner; c++)
                y[c] = -INFINITY, indices[c] = 0;
            for (long i = rows.from; i < rows.to; i++)
                for (long j = columns.from; j < columns.to; j++)
                    ${name}_tap(from + i * row_apart + j * inner, y, indices, inner, 1, (int)(i * s + j));
        }
    }
}

/* One row of y, of images whose rows are vectors. */
static void ${name}_row(const $real *restrict x, $real *restrict y, int *restrict indices, struct taps rows, long width,
    long out_width, long s, long right, long left)
{
    for (long q = 0; q < out_width; q++)
        y[q] = -INFINITY, indices[q] = 0;
    for (long i = rows.from; i < rows.to; i++)
        for (long j = 0; j < s; j++) {
            const struct taps q = inside(j, right, left, width, out_width);
            const $real *from = x + i * width + q.from * right + j - left;
            const int tap = (int)(i * s + j);
            if (right == 1)
                ${name}_tap(from, y + q.from, indices + q.from, q.to - q.from, 1, tap);
            else if (right == 2)
                ${name}_tap(from, y + q.from, indices + q.from, q.to - q.from, 2, tap);
            else
                ${name}_tap(from, y + q.from, indices + q.from, q.to - q.from, right, tap);
        }
}

/* x -> the largest element of each window and the number of its tap; the first one wins, pads never. */
void $name(const $real *restrict x, $real *restrict y, int *restrict indices, $extents)
{
    #pragma omp parallel for collapse(2) schedule(static) if (outer * inner * out_height * out_width > $small)
    for (long image = 0; image < outer; image++)
        for (long p = 0; p < out_height; p++) {
            const struct taps rows = taps(p, down, top, r, height);
            const $real *from = x + (image * height + p * down - top) * width * inner;
            const long to = (image * out_height + p) * out_width * inner;
            if (inner != 1)
                ${name}_vectors(from, y + to, indices + to, rows, inner, width, out_width, r, s, right, left);
            else
                ${name}_row(from, y + to, indices + to, rows, width, out_width, s, right, left);
        }
}
"""

MAX_DX = """\
/* What `rows` by `columns` windows give to one pixel of dx: those whose largest element it was. */
static inline __attribute__((always_inline)) void ${name}_pixel(const $real *restrict dy, const int *restrict indices,
    $real *restrict dx, long inner, long row_apart, long rows, long columns, int tap, int row_taps, int column_taps)
{
    #pragma omp simd
    for (long c = 0; c < inner; c++) {
        $real sum = 0;
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (long j = 0; j < columns; j++) {
                const long at = c - i * row_apart - j * inner;
                sum += indices[at] == tap + (int)i * row_taps + (int)j * column_taps ? dy[at] : 0;
            }
        dx[c] = sum;
    }
}

/* One row of dx, of images whose pixels are vectors. */
static void ${name}_vectors(const $real *restrict dy, const int *restrict indices, $real *restrict dx,
    struct windows rows, long inner, long width, long out_width, long s, long down, long right, long left)
{
    const long row_apart = out_width * inner;
    for (long q = 0; q < width; q++, dx += inner) {
        const struct windows columns = windows(q, right, left, s, out_width);
        const long at = columns.out * inner;
        const int tap = (int)(rows.tap * s + columns.tap), row_taps = (int)(down * s), column_taps = (int)right;
        #define GIVEN(rows, columns) \\
            ${name}_pixel(dy + at, indices + at, dx, inner, row_apart, rows, columns, tap, row_taps, column_taps)
        if (rows.count <= 0 || columns.count <= 0)
            memset(dx, 0, inner * sizeof *dx);
        else if (rows.count == 1 && columns.count == 1)
            GIVEN(1, 1);
        else if (rows.count == 1 && columns.count == 2)
            GIVEN(1, 2);
        else if (rows.count == 2 && columns.count == 1)
            GIVEN(2, 1);
        else if (rows.count == 2 && columns.count == 2)
            GIVEN(2, 2);
        else if (rows.count == 3 && columns.count == 3)
            GIVEN(3, 3);
        else
            GIVEN(rows.count, columns.count);
        #undef GIVEN
    }
}

/* A whole image of rows: the outputs from the last to the first, so that taps ascend for each element of dx. */
static void ${name}_image(const $real *restrict dy, const int *restrict indices, $real *restrict dx, long height,
    long width, long out_height, long out_width, long s, long down, long right, long top, long left)
{
    memset(dx, 0, height * width * sizeof *dx);
    for (long p = out_height - 1; p >= 0; p--)
        for (long q = out_width - 1; q >= 0; q--) {
            const long tap = indices[p * out_width + q], i = p * down - top + tap / s, j = q * right - left + tap % s;
            if (i >= 0 && i < height && j >= 0 && j < width)
                dx[i * width + j] += dy[p * out_width + q];
        }
}

/* dy goes to the element that was the largest. */
void $name(const $real *restrict dy, const int *restrict indices, $real *restrict dx, $extents)
{
    (void)r;
    if (inner == 1) {
        #pragma omp parallel for schedule(static) if (outer * height * width > $small)
        for (long image = 0; image < outer; image++) {
            const long from = image * out_height * out_width;
            ${name}_image(dy + from, indices + from, dx + image * height * width, height, width, out_height, out_width,
                s, down, right, top, left);
        }
        return;
    }
    #pragma omp parallel for collapse(2) schedule(static) if (outer * inner * height * width > $small)
    for (long image = 0; image < outer; image++)
        for (long p = 0; p < height; p++) {
            const struct windows rows = windows(p, down, top, r, out_height);
            const long from = (image * out_height + rows.out) * out_width * inner;
            ${name}_vectors(dy + from, indices + from, dx + (image * height + p) * width * inner, rows, inner, width,
                out_width, s, down, right, left);
        }
}
"""

SHARE = """\
/* 1/(number of elements) of windows: pads count up to `top` and `bottom`, `left` and `right_pad`, or not at all. */
static inline long counted(long at, long stride, long pad, long window, long extent, long after, long count_pad)
{
    const long start = at * stride - pad, end = least(start + window, extent + (count_pad ? after : 0));
    return end - most(start, count_pad ? -pad : 0);
}
"""

AVERAGE_FORWARD = """\
/* The mean of a window for `inner` elements; its columns and rows are constants where that pays. */
static inline __attribute__((always_inline)) void ${name}_window(const $real *restrict x, $real *restrict y, long inner,
    long row_apart, long rows, long columns, $real share)
{
    #pragma omp simd
    for (long c = 0; c < inner; c++) {
        $real sum = 0;
        UNROLL for (long i = 0; i < rows; i++)
            UNROLL for (long j = 0; j < columns; j++)
                sum += x[i * row_apart + j * inner + c];
        y[c] = sum * share;
    }
}

/* One row of y, of images whose rows are vectors. */
static void ${name}_row(const $real *restrict x, $real *restrict y, struct taps rows, long width, long out_width,
    long s, long right, long left)
{
    memset(y, 0, out_width * sizeof *y);
    for (long i = rows.from; i < rows.to; i++)
        for (long j = 0; j < s; j++) {
            const struct taps outs = inside(j, right, left, width, out_width);
            const $real *from = x + i * width + j - left;
            if (right == 2)
                for (long q = outs.from; q < outs.to; q++)
                    y[q] += from[2 * q];
            else
                for (long q = outs.from; q < outs.to; q++)
                    y[q] += from[q * right];
        }
}

/* x -> the mean of each window; pads count as zeros with `count_pad`, else not at all. */
void $name(const $real *restrict x, $real *restrict y, $extents, long bottom, long right_pad, long count_pad)
{
    #pragma omp parallel for collapse(2) schedule(static) if (outer * inner * out_height * out_width > $small)
    for (long image = 0; image < outer; image++)
        for (long p = 0; p < out_height; p++) {
            const struct taps rows = taps(p, down, top, r, height);
            const long count = counted(p, down, top, r, height, bottom, count_pad);
            const $real *from = x + (image * height + p * down - top) * width * inner;
            $real *to = y + (image * out_height + p) * out_width * inner;
            if (inner == 1)
                ${name}_row(from, to, rows, width, out_width, s, right, left);
            for (long q = 0; q < out_width; q++) {
                const struct taps columns = taps(q, right, left, s, width);
                const $real share = ($real)(1.0 / (count * counted(q, right, left, s, width, right_pad, count_pad)));
                const long tall = most(0, rows.to - rows.from), wide = most(0, columns.to - columns.from);
                const $real *at = from + ((rows.from * width + q * right - left) + columns.from) * inner;
                if (inner == 1)
                    to[q] *= share;
                else if (tall == 2 && wide == 2)
                    ${name}_window(at, to + q * inner, inner, width * inner, 2, 2, share);
                else if (tall == 3 && wide == 3)
                    ${name}_window(at, to + q * inner, inner, width * inner, 3, 3, share);
                else
                    ${name}_window(at, to + q * inner, inner, width * inner, tall, wide, share);
            }
        }
}
"""

AVERAGE_DX = """\
/* What one row of dy gives to a row of dx, of images whose pixels are vectors. */
static void ${name}_vectors(const $real *restrict dy, $real *restrict dx, long inner, long width, long out_width,
    long s, long right, long left, long right_pad, long count_pad, double share)
{
    for (long q = 0; q < width; q++) {
        const struct windows columns = windows(q, right, left, s, out_width);
        for (long at = columns.out; at > columns.out - columns.count; at--) {
            const $real part = ($real)(share / counted(at, right, left, s, width, right_pad, count_pad));
            #pragma omp simd
            for (long c = 0; c < inner; c++)
                dx[q * inner + c] += dy[at * inner + c] * part;
        }
    }
}

/* The same where they are single elements. */
static void ${name}_row(const $real *restrict dy, $real *restrict dx, long width, long out_width, long s, long right,
    long left, long right_pad, long count_pad, double share)
{
    for (long at = out_width - 1; at >= 0; at--) {
        const struct taps columns = taps(at, right, left, s, width);
        const $real part = dy[at] * ($real)(share / counted(at, right, left, s, width, right_pad, count_pad));
        for (long j = columns.from; j < columns.to; j++)
            dx[at * right - left + j] += part;
    }
}

/* dy is shared out evenly over its window. */
void $name(const $real *restrict dy, $real *restrict dx, $extents, long bottom, long right_pad, long count_pad)
{
    #pragma omp parallel for collapse(2) schedule(static) if (outer * inner * height * width > $small)
    for (long image = 0; image < outer; image++)
        for (long p = 0; p < height; p++) {
            const struct windows rows = windows(p, down, top, r, out_height);
            $real *to = dx + (image * height + p) * width * inner;
            memset(to, 0, width * inner * sizeof *to);
            for (long out = rows.out; out > rows.out - rows.count; out--) {
                const double share = 1.0 / counted(out, down, top, r, height, bottom, count_pad);
                const $real *from = dy + (image * out_height + out) * out_width * inner;
                if (inner == 1)
                    ${name}_row(from, to, width, out_width, s, right, left, right_pad, count_pad, share);
                else
                    ${name}_vectors(from, to, inner, width, out_width, s, right, left, right_pad, count_pad, share);
            }
        }
}
"""


Names = tuple[str, ...]


def function(name: str, text: str, arguments: Names, numbers: Names, *shared: str) -> Make:
    """`NAME_DTYPE` of a template."""

    def make(target: Target, real: str) -> CFunction:
        filled = fill(text, name=f"{name}_{real}", real=real, small=SMALL, extents=EXTENT_PARAMETERS)
        return CFunction(f"{name}_{real}", filled, arguments, numbers, shared=shared)

    return make


PADS = ("bottom", "right_pad", "count_pad")

FUNCTIONS: dict[tuple[str, str, str], Make] = {
    **GLOBAL,
    ("maxpool", "forward", ""): function("maxpool_forward", MAX_FORWARD, ("x", "y", "indices"), EXTENTS, TAPS),
    ("maxpool", "dx", ""): function("maxpool_dx", MAX_DX, ("dy", "indices", "dx"), EXTENTS, TAPS),
    ("avgpool", "forward", ""): function(
        "avgpool_forward", AVERAGE_FORWARD, ("x", "y"), (*EXTENTS, *PADS), TAPS, SHARE
    ),
    ("avgpool", "dx", ""): function("avgpool_dx", AVERAGE_DX, ("dy", "dx"), (*EXTENTS, *PADS), TAPS, SHARE),
}
"""(op, pass, algorithm) -> its generator for a target and a dtype."""
