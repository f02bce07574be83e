"""Multi-head self-attention in C: a head at a time, some queries at a time, whose scores stay in the caches.

Arrays come as a table of addresses, for biases may be missing. Where keys after the query are hidden, no tile of them
is computed.
"""

from __future__ import annotations

from collections.abc import Callable

from .columns import columns
from .exponentials import exponentials
from .gemm import gemm, rows, width
from .source import CFunction, fill
from .target import Target

NUMBERS = ("table", "batch", "seq", "inner", "heads", "biased", "causal", "threads")


def forward(target: Target, dtype: str) -> CFunction:
    """Table of x, in projection, out projection, y, qkv, probabilities, context; scratch and extents."""
    return _function(FORWARD, "forward", target, dtype)


def dx(target: Target, dtype: str) -> CFunction:
    """Table of dy, x, weights, qkv, probabilities, context, dx, gradients of the projections; scratch and extents."""
    return _function(BACKWARD, "dx", target, dtype)


FUNCTIONS: dict[tuple[str, str, str], Callable[[Target, str], CFunction]] = {
    ("attention", "forward", ""): forward,
    ("attention", "dx", ""): dx,
}
"""(op, pass, variant) -> the generator of its function."""


def _function(template: str, stage: str, target: Target, dtype: str) -> CFunction:
    name = f"attention_{stage}_{dtype}"
    values = {
        "name": name,
        "dtype": dtype,
        "rows": rows(target),
        "width": width(target, dtype),
        "lanes": target.lanes(dtype),
        "root": "__builtin_sqrtf" if dtype == "f32" else "__builtin_sqrt",
    }
    shared = (exponentials(dtype), gemm(target, dtype), columns(dtype), fill(BAND, **values))
    return CFunction(name, fill(template, **values), ("scratch",), NUMBERS, shared=shared)


BAND = """\
/* Rows of y [count][n] = a·b, for a panel of as many rows and panels of columns of b, which begin `apart`. */
static void ${dtype}_band(long rows, const $dtype *a, long depth, const $dtype *b, long apart, $dtype *y, long pitch,
                          long count, long n)
{
    for (long j = 0; j < n; j += $width)
        ${dtype}_tile(rows, a, b + j / $width * apart, depth, 0, 0, y + j, pitch, count, n - j);
}

/* Scores to probabilities: e^(scale (s - largest)) over their sum, in place; those from `count` on are 0. */
static void ${dtype}_weigh($dtype *restrict s, long count, long n, $dtype scale)
{
    $dtype largest = s[0] * scale, sum = 0;
    #pragma omp simd reduction(max: largest)
    for (long j = 0; j < count; j++)
        largest = s[j] * scale > largest ? s[j] * scale : largest;
    #pragma omp simd reduction(+: sum)
    for (long j = 0; j < count; j++) {
        s[j] = ${dtype}_exp(s[j] * scale - largest);
        sum += s[j];
    }
    #pragma omp simd
    for (long j = 0; j < count; j++)
        s[j] /= sum;
    for (long j = count; j < n; j++)
        s[j] = 0;
}

/* Gradients of probabilities to those of scores, in place: p (dp - sum of dp p) scale; those from `count` on are 0. */
static void ${dtype}_weigh_back($dtype *restrict d, const $dtype *restrict p, long count, long n, $dtype scale)
{
    $dtype sum = 0;
    #pragma omp simd reduction(+: sum)
    for (long j = 0; j < count; j++)
        sum += d[j] * p[j];
    #pragma omp simd
    for (long j = 0; j < count; j++)
        d[j] = (d[j] - sum) * p[j] * scale;
    for (long j = count; j < n; j++)
        d[j] = 0;
}
"""

FORWARD = """\
/* One head: q, k, v and the context have elements `pitch` and `inner` apart by their places in the sequence. */
static void ${name}_head(const $dtype *q, const $dtype *k, const $dtype *v, long pitch, $dtype *probabilities,
                         $dtype *context, long inner, long seq, long wide, long causal, $dtype *room)
{
    const long rows = raised(seq, raised(seq, $rows)), padded = raised(seq, $width) * $width;
    $dtype *keys = room, *values = keys + padded * wide, *left = values + raised(wide, $width) * $width * seq;
    ${dtype}_panels(k, pitch, 1, seq, wide, $width, keys, $width * wide);
    ${dtype}_panels(v, 1, pitch, wide, seq, $width, values, $width * seq);
    for (long i = 0; i < seq; i += rows) {
        const long count = least(rows, seq - i), known = causal ? i + count : seq;
        $dtype *scores = probabilities + i * seq;
        ${dtype}_panel(q + i * pitch, pitch, 1, count, wide, rows, left);
        ${dtype}_band(rows, left, wide, keys, $width * wide, scores, seq, count, known);
        for (long p = 0; p < count; p++)
            ${dtype}_weigh(scores + p * seq, causal ? i + p + 1 : seq, seq, 1 / $root(wide));
        ${dtype}_panel(scores, seq, 1, count, known, rows, left);
        ${dtype}_band(rows, left, known, values, $width * seq, context + i * inner, inner, count, wide);
    }
}

void $name($dtype *scratch, long table, long batch, long seq, long inner, long heads, long biased, long causal,
           long threads)
{
    $dtype *const *arrays = ($dtype *const *)table;
    $dtype *const *out = arrays + 2 + biased, *const *results = out + 1 + biased;
    $dtype *y = results[0], *qkv = results[1], *probabilities = results[2], *context = results[3];
    const long items = batch * seq, wide = inner / heads, lane = $lanes;
    const long own = raised(seq, $width) * $width * wide + raised(wide, $width) * $width * seq
                     + $rows * most(seq, wide) + lane;
    $dtype *room = scratch + threads * own;
    #pragma omp parallel num_threads(least(threads, omp_get_max_threads()))
    {
        ${dtype}_gemm(items, 3 * inner, inner, arrays[0], inner, 1, arrays[1], 1, inner, biased ? arrays[2] : 0, 0, qkv,
                      3 * inner, room);
        #pragma omp for collapse(2) schedule(static)
        for (long n = 0; n < batch; n++)
            for (long h = 0; h < heads; h++) {
                const $dtype *q = qkv + n * seq * 3 * inner + h * wide;
                ${name}_head(q, q + inner, q + 2 * inner, 3 * inner, probabilities + (n * heads + h) * seq * seq,
                             context + n * seq * inner + h * wide, inner, seq, wide, causal,
                             scratch + omp_get_thread_num() * own);
            }
        ${dtype}_gemm(items, inner, inner, context, inner, 1, out[0], 1, inner, biased ? out[1] : 0, 0, y, inner, room);
    }
}
"""

