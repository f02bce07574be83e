"""C functions as values, and what stands at the head of a file of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from string import Template

from .target import WIDTHS, Target

PART = "/* ---- {} ---- */"
"""A line that begins a part of a file, which is compiled on its own with what all parts share (kernels/native.py)."""

C_TYPES = {"f32": "float", "f64": "double"}


@dataclass(frozen=True, slots=True)
class CFunction:
    """A function of C: `void NAME(arrays…, scratch, numbers…)`.

    `arguments` are the names of the arrays in the order of the call, `numbers` those of the run-time extents, type
    long, or double where the name starts with `double `. `scratch(n, threads)` tells how many elements of scratch a
    call for n samples needs; it may hold anything. `shared` are texts of functions that others call too: a file has
    each of them once, above. `packed` is how many elements a function writes that packs weights for another one.
    """

    name: str
    text: str
    arguments: tuple[str, ...]
    numbers: tuple[str, ...]
    scratch: Callable[[int, int], int] = lambda n, threads: 0
    shared: tuple[str, ...] = ()
    packed: int = 0


HEAD = Template("""\
typedef $real $dtype;
typedef $dtype ${dtype}v __attribute__((vector_size($bytes)));  /* $lanes elements */
typedef $dtype ${dtype}u __attribute__((vector_size($bytes), aligned($width), may_alias));  /* the same in memory */
typedef $integer ${dtype}i __attribute__((vector_size($bytes)));

/* The first `count` elements of a vector, zeros behind them. */
static inline ${dtype}v ${dtype}_load(const $dtype *p, long count)
{
    if (count >= $lanes)
        return *(const ${dtype}u *)p;
    ${dtype}v v = {0};
    for (long i = 0; i < count; i++)
        v[i] = p[i];
    return v;
}

/* max(v, 0); what is not a number stays that. */
static inline ${dtype}v ${dtype}_positive(${dtype}v v)
{
    return (${dtype}v)((${dtype}i)v & ~(${dtype}i)(v < 0));
}

/* v where y > 0, else v * 0. */
static inline ${dtype}v ${dtype}_where(${dtype}v v, ${dtype}v y)
{
    return v * (${dtype}v)((${dtype}i)((${dtype}v){0} + 1) & (${dtype}i)(y > 0));
}

static inline void ${dtype}_store($dtype *p, ${dtype}v v, long count)
{
    if (count >= $lanes)
        *(${dtype}u *)p = v;
    else
        for (long i = 0; i < count; i++)
            p[i] = v[i];
}
""")

WHOLE_NUMBERS = """\
#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else  /* a compiler without OpenMP: one thread computes all */
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
#endif

#define UNROLL _Pragma("GCC unroll 32")  /* of loops over registers */
#define SHARED_OUT (1 << 21)  /* products of a linear map that take longer than a thread takes to wake */

static inline long least(long a, long b) { return a < b ? a : b; }
static inline long most(long a, long b) { return a > b ? a : b; }
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type##i){__VA_ARGS__})
#endif
/* a / b rounded up and down; b > 0. */
static inline long raised(long a, long b) { return a > 0 ? (a - 1) / b + 1 : -(-a / b); }
static inline long lowered(long a, long b) { return -raised(-a, b); }
"""


TURN = Template("""
/* The sum of a vector's elements, by halves. */
static inline $dtype ${dtype}_sum(${dtype}v v)
{
$halves    return v[0];
}

/* The square that the vectors of `a` are, turned about its diagonal. */
static inline void ${dtype}_turn(${dtype}v a[$lanes])
{
$stages}

/* `rows` rows of `columns` elements, `apart` from one another, to [column][row] with as many rows as a vector has. */
static inline void ${dtype}_transpose(const $dtype *from, long apart, long rows, long columns, $dtype *to)
{
    ${dtype}v a[$lanes];
    if (rows == $lanes && columns == $lanes) {
        UNROLL for (long i = 0; i < $lanes; i++)
            a[i] = *(const ${dtype}u *)(from + i * apart);
        ${dtype}_turn(a);
        UNROLL for (long i = 0; i < $lanes; i++)
            *(${dtype}u *)(to + i * $lanes) = a[i];
        return;
    }
    for (long j = 0; j < columns; j++)
        for (long i = 0; i < $lanes; i++)
            to[j * $lanes + i] = i < rows ? from[i * apart + j] : 0;
}

