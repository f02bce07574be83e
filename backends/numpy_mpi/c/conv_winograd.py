"""Winograd's minimal filtering F(m×m, 3×3), m = 2 or 4, in NHWC with channels in vectors: forward and dx.

A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016; the matrices are those of
`kernels.conv_winograd`. For a block of tiles, with α = m + 2: the α² elements of each transformed input tile go to
V [position][tile][channel]; at each position a product with the transformed filters U [position][block of vectors]
[channel][lane] gives M [position][tile][filter]; transformed back it is the result. Tiles that hang over an image read
zeros, and are cut off when they are written. Threads share each of the three steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from .conv import NUMBERS, Conv, arguments
from .conv_direct import TILE, relu, shifts
from .conv_weights import GIVEN, PACK_BIAS, PACKS
from .conv_winograd_tiles import line, transform
from .correlation import PAGE
from .source import CFunction, fill, indented
from .target import WIDTHS, Target, tiles

BLOCK_BYTES = 1024 * 1024
"""What V and M of a block of tiles may take: the second-level cache."""

CACHE_LINE = 64
"""Bytes of a line of the caches."""

TOGETHER = 2
"""Tiles that are read of one block of channels before those of the next."""

LEAST_TILES = 56
"""Tiles in a block, at the least: U is read anew for each block."""


def forward(
    conv: Conv, target: Target, name: str, m: int, tile: tuple[int, int] | None = None, *, blocked: bool = False
) -> CFunction:
    """x, weight, [bias] -> y; `tile` is (tiles, vectors) of the products. Needs what `fits` tells, and `blocked`, for
    images in blocks of channels, what `conv_blocked.fits` does."""
    return _Winograd(conv, target, name, m, backward=False, blocked=blocked).function(tile)


def dx(
    conv: Conv, target: Target, name: str, m: int, tile: tuple[int, int] | None = None, *, blocked: bool = False
) -> CFunction:
    """dy, weight -> dx: the convolution of dy with filters turned by 180°."""
    return _Winograd(conv, target, name, m, backward=True, blocked=blocked).function(tile)


def pack_forward(conv: Conv, target: Target, name: str, m: int, *, blocked: bool = False) -> CFunction:
    """weight, [bias] -> packed, for `forward` of the same convolution where that is `packed`."""
    return _Winograd(conv, target, name, m, backward=False, blocked=blocked).pack()


def pack_dx(conv: Conv, target: Target, name: str, m: int, *, blocked: bool = False) -> CFunction:
    """weight -> packed, for `dx`."""
    return _Winograd(conv, target, name, m, backward=True, blocked=blocked).pack()


def fits(conv: Conv) -> bool:
    """Whether a convolution can be computed so: windows of 3x3, stride 1, dilation 1, one group."""
    return conv.window == (3, 3) and conv.stride == conv.dilation == (1, 1) and conv.groups == 1


def apart(plane: int, dtype: str) -> int:
    """From one position to the next, where each has so many elements.

    A line of the caches is between them: behind whole pages all positions of a tile would have one place in a cache.
    """
    return plane + CACHE_LINE // WIDTHS[dtype]


@dataclass(frozen=True, slots=True)
class _Winograd:
    conv: Conv
    target: Target
    name: str
    m: int
    backward: bool
    blocked: bool

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.conv.dtype)

    @property
    def channels(self) -> tuple[int, int]:
        """Of the source and of the result."""
        found = self.conv.channels, self.conv.filters
        return found[::-1] if self.backward else found

    @property
    def widths(self) -> tuple[int, int]:
        found = self.conv.width, self.conv.outputs[1]
        return found[::-1] if self.backward else found

    @property
    def bias(self) -> bool:
        return self.conv.bias and not self.backward

    def filled(self, channels: int) -> int:
        """Channels with those that fill the last vector."""
        return -(-channels // self.lanes) * self.lanes

    def pitch(self, channels: int) -> int:
        """From a tile to the next in V and M: not a page, see `Correlation.pixel`."""
        filled = self.filled(channels)
        return filled + self.lanes * (filled * WIDTHS[self.conv.dtype] % PAGE == 0)

    @property
    def positions(self) -> int:
        return (self.m + 2) ** 2

    @property
    def filters(self) -> int:
        """Elements of U, and behind it of the bias and of zeros that stand for what is beyond the image."""
        c, k = self.channels
        return self.positions * apart(c * self.filled(k), self.conv.dtype) + self.bias * self.filled(k) + self.zeros

    @property
    def zeros(self) -> int:
        """How many zeros stand for what is beyond the image: a pixel, or a row of a tile in a block of channels."""
        return (self.m + 2) * self.lanes if self.blocked else self.filled(self.channels[0])

    def block(self, pixels: int) -> int:
        """Tiles of a block: whole ones of the products."""
        each = self.positions * sum(map(self.pitch, self.channels)) * WIDTHS[self.conv.dtype]
        return -(-max(LEAST_TILES, BLOCK_BYTES // each) // pixels) * pixels

    def stored(self, left: str) -> str:
        """What becomes of sums before they are stored; `left` is how many of a vector count, "" for all."""
        if not self.conv.relu:
            return "o[b]"
        return relu("o[b]", "to + b * $beside + shift" if self.backward else "", left)

    def filled_first(self) -> str:
        """What comes before all tiles: filters, bias and zeros."""
        return "${name}_U(weight, $weights);\n" + PACK_BIAS * self.bias + ZEROS

    def pack(self) -> CFunction:
        """What transforms the filters alone."""
        values = {**self.values(None), "weights": "packed"}
        parts = [line("filters", self.m, values), STEPS]
        text = "\n".join((*parts, fill(PACKS, packs=indented(self.filled_first(), 2), **values)))
        names = ("weight", *(["bias"] * self.bias), "packed")
        return CFunction(self.name, fill(text, **values), names, (), packed=self.filters)

    def values(self, tile: tuple[int, int] | None) -> dict[str, object]:
        """What stands for the names in the texts."""
        if not fits(self.conv):
            raise ValueError("Winograd's algorithm is for windows of 3x3, stride 1, dilation 1 and one group")
        c, k = self.channels
        vectors = self.filled(k) // self.lanes
        pixels, width = tile or tiles(self.target, vectors, 10**6)[0]
        width, block = min(width, vectors), self.block(pixels)
        plane, result_plane = (apart(block * self.pitch(channels), self.conv.dtype) for channels in (c, k))
        padded, zeros = self.filled(k), self.filters - self.zeros
        begin = 0 if self.conv.packed else self.filters
        return {
            "name": self.name, "dtype": self.conv.dtype, "lanes": self.lanes, "m": self.m, "alpha": self.m + 2,
            "positions": self.positions, "c": c, "k": k, "padded_k": padded, "width": width * self.lanes,
            "groups": 1, "blocks": -(-vectors // width), "source_width": self.widths[0],
            "result_width": self.widths[1], "tiles_x": -(-self.widths[1] // self.m), "block": block, "pixels": pixels,
            "step": self.pitch(c), "result_step": self.pitch(k), "zeros": zeros, "zero_count": self.zeros,
            "begin_bias": zeros - padded, "begin_data": begin, "begin_product": begin + self.positions * plane,
            "scratch": begin + self.positions * (plane + result_plane), "last": vectors % width, "vectors": width,
            "weights": "packed" if self.conv.packed else "scratch", "given": GIVEN * self.conv.packed,
            "plane": plane, "together": TOGETHER, "place": "tile * $step + c", "order": "[position][tile][channel]",
            "result_plane": result_plane, "filter_plane": apart(c * padded, self.conv.dtype),
            "at": RESULT_BLOCK if self.blocked else RESULT_PIXEL, "beside": self.lanes if self.blocked else k,
            "left": 2 - self.conv.pad[1][0] if self.backward else self.conv.pad[1][0],
            "load": "*(const ${dtype}u *)(at[a][b] + c)" if c % self.lanes == 0
            else "${dtype}_load(at[a][b] + c, $c - c)",
            "put": f"*(${{dtype}}u *)(to + b * $beside) = {self.stored('')}" if k % self.lanes == 0
            else f"${{dtype}}_store(to + b * $beside, {self.stored('$k - k')}, $k - k)",
            **shifts(self.conv.relu and self.backward),
            "bias_value": "*(const ${dtype}u *)(bias + k)" if self.bias else "(${dtype}v){0}",
            "bias_argument": "const $dtype *restrict bias, " * self.bias,
            "bias": "$weights + $begin_bias" if self.bias else "0",
            "turned": FILTERS_TURNED if self.backward else FILTERS,
            "start": "(${dtype}v){0}",
            "store": "*(${dtype}u *)(y[t] + p * $result_step + v * $lanes) = a[t][p][v]",
            "signature": BACKWARD if self.backward else FORWARD,
        }  # fmt: skip

    def function(self, tile: tuple[int, int] | None) -> CFunction:
        """What is called."""
        values, packed = self.values(tile), self.conv.packed
        size, last, width, pixels = (int(str(values[name])) for name in ("scratch", "last", "vectors", "pixels"))
        transforms = ("data", "output") if packed else ("data", "filters", "output")
        lines = [line(what, self.m, values) for what in transforms]
        products = [
            fill(TILE, T=1, P=pixels, V=v, **values | {"shift": ""}) for v in ((width, last) if last else (width,))
        ]
        call = "${name}_tile1x${pixels}x%d(&from, w, bias, &to, 1, 0, 1, 0, $c, $lanes);"
        calls = (call % width).replace("bias", "w")
        if last:
            calls = f"if (k0 + $width <= $padded_k)\n    {calls}\nelse\n    " + (call % last).replace("bias", "w")
        parts = [
            *lines, *products, *([STEPS] * (not packed)),
            fill(transform(self.blocked), letter="V", what="data", ins=self.m + 2, **values),
            fill(PRODUCTS, calls=indented(calls, 4).lstrip(), **values),
            fill(MAIN, filters="" if packed else indented(self.filled_first(), 2), **values),
        ]  # fmt: skip
        text, names = "\n".join(fill(part, **values) for part in parts), arguments(self.conv, backward=self.backward)
        return CFunction(self.name, text, names, NUMBERS, lambda n, threads: size)


FILTERS = """\
/* The filters, transformed, to U. */
static void ${name}_U(const $dtype *restrict weight, $dtype *restrict u)
{
    #pragma omp for collapse(2) schedule(static) nowait
    for (long k0 = 0; k0 < $padded_k; k0 += $lanes)
        for (long c0 = 0; c0 < $c; c0 += $lanes) {
            const long first = k0 / $width * $width, width = least($width, $padded_k - first);
            const long rows = least($lanes, $k - k0), count = least($lanes, $c - c0);
            $dtype taps[9 * $lanes * $lanes];  /* [channel][tap][lane] */
            for (long q = 0; q < 9 * count; q += $lanes)
                ${dtype}_transpose(weight + (k0 * $c + c0) * 9 + q, $c * 9, rows, least($lanes, 9 * count - q),
                                   taps + q * $lanes);
            for (long c = 0; c < count; c++)
                ${name}_square(taps + c * 9 * $lanes, $lanes, u + first * $c + (c0 + c) * width + (k0 - first));
        }
}
"""

FILTERS_TURNED = """\
/* The filters, turned and transformed, to U. */
static void ${name}_U(const $dtype *restrict weight, $dtype *restrict u)
{
    #pragma omp for collapse(2) schedule(static) nowait
    for (long k0 = 0; k0 < $padded_k; k0 += $lanes)
        for (long c = 0; c < $c; c++) {
            const long first = k0 / $width * $width, width = least($width, $padded_k - first);
            $dtype taps[9 * $lanes];  /* [tap][lane] */
            for (long q = 0; q < 9; q += $lanes)
                ${dtype}_transpose(weight + (c * $k + k0) * 9 + q, 9, least($lanes, $k - k0), least($lanes, 9 - q),
                                   taps + q * $lanes);
            ${name}_square(taps + 8 * $lanes, -$lanes, u + first * $c + c * width + (k0 - first));
        }
}
"""

STEPS = """\
/* 3x3 taps, `apart` from one another, of a vector of filters: their $positions transformed elements. */
static void ${name}_square(const $dtype *taps, long apart, $dtype *restrict u)
{
    ${dtype}v d[3], t[3][$alpha], o[$alpha];
    UNROLL for (long b = 0; b < 3; b++) {
        UNROLL for (long a = 0; a < 3; a++)
            d[a] = *(const ${dtype}u *)(taps + (a * 3 + b) * apart);
        ${name}_filters(d, t[b]);
    }
    UNROLL for (long a = 0; a < $alpha; a++) {
        UNROLL for (long b = 0; b < 3; b++)
            d[b] = t[b][a];
        ${name}_filters(d, o);
        UNROLL for (long b = 0; b < $alpha; b++)
            *(${dtype}u *)(u + (a * $alpha + b) * $filter_plane) = o[b];
    }
}

