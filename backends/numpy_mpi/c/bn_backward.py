"""Batch norm's gradients in C, and those of an activation behind it on the way."""

from __future__ import annotations

from .bn_groups import STATISTIC, Make
from .bn_sums import BLOCK_SUMS, SPAN_SUMS, SUMS, Sums, phase

GRAD_SUMS_BODY = """\
        const $real *mean = batch_mean + span.row * channels, *rstd = batch_rstd + span.row * channels;
        ${sums}_span($passed, mean, dy_sums + at, dyx_sums + at, scratch, span, n, channels, pixels, order, segments);
        for (long c = 0; c < channels; c++)
            dyx_sums[at + c] *= rstd[c];
"""

SLOPES = """\
/* dx = scale·rstd·(dy - mean(dy) - x̂·mean(dy·x̂)) over so many rows `together`, from three values of each channel. */
static inline __attribute__((always_inline)) void ${sums}_row_dx($declared, $real *restrict dx,
    const $real *restrict mean, const $real *restrict values, long width, long channels, long together)
{
    #pragma omp simd
    for (long c = 0; c < width; c++) {
        const $real middle = mean[c], slope = values[c], mean_dy = values[channels + c];
        const $real factor = values[2 * channels + c];
        UNROLL for (long k = 0; k < together; k++) {
            const long i = k * channels + c;
            dx[i] = ((x[i] - middle) * slope + ($gradient) - mean_dy) * factor;
        }
    }
}

static inline void ${sums}_stretch_dx($declared, $real *restrict dx, $real middle, $real slope, $real mean_dy,
    $real factor, long length)
{
    #pragma omp simd
    for (long i = 0; i < length; i++)
        dx[i] = ((x[i] - middle) * slope + ($gradient) - mean_dy) * factor;
}

/* One group with channels innermost. */
static inline void ${sums}_rows_dx($declared, $real *restrict dx, const $real *restrict scale,
    const $real *restrict mean, const $real *restrict rstd, const $real *restrict dy_sums,
    const $real *restrict dyx_sums, $real *restrict values, struct bn_span span, long pixels, long channels,
    long segments)
{
    const long from = span.from * pixels, to = span.to * pixels;
    for (long c = 0; c < channels; c++) {
        values[c] = -rstd[c] * dyx_sums[c] / ($real)span.values;
        values[channels + c] = dy_sums[c] / ($real)span.values;
        values[2 * channels + c] = scale[c] * rstd[c];
    }
    #pragma omp parallel if ((to - from) * channels > $small)
    {
        const long me = omp_get_thread_num(), all = omp_get_num_threads();
        for (long s = segments * (me + 1) / all - 1; s >= segments * me / all; s--) {  /* first what was read last */
            const long begin = from + (to - from) * s / segments, end = from + (to - from) * (s + 1) / segments;
            for (long c = 0; c < channels; c += $wide) {
                const long width = least($wide, channels - c);
                long r = begin;
                for (; r + 4 <= end && channels <= $narrow; r += 4) {
                    const long at = r * channels;
                    ${sums}_row_dx($passed_at, dx + at, mean, values, width, channels, 4);
                }
                for (; r < end; r++) {
                    const long at = r * channels + c;
                    ${sums}_row_dx($passed_at, dx + at, mean + c, values + c, width, channels, 1);
                }
            }
        }
    }
}

/* One channel of a group in the other layouts; `values` counts those of the whole group. */
static inline void ${sums}_channel_dx($declared, $real *restrict dx, struct bn_place place, long begin, $real scale,
    $real mean, $real rstd, $real dy_sum, $real dyx_sum, long values)
{
    for (long r = 0; r < place.rows; r++) {
        const long at = begin + r * place.apart;
        ${sums}_stretch_dx($passed_at, dx + at, mean, -rstd * dyx_sum / ($real)values, dy_sum / ($real)values,
            scale * rstd, place.length);
    }
}
"""

BLOCK_SLOPES = """\
static inline __attribute__((always_inline)) void ${sums}_block_dx($declared, $real *restrict dx,
    const $real *restrict mean, const $real *restrict values, long block, long rows)
{
    long r = 0;
    for (; r + 8 <= rows; r += 8) {
        const long at = r * block;
        ${sums}_row_dx($passed_at, dx + at, mean, values, block, block, 8);
    }
    for (; r < rows; r++) {
        const long at = r * block;
        ${sums}_row_dx($passed_at, dx + at, mean, values, block, block, 1);
    }
}

/* One block of channels of a group. */
static inline __attribute__((always_inline)) void ${sums}_of_block($declared, $real *restrict dx,
    const $real *restrict scale, const $real *restrict mean, const $real *restrict rstd, $real *restrict dy_sums,
    $real *restrict dyx_sums, struct bn_span span, long apart, long pixels, long block)
{
    double total[2 * $widest] = {0};
    $real values[3 * $widest];
    ${sums}_block($passed, mean, span.to - span.from, apart, pixels, block, total);
    for (long k = 0; k < block; k++) {
        dy_sums[k] = ($real)total[k];
        dyx_sums[k] = ($real)total[$widest + k] * rstd[k];
        values[k] = -rstd[k] * dyx_sums[k] / ($real)span.values;
        values[block + k] = dy_sums[k] / ($real)span.values;
        values[2 * block + k] = scale[k] * rstd[k];
    }
    for (long i = span.to - span.from - 1; i >= 0; i--) {  /* first what was read last */
        const long at = i * apart;
        ${sums}_block_dx($passed_at, dx + at, mean, values, block, pixels);
    }
}
"""

