"""Pools over whole images in C, [outer][pixel][inner]: `inner` are channels in NHWC, samples in CHWN, 1 in NCHW."""

from __future__ import annotations

from collections.abc import Callable

from .source import CFunction, fill
from .target import Target

Make = Callable[[Target, str], CFunction]

SMALL = 16384
"""Elements below which one thread does all."""

BLOCK, STRETCH = 256, 64
"""Elements and pixels that sums are made of."""

GLOBAL_AVERAGE_FORWARD = """\
/* x -> the mean of each channel's image: sums of stretches of pixels, which are added up. */
void $name(const $real *restrict x, $real *restrict y, long outer, long pixels, long inner)
{
    #pragma omp parallel for collapse(2) schedule(static) if (outer * pixels * inner > $small)
    for (long image = 0; image < outer; image++)
        for (long c = 0; c < inner; c += $block) {
            const $real *from = x + image * pixels * inner + c;
            const long width = least($block, inner - c);
            $real total[$block], sum[$block];
            memset(total, 0, width * sizeof *total);
            for (long begin = 0; begin < pixels; begin += $stretch) {
                const long end = least(pixels, begin + $stretch);
                if (inner == 1) {
                    $real one = 0;
                    #pragma omp simd reduction(+ : one)
                    for (long p = begin; p < end; p++)
                        one += from[p];
                    total[0] += one;
                    continue;
                }
                if (inner == $lanes) {  /* a block of channels */
                    ${real}v block = {0};
                    for (long p = begin; p < end; p++)
                        block += *(const ${real}u *)(from + p * $lanes);
                    *(${real}u *)total += block;
                    continue;
                }
                memset(sum, 0, sizeof sum);
                for (long p = begin; p < end; p++)
                    for (long i = 0; i < width; i++)
                        sum[i] += from[p * inner + i];
                for (long i = 0; i < width; i++)
                    total[i] += sum[i];
            }
            for (long i = 0; i < width; i++)
                y[image * inner + c + i] = total[i] / ($real)pixels;
        }
}
"""

GLOBAL_AVERAGE_DX = """\
/* dy over the number of pixels, everywhere. */
void $name(const $real *restrict dy, $real *restrict dx, long outer, long pixels, long inner)
{
    const $real share = ($real)(1.0 / pixels);
    #pragma omp parallel for schedule(static) if (outer * pixels * inner > $small)
    for (long image = 0; image < outer; image++) {
        const $real *from = dy + image * inner;
        $real *to = dx + image * pixels * inner;
        if (inner == $lanes) {  /* a block of channels */
            const ${real}v given = *(const ${real}u *)from * share;
            for (long p = 0; p < pixels; p++)
                *(${real}u *)(to + p * $lanes) = given;
            continue;
        }
        for (long p = 0; p < pixels && inner != 1; p++)
            for (long i = 0; i < inner; i++)
                to[p * inner + i] = from[i] * share;
        for (long p = 0; p < pixels && inner == 1; p++)
            to[p] = from[0] * share;
    }
}
"""

GLOBAL_MAX_FORWARD = """\
/* x -> the largest element of each channel's image and its number; the first one wins, and NaN over all. */
void $name(const $real *restrict x, $real *restrict y, int *restrict indices, long outer, long pixels, long inner)
{
    #pragma omp parallel for schedule(static) if (outer * pixels * inner > $small)
    for (long image = 0; image < outer; image++) {
        const $real *from = x + image * pixels * inner;
        $real *best = y + image * inner;
        int *number = indices + image * inner;
        for (long i = 0; i < inner; i++)
            best[i] = from[i], number[i] = 0;
        for (long p = 1; p < pixels; p++)
            #pragma omp simd
            for (long i = 0; i < inner; i++) {
                const $real v = from[p * inner + i], u = best[i];
                const int better = v > u || (v != v && u == u);
                number[i] = better ? (int)p : number[i];
                best[i] = better ? v : u;
            }
    }
}
"""

GLOBAL_MAX_DX = """\
/* dy goes to the element that was the largest. */
void $name(const $real *restrict dy, const int *restrict indices, $real *restrict dx, long outer, long pixels,
    long inner)
{
    #pragma omp parallel for schedule(static) if (outer * pixels * inner > $small)
    for (long image = 0; image < outer; image++) {
        $real *to = dx + image * pixels * inner;
        memset(to, 0, pixels * inner * sizeof *to);
        for (long i = 0; i < inner; i++)
            to[indices[image * inner + i] * inner + i] = dy[image * inner + i];
    }
}
"""


def _function(name: str, text: str, arguments: tuple[str, ...]) -> Make:
    def make(target: Target, real: str) -> CFunction:
        filled = fill(
            text, name=f"{name}_{real}", real=real, lanes=target.lanes(real), small=SMALL, block=BLOCK, stretch=STRETCH
        )
        return CFunction(f"{name}_{real}", filled, arguments, ("outer", "pixels", "inner"))

    return make


GLOBAL: dict[tuple[str, str, str], Make] = {
    ("global_avgpool", "forward", ""): _function("global_avgpool_forward", GLOBAL_AVERAGE_FORWARD, ("x", "y")),
    ("global_avgpool", "dx", ""): _function("global_avgpool_dx", GLOBAL_AVERAGE_DX, ("dy", "dx")),
    ("global_maxpool", "forward", ""): _function("global_maxpool_forward", GLOBAL_MAX_FORWARD, ("x", "y", "indices")),
    ("global_maxpool", "dx", ""): _function("global_maxpool_dx", GLOBAL_MAX_DX, ("dy", "indices", "dx")),
}
"""(op, pass, algorithm) -> its generator for a target and a dtype."""
