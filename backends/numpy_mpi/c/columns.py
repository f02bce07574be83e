"""Sums of columns in C, as the gradients of biases are."""

from __future__ import annotations

from .source import fill


def columns(dtype: str) -> str:
    """The function `DTYPE_columns`, a text for `CFunction.shared`."""
    return fill(COLUMNS, dtype=dtype)


COLUMNS = """\
/* Sums of the columns, by runs of rows: errors do not grow with all rows. All threads call it together. */
static void ${dtype}_columns(const $dtype *restrict from, $dtype *restrict to, long rows, long columns)
{
    #pragma omp for schedule(static)
    for (long c0 = 0; c0 < columns; c0 += 64) {
        const long count = least(64, columns - c0);
        memset(to + c0, 0, count * sizeof($dtype));
        for (long r0 = 0; r0 < rows; r0 += 64) {
            $dtype sums[64] = {0};
            for (long r = r0; r < least(r0 + 64, rows); r++)
                #pragma omp simd
                for (long c = 0; c < count; c++)
                    sums[c] += from[r * columns + c0 + c];
            for (long c = 0; c < count; c++)
                to[c0 + c] += sums[c];
        }
    }
}
"""
