"""Batch norm forward in C: statistics of groups, y from them, and what else becomes of y before it is stored."""

from __future__ import annotations

from dataclasses import dataclass

from .bn_groups import BLOCK, CHUNK, GROUPS, NARROW, SMALL, SPAN, STATISTIC, WIDE, WIDEST, Make, Names, parameters
from .bn_moments import MOMENTS
from .source import CFunction, fill
from .target import Target

NORMALISE = """\
/* y = (x - mean)·factor + shift over so many rows `together`, which are `apart`. */
static inline __attribute__((always_inline)) void ${name}_row(const $real *restrict x,
    $more_parameters$real *restrict y, const $real *restrict mean, const $real *restrict factor,
    const $real *restrict shift, long channels, long apart, long together)
{
    #pragma omp simd
    for (long c = 0; c < channels; c++) {
        const $real middle = mean[c], slope = factor[c], level = shift[c];
        UNROLL for (long k = 0; k < together; k++) {
            const long i = k * apart + c;
            const $real t = (x[i] - middle) * slope + level$added;
            y[i] = $stored;
        }
    }
}

static inline void ${name}_four(const $real *restrict x, $more_parameters$real *restrict y, const $real *restrict mean,
    const $real *restrict factor, const $real *restrict shift, long channels, long apart, long rows)
{
    if (rows >= 4 && apart <= $narrow)
        ${name}_row(x, ${more}y, mean, factor, shift, channels, apart, 4);
    else
        for (long at = 0; at < least(4, rows) * apart; at += apart)
            ${name}_row(x + at, ${more_at}y + at, mean, factor, shift, channels, apart, 1);
}

/* The same over a stretch of one channel. */
static inline void ${name}_stretch(const $real *restrict x, $more_parameters$real *restrict y, $real mean, $real factor,
    $real shift, long length)
{
    #pragma omp simd
    for (long i = 0; i < length; i++) {
        const $real t = (x[i] - mean) * factor + shift$added;
        y[i] = $stored;
    }
}
"""

BLOCKS = """\
/* The same of `rows` rows of a block of channels. */
static inline __attribute__((always_inline)) void ${name}_block(const $real *restrict x, $more_parameters
    $real *restrict y, const $real *restrict mean, const $real *restrict factor, const $real *restrict shift,
    long block, long rows)
{
    long r = 0;
    for (; r + 8 <= rows; r += 8) {
        const long at = r * block;
        ${name}_row(x + at, ${more_at}y + at, mean, factor, shift, block, block, 8);
    }
    for (; r < rows; r++) {
        const long at = r * block;
        ${name}_row(x + at, ${more_at}y + at, mean, factor, shift, block, block, 1);
    }
}

static inline void ${name}_in_block(const $real *restrict x, $more_parameters$real *restrict y,
    const $real *restrict mean, const $real *restrict factor, const $real *restrict shift, long block, long rows)
{
    if (block == $lanes)
        ${name}_block(x, ${more}y, mean, factor, shift, $lanes, rows);
    else
        ${name}_block(x, ${more}y, mean, factor, shift, block, rows);
}
"""

