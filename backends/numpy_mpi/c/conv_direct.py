"""Convolution as the sum that it is, forward and dx, images in NHWC with the channels of the result in vectors.

Both passes are one loop nest, a correlation (`correlation.py`). Of the source a strip of rows is copied with the zeros
around it; weights are packed [block of vectors][tap][channel of the source][lane], so that the innermost loop reads
both in order. A tile keeps some pixels by some vectors of sums in registers.

Every sum is made by one thread in one order, whatever their number.

Weights and bias that are the same in several calls are packed once: by `pack_forward` or `pack_dx`, for functions of
convolutions that are `packed`, which take what these leave in front of their other arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

from .conv import NUMBERS, Conv, arguments
from .conv_strips import COPY, COPY_PIXELS, PLAIN_SOURCE, STRIP, STRIP_SOURCE
from .conv_weights import BACKWARD_ORDER, FORWARD_ORDER, GIVEN, PACK, PACK_BIAS, PACKS
from .correlation import Correlation, Taps, backward_axis, forward_axis
from .source import CFunction, fill, indented
from .target import Target, tiles


@dataclass(frozen=True, slots=True)
class Tile:
    """What registers hold: `rows` of `columns` pixels by `vectors` vectors."""

    rows: int
    columns: int
    vectors: int


def forward(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """x, weight, [bias] -> y; `tile` is (pixels, vectors), the best of `target.tiles` unless given."""
    y, x = (forward_axis(*along) for along in zip(conv.window, conv.stride, conv.dilation, strict=True))
    return _function(Correlation(conv, target, name, y, x, backward=False), tile)


def dx(conv: Conv, target: Target, name: str, tile: tuple[int, int] | None = None) -> CFunction:
    """dy, weight -> dx."""
    y, x = (backward_axis(*along) for along in zip(conv.window, conv.stride, conv.dilation, strict=True))
    return _function(Correlation(conv, target, name, y, x, backward=True), tile)


def pack_forward(conv: Conv, target: Target, name: str) -> CFunction:
    """weight, [bias] -> packed, for `forward` of the same convolution."""
    y, x = (forward_axis(*along) for along in zip(conv.window, conv.stride, conv.dilation, strict=True))
    return packing(Correlation(conv, target, name, y, x, backward=False), Text)


def pack_dx(conv: Conv, target: Target, name: str) -> CFunction:
    """weight -> packed, for `dx` of the same convolution."""
    y, x = (backward_axis(*along) for along in zip(conv.window, conv.stride, conv.dilation, strict=True))
    return packing(Correlation(conv, target, name, y, x, backward=True), Text)


def packing(of: Correlation, text: type[Text]) -> CFunction:
    """The function that packs for a correlation of such a text."""
    names = ("weight", *(["bias"] * of.bias), "packed")
    return CFunction(of.name, text(of, *_best(of)).pack(), names, (), lambda n, threads: 0, packed=of.packed)


def _function(of: Correlation, tile: tuple[int, int] | None) -> CFunction:
    text = Text(of, *(tile or _best(of)))
    return CFunction(of.name, text.function(), arguments(of.conv, backward=of.backward), NUMBERS, of.scratch)


def _best(of: Correlation) -> tuple[int, int]:
    """(pixels, vectors) of the best tile."""
    return tiles(of.target, of.vectors, max(of.columns(taps)[1] for taps in of.x.phases))[0]


ROWS = """\
/* The $columns results of the phase in each of the rows lo to hi; the strip begins with row `begin`. */
static void ${name}_rows$phase(const $dtype *restrict strip, long image, const $dtype *restrict packed,
                               const $dtype *restrict bias, $dtype *restrict result, long result_rows,
                               long samples, long begin, long lo, long hi, long behind$shift)
{
    const long count = samples * (hi - lo);
    #pragma omp for collapse(2) schedule(static) nowait
    for (long block = 0; block < $all_blocks; block++)
        for (long j = 0; j < raised(count, $T); j++) {
            const long g = block / $blocks, k0 = block % $blocks * $width;
            const $dtype *w = packed + (g * $padded_k + k0) * $tap_values, *b = bias + g * $padded_k + k0;
            const $dtype *x[$T];
            $dtype *y[$T];
            for (long t = 0; t < $T; t++) {
                const long at = least(j * $T + t, count - 1), i = at / (hi - lo), u = lo + at % (hi - lo);
                x[t] = strip + (g * samples + i) * image + (u - begin) * $stride * $pitch + $first;
                const long row = i * result_rows + u * $spread + $row - behind;
                y[t] = result + (row * $result_width + $column) * $result_channels + g * $k + k0;
            }
$calls        }
}
"""


class Text:
    """The text of a correlation."""

    strip, all_rows, told = STRIP, ROWS, ", $k - k0"

    def __init__(self, of: Correlation, pixels: int, vectors: int) -> None:
        conv, vectors = of.conv, min(vectors, of.vectors)
        self.of, self.pixels, self.vectors = of, pixels, vectors
        self.tiles: dict[Tile, None] = {}
        left, right = max(0, of.strip_left), min(of.strip_width, of.strip_left + of.widths[0])
        self.values: dict[str, object] = {
            "name": of.name,
            "dtype": conv.dtype,
            "lanes": of.lanes,
            "c": of.c,
            "k": of.k,
            "padded_k": of.padded_k,
            "width": vectors * of.lanes,
            "groups": conv.groups,
            "blocks": -(-of.vectors // vectors),
            "all_blocks": -(-of.vectors // vectors) * conv.groups,
            "taps": conv.taps,
            "taps_room": -(-conv.taps // of.lanes) * of.lanes,
            "S": conv.window[1],
            "pitch": of.pitch,
            "image_pitch": of.pitch * of.blocks,
            "pixel": of.pixel,
            "stride": of.y.stride,
            "spread": of.y.spread,
            "span": of.y.span,
            "source_width": of.widths[0],
            "source_channels": of.c * conv.groups,
            "result_width": of.widths[1],
            "result_channels": of.k * conv.groups,
            "order": BACKWARD_ORDER if of.backward else FORWARD_ORDER,
            "left": left * of.pixel,
            "right": max(left, right) * of.pixel,
            "inner": max(0, right - left),
            "crop": max(0, -of.strip_left),
            "copy": COPY if conv.groups == 1 and of.pixel == of.c else COPY_PIXELS,
            "step": of.x.stride * of.pixel,
            "result_step": of.x.spread * of.k * conv.groups,
            "reach": conv.reach[0],
            "row_stride": conv.stride[0],
            "strip_rows": of.strip_rows,
            "values": conv.window[0] * conv.window[1] * of.c,
            "begin_bias": of.packed - conv.groups * of.padded_k,
            "bias_argument": "const $dtype *restrict bias, " * of.bias,
            "begin_strip": 0 if conv.packed else of.packed,
            "weights": "packed" if conv.packed else "scratch",
            "given": GIVEN * conv.packed,
            **shifts(conv.relu and of.backward),
        }

    @property
    def together(self) -> int:
        """Channels of a pixel that lie side by side."""
        return self.of.c

    def function(self) -> str:
        """All functions of it, the last of them the one that is called."""
        rows = [self.rows(*phase) for phase in self.of.phases]
        pack, strip = [PACK] * (not self.of.conv.packed), [self.strip] * (not self.of.plain)
        parts = [*pack, *strip, *map(self.tile, self.tiles), *rows, self.main()]
        return "\n".join(fill(part, **self.values) for part in parts)

    def pack(self) -> str:
        """The functions of the one that packs alone."""
        values = {**self.values, "weights": "packed"}
        return "\n".join(fill(part, packs=indented(self.packs(), 2), **values) for part in (PACK, PACKS))

    def packs(self) -> str:
        """What packs the weights for all phases, and the bias."""
        calls = (
            f"${{name}}_pack(weight, $weights + {begin},"
            f" {y.count}, {y.start}, {y.step}, {x.count}, {x.start}, {x.step});\n"
            for y, x, begin in self.of.phases
            if y.count and x.count
        )
        return "".join(calls) + PACK_BIAS * self.of.bias

    def tile(self, tile: Tile) -> str:
        """The innermost loops."""
        whole = self.of.k % self.of.lanes == 0
        return fill(
            TILE,
            T=tile.rows,
            P=tile.columns,
            V=tile.vectors,
            start="*(const ${dtype}u *)(bias + v * $lanes)" if self.of.bias else "(${dtype}v){0}",
            store=f"*(${{dtype}}u *)(y[t] + {PLACE}) = {self.stored('')}"
            if whole
            else f"${{dtype}}_store(y[t] + {PLACE}, {self.stored(LANES_LEFT)}, {LANES_LEFT})",
            **self.values,
        )

    def stored(self, left: str) -> str:
        """What becomes of sums before they are stored; `left` is how many of a vector count, "" for all."""
        if not self.of.conv.relu:
            return "a[t][p][v]"
        return relu("a[t][p][v]", f"y[t] + {PLACE} + shift" if self.of.backward else "", left)

    def rows(self, y: Taps, x: Taps, begin: int) -> str:
        """The function of a phase."""
        first, columns = self.of.columns(x)
        if columns <= 0:
            return ""
        width = -(-columns // -(-columns // self.pixels))
        rows = max(1, min(4, self.pixels_of(self.vectors) // width)) if width == columns else 1
        last = self.of.vectors % self.vectors
        calls = [self.calls(rows, columns, width, self.vectors, x, y)]
        if last:
            calls = [
                "if (k0 + $width <= $padded_k) {\n" + indented(calls[0]) + "} else {\n"
                + indented(self.calls(rows, columns, width, last, x, y)) + "}\n"
            ]  # fmt: skip
        return fill(
            self.all_rows,
            T=rows,
            phase=self.phase(y, x),
            tap_values=y.count * x.count * self.of.c,
            columns=columns,
            first=y.first * self.of.pitch + ((first - self.of.base) * self.of.x.stride + x.first) * self.of.pixel,
            row=y.phase,
            column=first * self.of.x.spread + x.phase - self.of.left,
            calls=indented(calls[0], 3),
            begin=begin,
            **self.values,
        )

    def pixels_of(self, vectors: int) -> int:
        """How many pixels a tile may hold."""
        return max(self.pixels, self.of.target.pixels(vectors))

    def calls(self, rows: int, columns: int, width: int, vectors: int, x: Taps, y: Taps) -> str:
        """Calls of the tile for all pixels of some rows."""
        whole, rest = divmod(columns, width)
        run = (
            (x.count * self.together, 1, 0)
            if x.count < 2 or (x.apart == 1 and self.of.pixel == self.together)
            else (self.together, x.count, x.apart * self.of.pixel)
        )
        numbers = f"{y.count}, {y.apart * self.of.pitch}, {run[1]}, {run[2]}, {run[0] if y.count else 0}"
        shift = shifts(self.of.conv.relu and self.of.backward)["shifted"]

        def call(size: int) -> str:
            self.tiles[Tile(rows, size, vectors)] = None
            return f"${{name}}_tile{rows}x{size}x{vectors}(x, w, b, y, {numbers}{self.told}{shift});\n"

        if whole == 1 and not rest:
            return call(width)
        step = f"        x[t] += {width} * $step, y[t] += {width} * $result_step;\n"
        loop = (
            f"for (long q = 0; q < {whole}; q++) {{\n    {call(width)}    for (long t = 0; t < {rows}; t++)\n{step}}}\n"
        )
        return loop + (call(rest) if rest else "")

    def phase(self, y: Taps, x: Taps) -> str:
        """What is added to the name of a phase's function."""
        return f"{y.phase}{x.phase}" if self.of.backward else ""

    def main(self) -> str:
        """The function that is called."""
        of, calls = self.of, []
        for y, x, begin in of.phases:
            if of.columns(x)[1] > 0:
                low, high = "begin", "begin + band"
                if of.backward:
                    low = f"most(begin, raised(behind - {y.phase}, $spread))"
                    high = f"least(begin + band, raised(rows + behind - {y.phase}, $spread))"
                bias = "$weights + $begin_bias" if of.bias else "$weights"
                calls.append(
                    f"${{name}}_rows{self.phase(y, x)}(strip, image, $weights + {begin}, {bias},"
                    " to, result_rows,\n"
                    f"    samples, begin, {low}, {high}, behind${{shifted}});\n"
                )
        return fill(
            MAIN,
            arguments=BACKWARD_ARGUMENTS if of.backward else FORWARD_ARGUMENTS,
            extents=BACKWARD_EXTENTS if of.backward else FORWARD_EXTENTS,
            packs="" if of.conv.packed else indented(self.packs() + "#pragma omp barrier\n", 2),
            source=PLAIN_SOURCE if of.plain else STRIP_SOURCE,
            calls=indented("".join(calls), 4),
            **self.values,
        )


