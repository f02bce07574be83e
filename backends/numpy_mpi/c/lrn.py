"""Local response normalisation in C, over [outer][channels][inner].

Where channels lie together, vectors go along them; else they go along what lies inside. Either way a block of channels
is worked on at a time, with as many channels of its neighbours as windows reach.
"""

from __future__ import annotations

from functools import partial

from .elementwise import ALONE, Functions
from .source import CFunction, fill
from .target import Target

REACH = 32
"""The most channels of a window: what there is room for beside a block. Bindings leave larger ones to NumPy."""

CHANNELS = 128
"""Channels of a block where they lie together."""

BLOCK = 32
"""Channels of a block, and elements inside them, where they do not."""

POWER = """
/* base^beta for `count` elements; the usual 3/4 by two square roots. */
static inline void ${dtype}_powers(const $dtype *base, double beta, $dtype *powers, long count)
{
    if (beta == 0.75) {
        #pragma omp simd
        for (long i = 0; i < count; i++) {
            const $dtype root = __builtin_sqrt$f(base[i]);
            powers[i] = root * __builtin_sqrt$f(root);
        }
        return;
    }
    for (long i = 0; i < count; i++)
        powers[i] = pow(base[i], beta);
}
"""

FRAME = """\
/* $says
   [outer][channels][inner]; a window begins `before` channels before its own one and holds `size`. */
void $name($parameters, long outer, long channels, long inner, long size, long before, $numbers)
{
    const long left = $left, right = size - 1 - left, block = inner == 1 ? $channels : $block;
    #pragma omp parallel for collapse(3) schedule(static) if (outer * channels * inner > $alone)
    for (long slice = 0; slice < outer; slice++)
        for (long start = 0; start < channels; start += block)
            for (long column = 0; column < inner; column += $block) {
                const long stop = least(start + block, channels), width = least($block, inner - column);
                const long first = most(0, start - left), last = least(channels, stop + right);
                const long rows = inner == 1 ? 1 : last - first, run = inner == 1 ? last - first : width;
                const long own_rows = inner == 1 ? 1 : stop - start, own_run = inner == 1 ? stop - start : width;
                const long all = (slice * channels + first) * inner + column, at = all + (start - first) * inner;
                const long skipped = (first - start + left) * width, own = (stop - start) * width;
                /* [channel][element inside it], with `left` and `right` channels beside the block's own. */
                $dtype $tile[$elements], sums[$own_elements];
                memset($tile, 0, (own + (size - 1) * width) * sizeof *$tile);
                memset(sums, 0, own * sizeof *sums);
$prepare                for (long offset = 0; offset < size * width; offset += width)
                    #pragma omp simd
                    for (long i = 0; i < own; i++)
                        sums[i] += $tile[i + offset];
$finish            }
}
"""

EACH = """\
                for (long row = 0; row < rows; row++)
                    #pragma omp simd
                    for (long i = 0; i < run; i++) {
"""
OWN = """\
                for (long row = 0; row < own_rows; row++)
                    #pragma omp simd
                    for (long i = 0; i < own_run; i++) {
"""
"""Over the elements of a tile, and over those of the block's own channels: as long runs as lie together."""

FORWARD = f"""\
{EACH}                        squares[skipped + row * run + i] = x[all + row * inner + i] * x[all + row * inner + i];
                    }}
"""
FORWARD_END = f"""\
                #pragma omp simd
                for (long i = 0; i < own; i++)
                    sums[i] = ($dtype)k + ($dtype)scale * sums[i];
                ${{dtype}}_powers(sums, beta, squares, own);
{OWN}                        base[at + row * inner + i] = sums[row * own_run + i];
                        y[at + row * inner + i] = x[at + row * inner + i] / squares[row * own_run + i];
                    }}
"""

DX = f"""\
                $dtype direct[$elements];
{EACH}                        pulls[skipped + row * run + i] = base[all + row * inner + i];
                    }}
                ${{dtype}}_powers(pulls + skipped, beta, direct + skipped, (last - first) * width);
{EACH}                        const long to = skipped + row * run + i, from = all + row * inner + i;
                        direct[to] = dy[from] / direct[to];
                        pulls[to] = direct[to] * x[from] / pulls[to];
                    }}
"""
DX_END = f"""\
{OWN}                        const long to = row * own_run + i, from = at + row * inner + i;
                        dx[from] = direct[left * width + to] + ($dtype)scale * x[from] * sums[to];
                    }}
"""


def _function(
    name: str,
    says: str,
    arrays: tuple[tuple[str, ...], tuple[str, ...]],
    numbers: tuple[str, ...],
    pieces: dict[str, str],
    target: Target,
    dtype: str,
) -> CFunction:
    reads, writes = arrays
    parameters = (*(f"const {dtype} *{each}" for each in reads), *(f"{dtype} *{each}" for each in writes))
    text = fill(
        FRAME,
        name=f"{name}_{dtype}",
        says=says,
        parameters=", ".join(parameters),
        numbers=", ".join(numbers),
        channels=CHANNELS,
        block=BLOCK,
        elements=(BLOCK + REACH) * BLOCK,
        own_elements=BLOCK * BLOCK,
        alone=ALONE,
        dtype=dtype,
        **pieces,
    )
    told = ("outer", "channels", "inner", "size", "before", *numbers)
    shared = ("#include <math.h>\n", fill(POWER, dtype=dtype, f="f" if dtype == "f32" else ""))
    return CFunction(f"{name}_{dtype}", text, (*reads, *writes), told, shared=shared)


FUNCTIONS: Functions = {
    ("lrn", "forward", ""): partial(
        _function,
        "lrn_forward",
        "base = k + scale sum x^2 over the channels of a window, y = x/base^beta.",
        (("x",), ("y", "base")),
        ("double scale", "double beta", "double k"),
        {"left": "before", "tile": "squares", "prepare": FORWARD, "finish": FORWARD_END},
    ),
    ("lrn", "dx", ""): partial(
        _function,
        "lrn_dx",
        "dx = dy/base^beta + scale x sum dy x/base^(beta + 1) over the channels whose windows hold this one.",
        (("dy", "x", "base"), ("dx",)),
        ("double scale", "double beta"),
        {"left": "size - 1 - before", "tile": "pulls", "prepare": DX, "finish": DX_END},
    ),
}
"""(op, pass, variant) -> the generator of its function."""