FORWARD = """\
/* One group with channels innermost. */
static void ${name}_rows(const $real *restrict x, $more_parameters$real *restrict y, const $real *restrict scale,
    const $real *restrict shift, $real *restrict mean, $real *restrict rstd, $real *restrict parts, long rows,
    long channels, long segments, double eps)
{
    $real *factor = parts + 3 * segments * channels;
    #pragma omp parallel if (rows * channels > $small)
    {
        #pragma omp for collapse(2) schedule(static)
        for (long s = 0; s < segments; s++)
            for (long c = 0; c < channels; c += $block) {
                const long from = rows * s / segments, to = rows * (s + 1) / segments;
                $real *at = parts + 3 * s * channels + c;
                ${real}_bn_moments(x + from * channels + c, to - from, channels, least($block, channels - c), at,
                    at + channels, at + 2 * channels);
            }
        #pragma omp for schedule(static)
        for (long c = 0; c < channels; c += $block) {
            const long width = least($block, channels - c);
            double e[$block] = {0}, q[$block] = {0};
            for (long s = 0, done = 0; s < segments; s++) {
                const long total = rows * (s + 1) / segments, count = total - done;
                const double weight = (double)count / total, spread = weight * done;
                const $real *base = parts + c, *at = base + 3 * s * channels;
                for (long i = 0; i < width && count; i++) {
                    const double delta = ((double)at[i] - base[i]) + at[channels + i] - e[i];
                    e[i] += delta * weight;
                    q[i] += at[2 * channels + i] + delta * delta * spread;
                }
                done = total;
            }
            for (long i = 0; i < width; i++) {
                mean[c + i] = ($real)(parts[c + i] + e[i]);
                rstd[c + i] = ($real)(1 / sqrt(q[i] / rows + eps));
                factor[c + i] = rstd[c + i] * scale[c + i];
            }
        }
        const long me = omp_get_thread_num(), all = omp_get_num_threads();
        for (long s = segments * (me + 1) / all - 1; s >= segments * me / all; s--) {  /* first what was read last */
            const long to = rows * (s + 1) / segments;
            for (long c = 0; c < channels; c += $wide)
                for (long r = rows * s / segments; r < to; r += 4) {
                    const long at = r * channels + c;
                    ${name}_four(x + at, ${more_at}y + at, mean + c, factor + c, shift + c,
                        least($wide, channels - c), channels, to - r);
                }
        }
    }
}

/* One group with `block` channels innermost: each block is the work of one thread. */
static void ${name}_blocks(const $real *restrict x, $more_parameters$real *restrict y, const $real *restrict scale,
    const $real *restrict shift, $real *restrict mean, $real *restrict rstd, long samples, long channels, long pixels,
    long block, double eps)
{
    #pragma omp parallel for schedule(static) if (samples * channels * pixels > $small)
    for (long c = 0; c < channels; c += block) {
        double e[$widest] = {0}, q[$widest] = {0};
        $real base[$widest] = {0}, middle[$widest], offset[$widest], squares[$widest], factor[$widest];
        for (long i = 0; i < samples; i++) {
            ${real}_bn_moments(x + (i * channels + c) * pixels, pixels, block, block, middle, offset, squares);
            const double weight = 1.0 / (i + 1), spread = weight * i * pixels;
            for (long k = 0; k < block && pixels; k++) {
                base[k] = i ? base[k] : middle[k];
                const double delta = ((double)middle[k] - base[k]) + offset[k] - e[k];
                e[k] += delta * weight;
                q[k] += squares[k] + delta * delta * spread;
            }
        }
        for (long k = 0; k < block; k++) {
            mean[c + k] = ($real)(base[k] + e[k]);
            rstd[c + k] = ($real)(1 / sqrt(q[k] / (samples * pixels) + eps));
            factor[k] = rstd[c + k] * scale[c + k];
        }
        for (long i = samples - 1; i >= 0; i--) {  /* first what was read last */
            const long at = (i * channels + c) * pixels;
            ${name}_in_block(x + at, ${more_at}y + at, mean + c, factor, shift + c, block, pixels);
        }
    }
}

/* $title */
void $name($parameters,
    $real *restrict scratch, long n, long channels, long pixels, long order, long group, long count, long position,
    long first, long whole, long groups, long segments, double eps)
{
    memset(batch_mean, 0, groups * channels * sizeof *batch_mean);
    memset(batch_rstd, 0, groups * channels * sizeof *batch_rstd);
    for (long from = 0; from < n;) {
        const struct bn_span span = bn_span(from, n, group, count, position, first, whole);
        $real *restrict means = batch_mean + span.row * channels, *restrict rstds = batch_rstd + span.row * channels;
        from = span.to;
        if (!order) {
            const long begin = span.from * pixels * channels;
            ${name}_rows(x + begin, ${more_begin}y + begin, scale, shift, means, rstds, scratch,
                (span.to - span.from) * pixels, channels, segments, eps);
            continue;
        }
        if (order > 2) {
            const long begin = span.from * pixels * channels;
            ${name}_blocks(x + begin, ${more_begin}y + begin, scale, shift, means, rstds, span.to - span.from, channels,
                pixels, order, eps);
            continue;
        }
        const struct bn_place place = bn_place(span, n, channels, pixels, order);
        #pragma omp parallel for schedule(static) if (span.values * channels > $small)
        for (long c = 0; c < channels; c++) {
            const long begin = place.begin + c * place.channel_apart;
            double middle, squares;
            ${real}_bn_plane_moments(x + begin, place, &middle, &squares);
            means[c] = ($real)middle;
            rstds[c] = ($real)(1 / sqrt(squares / span.values + eps));
            for (long r = 0; r < place.rows; r++) {
                const long at = begin + r * place.apart;
                ${name}_stretch(x + at, ${more_at}y + at, means[c], rstds[c] * scale[c], shift[c], place.length);
            }
        }
    }
}
"""

