"""The transforms of Winograd's algorithms: of a line, and of tiles that are read from images.

The matrices are those of `kernels.conv_winograd`, with common terms taken together.
"""

from __future__ import annotations

from .source import fill, indented

LINES = {
    2: {
        "data": """\
o[0] = d[0] - d[2];
o[1] = d[1] + d[2];
o[2] = d[2] - d[1];
o[3] = d[3] - d[1];
""",
        "filters": """\
const ${dtype}v p = (d[0] + d[2]) / 2, q = d[1] / 2;
o[0] = d[0];
o[1] = p + q;
o[2] = p - q;
o[3] = d[2];
""",
        "output": """\
o[0] = d[0] + d[1] + d[2];
o[1] = d[1] - d[2] + d[3];
""",
        "gradient": """\
o[0] = d[0];
o[1] = d[0] + d[1];
o[2] = d[0] - d[1];
o[3] = d[1];
""",
        "weights": """\
const ${dtype}v p = (d[1] + d[2]) / 2;
o[0] = d[0] + p;
o[1] = (d[1] - d[2]) / 2;
o[2] = p + d[3];
""",
    },
    4: {
        "data": """\
const ${dtype}v p = d[4] - 4 * d[2], q = d[3] - 4 * d[1], r = d[4] - d[2], s = 2 * (d[3] - d[1]);
o[0] = 4 * d[0] - 5 * d[2] + d[4];
o[1] = p + q;
o[2] = p - q;
o[3] = r + s;
o[4] = r - s;
o[5] = 4 * d[1] - 5 * d[3] + d[5];
""",
        "filters": """\
const ${dtype}v p = (d[0] + d[2]) / -6, q = d[1] / 6, r = d[0] / 24 + d[2] / 6, s = d[1] / 12;
o[0] = d[0] / 4;
o[1] = p - q;
o[2] = p + q;
o[3] = r + s;
o[4] = r - s;
o[5] = d[2];
""",
        "output": """\
const ${dtype}v p = d[1] + d[2], q = d[1] - d[2], r = d[3] + d[4], s = d[3] - d[4];
o[0] = d[0] + p + r;
o[1] = q + 2 * s;
o[2] = p + 4 * r;
o[3] = q + 8 * s + d[5];
""",
        "gradient": """\
const ${dtype}v p = d[0] + d[2], q = d[1] + d[3], r = d[0] + 4 * d[2], s = 2 * d[1] + 8 * d[3];
o[0] = d[0];
o[1] = p + q;
o[2] = p - q;
o[3] = r + s;
o[4] = r - s;
o[5] = d[3];
""",
        "weights": """\
const ${dtype}v p = (d[1] + d[2]) / 6, q = d[3] + d[4];
o[0] = d[0] / 4 - p + q / 24;
o[1] = (d[2] - d[1]) / 6 + (d[3] - d[4]) / 12;
o[2] = q / 6 - p + d[5];
""",
    },
}
"""m -> the transforms of a line, Bᵀ, G, Aᵀ, and for dw A and Gᵀ, with common terms taken together."""


def line(what: str, m: int, values: dict[str, object]) -> str:
    """The function of one of `LINES`' transforms."""
    wide = m + 2
    ins, outs = {
        "data": (wide, wide),
        "filters": (3, wide),
        "output": (wide, m),
        "gradient": (m, wide),
        "weights": (wide, 3),
    }[what]
    return fill(LINE, what=what, ins=ins, outs=outs, steps=indented(LINES[m][what]), **values)


def transform(blocked: bool) -> str:
    """The text of a transform of tiles that are read from images in NHWC or in blocks of channels."""
    text, lines, levels = (TRANSFORM_BLOCKS, "r", 4) if blocked else (TRANSFORM, "t", 3)
    return text.replace("$across", indented(ACROSS, levels)).replace("$lines", lines)


LINE = """\
/* A line of $ins through the transform of $what. */
static inline void ${name}_$what(const ${dtype}v d[$ins], ${dtype}v o[$outs])
{
$steps}
"""

