"""Average pools in C, and how many elements of each window count."""

from __future__ import annotations

from .pool_windows import EXTENTS, TAPS, Make, function

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

/* What one tap adds. */
static inline void ${name}_add(const $real *restrict x, $real *restrict y, long inner)
{
    #pragma omp simd
    for (long c = 0; c < inner; c++)
        y[c] += x[c];
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
                else {
                    memset(to + q * inner, 0, inner * sizeof *to);
                    for (long i = 0; i < tall; i++)
                        for (long j = 0; j < wide; j++)
                            ${name}_add(at + (i * width + j) * inner, to + q * inner, inner);
                    for (long c = 0; c < inner; c++)
                        to[q * inner + c] *= share;
                }
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

PADS = ("bottom", "right_pad", "count_pad")

AVERAGE: dict[tuple[str, str, str], Make] = {
    ("avgpool", "forward", ""): function(
        "avgpool_forward", AVERAGE_FORWARD, ("x", "y"), (*EXTENTS, *PADS), TAPS, SHARE
    ),
    ("avgpool", "dx", ""): function("avgpool_dx", AVERAGE_DX, ("dy", "dx"), (*EXTENTS, *PADS), TAPS, SHARE),
}
"""(op, pass, algorithm) -> its generator for a target and a dtype."""
