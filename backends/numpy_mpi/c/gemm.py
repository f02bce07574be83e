"""Products of matrices, which linear maps, recurrent networks and attention are made of.

One function for all extents and both orders of either operand. A tile of results, some rows of a few vectors, stays in
registers; a panel of the left operand is kept in the first cache and one of the right in the second (K. Goto, R. van de
Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008). Each result is one sum in a fixed order.
"""

from __future__ import annotations

from .source import fill
from .target import WIDTHS, Target

VECTORS = 2
"""Of a row of a tile."""

LEFT_BYTES = 38 << 10
"""Of a panel of the left operand, which passes through the first cache for each column of tiles."""

BLOCKS = 6
"""Panels of the left operand that are kept in the second cache, while the right one passes by."""

ROOM = 3 << 18
"""Elements of a panel of the right operand, which stays in the third cache, and a few to begin where a line does."""

ALIGNED = 64
"""Bytes of a line of the caches."""


def gemm(target: Target, dtype: str) -> str:
    """The function `DTYPE_gemm` and those that it consists of, a text for `CFunction.shared`."""
    cases = "".join(f"        CASE({p})\n" for p in range(1, rows(target) + 1))
    return SEPARATE + fill(GEMM, dtype=dtype, cases=cases, **geometry(target, dtype))


def geometry(target: Target, dtype: str) -> dict[str, int]:
    """The extents of tiles and panels, by their names in the text."""
    most, lanes = rows(target), target.lanes(dtype)
    depth = LEFT_BYTES // (most * WIDTHS[dtype]) // lanes * lanes
    return {
        "aligned": ALIGNED,
        "rows": most,
        "vectors": VECTORS,
        "lanes": lanes,
        "width": width(target, dtype),
        "depth": depth,
        "blocks": BLOCKS,
        "strip": 8 * width(target, dtype),
        "columns": (ROOM - ALIGNED) // depth // width(target, dtype) * width(target, dtype),
    }


