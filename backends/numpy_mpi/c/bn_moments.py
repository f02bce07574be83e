"""Statistics of channels in one pass over memory: mean, and sum of squares around it.

Of a chunk that stays in the cache the mean is found, then what is left around the mean, and chunks are merged by the
formula of Chan, Golub and LeVeque (1979) in double precision. The error does not grow with the mean, as with two
passes.
"""

from __future__ import annotations

MOMENTS = """\
/* Of rows of `width` channels: a base, how far the mean lies beyond it, and the sum of squares around the mean. */
static inline __attribute__((always_inline)) void ${real}_bn_moments_of(const $real *restrict x, long rows, long apart,
    long width, $real *restrict base, $real *restrict offset, $real *restrict squares)
{
    double e[$block], q[$block];
    const long chunk = most(64, $chunk / width);
    for (long from = 0; from < rows; from += chunk) {
        const long count = least(chunk, rows - from);
        const double share = 1.0 / count, weight = (double)count / (from + count), spread = from * weight;
        $real mean[$block], d[$block], s[$block];
        for (long c = 0; c < width; c++)
            mean[c] = d[c] = s[c] = 0;
        long r = 0;
        const $real *at = x + from * apart;
        for (; r + 4 <= count; r += 4, at += 4 * apart)
            #pragma omp simd
            for (long c = 0; c < width; c++)
                mean[c] += (at[c] + at[apart + c]) + (at[2 * apart + c] + at[3 * apart + c]);
        for (; r < count; r++, at += apart)
            for (long c = 0; c < width; c++)
                mean[c] += at[c];
        for (long c = 0; c < width; c++)
            mean[c] *= ($real)share;
        for (r = 0, at = x + from * apart; r + 4 <= count; r += 4, at += 4 * apart)
            #pragma omp simd
            for (long c = 0; c < width; c++) {
                const $real u0 = at[c] - mean[c], u1 = at[apart + c] - mean[c];
                const $real u2 = at[2 * apart + c] - mean[c], u3 = at[3 * apart + c] - mean[c];
                d[c] += (u0 + u1) + (u2 + u3);
                s[c] += (u0 * u0 + u1 * u1) + (u2 * u2 + u3 * u3);
            }
        for (; r < count; r++, at += apart)
            for (long c = 0; c < width; c++) {
                const $real u = at[c] - mean[c];
                d[c] += u;
                s[c] += u * u;
            }
        if (!from)
            for (long c = 0; c < width; c++)
                base[c] = mean[c], e[c] = q[c] = 0;
        for (long c = 0; c < width; c++) {
            const double delta = ((double)mean[c] - base[c]) + d[c] * share - e[c];
            e[c] += delta * weight;
            q[c] += (s[c] - (double)d[c] * d[c] * share) + delta * delta * spread;
        }
    }
    for (long c = 0; c < width && rows; c++)
        offset[c] = ($real)e[c], squares[c] = ($real)q[c];
}

static void ${real}_bn_moments(const $real *restrict x, long rows, long apart, long width, $real *restrict base,
    $real *restrict offset, $real *restrict squares)
{
    if (apart == $lanes && width == $lanes)
        ${real}_bn_moments_of(x, rows, $lanes, $lanes, base, offset, squares);
    else
        ${real}_bn_moments_of(x, rows, apart, width, base, offset, squares);
}

/* The same of one channel in stretches, as mean and sum of squares. */
static void ${real}_bn_plane_moments(const $real *restrict x, struct bn_place place, double *mean, double *squares)
{
    double base = 0, e = 0, q = 0;
    long done = 0;
    for (long r = 0; r < place.rows; r++)
        for (long from = 0; from < place.length; from += $chunk) {
            const $real *at = x + r * place.apart + from;
            const long count = least($chunk, place.length - from);
            const double share = 1.0 / count, weight = (double)count / (done + count);
            $real middle = 0, d = 0, s = 0;
            #pragma omp simd reduction(+ : middle)
            for (long i = 0; i < count; i++)
                middle += at[i];
            middle *= ($real)share;
            #pragma omp simd reduction(+ : d, s)
            for (long i = 0; i < count; i++) {
                const $real u = at[i] - middle;
                d += u;
                s += u * u;
            }
            if (!done)
                base = middle;
            const double delta = (middle - base) + d * share - e;
            e += delta * weight;
            q += (s - (double)d * d * share) + delta * delta * weight * done;
            done += count;
        }
    *mean = base + e;
    *squares = q;
}
"""
