"""Dropout in C, with the masks of `kernels.philox` bit for bit.

Philox4x32-10 is a function of the key and the counter (step, row, quarter, 0), whose four words belong to four columns
in a row; vectors hold one word of several counters. A number in [0, 1) on a grid of 2^-24 is at least p where its
24 bits are at least p 2^24, rounded up.
"""

from __future__ import annotations

from .elementwise import ALONE, Formula, Functions, loops
from .source import CFunction, fill
from .target import Target

QUARTERS = 64
"""Counters that are drawn at a time, for four columns each."""

PHILOX = """
/* The words of $quarters counters (step, row, quarter + i, 0), each at its column. */
static inline void philox(unsigned step, unsigned row, unsigned quarter, unsigned key0, unsigned key1, unsigned *words)
{
    #pragma omp simd
    for (unsigned i = 0; i < $quarters; i++) {
        unsigned c0 = step, c1 = row, c2 = quarter + i, c3 = 0;
        UNROLL for (unsigned round = 0; round < 10; round++) {
            const unsigned long long p0 = c0 * 0xD2511F53ull, p1 = c2 * 0xCD9E8D57ull;
            c0 = (unsigned)(p1 >> 32) ^ c1 ^ (key0 + round * 0x9E3779B9u);
            c1 = (unsigned)p1;
            c2 = (unsigned)(p0 >> 32) ^ c3 ^ (key1 + round * 0xBB67AE85u);
            c3 = (unsigned)p0;
        }
        words[4 * i] = c0;
        words[4 * i + 1] = c1;
        words[4 * i + 2] = c2;
        words[4 * i + 3] = c3;
    }
}
"""

FORWARD = """\
/* y = x mask scale$plus, the mask 0 where the number of a row's column is below `least_kept`, else 1. */
void $name(const $dtype *x, $added$dtype *y, unsigned char *mask,
           long rows, long columns, long position, long step, long key0, long key1, long least_kept, double scale)
{
    #pragma omp parallel for collapse(2) schedule(static) if (rows * columns > $alone)
    for (long row = 0; row < rows; row++)
        for (long start = 0; start < columns; start += $stretch) {
            const long count = least($stretch, columns - start), at = row * columns + start;
            unsigned words[$stretch];
            philox(step, position + row, start / 4, key0, key1, words);
$between            #pragma omp simd
            for (long i = 0; i < count; i++) {
                const unsigned kept = (words[i] >> 8) >= (unsigned)least_kept;
                mask[at + i] = kept;
                $result = x[at + i] * ($dtype)(int)kept * ($dtype)scale;
            }
$then        }
}
"""

THEN = """\
            #pragma omp simd
            for (long i = 0; i < count; i++)
                y[at + i] = between[i] + added[at + i];
"""


def forward(target: Target, dtype: str) -> CFunction:
    """`dropout_forward_DTYPE(x, y, mask, rows, columns, position, step, key0, key1, least_kept, scale)`."""
    told = {"added": "", "between": "", "then": "", "plus": "", "result": "y[at + i]"}
    return _forward("dropout_forward", ("x", "y", "mask"), told, dtype)


def added(target: Target, dtype: str) -> CFunction:
    """`dropout_add_forward_DTYPE(x, added, y, mask, …)`: as `forward`, and then a second value is added."""
    told = {
        "added": f"const {dtype} *added, ",
        "between": f"            {dtype} between[{4 * QUARTERS}];\n",
        "then": THEN,
        "plus": " + added",
        "result": "between[i]",
    }
    return _forward("dropout_add_forward", ("x", "added", "y", "mask"), told, dtype)


def _forward(name: str, arrays: tuple[str, ...], told: dict[str, str], dtype: str) -> CFunction:
    numbers = ("rows", "columns", "position", "step", "key0", "key1", "least_kept", "double scale")
    text = fill(FORWARD, name=f"{name}_{dtype}", dtype=dtype, alone=ALONE // 8, stretch=4 * QUARTERS, **told)
    return CFunction(f"{name}_{dtype}", text, arrays, numbers, shared=(fill(PHILOX, quarters=QUARTERS),))


DX = Formula(
    "dx = dy mask scale.",
    ("dy", "unsigned char mask"),
    ("dx",),
    "dx[i] = dy[i] * ($dtype)mask[i] * ($dtype)scale;",
    ("scale",),
)

FUNCTIONS: Functions = {("dropout", "forward", ""): forward, **loops({("dropout", "dx", ""): DX})}
"""(op, pass, variant) -> the generator of its function."""
