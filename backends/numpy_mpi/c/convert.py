"""Conversions between the layouts of images in C: matrices are turned, square by square of vectors.

A block of columns is turned over all its rows before the next, so that whole lines of the result are written while they
are in the cache.
"""

from __future__ import annotations

from collections.abc import Callable

from .source import CFunction, fill
from .target import Target

NUMBERS = ("matrices", "height", "length", "matrix_apart", "row_apart", "result_apart", "column_apart")
"""So many matrices of rows and columns; how far apart they, and their rows, lie in x; and matrices and columns in y."""

COLUMNS = 64
"""Columns of a block."""

ROWS = 256
"""Rows of a block."""

SMALL = 16384
"""Elements below which one thread does all."""

CONVERT = """\
/* Element [i][j] of each matrix, rows of which lie in x, to element [j][i]. */
void $name(const $real *restrict x, $real *restrict y, long matrices, long height, long length, long matrix_apart,
    long row_apart, long result_apart, long column_apart)
{
    if ((height == 1 && column_apart == 1) || (length == 1 && row_apart == 1)) {
        for (long matrix = 0; matrix < matrices; matrix++)
            memcpy(y + matrix * result_apart, x + matrix * matrix_apart, height * length * sizeof *y);
        return;
    }
    #pragma omp parallel for collapse(3) schedule(static) if (matrices * height * length > $small)
    for (long matrix = 0; matrix < matrices; matrix++)
        for (long column = 0; column < length; column += $columns)
            for (long row = 0; row < height; row += $rows) {
                const $real *from = x + matrix * matrix_apart;
                $real *to = y + matrix * result_apart;
                const long bottom = least(height, row + $rows), right = least(length, column + $columns);
                long i = row;
                for (; i + $lanes <= bottom; i += $lanes) {
                    long j = column;
                    for (; j + $lanes <= right; j += $lanes) {
                        ${real}v a[$lanes];
                        UNROLL for (long k = 0; k < $lanes; k++)
                            a[k] = *(const ${real}u *)(from + (i + k) * row_apart + j);
                        ${real}_turn(a);
                        UNROLL for (long k = 0; k < $lanes; k++)
                            *(${real}u *)(to + (j + k) * column_apart + i) = a[k];
                    }
                    for (; j < right; j++)
                        for (long k = i; k < i + $lanes; k++)
                            to[j * column_apart + k] = from[k * row_apart + j];
                }
                for (long j = column; j < right; j++)
                    for (long k = i; k < bottom; k++)
                        to[j * column_apart + k] = from[k * row_apart + j];
            }
}
"""


def convert(target: Target, real: str) -> CFunction:
    """x -> y."""
    name = f"convert_{real}"
    text = fill(CONVERT, name=name, real=real, lanes=target.lanes(real), rows=ROWS, columns=COLUMNS, small=SMALL)
    return CFunction(name, text, ("x", "y"), NUMBERS)


RUNS = """\
/* [matrix][i][j] runs of `length` elements, which are blocks of channels, to [matrix][j][i]. */
void $name(const $real *restrict x, $real *restrict y, long matrices, long height, long width, long length)
{
    #pragma omp parallel for collapse(2) schedule(static) if (matrices * height * width * length > $small)
    for (long matrix = 0; matrix < matrices; matrix++)
        for (long column = 0; column < width; column++)
            for (long row = 0; row < height; row++) {
                const $real *from = x + ((matrix * height + row) * width + column) * length;
                $real *to = y + ((matrix * width + column) * height + row) * length;
                if (length == $lanes)
                    *(${real}u *)to = *(const ${real}u *)from;
                else
                    memcpy(to, from, length * sizeof *to);
            }
}
"""


def runs(target: Target, real: str) -> CFunction:
    """x -> y: between NHWC and layouts with channels in blocks."""
    name = f"convert_runs_{real}"
    text = fill(RUNS, name=name, real=real, lanes=target.lanes(real), small=SMALL)
    return CFunction(name, text, ("x", "y"), ("matrices", "height", "width", "length"))


FUNCTIONS: dict[tuple[str, str, str], Callable[[Target, str], CFunction]] = {
    ("convert", "forward", ""): convert,
    ("convert", "forward", "runs"): runs,
}
"""(op, pass, algorithm) -> its generator for a target and a dtype."""
