"""Softmax and its logarithm in C, along one axis of [outer][length][inner].

Where the axis is the innermost one, vectors go along it; else they go along the elements that lie inside it.
"""

from __future__ import annotations

from functools import partial

from .elementwise import ALONE, Functions
from .exponentials import exponentials
from .source import CFunction, fill
from .target import Target

STRETCH = 512
"""Elements that are added up in their own precision; sums of stretches are added in double precision."""

BLOCK = 64
"""Elements inside the axis that are worked on at a time."""

ROWS = """
/* The largest element of a row; of numbers only. */
static inline $dtype ${dtype}_largest(const $dtype *x, long length)
{
    $dtype largest = -__builtin_inf();
    #pragma omp simd reduction(max : largest)
    for (long j = 0; j < length; j++)
        largest = x[j] > largest ? x[j] : largest;
    return largest;
}

/* y = e^(x - largest), and the sum of them. */
static inline double ${dtype}_exponentials(const $dtype *x, $dtype largest, $dtype *y, long length)
{
    double total = 0;
    for (long start = 0; start < length; start += $stretch) {
        const long stop = least(start + $stretch, length);
        $dtype part = 0;
        #pragma omp simd reduction(+ : part)
        for (long j = start; j < stop; j++) {
            y[j] = ${dtype}_exp(x[j] - largest);
            part += y[j];
        }
        total += part;
    }
    return total;
}
"""

SUM = """
/* $says */
static inline double ${dtype}_$name($parameters, long length)
{
    double total = 0;
    for (long start = 0; start < length; start += $stretch) {
        const long stop = least(start + $stretch, length);
        $dtype part = 0;
        #pragma omp simd reduction(+ : part)
        for (long j = start; j < stop; j++)
            part += $term;
        total += part;
    }
    return total;
}
"""

SUMS = (
    ("total", "The sum of a row.", "const $dtype *x", "x[j]"),
    ("dot", "The sum of the products of two rows.", "const $dtype *x, const $dtype *y", "x[j] * y[j]"),
    ("mass", "The sum of e^(x - largest).", "const $dtype *x, $dtype largest", "${dtype}_exp(x[j] - largest)"),
)


def rows(dtype: str) -> tuple[str, ...]:
    """What functions of whole rows share."""
    sums = (
        fill(SUM, name=name, says=says, parameters=parameters, term=term, dtype=dtype, stretch=STRETCH)
        for name, says, parameters, term in SUMS
    )
    return "#include <math.h>\n", exponentials(dtype), fill(ROWS, dtype=dtype, stretch=STRETCH), *sums


def _frame(name: str, says: str, reads: tuple[str, ...], row: str, block: str, target: Target, dtype: str) -> CFunction:
    """`NAME_DTYPE(reads…, result, outer, length, inner)` of what is done with a row, and with a block of rows."""
    result = "y" if reads == ("x",) else "dx"
    arrays = (*reads, result)
    at = ", ".join(f"*{each}_ = {each} + at" for each in reads)
    text = fill(
        FRAME,
        says=says,
        name=f"{name}_{dtype}",
        parameters=", ".join(f"const $dtype *{each}" for each in reads),
        result=result,
        row_at=f"const $dtype {at}",
        row=row,
        block_rows=block,
        dtype=dtype,
        alone=ALONE,
        block=BLOCK,
        stretch=STRETCH,
    )
    return CFunction(f"{name}_{dtype}", text, arrays, ("outer", "length", "inner"), shared=rows(dtype))


FRAME = """\
/* $says The axis is the middle one of [outer][length][inner]. */
void $name($parameters, $dtype *$result, long outer, long length, long inner)
{
    if (inner == 1) {
        #pragma omp parallel for schedule(static) if (outer * length > $alone)
        for (long at = 0; at < outer * length; at += length) {
            $row_at;
            $dtype *${result}_ = $result + at;
$row        }
        return;
    }
    #pragma omp parallel for collapse(2) schedule(static) if (outer * length * inner > $alone)
    for (long slice = 0; slice < outer; slice++)
        for (long start = 0; start < inner; start += $block) {
            const long width = least($block, inner - start), at = slice * length * inner + start;
            $row_at;
            $dtype *${result}_ = $result + at;
            $dtype total[$block] = {0};
$block_rows        }
}
"""

ALONG = """\
            #pragma omp simd
            for (long j = 0; j < length; j++)
"""
BESIDE = """\
            for (long j = 0; j < length * inner; j += inner)
                #pragma omp simd
                for (long i = 0; i < width; i++)
"""
"""Loops along a row, and over a block of rows that lie beside one another: element j + i."""

EXPONENTIALS = f"""\
            $dtype largest[$block];
            for (long i = 0; i < width; i++)
                largest[i] = x_[i];
{BESIDE}                    largest[i] = x_[j + i] > largest[i] ? x_[j + i] : largest[i];
{BESIDE}                {{
                    y_[j + i] = ${{dtype}}_exp(x_[j + i] - largest[i]);
                    total[i] += y_[j + i];
                }}
"""

FORWARD = (
    "y = e^x / sum e^x, the largest x subtracted first.",
    ("x",),
    f"""\
            const $dtype total = ${{dtype}}_exponentials(x_, ${{dtype}}_largest(x_, length), y_, length);
{ALONG}                y_[j] /= total;
""",
    f"""\
{EXPONENTIALS}{BESIDE}                    y_[j + i] /= total[i];
""",
)

DX = (
    "dx = y(dy - sum dy y).",
    ("dy", "y"),
    f"""\
            const $dtype total = ${{dtype}}_dot(dy_, y_, length);
{ALONG}                dx_[j] = y_[j] * (dy_[j] - total);
""",
    f"""\
{BESIDE}                    total[i] += dy_[j + i] * y_[j + i];
{BESIDE}                    dx_[j + i] = y_[j + i] * (dy_[j + i] - total[i]);
""",
)

LOG_FORWARD = (
    "y = x - log sum e^x, the largest x subtracted first.",
    ("x",),
    f"""\
            const $dtype largest = ${{dtype}}_largest(x_, length);
            const $dtype total = log(${{dtype}}_exponentials(x_, largest, y_, length));
{ALONG}                y_[j] = x_[j] - largest - total;
""",
    f"""\
{EXPONENTIALS}            for (long i = 0; i < width; i++)
                total[i] = log(total[i]);
{BESIDE}                    y_[j + i] = x_[j + i] - largest[i] - total[i];
""",
)

LOG_DX = (
    "dx = dy - e^y sum dy.",
    ("dy", "y"),
    f"""\
            const $dtype total = ${{dtype}}_total(dy_, length);
{ALONG}                dx_[j] = dy_[j] - ${{dtype}}_exp(y_[j]) * total;
""",
    f"""\
{BESIDE}                    total[i] += dy_[j + i];
{BESIDE}                    dx_[j + i] = dy_[j + i] - ${{dtype}}_exp(y_[j + i]) * total[i];
""",
)

FUNCTIONS: Functions = {
    ("softmax", "forward", ""): partial(_frame, "softmax_forward", *FORWARD),
    ("softmax", "dx", ""): partial(_frame, "softmax_dx", *DX),
    ("log_softmax", "forward", ""): partial(_frame, "log_softmax_forward", *LOG_FORWARD),
    ("log_softmax", "dx", ""): partial(_frame, "log_softmax_dx", *LOG_DX),
}
"""(op, pass, variant) -> the generator of its function."""