BACKWARD = """\
/* One head: gradients of q, k and v lie as these do, `pitch` apart by their places in the sequence. */
static void ${name}_head(const $dtype *q, const $dtype *k, const $dtype *v, $dtype *dq, $dtype *dk, $dtype *dv,
                         long pitch, const $dtype *probabilities, const $dtype *dcontext, long inner, long seq,
                         long wide, long causal, $dtype *room)
{
    const long rows = raised(seq, raised(seq, $rows)), across = raised(wide, $width) * $width * seq;
    $dtype *values = room, *given = values + raised(seq, $width) * $width * wide, *keys = given + across;
    $dtype *queries = keys + across, *dscores = queries + across, *left = dscores + seq * seq;
    ${dtype}_panels(v, pitch, 1, seq, wide, $width, values, $width * wide);
    ${dtype}_panels(dcontext, 1, inner, wide, seq, $width, given, $width * seq);
    ${dtype}_panels(k, 1, pitch, wide, seq, $width, keys, $width * seq);
    ${dtype}_panels(q, 1, pitch, wide, seq, $width, queries, $width * seq);
    for (long i = 0; i < seq; i += rows) {
        const long count = least(rows, seq - i), known = causal ? i + count : seq;
        $dtype *own = dscores + i * seq;
        ${dtype}_panel(dcontext + i * inner, inner, 1, count, wide, rows, left);
        ${dtype}_band(rows, left, wide, values, $width * wide, own, seq, count, known);
        for (long p = 0; p < count; p++)
            ${dtype}_weigh_back(own + p * seq, probabilities + (i + p) * seq, known, seq, 1 / $root(wide));
        ${dtype}_panel(own, seq, 1, count, known, rows, left);
        ${dtype}_band(rows, left, known, keys, $width * seq, dq + i * pitch, pitch, count, wide);
    }
    for (long i = 0; i < seq; i += rows) {  /* queries from `first` on know these keys */
        const long count = least(rows, seq - i), first = causal ? i : 0;
        ${dtype}_panel(probabilities + first * seq + i, 1, seq, count, seq - first, rows, left);
        ${dtype}_band(rows, left, seq - first, given + first * $width, $width * seq, dv + i * pitch, pitch, count,
                      wide);
        ${dtype}_panel(dscores + first * seq + i, 1, seq, count, seq - first, rows, left);
        ${dtype}_band(rows, left, seq - first, queries + first * $width, $width * seq, dk + i * pitch, pitch, count,
                      wide);
    }
}

void $name($dtype *scratch, long table, long batch, long seq, long inner, long heads, long biased, long causal,
           long threads)
{
    $dtype *const *arrays = ($dtype *const *)table, *const *given = arrays + 7, *const *out = given + 1 + biased;
    $dtype *dy = arrays[0], *x = arrays[1], *qkv = arrays[4], *probabilities = arrays[5], *context = arrays[6];
    const long items = batch * seq, wide = inner / heads, lane = $lanes;
    const long own = raised(seq, $width) * $width * wide + 3 * raised(wide, $width) * $width * seq + seq * seq
                     + $rows * most(seq, wide) + lane;
    $dtype *dcontext = scratch, *dqkv = dcontext + items * inner, *rooms = dqkv + 3 * items * inner;
    $dtype *room = rooms + threads * own;
    #pragma omp parallel num_threads(least(threads, omp_get_max_threads()))
    {
        ${dtype}_gemm(items, inner, inner, dy, inner, 1, arrays[3], inner, 1, 0, 0, dcontext, inner, room);
        ${dtype}_gemm(inner, inner, items, dy, 1, inner, context, inner, 1, 0, 0, out[1], inner, room);
        if (biased)
            ${dtype}_columns(dy, out[2], items, inner);
        #pragma omp for collapse(2) schedule(static)
        for (long n = 0; n < batch; n++)
            for (long h = 0; h < heads; h++) {
                const long at = n * seq * 3 * inner + h * wide;
                const $dtype *q = qkv + at;
                $dtype *dq = dqkv + at;
                ${name}_head(q, q + inner, q + 2 * inner, dq, dq + inner, dq + 2 * inner, 3 * inner,
                             probabilities + (n * heads + h) * seq * seq, dcontext + n * seq * inner + h * wide, inner,
                             seq, wide, causal, rooms + omp_get_thread_num() * own);
            }
        ${dtype}_gemm(items, inner, 3 * inner, dqkv, 3 * inner, 1, arrays[2], inner, 1, 0, 0, given[0], inner, room);
        ${dtype}_gemm(3 * inner, inner, items, dqkv, 1, 3 * inner, x, inner, 1, 0, 0, given[1], inner, room);
        if (biased)
            ${dtype}_columns(dqkv, given[2], items, 3 * inner);
    }
}
"""