PLACE, LANES_LEFT = "p * $result_step + v * $lanes", "lanes - v * $lanes"


def relu(sums: str, given: str = "", left: str = "") -> str:
    """Sums behind a ReLU; as gradients of what one gave, which is `given`, of whose vector `left` elements count."""
    if not given:
        return f"${{dtype}}_positive({sums})"
    mask = f"${{dtype}}_load({given}, {left})" if left else f"*(const ${{dtype}}u *)({given})"
    return f"${{dtype}}_where({sums}, {mask})"


def shifts(masked: bool) -> dict[str, object]:
    """How functions are told how far what a ReLU gave lies from dx."""
    return {
        "shift": ", long shift" * masked,
        "shifted": ", shift" * masked,
        "mask": "const $dtype *restrict y, " * masked,
        "begin_shift": "\n    const long shift = y - dx;" * masked,
    }


TILE = """\
/* $T row(s) of $P pixel(s), $V vector(s): sums over taps_y x taps_x taps, which are `apart` and `aside` elements from
   one another, and `run` elements of each. */
static void ${name}_tile${T}x${P}x${V}(const $dtype *const x[$T], const $dtype *restrict w, const $dtype *restrict bias,
                                       $dtype *const y[$T], long taps_y, long apart, long taps_x, long aside, long run,
                                       long lanes$shift)
{
    ${dtype}v a[$T][$P][$V];
    UNROLL for (long t = 0; t < $T; t++)
        UNROLL for (long p = 0; p < $P; p++)
            UNROLL for (long v = 0; v < $V; v++)
                a[t][p][v] = $start;
    for (long i = 0; i < taps_y; i++)
        for (long j = 0; j < taps_x; j++)
            for (long q = i * apart + j * aside, end = q + run; q < end; q++, w += $V * $lanes)
                UNROLL for (long t = 0; t < $T; t++)
                    UNROLL for (long p = 0; p < $P; p++)
                        UNROLL for (long v = 0; v < $V; v++)
                            a[t][p][v] += x[t][q + p * $step] * *(const ${dtype}u *)(w + v * $lanes);
    UNROLL for (long t = 0; t < $T; t++)
        UNROLL for (long p = 0; p < $P; p++)
            UNROLL for (long v = 0; v < $V; v++)
                $store;
}
"""