/* The reverse: [column][row] to rows that are `apart`. */
static inline void ${dtype}_spread(const $dtype *from, $dtype *to, long apart, long rows, long columns)
{
    ${dtype}v a[$lanes];
    if (rows == $lanes && columns == $lanes) {
        UNROLL for (long i = 0; i < $lanes; i++)
            a[i] = *(const ${dtype}u *)(from + i * $lanes);
        ${dtype}_turn(a);
        UNROLL for (long i = 0; i < $lanes; i++)
            *(${dtype}u *)(to + i * apart) = a[i];
        return;
    }
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j++)
            to[i * apart + j] = from[j * $lanes + i];
}
""")

STAGE = Template("""\
    UNROLL for (long i = 0; i < $lanes; i++)
        if (!(i & $bit)) {
            const ${dtype}v low = SHUFFLE(${dtype}, a[i], a[i + $bit], $low);
            a[i + $bit] = SHUFFLE(${dtype}, a[i], a[i + $bit], $high);
            a[i] = low;
        }
""")


def turn(dtype: str, lanes: int) -> str:
    """Functions that add up a vector and transpose squares of them: log2(lanes) rounds of exchanges between pairs."""
    stages, halves, bit = "", "", 1
    while bit < lanes:
        indices = ", ".join(str(i ^ bit) for i in range(lanes))
        halves = f"    v += SHUFFLE({dtype}, v, v, {indices});\n" + halves
        low = ", ".join(str(i - bit + lanes if i & bit else i) for i in range(lanes))
        high = ", ".join(str(i + lanes if i & bit else i + bit) for i in range(lanes))
        stages += STAGE.substitute(dtype=dtype, lanes=lanes, bit=bit, low=low, high=high)
        bit *= 2
    return TURN.substitute(dtype=dtype, lanes=lanes, stages=stages, halves=halves)


def head(target: Target, dtypes: tuple[str, ...]) -> str:
    """What stands above the functions of a file: types of elements and vectors for each dtype."""
    types = (
        HEAD.substitute(
            real=C_TYPES[dtype],
            integer="int" if WIDTHS[dtype] == 4 else "long long",
            dtype=dtype,
            bytes=target.vector_bytes,
            width=WIDTHS[dtype],
            lanes=target.lanes(dtype),
        )
        + turn(dtype, target.lanes(dtype))
        for dtype in dtypes
    )
    return "\n".join((WHOLE_NUMBERS, *types))


def file_text(target: Target, dtypes: tuple[str, ...], functions: Iterable[CFunction]) -> str:
    """A whole file: its head, what functions share, the functions; what is called from outside begins a part of it."""
    functions = tuple(functions)
    shared = dict.fromkeys(text for function in functions for text in function.shared)
    called = [*filter(None, map(_called, shared)), *(function.name for function in functions)]
    texts = [*filter(_called, shared), *(function.text for function in functions)]
    parts = (f"{PART.format(name)}\n{text}" for name, text in zip(called, texts, strict=True))
    return "\n".join((head(target, dtypes), *(text for text in shared if not _called(text)), *parts))


def _called(text: str) -> str:
    """The function in a text that is called from outside; nothing where there is none."""
    found = re.search(r"(?m)^void (\w+)\(", text)
    return found[1] if found else ""


NOTHING_DONE = (
    (r" [*/] 1(?![\w.])", ""),
    (r"(?<=[(,=<] )1 \* ", ""),
    (r"(?<=\()1 \* ", ""),
    (r" \+ 0(?![\w.]| [*/%])", ""),
    (r"(?<=\()0 \+ ", ""),
)
"""Multiplications by one and additions of nothing, which templates leave where an extent is 1 or an offset 0."""


def fill(text: str, **values: object) -> str:
    """A template of C with `$names` filled in; values may be templates themselves."""
    known = {name: str(value) for name, value in values.items()}
    while "$" in text:
        text = Template(text).substitute(known)
    for pattern, short in NOTHING_DONE:
        text = re.sub(pattern, short, text)
    return text


def indented(text: str, levels: int = 1) -> str:
    """Text some levels further in."""
    return "".join("    " * levels + line if line.strip() else line for line in text.splitlines(keepends=True))
