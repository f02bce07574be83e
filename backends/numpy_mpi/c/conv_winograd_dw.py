"""The weight gradient by Winograd's minimal filtering F(m×m, 3×3), in NHWC with channels in vectors.

dw = Gᵀ (Σ (A dY Aᵀ)·V) G, the sum being over tiles, with the matrices of `kernels.conv_winograd`. For a block of tiles
x goes to V and dy to W, position by position; their products add up in [position][block of vectors][channel][lane]. A
thread owns sums, as in `conv_dw`.
"""

from __future__ import annotations

from typing import NamedTuple

from .conv import NUMBERS, Conv
from .conv_blocked_dw import BIAS as BLOCKED_BIAS
from .conv_dw import BIAS, BIAS_RESULT, parts_of
from .conv_winograd import CACHE_LINE, apart, fits
from .conv_winograd_tiles import line, transform
from .correlation import PAGE
from .source import CFunction, fill, indented
from .target import WIDTHS, Target, tiles

TOGETHER = 14
"""Tiles that are read of one block of channels before those of the next: they are written together too."""

BLOCK = 112
"""Tiles in a block: the sums are read and written once for each."""


def dw(
    conv: Conv, target: Target, name: str, m: int, tile: tuple[int, int] | None = None, *, blocked: bool = False
) -> CFunction:
    """dy, x -> dweight, [dbias]; `tile` is (channels, vectors). Needs what `conv_winograd.fits` tells, and `blocked`,
    for images in blocks of channels, what `conv_blocked.fits` does."""
    if not fits(conv):
        raise ValueError("Winograd's algorithm is for windows of 3x3, stride 1, dilation 1 and one group")
    lanes, (c, k) = target.lanes(conv.dtype), (conv.channels, conv.filters)

    def filled(channels: int) -> int:
        return -(-channels // lanes) * lanes

    def pitch(channels: int) -> int:
        return filled(channels) + lanes * (filled(channels) * WIDTHS[conv.dtype] % PAGE == 0)

    def plane(channels: int) -> int:
        return apart(block * pitch(channels), conv.dtype)

    vectors, positions = filled(k) // lanes, (m + 2) ** 2
    in_blocks = target.vector_bytes < CACHE_LINE
    channels, width = tile or (_tile(target, lanes, vectors) if in_blocks else tiles(target, vectors, c)[0])
    if in_blocks:
        channels = 1 << min(channels, lanes).bit_length() - 1  # parts of a block
    channels, width = min(channels, c), min(width, vectors)
    block = min(BLOCK, 8 * -(-conv.outputs[0] // m) * -(-conv.outputs[1] // m))
    sums = positions * apart(c * filled(k), conv.dtype)
    zeros = sums + filled(k) * conv.bias
    begin = zeros + ((m + 2) * lanes if blocked else max(filled(c), filled(k)))
    orders = IN_BLOCKS if in_blocks else AS_PIXELS
    values: dict[str, object] = {
        "name": name, "dtype": conv.dtype, "lanes": lanes, "m": m, "alpha": m + 2, "positions": positions, "k": k,
        "padded_k": filled(k), "width": width * lanes, "filters": k, "block": block, "channels": channels,
        "tiles_x": -(-conv.outputs[1] // m), "sums": sums, "zeros": zeros, "begin_bias": sums,
        "zero_end": begin, "data": begin, "gradient": begin + positions * plane(c), "c": c,
        "pitch": lanes if in_blocks else pitch(c), "plane": plane(c), "gradient_plane": plane(k),
        "sums_plane": sums // positions, "together": TOGETHER,
        "from": orders.source, "of": orders.gradient,
        "outputs": conv.outputs[1], "dbias": f", {conv.dtype} *restrict dbias" * conv.bias,
        "bias_sums": (BLOCKED_BIAS_SUMS if blocked else BIAS_SUMS) * conv.bias, "result_blocks": k // lanes,
        "columns": conv.outputs[1],
        "bias_result": BIAS_RESULT * conv.bias,
    }  # fmt: skip
    sides = [
        fill(transform(blocked), **values | {
            "letter": letter, "what": what, "ins": ins, "c": of, "source_width": wide, "left": left, "step": pitch(of),
            "plane": plane(of), "order": order, "place": place,
            "load": "*(const ${dtype}u *)(at[a][b] + c)" if of % lanes == 0
            else "${dtype}_load(at[a][b] + c, $c - c)",
        })
        for letter, what, ins, of, wide, left, (order, place) in (
            ("V", "data", m + 2, c, conv.width, conv.pad[1][0], orders.of_source),
            ("W", "gradient", m, k, conv.outputs[1], 0, orders.of_gradient),
        )
    ]  # fmt: skip
    sizes = [(p, v) for p in parts_of(c, channels) for v in parts_of(vectors, width)]
    calls = "".join(
        f"if (part == {p} && width == {v * lanes})\n    ${{name}}_tile{p}x{v}(from, of, to, count, first == 0);\n"
        for p, v in sizes
    )
    parts = [
        *(line(what, m, values) for what in ("data", "gradient", "weights")),
        *sides,
        *([BLOCKED_BIAS if blocked else BIAS] if conv.bias else []),
        *(fill(TILE, P=p, V=v, gradient_pitch=v * lanes if in_blocks else pitch(k), **values) for p, v in sizes),
        fill(MAIN, calls=indented(calls, 6), **values),
    ]
    size = begin + positions * (plane(c) + plane(k))
    text = "\n".join(fill(part, **values) for part in parts)
    return CFunction(name, text, ("dy", "x", "dweight", *(["dbias"] * conv.bias)), NUMBERS, lambda n, threads: size)


def _tile(target: Target, lanes: int, vectors: int) -> tuple[int, int]:
    """Half a block of channels or all of it; three vectors, or two where these leave no rest."""
    return min(lanes, 8 if target.registers > 16 else 4), 2 if vectors % 3 and vectors % 2 == 0 else 3


class Orders(NamedTuple):
    """How V and W lie: what their transforms are told, (order, place), and where a tile of sums begins to read."""

    of_source: tuple[str, str]
    of_gradient: tuple[str, str]
    source: str
    gradient: str


AS_PIXELS = Orders(
    *(("[position][tile][channel]", "tile * $step + c"),) * 2,
    "c",
    "k0",
)
"""Where vectors are whole lines of the caches."""

IN_BLOCKS = Orders(
    ("[position][block of a vector][tile][channel]", "c * $block + tile * $lanes"),
    (
        "[position][block of filters][tile][filter]",
        "c / $width * $width * $block + tile * least($width, $padded_k - c / $width * $width) + c % $width",
    ),
    "c / $lanes * $lanes * $block + c % $lanes",
    "k0 * $block",
)
"""Where a tile of sums would read parts of lines, `conv_dw_packed`: each reads one run of V and one of W."""

BIAS_SUMS = "${name}_bias(dy, scratch + $begin_bias, n * rows_of_y * $outputs);"
BLOCKED_BIAS_SUMS = "${name}_bias(dy, rows_of_y * $outputs * $lanes, scratch + $begin_bias, n, rows_of_y);"
"""The bias' gradient, of dy in NHWC and in blocks of channels."""

TILE = """\
/* $P channel(s) by $V vector(s) of filters at a position, summed over the tiles of a block. */
static void ${name}_tile${P}x${V}(const $dtype *restrict x, const $dtype *restrict dy, $dtype *restrict sums,
                                  long count, int fresh)
{
    ${dtype}v a[$P][$V];
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++)
            a[p][v] = (${dtype}v){0};
    for (long tile = 0; tile < count; tile++, x += $pitch, dy += $gradient_pitch)
        UNROLL for (long p = 0; p < $P; p++)
            UNROLL for (long v = 0; v < $V; v++)
                a[p][v] += x[p] * *(const ${dtype}u *)(dy + v * $lanes);
    UNROLL for (long p = 0; p < $P; p++)
        UNROLL for (long v = 0; v < $V; v++) {
            ${dtype}u *to = (${dtype}u *)(sums + (p * $V + v) * $lanes);
            *to = a[p][v] + (fresh ? (${dtype}v){0} : (${dtype}v)*to);
        }
}
"""

MAIN = """\
/* Sums of all positions, transformed to the gradient of the weights. */
static void ${name}_G(const $dtype *restrict sums, $dtype *restrict dweight)
{
    #pragma omp for collapse(2) schedule(static) nowait
    for (long k0 = 0; k0 < $padded_k; k0 += $lanes)
        for (long c0 = 0; c0 < $c; c0 += $lanes) {
            const long first = k0 / $width * $width, width = least($width, $padded_k - first);
            const long rows = least($lanes, $k - k0), count = least($lanes, $c - c0);
            $dtype taps[9 * $lanes * $lanes];  /* [channel][tap][lane] */
            for (long c = 0; c < count; c++) {
                const $dtype *from = sums + first * $c + (c0 + c) * width + (k0 - first);
                ${dtype}v d[$alpha], t[$alpha][3], o[3];
                UNROLL for (long b = 0; b < $alpha; b++) {
                    UNROLL for (long a = 0; a < $alpha; a++)
                        d[a] = *(const ${dtype}u *)(from + (a * $alpha + b) * $sums_plane);
                    ${name}_weights(d, t[b]);
                }
                UNROLL for (long a = 0; a < 3; a++) {
                    UNROLL for (long b = 0; b < $alpha; b++)
                        d[b] = t[b][a];
                    ${name}_weights(d, o);
                    UNROLL for (long b = 0; b < 3; b++)
                        *(${dtype}u *)(taps + (c * 9 + a * 3 + b) * $lanes) = o[b];
                }
            }
            for (long q = 0; q < 9 * count; q += $lanes)
                ${dtype}_spread(taps + q * $lanes, dweight + (k0 * $c + c0) * 9 + q, $c * 9, rows,
                                least($lanes, 9 * count - q));
        }
}

void $name(const $dtype *restrict dy, const $dtype *restrict x, $dtype *restrict dweight$dbias,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const long rows_of_y = most(0, rows + pad_top + pad_bottom - 2);
    const long tiles_y = raised(rows_of_y, $m), tiles = n * tiles_y * $tiles_x;
    $dtype *v = scratch + $data, *gradient = scratch + $gradient;
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (long j = tiles > 0 ? $sums : 0; j < $zero_end; j++)  /* the first block of tiles writes the sums */
            scratch[j] = 0;
        for (long first = 0; first < tiles; first += $block) {
            const long count = least($block, tiles - first);
            ${name}_V(x, scratch + $zeros, v, first, count, tiles_y, rows, pad_top);
            ${name}_W(dy, scratch + $zeros, gradient, first, count, tiles_y, rows_of_y, 0);
            #pragma omp for collapse(2) schedule(static)
            for (long position = 0; position < $positions; position++)
                for (long k0 = 0; k0 < $padded_k; k0 += $width)
                    for (long c = 0; c < $c; c += $channels) {
                        const long width = least($width, $padded_k - k0), part = least($channels, $c - c);
                        const $dtype *from = v + position * $plane + $from;
                        const $dtype *of = gradient + position * $gradient_plane + $of;
                        $dtype *to = scratch + position * $sums_plane + k0 * $c + c * width;
$calls                    }
        }
        $bias_sums
        #pragma omp barrier
        ${name}_G(scratch, dweight);$bias_result
    }
}
"""