INFERENCE = """\
/* $title */
void $name($parameters, long n, long channels, long pixels, long order, double eps)
{
    const struct bn_place place = bn_place((struct bn_span){0, n, 0, 0, 0}, n, channels, pixels, order);
    if (!order) {
        #pragma omp parallel if (n * pixels * channels > $small)
        for (long c = 0; c < channels; c += $block) {
            const long width = least($block, channels - c);
            $real factor[$block];
            for (long i = 0; i < width; i++)
                factor[i] = scale[c + i] / ($real)sqrt(variance[c + i] + eps);
            #pragma omp for schedule(static) nowait
            for (long r = 0; r < n * pixels; r += 4) {
                const long at = r * channels + c;
                ${name}_four(x + at, ${more_at}y + at, mean + c, factor, shift + c, width, channels, n * pixels - r);
            }
        }
        return;
    }
    if (order > 2) {
        #pragma omp parallel for collapse(2) schedule(static) if (n * pixels * channels > $small)
        for (long i = 0; i < n; i++)
            for (long c = 0; c < channels; c += order) {
                const long at = (i * channels + c) * pixels;
                $real factor[$widest];
                for (long k = 0; k < order; k++)
                    factor[k] = scale[c + k] / ($real)sqrt(variance[c + k] + eps);
                ${name}_in_block(x + at, ${more_at}y + at, mean + c, factor, shift + c, order, pixels);
            }
        return;
    }
    #pragma omp parallel for schedule(static) if (n * pixels * channels > $small)
    for (long c = 0; c < channels; c++)
        for (long r = 0; r < place.rows; r++) {
            const long at = c * place.channel_apart + r * place.apart;
            const $real factor = scale[c] / ($real)sqrt(variance[c] + eps);
            ${name}_stretch(x + at, ${more_at}y + at, mean[c], factor, shift[c], place.length);
        }
}
"""

APPLY = """\
/* $title */
void $name($parameters, $real *restrict scratch, long n, long channels, long pixels, long order, long group, long count,
    long position, long first, long whole, long groups, long width, double eps)
{
    memset(batch_mean, 0, groups * channels * sizeof *batch_mean);
    memset(batch_rstd, 0, groups * channels * sizeof *batch_rstd);
    for (long from = 0; from < n;) {
        const struct bn_span span = bn_span(from, n, group, count, position, first, whole);
        $real *mean = batch_mean + span.row * channels, *rstd = batch_rstd + span.row * channels, *factor = scratch;
        from = span.to;
        for (long c = 0; c < channels; c++) {
            mean[c] = sums[span.row * width + c] / ($real)span.values;
            rstd[c] = ($real)(1 / sqrt(squares[span.row * width + c] / ($real)span.values + eps));
            factor[c] = rstd[c] * scale[c];
        }
        const long rows = (span.to - span.from) * pixels, begin = span.from * pixels * channels;
        if (!order) {
            #pragma omp parallel for schedule(static) if (rows * channels > $small)
            for (long r = 0; r < rows; r += 4) {
                const long at = begin + r * channels;
                ${name}_four(x + at, ${more_at}y + at, mean, factor, shift, channels, channels, rows - r);
            }
            continue;
        }
        const struct bn_place place = bn_place(span, n, channels, pixels, order);
        #pragma omp parallel for schedule(static) if (rows * channels > $small)
        for (long c = 0; c < channels; c++)
            for (long r = 0; r < place.rows; r++) {
                const long at = place.begin + c * place.channel_apart + r * place.apart;
                ${name}_stretch(x + at, ${more_at}y + at, mean[c], factor[c], shift[c], place.length);
            }
    }
}
"""