FORWARD_ARGUMENTS = "const $dtype *restrict x, const $dtype *restrict weight, $bias_argument$dtype *restrict y"
BACKWARD_ARGUMENTS = "const $dtype *restrict dy, const $dtype *restrict weight, $mask$dtype *restrict dx"

FORWARD_EXTENTS = """\
    const $dtype *source = x;
    $dtype *result = y;
    const long source_rows = rows, result_rows = lowered(rows + pad_top + pad_bottom - $reach, $row_stride) + 1;
    const long above = pad_top, behind = 0, start = 0, end = result_rows;"""

BACKWARD_EXTENTS = """\
    const $dtype *source = dy;
    $dtype *result = dx;$begin_shift
    const long source_rows = most(0, lowered(rows + pad_top + pad_bottom - $reach, $row_stride) + 1);
    const long result_rows = rows, above = $span - 1, behind = pad_top;
    const long start = lowered(pad_top, $spread), end = lowered(rows - 1 + pad_top, $spread) + 1;"""


MAIN = """\
void $name($given$arguments,
           $dtype *restrict scratch, long n, long rows, long pad_top, long pad_bottom)
{
$extents
    const long height = most(1, least(end - start, ($strip_rows - $span) / $stride + 1));
    const long images = height < end - start ? 1 : most(1, $strip_rows / ((height - 1) * $stride + $span));
    #pragma omp parallel
    {
$packs        for (long i0 = 0; i0 < n; i0 += images)
            for (long begin = start; begin < end; begin += height) {
                const long samples = least(images, n - i0), band = least(height, end - begin);
                $dtype *to = result + i0 * result_rows * $result_width * $result_channels;
$source
$calls                #pragma omp barrier  /* the strip is read before it is written again */
            }
    }
}
"""