ACROSS = """\
UNROLL for (long a = 0; a < $alpha; a++) {
    UNROLL for (long b = 0; b < $ins; b++)
        d[b] = $lines[b][a];
    ${name}_$what(d, o);
    UNROLL for (long b = 0; b < $alpha; b++)
        *(${dtype}u *)(v + (a * $alpha + b) * $plane + $place) = o[b];
}
"""
"""The second half of both: lines that were transformed along one axis, along the other."""

TRANSFORM = """\
/* Tiles of $ins x $ins pixels, from number `first` on, through the transform of $what: $order. */
static void ${name}_$letter(const $dtype *restrict x, const $dtype *restrict zeros, $dtype *restrict v,
                      long first, long count, long tiles_y, long rows, long above)
{
    #pragma omp for schedule(static)
    for (long tile = 0; tile < count; tile++) {
        const long i = (first + tile) / (tiles_y * $tiles_x), y = (first + tile) / $tiles_x % tiles_y * $m - above;
        const long z = (first + tile) % $tiles_x * $m - $left;
        const $dtype *at[$ins][$ins];
        for (long a = 0; a < $ins; a++)
            for (long b = 0; b < $ins; b++) {
                const int inside = y + a >= 0 && y + a < rows && z + b >= 0 && z + b < $source_width;
                at[a][b] = inside ? x + ((i * rows + y + a) * $source_width + z + b) * $c : zeros;
            }
        for (long c = 0; c < $c; c += $lanes) {
            ${dtype}v d[$ins], t[$ins][$alpha], o[$alpha];
            UNROLL for (long b = 0; b < $ins; b++) {
                UNROLL for (long a = 0; a < $ins; a++)
                    d[a] = $load;
                ${name}_$what(d, t[b]);
            }
$across        }
    }
}
"""

TRANSFORM_BLOCKS = """\
/* Tiles of $ins x $ins pixels, from number `first` on, through the transform of $what: $order. */
static void ${name}_$letter(const $dtype *restrict x, const $dtype *restrict zeros, $dtype *restrict v,
                      long first, long count, long tiles_y, long rows, long above)
{
    const long pixels = rows * $source_width;
    #pragma omp for schedule(static)
    for (long begin = 0; begin < count; begin += $together) {
        const long several = least($together, count - begin);
        const $dtype *at[$together][$ins];
        long step[$together][$ins], from[$together], to[$together];
        for (long t = 0; t < several; t++) {
            const long tile = first + begin + t, i = tile / (tiles_y * $tiles_x);
            const long y = tile / $tiles_x % tiles_y * $m - above, z = tile % $tiles_x * $m - $left;
            from[t] = -z;
            to[t] = $source_width - z;
            for (long a = 0; a < $ins; a++) {
                const int inside = y + a >= 0 && y + a < rows;
                at[t][a] = inside ? x + (i * $c * rows + (y + a) * $lanes) * $source_width + z * $lanes : zeros;
                step[t][a] = inside ? pixels : 0;
            }
        }
        for (long c = 0; c < $c; c += $lanes)
            for (long t = 0, tile = begin; t < several; t++, tile++) {
                ${dtype}v d[$ins], r[$ins][$alpha], o[$alpha];
                const $dtype *row[$ins];
                UNROLL for (long a = 0; a < $ins; a++)
                    row[a] = at[t][a] + step[t][a] * c;
                UNROLL for (long b = 0; b < $ins; b++) {
                    if (b < from[t] || b >= to[t]) {
                        UNROLL for (long a = 0; a < $alpha; a++)
                            r[b][a] = (${dtype}v){0};
                        continue;
                    }
                    UNROLL for (long a = 0; a < $ins; a++)
                        d[a] = *(const ${dtype}u *)(row[a] + b * $lanes);
                    ${name}_$what(d, r[b]);
                }
$across            }
    }
}
"""
"""The same of images in blocks of channels: of some tiles at a time, for all of a block to be read in one piece. Rows
that are not there are read from as many zeros."""