@dataclass(frozen=True, slots=True)
class Store:
    """What becomes of t = (x - mean)·factor + shift before it is stored: an operand that is added, an activation."""

    op: str
    title: str
    operand: str = ""
    stored: str = "t"

    def values(self, target: Target, real: str, stage: str) -> dict[str, object]:
        """What templates are filled with."""
        more = f"{self.operand} + " if self.operand else ""
        return {
            "real": real,
            "name": f"{self.op}_{stage}_{real}",
            "title": self.title,
            "block": BLOCK,
            "chunk": CHUNK,
            "small": SMALL,
            "narrow": NARROW,
            "wide": WIDE,
            "widest": WIDEST,
            "lanes": target.lanes(real),
            "more_parameters": f"const {real} *restrict {self.operand}, " if self.operand else "",
            "more_at": f"{more}at, " if more else "",
            "more_begin": f"{more}begin, " if more else "",
            "more": f"{self.operand}, " if self.operand else "",
            "added": f" + {self.operand}[i]" if self.operand else "",
            "stored": self.stored,
        }

    def function(
        self, target: Target, real: str, stage: str, template: str, reads: Names, writes: Names, numbers: Names
    ) -> CFunction:
        """A function of these arrays, the further operand behind those that are read."""
        reads = (*reads, *([self.operand] if self.operand else []))
        values = self.values(target, real, stage)
        text = fill(
            "\n".join((NORMALISE, *([BLOCKS] if stage != "apply" else []), template)),
            **values,
            parameters=parameters(real, reads, writes),
        )
        shared = (SPAN, *([fill(MOMENTS, **values)] if stage == "forward" else []))
        scratch = ("scratch",) if "restrict scratch" in text else ()
        return CFunction(str(values["name"]), text, (*reads, *writes, *scratch), numbers, shared=shared)


PLAIN = Store("bn", "y = (x - mean)·rstd·scale + shift by groups of samples.")
AFFINE = ("x", "scale", "shift")


def forward(store: Store = PLAIN) -> Make:
    """x, scale, shift, mean, variance, [operand] -> y, batch_mean, batch_rstd."""
    reads, writes = (*AFFINE, "mean", "variance"), ("y", *STATISTIC)
    numbers = (*GROUPS, "groups", "segments", "double eps")
    return lambda target, real: store.function(target, real, "forward", FORWARD, reads, writes, numbers)


def inference(store: Store = PLAIN) -> Make:
    """x, scale, shift, mean, variance, [operand] -> y."""
    reads, numbers = (*AFFINE, "mean", "variance"), (*GROUPS[:4], "double eps")
    return lambda target, real: store.function(target, real, "inference", INFERENCE, reads, ("y",), numbers)


def apply(store: Store = PLAIN) -> Make:
    """x, scale, shift, sums, squares, [operand] -> y, batch_mean, batch_rstd."""
    reads, writes = (*AFFINE, "sums", "squares"), ("y", *STATISTIC)
    numbers = (*GROUPS, "groups", "width", "double eps")
    return lambda target, real: store.function(target, real, "apply", APPLY, reads, writes, numbers)
