"""Pools in C over images [outer][row][column][inner], which every layout is.

In NHWC `outer` counts samples and `inner` channels, in CHWN it is the other way round: there vectors are of `inner`
elements, and a pixel's taps are read together. In NCHW `inner` is 1: there vectors are of pixels in a row.

Gradients are gathered: an element of dx adds up what its windows give, in the order of their taps, so that threads
share out rows of dx.
"""

from __future__ import annotations

from .pool_average import AVERAGE
from .pool_global import GLOBAL
from .pool_windows import EXTENTS, TAPS, Make, function

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
static inline __attribute__((always_inline)) void ${name}_vectors(const $real *restrict x, $real *restrict y,
    int *restrict indices, struct taps rows, long inner, long width, long out_width, long r, long s, long right,
    long left)
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
            if (inner == $lanes && right == 2)  /* a block of channels: short, so that all else counts */
                ${name}_vectors(from, y + to, indices + to, rows, $lanes, width, out_width, r, s, 2, left);
            else if (inner == $lanes && right == 1)
                ${name}_vectors(from, y + to, indices + to, rows, $lanes, width, out_width, r, s, 1, left);
            else if (inner != 1)
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

/* What one window gives. */
static inline void ${name}_add(const $real *restrict dy, const int *restrict indices, $real *restrict dx, long inner,
    int tap)
{
    #pragma omp simd
    for (long c = 0; c < inner; c++)
        dx[c] += indices[c] == tap ? dy[c] : 0;
}

/* One row of dx, of images whose pixels are vectors. */
static inline __attribute__((always_inline)) void ${name}_vectors(const $real *restrict dy,
    const int *restrict indices, $real *restrict dx, struct windows rows, long inner, long width, long out_width,
    long s, long down, long right, long left)
{
    const long row_apart = out_width * inner;
    for (long q = 0; q < width; q++, dx += inner) {
        const struct windows columns = windows(q, right, left, s, out_width);
        const long at = columns.out * inner;
        const int tap = (int)(rows.tap * s + columns.tap), row_taps = (int)(down * s), column_taps = (int)right;
        #define GIVEN(rows, columns) \\
            ${name}_pixel(dy + at, indices + at, dx, inner, row_apart, rows, columns, tap, row_taps, column_taps)
        if (rows.count == 1 && columns.count == 1)
            GIVEN(1, 1);
        else if (rows.count == 1 && columns.count == 2)
            GIVEN(1, 2);
        else if (rows.count == 2 && columns.count == 1)
            GIVEN(2, 1);
        else if (rows.count == 2 && columns.count == 2)
            GIVEN(2, 2);
        else if (rows.count == 3 && columns.count == 3)
            GIVEN(3, 3);
        else {
            memset(dx, 0, inner * sizeof *dx);
            for (long i = 0; i < rows.count; i++)
                for (long j = 0; j < columns.count; j++) {
                    const long out = at - i * row_apart - j * inner;
                    ${name}_add(dy + out, indices + out, dx, inner, tap + (int)i * row_taps + (int)j * column_taps);
                }
        }
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
            const int tap = indices[p * out_width + q];
            const long i = p * down - top + tap / (int)s, j = q * right - left + tap % (int)s;
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
            $real *to = dx + (image * height + p) * width * inner;
            if (inner == $lanes && right == 2)  /* a block of channels */
                ${name}_vectors(dy + from, indices + from, to, rows, $lanes, width, out_width, s, down, 2, left);
            else if (inner == $lanes && right == 1)
                ${name}_vectors(dy + from, indices + from, to, rows, $lanes, width, out_width, s, down, 1, left);
            else
                ${name}_vectors(dy + from, indices + from, to, rows, inner, width, out_width, s, down, right, left);
        }
}
"""

FUNCTIONS: dict[tuple[str, str, str], Make] = {
    ("maxpool", "forward", ""): function("maxpool_forward", MAX_FORWARD, ("x", "y", "indices"), EXTENTS, TAPS),
    ("maxpool", "dx", ""): function("maxpool_dx", MAX_DX, ("dy", "indices", "dx"), EXTENTS, TAPS),
    **AVERAGE,
    **GLOBAL,
}
"""(op, pass, algorithm) -> its generator for a target and a dtype."""
