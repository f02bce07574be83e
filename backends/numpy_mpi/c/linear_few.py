"""Linear maps of few rows in C: the weight is read once, as it lies, and each piece of it serves all rows at once.

Where a product of matrices first packs its operands, that takes as long as all of the products when there are few rows.
The weight's rows lie along the sums for y, and along the results for dx; the other way round where it is transposed.
"""

from __future__ import annotations

from .gemm import ALIGNED, SEPARATE
from .source import CFunction, fill
from .target import Target

NUMBERS = ("table", "rows", "inputs", "outputs", "biased", "transposed")

ROWS = 32
"""The most that there are places for."""

TILE = 4
"""Rows, and rows of the weight, whose sums are in registers at the same time."""

LENGTH_BYTES = 8 << 10
"""Of a row of the weight, that tiles go over again for other rows."""

DEPTH = 8
"""Rows of the weight that are added to a vector of results at a time."""

RESULTS_BYTES = 256 << 10
"""Of results that stay in the second cache meanwhile."""


def forward(target: Target, dtype: str) -> CFunction:
    """Table of x, weight, [bias], y; extents."""
    return CFunction(
        f"linear_forward_few_{dtype}", fill(FORWARD, dtype=dtype), (), NUMBERS, shared=(few(target, dtype),)
    )


def dx(target: Target, dtype: str) -> CFunction:
    """Table of dy, weight, dx; extents."""
    return CFunction(f"linear_dx_few_{dtype}", fill(DX, dtype=dtype), (), NUMBERS, shared=(few(target, dtype),))


def few(target: Target, dtype: str) -> str:
    """The functions `DTYPE_along` and `DTYPE_across`, a text for `CFunction.shared`."""
    lanes, size = target.lanes(dtype), target.vector_bytes // target.lanes(dtype)
    cases = "".join(f"                CASE({p})\n" for p in range(1, TILE + 1))
    return SEPARATE + fill(
        FEW,
        dtype=dtype,
        lanes=lanes,
        rows=ROWS,
        tile=TILE,
        length=LENGTH_BYTES // size,
        depth=DEPTH,
        aligned=ALIGNED,
        results=RESULTS_BYTES // size,
        cases=cases,
    )


