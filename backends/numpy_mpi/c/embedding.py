"""Rows of a table in C, one for each token."""

from __future__ import annotations

from functools import partial

from .elementwise import ALONE, Functions
from .source import CFunction, fill
from .target import Target

COLUMNS = 512
"""Columns of the gradient that one thread adds up, over all tokens in order."""

FORWARD = """\
/* y = the token's row of the table; tokens beyond its ends have the first row and the last. */
void $name(const int *x, const $dtype *weight, $dtype *y, long tokens, long vocab, long width)
{
    #pragma omp parallel for schedule(static) if (tokens * width > $alone)
    for (long at = 0; at < tokens; at++)
        memcpy(y + at * width, weight + most(0, least(x[at], vocab - 1)) * width, width * sizeof *y);
}
"""

DW = """\
/* dweight = for each row the sum of dy over the places of its token, in their order. */
void $name(const $dtype *dy, const int *x, $dtype *dweight, long tokens, long vocab, long width)
{
    #pragma omp parallel if (vocab * width > $alone)
    {
        #pragma omp for schedule(static)
        for (long row = 0; row < vocab; row++)
            memset(dweight + row * width, 0, width * sizeof *dweight);
        #pragma omp for schedule(static)
        for (long start = 0; start < width; start += $columns) {
            const long count = least($columns, width - start);
            for (long at = 0; at < tokens; at++) {
                if (x[at] < 0 || x[at] >= vocab)
                    continue;
                const $dtype *from = dy + at * width + start;
                $dtype *to = dweight + x[at] * width + start;
                #pragma omp simd
                for (long j = 0; j < count; j++)
                    to[j] += from[j];
            }
        }
    }
}
"""

NUMBERS = ("tokens", "vocab", "width")


def _function(name: str, text: str, arguments: tuple[str, ...], target: Target, dtype: str) -> CFunction:
    filled = fill(text, name=f"{name}_{dtype}", dtype=dtype, alone=ALONE, columns=COLUMNS)
    return CFunction(f"{name}_{dtype}", filled, arguments, NUMBERS)


FUNCTIONS: Functions = {
    ("embedding", "forward", ""): partial(_function, "embedding_forward", FORWARD, ("x", "weight", "y")),
    ("embedding", "dw", ""): partial(_function, "embedding_dw", DW, ("dy", "x", "dweight")),
}
"""(op, pass, variant) -> the generator of its function."""