def panels(columns: int, depth: int, target: Target, dtype: str) -> int:
    """Elements of all panels of a right operand, and a few to begin where a line does."""
    return -(-columns // width(target, dtype)) * width(target, dtype) * depth + ALIGNED


def rows(target: Target) -> int:
    """The most rows of a tile."""
    return target.pixels(VECTORS)


def width(target: Target, dtype: str) -> int:
    """Columns of a tile."""
    return VECTORS * target.lanes(dtype)


SEPARATE = """\
#ifndef SEPARATE
#define SEPARATE __attribute__((noinline))  /* compiled once, not again into each caller */
#endif

"""

GEMM = """\
/* Rows of `depth` elements, `row` apart from one another and their elements `k` apart (one of both is 1), to
   [k][width]. What lies in place of rows that are not there is not used; $lanes elements behind may be spoilt. */
static SEPARATE void ${dtype}_panel(const $dtype *restrict from, long row, long k, long rows, long depth, long width,
                           $dtype *restrict to)
{
    for (long i = 0; i < depth; i += $lanes)
        for (long j = (width - 1) / $lanes * $lanes; j >= 0; j -= $lanes) {  /* backwards: a vector may be too long */
            const long high = rows - j, length = least($lanes, depth - i);
            $dtype *into = to + i * width + j;
            if (row == 1) {
                const $dtype *at = from + i * k + j;
                const long whole = high >= $lanes ? length : high <= 0 || k < $lanes ? 0 : least(length, depth - i - 1);
                for (long q = 0; q < whole; q++) {
                    __builtin_prefetch(at + (q + $lanes) * k);  /* the next call's */
                    *(${dtype}u *)(into + q * width) = *(const ${dtype}u *)(at + q * k);
                }
                for (long q = whole; q < length; q++)
                    *(${dtype}u *)(into + q * width) = ${dtype}_load(at + q * k, high);
            } else {
                const $dtype *at = from + j * row + i;
                ${dtype}v a[$lanes] = {0};
                UNROLL for (long q = 0; q < $lanes; q++)
                    if (q < high)
                        a[q] = ${dtype}_load(at + q * row, length);
                ${dtype}_turn(a);
                UNROLL for (long q = 0; q < $lanes; q++)
                    if (q < length)
                        *(${dtype}u *)(into + q * width) = a[q];
            }
        }
}

/* Panels of `width` rows, `pitch` elements apart, side by side where rows lie side by side: then memory is read in
   long runs. */
static inline void ${dtype}_panels(const $dtype *restrict from, long row, long k, long rows, long depth, long width,
                                   $dtype *restrict to, long pitch)
{
    const long step = row == 1 ? $lanes : depth;
    for (long i = 0; i < depth; i += step)
        for (long j = 0; j < rows; j += width)
            ${dtype}_panel(from + j * row + i * k, row, k, rows - j, least(step, depth - i), width,
                           to + j / width * pitch + i * width);
}

/* The part of a tile that there is: y = from + sums. */
static void ${dtype}_part(const $dtype *restrict sums, const $dtype *from, long from_pitch, $dtype *y, long pitch,
                          long count, long columns)
{
    for (long p = 0; p < count; p++)
        for (long j = 0; j < least($width, columns); j++)
            y[p * pitch + j] = sums[p * $width + j] + (from ? from[p * from_pitch + j] : 0);
}

/* `rows` rows of `vectors` vectors of y = from + a·b, for panels a [depth][rows] and b [depth][$width]; `from` is added
   where there is one. Only `count` rows and `columns` columns are stored. */
static inline __attribute__((always_inline)) void ${dtype}_tile_of(
    const long rows, const long vectors, const $dtype *a, const $dtype *restrict b, long depth,
    const $dtype *from, long from_pitch, $dtype *y, long pitch, long count, long columns)
{
    ${dtype}v sums[$rows][$vectors] = {0};
    for (long p = 0; p < least(rows, count); p++)
        __builtin_prefetch(y + p * pitch, 1);
    for (long k = 0; k < depth; k++, a += rows, b += $width)
        UNROLL for (long p = 0; p < rows; p++)
            UNROLL for (long v = 0; v < vectors; v++)
                sums[p][v] += a[p] * *(const ${dtype}u *)(b + v * $lanes);
    if (count >= rows && columns >= $width) {
        if (from)
            UNROLL for (long p = 0; p < rows; p++)
                UNROLL for (long v = 0; v < vectors; v++)
                    sums[p][v] += *(const ${dtype}u *)(from + p * from_pitch + v * $lanes);
        UNROLL for (long p = 0; p < rows; p++)
            UNROLL for (long v = 0; v < vectors; v++)
                *(${dtype}u *)(y + p * pitch + v * $lanes) = sums[p][v];
        return;
    }
    $dtype whole[$rows * $width];
    UNROLL for (long p = 0; p < rows; p++)
        UNROLL for (long v = 0; v < vectors; v++)
            *(${dtype}u *)(whole + p * $width + v * $lanes) = sums[p][v];
    ${dtype}_part(whole, from, from_pitch, y, pitch, least(rows, count), columns);
}

static SEPARATE void ${dtype}_tile(long rows, const $dtype *a, const $dtype *restrict b, long depth, const $dtype *from,
                          long from_pitch, $dtype *y, long pitch, long count, long columns)
{
    switch (rows) {
#define CASE(p) case p: ${dtype}_tile_of(p, $vectors, a, b, depth, from, from_pitch, y, pitch, count, columns); break;
$cases#undef CASE
    }
}

/* y [m, n] = from + a·b, for a [m, depth] and b [depth, n], whose elements are so far apart by row and by column (one
   of both is 1 for either); `from` may be missing, a row for all (pitch 0), or y itself. There are `parts` of a and y,
   a_part and y_part elements apart. Without b the panels of it are in `room`, all of them. All threads call it
   together. */
static SEPARATE void ${dtype}_gemms(long parts, long a_part, long y_part, long m, long n, long depth, const $dtype *a,
                           long a_row, long a_k, const $dtype *b, long b_k, long b_column, const $dtype *from,
                           long from_pitch, $dtype *y, long pitch, $dtype *room)
{
    const long blocks = raised(m, $rows), rows = raised(m, most(1, blocks));
    const long threads = omp_get_num_threads(), few = parts * raised(blocks, $blocks) < threads;
    const long shares = few || parts % threads == 0 ? 1 : threads;  /* as many chunks for each thread */
    const long chunk = most(1, raised(blocks, most(1, raised(raised(blocks, $blocks), shares) * shares)));
    const long chunks = raised(blocks, chunk), most_rows = chunk * rows, sides = few ? threads : 1;
    const long deep = most(1, raised(depth, most(1, raised(depth, $depth))));
    room = ($dtype *)(((size_t)room + $aligned - 1) / $aligned * $aligned);
    for (long n0 = 0; n0 < n; n0 += $columns)
        for (long k0 = 0; k0 == 0 || k0 < depth; k0 += deep) {
            const long wide = least($columns, n - n0), length = least(deep, depth - k0), apart = rows * length + $lanes;
            const long side = raised(wide, sides * $width) * $width;
            $dtype *panels = b ? room : room + n0 * depth + k0 * raised(wide, $width) * $width;
            if (b) {
                #pragma omp for schedule(static)
                for (long j = 0; j < wide; j += $strip)
                    ${dtype}_panels(b + k0 * b_k + (n0 + j) * b_column, b_column, b_k, least($strip, wide - j), length,
                                    $width, panels + j * length, $width * length);
            }
            #pragma omp for collapse(3) schedule(static)
            for (long part = 0; part < parts; part++)
                for (long first = 0; first < chunks * most_rows; first += most_rows)
                    for (long start = 0; start < sides * side; start += side) {
                        const long last = least(first + most_rows, m);
                        $dtype left[$blocks * ($rows * $depth + $lanes)] __attribute__((aligned($aligned)));
                        ${dtype}_panels(a + part * a_part + first * a_row + k0 * a_k, a_row, a_k, last - first, length,
                                        rows, left, apart);
                        for (long j = start; j < least(start + side, wide); j += $width)
                            for (long i = first, p = 0; i < last; i += rows, p++) {
                                $dtype *to = y + part * y_part + i * pitch + n0 + j;
                                const $dtype *with = k0 ? to : from ? from + i * from_pitch + n0 + j : 0;
                                ${dtype}_tile(rows, left + p * apart, panels + j * length, length, with,
                                              k0 ? pitch : from_pitch, to, pitch, last - i, wide - j);
                            }
                    }
        }
}

static void ${dtype}_gemm(long m, long n, long depth, const $dtype *a, long a_row, long a_k, const $dtype *b, long b_k,
                          long b_column, const $dtype *from, long from_pitch, $dtype *y, long pitch, $dtype *room)
{
    ${dtype}_gemms(1, 0, 0, m, n, depth, a, a_row, a_k, b, b_k, b_column, from, from_pitch, y, pitch, room);
}
"""