FEW = """\
/* sums [row][$tile] += x W^T of `count` rows of x and $tile of W, as long as `length`. */
static inline __attribute__((always_inline)) void ${dtype}_along_tile(
    const long count, const $dtype *restrict x, long apart, const $dtype *const *weight, long length,
    $dtype *restrict sums)
{
    ${dtype}v products[$tile][$tile] = {0};
    const long whole = length / $lanes * $lanes;
    for (long k = 0; k < whole; k += $lanes)
        UNROLL for (long p = 0; p < count; p++)
            UNROLL for (long q = 0; q < $tile; q++)
                products[p][q] += *(const ${dtype}u *)(x + p * apart + k) * *(const ${dtype}u *)(weight[q] + k);
    if (whole < length)
        for (long p = 0; p < count; p++)
            for (long q = 0; q < $tile; q++)
                for (long k = whole; k < length; k++)
                    sums[p * $tile + q] += x[p * apart + k] * weight[q][k];
    UNROLL for (long p = 0; p < count; p++)
        UNROLL for (long q = 0; q < $tile; q++)
            sums[p * $tile + q] += ${dtype}_sum(products[p][q]);
}

/* y [rows][results] = bias + x W^T, for W [results][depth]. All threads call it together. */
static SEPARATE void ${dtype}_along(const $dtype *restrict x, const $dtype *restrict weight, const $dtype *bias,
                                    $dtype *restrict y, long rows, long results, long depth)
{
    #pragma omp for schedule(static)
    for (long j = 0; j < results; j += $tile) {
        $dtype sums[$rows * $tile] = {0};
        for (long k = 0; k < depth; k += $length) {
            const $dtype *of[$tile];
            for (long q = 0; q < $tile; q++)
                of[q] = weight + least(j + q, results - 1) * depth + k;
            for (long p = 0; p < rows; p += $tile)
                switch (least($tile, rows - p)) {
#define CASE(count) case count: \\
    ${dtype}_along_tile(count, x + p * depth + k, depth, of, least($length, depth - k), sums + p * $tile); break;
$cases#undef CASE
                }
        }
        for (long p = 0; p < rows; p++)
            for (long q = 0; q < least($tile, results - j); q++)
                y[p * results + j + q] = sums[p * $tile + q] + (bias ? bias[j + q] : 0);
    }
}

/* sums [rows][wide] += a W of `depth` columns of a, `apart` from row to row, and rows of W, `pitch` apart. */
static inline __attribute__((always_inline)) void ${dtype}_across_tile(
    const long depth, const $dtype *restrict a, long apart, const $dtype *restrict weight, long pitch,
    $dtype *restrict sums, long wide, long rows, long columns)
{
    const long whole = columns / $lanes * $lanes;
    for (long j = 0; j < whole; j += $lanes) {
        ${dtype}v w[$depth];
        UNROLL for (long k = 0; k < depth; k++)
            w[k] = *(const ${dtype}u *)(weight + k * pitch + j);
        for (long p = 0; p < rows; p++) {
            ${dtype}v sum = *(const ${dtype}u *)(sums + p * wide + j);
            UNROLL for (long k = 0; k < depth; k++)
                sum += a[p * apart + k] * w[k];
            *(${dtype}u *)(sums + p * wide + j) = sum;
        }
    }
    for (long p = 0; p < rows; p++)
        for (long j = whole; j < columns; j++)
            for (long k = 0; k < depth; k++)
                sums[p * wide + j] += a[p * apart + k] * weight[k * pitch + j];
}

/* y [rows][results] = bias + a W, for W [depth][results]. All threads call it together. Rows of sums are a few vectors
   further apart than they are long, lest all lie in the same places of the cache. */
static SEPARATE void ${dtype}_across(const $dtype *restrict a, const $dtype *restrict weight, const $dtype *bias,
                                     $dtype *restrict y, long rows, long results, long depth)
{
    const long share = raised(raised(results, omp_get_num_threads()), $lanes) * $lanes;
    const long step = least(share, $results / rows / $lanes * $lanes), wide = step + $lanes;
    $dtype sums[$results + $rows * $lanes] __attribute__((aligned($aligned)));
    #pragma omp for schedule(static)
    for (long j = 0; j < results; j += step) {
        const long columns = least(step, results - j);
        for (long p = 0; p < rows; p++)
            for (long c = 0; c < columns; c++)
                sums[p * wide + c] = bias ? bias[j + c] : 0;
        long k = 0;
        for (; k + $depth <= depth; k += $depth)
            ${dtype}_across_tile($depth, a + k, depth, weight + k * results + j, results, sums, wide, rows, columns);
        for (; k < depth; k++)
            ${dtype}_across_tile(1, a + k, depth, weight + k * results + j, results, sums, wide, rows, columns);
        for (long p = 0; p < rows; p++)
            memcpy(y + p * results + j, sums + p * wide, columns * sizeof($dtype));
    }
}
"""

FORWARD = """\
/* y = x W^T + bias, as linear_forward, for at most as many rows as have places. */
void linear_forward_few_${dtype}(long table, long rows, long inputs, long outputs, long biased, long transposed)
{
    $dtype *const *arrays = ($dtype *const *)table, *bias = biased ? arrays[2] : 0;
    #pragma omp parallel if (rows * inputs * outputs > SHARED_OUT)
    (transposed ? ${dtype}_across : ${dtype}_along)(arrays[0], arrays[1], bias, arrays[2 + biased], rows, outputs,
                                                    inputs);
}
"""

DX = """\
/* dx = dy W, as linear_dx, for at most as many rows as have places. */
void linear_dx_few_${dtype}(long table, long rows, long inputs, long outputs, long biased, long transposed)
{
    $dtype *const *arrays = ($dtype *const *)table;
    #pragma omp parallel if (rows * inputs * outputs > SHARED_OUT)
    (transposed ? ${dtype}_along : ${dtype}_across)(arrays[0], arrays[1], 0, arrays[2], rows, inputs, outputs);
}
"""
