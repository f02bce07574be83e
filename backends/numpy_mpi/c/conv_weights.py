"""Weights of convolutions in the order in which innermost loops read them: [block of vectors][tap][channel][lane]."""

from __future__ import annotations

PACK = """\
/* Weights to [block][tap][c][lane]: taps_y x taps_x taps, the first of them (r0, s0). */
static void ${name}_pack(const $dtype *restrict weight, $dtype *restrict packed,
                         long taps_y, long r0, long r_step, long taps_x, long s0, long s_step)
{
    #pragma omp for collapse(2) schedule(static) nowait
    for (long g = 0; g < $groups; g++)
        for (long k0 = 0; k0 < $padded_k; k0 += $lanes) {
            const long first = k0 / $width * $width, width = least($width, $padded_k - first);
            $dtype *block = packed + (g * $padded_k + first) * taps_y * taps_x * $c + (k0 - first);
$order
        }
}
"""

FORWARD_ORDER = """\
            const $dtype *from = weight + (g * $k + k0) * $values;
            $dtype part[$lanes * $lanes];  /* [value][lane] */
            for (long q0 = 0; q0 < $values; q0 += $lanes) {
                ${dtype}_transpose(from + q0, $values, least($lanes, $k - k0), least($lanes, $values - q0), part);
                for (long q = q0; q < least(q0 + $lanes, $values); q++)
                    *(${dtype}u *)(block + (q % $taps * $c + q / $taps) * width) =
                        *(${dtype}u *)(part + (q - q0) * $lanes);
            }"""

BACKWARD_ORDER = """\
            $dtype part[$taps_room * $lanes];  /* [tap][lane] */
            for (long c = 0; c < $c; c++) {
                const $dtype *from = weight + ((g * $c + c) * $k + k0) * $taps;
                for (long q = 0; q < $taps; q += $lanes)
                    ${dtype}_transpose(from + q, $taps, least($lanes, $k - k0), least($lanes, $taps - q),
                                       part + q * $lanes);
                for (long i = 0; i < taps_y; i++)
                    for (long j = 0; j < taps_x; j++)
                        *(${dtype}u *)(block + ((i * taps_x + j) * $c + c) * width) =
                            *(${dtype}u *)(part + ((r0 + i * r_step) * $S + s0 + j * s_step) * $lanes);
            }"""

PACKS = """\
void $name(const $dtype *restrict weight, $bias_argument$dtype *restrict packed)
{
    #pragma omp parallel
    {
$packs    }
}
"""

PACK_BIAS = """\
#pragma omp for schedule(static)
for (long k = 0; k < $groups * $padded_k; k++)
    $weights[$begin_bias + k] = k % $padded_k < $k ? bias[k / $padded_k * $k + k % $padded_k] : 0;
"""

GIVEN = "const $dtype *restrict packed, "
"""The argument that holds what was packed before."""