$turned
"""

PRODUCTS = """\
/* M = V U at each position. */
static void ${name}_M(const $dtype *restrict v, const $dtype *restrict u, $dtype *restrict product, long count)
{
    #pragma omp for collapse(2) schedule(static)
    for (long position = 0; position < $positions; position++)
        for (long k0 = 0; k0 < $padded_k; k0 += $width)
            for (long tile = 0; tile < count; tile += $pixels) {
                const $dtype *from = v + position * $plane + tile * $step;
                const $dtype *w = u + position * $filter_plane + k0 * $c;
                $dtype *to = product + position * $result_plane + tile * $result_step + k0;
                $calls
            }
}

/* M, transformed back, to the result. */
static void ${name}_Y(const $dtype *restrict product, const $dtype *restrict bias, $dtype *restrict y,
                      long first, long count, long tiles_y, long rows$shift)
{
    #pragma omp for schedule(static) nowait
    for (long tile = 0; tile < count; tile++) {
        const long i = (first + tile) / (tiles_y * $tiles_x), row = (first + tile) / $tiles_x % tiles_y * $m;
        const long column = (first + tile) % $tiles_x * $m;
        const long height = least($m, rows - row), width = least($m, $result_width - column);
        for (long k = 0; k < $k; k += $lanes) {
            ${dtype}v d[$alpha], t[$alpha][$m], o[$m];
            UNROLL for (long b = 0; b < $alpha; b++) {
                UNROLL for (long a = 0; a < $alpha; a++)
                    d[a] = *(const ${dtype}u *)(product + (a * $alpha + b) * $result_plane + tile * $result_step + k);
                ${name}_output(d, t[b]);
            }
            UNROLL for (long a = 0; a < $m; a++) {
                if (a >= height)
                    break;
                $dtype *to = y + $at;
                UNROLL for (long b = 0; b < $alpha; b++)
                    d[b] = t[b][a];
                ${name}_output(d, o);
                UNROLL for (long b = 0; b < $m; b++) {
                    o[b] += $bias_value;
                    if (b < width)
                        $put;
                }
            }
        }
    }
}
"""

RESULT_PIXEL = "((i * rows + row + a) * $result_width + column) * $k + k"
RESULT_BLOCK = "((i * $k + k) * rows + (row + a) * $lanes) * $result_width + column * $lanes"
"""Where a row of a tile of the result begins, in NHWC and in blocks of channels."""

FORWARD = """\
void $name(${given}const $dtype *restrict x, const $dtype *restrict weight, $bias_argument$dtype *restrict y,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const $dtype *source = x;
    $dtype *result = y;
    const long source_rows = rows, result_rows = rows + pad_top + pad_bottom - 2, above = pad_top;"""

BACKWARD = """\
void $name(${given}const $dtype *restrict dy, const $dtype *restrict weight, $mask$dtype *restrict dx,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
    const $dtype *source = dy;
    $dtype *result = dx;$begin_shift
    const long source_rows = most(0, rows + pad_top + pad_bottom - 2), result_rows = rows, above = 2 - pad_top;"""

ZEROS = """\
#pragma omp for schedule(static)
for (long j = 0; j < $zero_count; j++)
    $weights[$zeros + j] = 0;
"""

MAIN = """\
$signature
    const long tiles_y = raised(result_rows, $m), tiles = n * tiles_y * $tiles_x;
    $dtype *v = scratch + $begin_data, *product = scratch + $begin_product;
    if (tiles <= 0)
        return;
    #pragma omp parallel
    {
$filters        for (long first = 0; first < tiles; first += $block) {
            const long count = least($block, tiles - first);
            ${name}_V(source, $weights + $zeros, v, first, count, tiles_y, source_rows, above);
            ${name}_M(v, $weights, product, count);
            ${name}_Y(product, $bias, result, first, count, tiles_y, result_rows$shifted);
        }
    }
}
"""