GRAD_APPLY_BODY = """\
        const $real share = ($real)pixels / ($real)whole, *dy_sum = dy_sums + at, *dyx_sum = dyx_sums + at;
        const $real *mean = batch_mean + span.row * channels, *rstd = batch_rstd + span.row * channels;
        for (long c = 0; c < channels && span.begins; c++) {
            dscale[c] += share * dyx_sum[c];
            dshift[c] += share * dy_sum[c];
        }
        if (!order) {
            ${sums}_rows_dx($passed, dx, scale, mean, rstd, dy_sum, dyx_sum, scratch, span, pixels, channels,
                segments);
            continue;
        }
        const struct bn_place place = bn_place(span, n, channels, pixels, order);
        #pragma omp parallel for schedule(static) if (place.rows * place.length * channels > $small)
        for (long c = 0; c < channels; c++)
            ${sums}_channel_dx($passed, dx, place, place.begin + c * place.channel_apart, scale[c], mean[c], rstd[c],
                dy_sum[c], dyx_sum[c], span.values);
"""

DX_BODY = """\
        const $real *mean = batch_mean + at, *rstd = batch_rstd + at;
        $real *dy_sum = scratch + 2 * segments * channels, *dyx_sum = dy_sum + channels;
        const struct bn_place place = bn_place(span, n, channels, pixels, order);
        if (!order) {
            const long at = span.from * pixels * channels;
            ${sums}_rows($passed_at, mean, dy_sum, dyx_sum, scratch, (span.to - span.from) * pixels, channels,
                segments);
            for (long c = 0; c < channels; c++)
                dyx_sum[c] *= rstd[c];
            ${sums}_rows_dx($passed, dx, scale, mean, rstd, dy_sum, dyx_sum, dyx_sum + channels, span, pixels,
                channels, segments);
        } else if (order > 2) {
            #pragma omp parallel for schedule(static) if ((span.to - span.from) * pixels * channels > $small)
            for (long c = 0; c < channels; c += order) {
                const long at = (span.from * channels + c) * pixels, apart = channels * pixels;
                if (order == $lanes)
                    ${sums}_of_block($passed_at, dx + at, scale + c, mean + c, rstd + c, dy_sum + c, dyx_sum + c, span,
                        apart, pixels, $lanes);
                else
                    ${sums}_of_block($passed_at, dx + at, scale + c, mean + c, rstd + c, dy_sum + c, dyx_sum + c, span,
                        apart, pixels, order);
            }
        } else
            #pragma omp parallel for schedule(static) if (place.rows * place.length * channels > $small)
            for (long c = 0; c < channels; c++) {
                const long begin = place.begin + c * place.channel_apart;
                double total[2] = {0};
                for (long r = 0; r < place.rows; r++) {
                    const long at = begin + r * place.apart;
                    ${sums}_stretch($passed_at, mean[c], place.length, total);
                }
                dy_sum[c] = ($real)total[0];
                dyx_sum[c] = ($real)total[1] * rstd[c];
                ${sums}_channel_dx($passed, dx, place, begin, scale[c], mean[c], rstd[c], dy_sum[c], dyx_sum[c],
                    span.values);
            }
        for (long c = 0; c < channels && span.begins; c++) {
            dscale[c] += dyx_sum[c];
            dshift[c] += dy_sum[c];
        }
"""


def gradients(name: str, reads: tuple[str, ...] = (), dy: str = "dy[i]") -> Sums:
    """Sums of dy and of dy·(x - mean); `dy` is what stands for it, from more arrays that are read."""
    terms = (dy, f"({dy}) * (x[i] - $mean)")
    return Sums(name, "dy and dy·(x - mean)", ("dy", *reads, "x"), terms, ("dy_sums", "dyx_sums"), dy)


GRADIENTS = gradients("bn_gradient")


def grad_sums(op: str = "bn", sums: Sums = GRADIENTS) -> Make:
    """dy, [operand], x, batch_mean, batch_rstd -> dy_sums, dyx_sums."""
    reads = (*sums.reads, *STATISTIC)
    title = "Sums of dy and of dy·x̂ by groups of samples."
    return phase(f"{op}_grad_sums", title, sums, GRAD_SUMS_BODY, reads, sums.targets, SUMS, SPAN_SUMS)


def grad_apply(op: str = "bn", sums: Sums = GRADIENTS) -> Make:
    """dy, [operand], x, scale, batch_mean, batch_rstd, dy_sums, dyx_sums -> dx, dscale, dshift."""
    reads = (*sums.reads, "scale", *STATISTIC, *sums.targets)
    title = "dx, and dscale = Σ dy·x̂ and dshift = Σ dy over the groups begun here."
    return phase(f"{op}_grad_apply", title, sums, GRAD_APPLY_BODY, reads, ("dx", "dscale", "dshift"), SLOPES)


def dx(op: str = "bn", sums: Sums = GRADIENTS) -> Make:
    """dy, [operand], x, scale, batch_mean, batch_rstd -> dx, dscale, dshift."""
    reads = (*sums.reads, "scale", *STATISTIC)
    title = "dx = scale·rstd·(dy - mean(dy) - x̂·mean(dy·x̂)), dscale = Σ dy·x̂ and dshift = Σ dy."
    return phase(
        f"{op}_dx", title, sums, DX_BODY, reads, ("dx", "dscale", "dshift"), SUMS, SLOPES, BLOCK_SUMS, BLOCK_SLOPES
    )
