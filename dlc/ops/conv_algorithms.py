"""Ways to compute a convolution: which are legal where, their counts (cost-models.md §2) and their scratch memory.

The scratch arrays are those of the kernels in `backends/numpy_mpi/kernels`, flat, in the order in which these take
them. A kernel works through the samples in blocks, as many at a time as its workspaces have room for, so that what is
written once and read again at once stays in the processor's cache.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod

from dlc.ir.tensor import DTYPE_BYTES, tensor
from dlc.ops.blocks import EVERY_LAYOUT, without_blocks
from dlc.ops.counting import lg, touched
from dlc.ops.extents import entry, following, larger, smaller
from dlc.ops.operator import LAYOUTS, Algorithm, Cost, Shapes, Workspace
from dlc.ops.windows import Extents, Windows, by, windows

CACHE_BYTES = 2**20
"""Blocks of samples are as large as keeps their scratch arrays about this size: half of a core's own cache."""

CUDNN_SLACK = 2**16
"""Values of its workspace beside arrays: tables of addresses."""

FFT_TILE = 16
"""Extent of the tiles of `fft_tiled`, doubled until at least half of a tile is output."""


@dataclass(frozen=True, slots=True)
class ConvShape:
    """The extents of one convolution, as the survey's formulas name them; `x` and `y` those behind the channels."""

    batch: int
    channels: int
    x: Extents
    filters: int
    y: Extents
    windows: Windows
    groups: int
    dtype: str

    @property
    def macs(self) -> int:
        """Multiply-adds of the direct form: N·Cout·Cin/groups·H'W'·KxKy."""
        return self.batch * self.filters * self.channels // self.groups * prod(self.y) * self.windows.taps

    @property
    def weights(self) -> int:
        """How many weights there are, without the bias."""
        return self.filters * self.channels // self.groups * self.windows.taps

    @property
    def y_values(self) -> int:
        """How many values y has."""
        return self.batch * self.filters * prod(self.y)

    def block_pixels(self, layout: str) -> int:
        """Pixels of y in the smallest block that kernels work on: a sample, in CHWN a row of all samples."""
        return self.batch * prod(self.y[1:]) if layout == "CHWN" else prod(self.y)

    @property
    def plain(self) -> bool:
        """Whether the column matrix is the input itself: a window of 1, stride 1, no pad."""
        return self.windows.taps == prod(self.windows.stride) == 1 and not self.windows.pads

    def as_image(self) -> ConvShape:
        """Of a sequence: the same convolution of images of height 1."""
        if len(self.x) != 1:
            return self
        slide = self.windows
        one, none = (1,), ((0, 0),)
        flat = Windows(one + slide.window, one + slide.stride, none + slide.pad, one + slide.dilation)
        return replace(self, x=one + self.x, y=one + self.y, windows=flat)


def conv_shape(stage: str, shapes: Shapes) -> ConvShape:
    """The extents behind a conv node of a pass: `forward` has x, weight -> y; `dx` dy, weight -> x; `dw` dy, x -> w.

    Where the attribute `groups` is not 1, there are as many as channels for each channel of the weight.
    """
    x, y = {
        "forward": (shapes.inputs[0], shapes.outputs[0]),
        "dx": (shapes.outputs[0], shapes.inputs[0]),
        "dw": (shapes.inputs[1], shapes.inputs[0]),
    }[stage]
    n, c, *extents = x.shape
    slide, groups = windows(shapes.attrs, len(extents)), 1
    if shapes.attrs.get("groups") != 1:  # a shard has a part of the groups that the attribute counts
        groups = larger(1, c // (shapes.outputs[0] if stage == "dw" else shapes.inputs[1]).shape[1])
    return ConvShape(n, c, tuple(extents), y.shape[1], y.shape[2:], slide, groups, x.dtype)


def direct_cost(stage: str, shapes: Shapes) -> Cost:
    """Counts of the direct form (cost-models.md §1): W is the same for the three passes, D is not."""
    conv = conv_shape(stage, shapes)
    taps = sum(map(lg, conv.windows.window))
    depth = {
        "forward": lg(conv.channels // conv.groups) + taps,
        "dx": lg(conv.filters // conv.groups) + taps,
        "dw": lg(conv.batch) + sum(map(lg, conv.y)),
    }[stage]
    return Cost(conv.macs, conv.macs, depth, touched(shapes))


def _never(stage: str, shapes: Shapes) -> None:
    return None


def _no_workspaces(stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    return ()


def _cudnn_workspaces(stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    """Room for both images and the weights once more, in which cuDNN puts them in the order that a plan wants.

    By plans of cuDNN 9.28 for an H200, built without one: but for a few that keep parts of a sum, none wants more.
    """
    conv = conv_shape(stage, shapes)
    image = conv.batch * conv.channels * prod(conv.x)
    return (_values(conv, "workspace", image + conv.y_values + conv.weights + CUDNN_SLACK),)


def _im2col_workspaces(stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    conv = conv_shape(stage, shapes)
    return (
        *_if(layout == "NHWC" and stage != "dw", _values(conv, "weights", conv.weights)),
        *_columns(stage, conv, layout, conv.channels * conv.windows.taps, needed=not conv.plain),
        *_if(stage == "dw", _values(conv, "product", conv.weights)),
        *_if(stage == "dw" and layout == "NCHW", _values(conv, "gradient", conv.y_values)),
    )


def _direct_workspaces(stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    conv, layout = conv_shape(stage, shapes), without_blocks(layout)
    block = _block(stage, conv, layout, conv.channels)
    product = {"forward": block * conv.block_pixels(layout) * conv.filters, "dw": conv.weights // conv.windows.taps}
    return (
        *_if(stage != "dw", _values(conv, "weights", conv.weights)),
        *_columns(stage, conv, layout, conv.channels, needed=True),
        *_if(stage != "dx", _values(conv, "product", product.get(stage, 0))),
        *_if(stage == "dw" and layout == "NCHW", _values(conv, "gradient", conv.y_values)),
    )


def _columns(stage: str, conv: ConvShape, layout: str, values: int, *, needed: bool) -> tuple[Workspace, ...]:
    """The padded input and a block of columns, with `values` for each pixel of the output."""
    needed = needed or (stage == "dw" and layout == "NCHW")
    padded = stage != "dx" and conv.windows.pads
    block = _block(stage, conv, layout, values) * conv.block_pixels(layout) * values
    return (
        *_if(padded, _values(conv, "padded", conv.batch * conv.channels * prod(conv.windows.padded(conv.x)))),
        *_if(needed, _values(conv, "columns", block)),
    )


def _block(stage: str, conv: ConvShape, layout: str, values: int) -> int:
    """How many samples, in CHWN rows of the output, a kernel works through at a time.

    As many as fit the cache; for dw enough that a block's product is worth adding to the weights' gradient.
    """
    pixels = conv.block_pixels(layout)
    most = conv.y[0] if layout == "CHWN" else conv.batch
    fit = CACHE_BYTES // (pixels * values * DTYPE_BYTES[conv.dtype])
    worth = 2 * conv.filters // pixels if stage == "dw" else 1
    return larger(1, smaller(most, larger(fit, worth)))


def _values(conv: ConvShape, role: str, count: int) -> Workspace:
    return Workspace(role, tensor(conv.dtype, value=count))


def _if(needed: bool, workspace: Workspace) -> tuple[Workspace, ...]:
    return (workspace,) if needed else ()


@dataclass(frozen=True, slots=True)
class Tiling:
    """One pass of an algorithm on tiles: `into` and `out` channels, output tiles and the input that they cover.

    dx is a convolution too, of dy; dw has the tiles of the forward pass.
    """

    into: int
    out: int
    tile: Extents  # extents of an output tile
    reach: Extents
    count: Extents  # tiles along each axis

    @property
    def span(self) -> Extents:
        """Extents of the input that all tiles cover."""
        along = zip(self.count, self.tile, self.reach, strict=True)
        return tuple(count * tile + reach - 1 for count, tile, reach in along)

    def block(self, conv: ConvShape, layout: str, values: int, least: int) -> int:
        """How many tiles are handled at a time, with `values` for each: whole samples, in CHWN whole rows of tiles.

        As many as fit the cache, but at least `least`: the transformed weights are read once a block.
        """
        smallest = conv.batch * self.count[1] if layout == "CHWN" else prod(self.count)
        wanted = larger(least, CACHE_BYTES // (values * DTYPE_BYTES[conv.dtype]))
        return smallest * larger(1, smaller(conv.batch * prod(self.count) // smallest, wanted // smallest))


def tiling(stage: str, conv: ConvShape, tile: Extents) -> Tiling:
    """The tiles of a pass, each of these extents or the whole output where that is smaller."""
    into, out, extents = (
        (conv.filters, conv.channels, conv.x) if stage == "dx" else (conv.channels, conv.filters, conv.y)
    )
    count = tuple(-(-extent // size) for extent, size in zip(extents, tile, strict=True))
    return Tiling(into, out, tile, conv.windows.reach, count)


def _stride_one(slide: Windows) -> str | None:
    return None if prod(slide.stride) == 1 else f"the stride is {_number(slide.stride)}"


def _number(extents: Extents) -> str:
    """`2` where all are 2, else `2x1`."""
    return str(extents[0]) if len(set(extents)) == 1 else by(extents)


def _winograd_excluded(m: int, stage: str, shapes: Shapes) -> str | None:
    conv = conv_shape(stage, shapes)
    slide = conv.windows
    if slide.window != (3, 3):
        return f"the window is {by(slide.window)}"
    if slide.dilated:
        return f"the dilation is {_number(slide.dilation)}"
    return _stride_one(slide)


def _winograd_inexact(m: int, stage: str, shapes: Shapes) -> str | None:
    """In half precision larger tiles lose more than one digit in a hundred (measured on random data)."""
    dtype = conv_shape(stage, shapes).dtype
    return f"its rounding error in {dtype} is above 1 %" if dtype in ("f16", "bf16") and m > 2 else None


def _winograd_cost(m: int, stage: str, shapes: Shapes) -> Cost:
    """Transforms of filters, data and results, and α² products of matrices, α = m + 2 (cost-models.md §2)."""
    conv = conv_shape(stage, shapes)
    tiles = tiling(stage, conv, (m, m))
    alpha, count = m + 2, conv.batch * prod(tiles.count)
    pairs = conv.weights // conv.windows.taps
    filters, data = pairs * alpha * (9 + alpha * 3), tiles.into * count * 2 * alpha**3
    results, products = tiles.out * count * alpha * (alpha * m + m**2), pairs * count * alpha**2
    depth = 2 * lg(3) + 4 * lg(alpha) + lg(tiles.into // conv.groups)
    return Cost(products, filters + data + results + products, depth, touched(shapes))


def _winograd_workspaces(m: int, stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    conv = conv_shape(stage, shapes)
    tiles = tiling(stage, conv, (m, m))
    pairs, positions = conv.weights // conv.windows.taps, (m + 2) ** 2
    into, out = positions * tiles.into, positions * tiles.out
    block = tiles.block(conv, layout, larger(into, out), least=512 if stage == "dw" else 128)
    filters = _values(conv, "filters", positions * pairs)
    padded = _values(conv, "padded", conv.batch * tiles.into * prod(tiles.span))
    ends = larger(into, m**2 * tiles.out)
    if stage != "dw":
        return (
            filters,
            padded,
            _values(conv, "tiles", larger(into, out) * block),
            _values(conv, "data", ends * block),
        )
    return (
        filters,
        padded,
        _values(conv, "padded_gradient", conv.batch * tiles.out * prod(tiles.count) * m**2),
        _values(conv, "tiles", ends * block),
        _values(conv, "data", into * block),
        _values(conv, "gradient", out * block),
        _values(conv, "product", positions * pairs),
    )


def _fft_excluded(stage: str, shapes: Shapes) -> str | None:
    conv = conv_shape(stage, shapes)
    if len(conv.x) > 2:
        return "it has no kernel for windows over three axes"
    return _stride_one(conv.windows)


def _fft_cost(tiled: bool, stage: str, shapes: Shapes) -> Cost:
    """Transforms of x, w and y, 2.5·HW·lg HW real operations each, and HW·N·Cin·Cout (cost-models.md §2)."""
    conv = conv_shape(stage, shapes).as_image()
    tiles, lengths = fft_tiling(stage, conv, tiled=tiled)
    count, area, pairs = conv.batch * prod(tiles.count), prod(lengths), conv.weights // conv.windows.taps
    transforms = pairs + count * (tiles.into + tiles.out)
    products = area * count * pairs
    depth = 2 * lg(area) + lg(tiles.into // conv.groups)
    work = 5 * area * lg(area) * transforms // 2 + products
    return Cost(2 * products, work, depth, touched(shapes))


def _fft_workspaces(tiled: bool, stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    conv = conv_shape(stage, shapes).as_image()
    tiles, lengths = fft_tiling(stage, conv, tiled=tiled)
    pairs, spectrum = conv.weights // conv.windows.taps, 2 * lengths[0] * (lengths[1] // 2 + 1)
    block = tiles.block(conv, layout, spectrum * larger(tiles.into, tiles.out), least=16)
    reach, padded = conv.windows.reach, conv.batch * tiles.into * prod(tiles.span)
    into, out = spectrum * tiles.into * block, spectrum * tiles.out * block
    shared = (_values(conv, "filters", spectrum * pairs), _values(conv, "padded", padded))
    if stage != "dw":
        return (
            _values(conv, "kernel", prod(reach) * pairs),
            *shared,
            _values(conv, "spectra", into),
            _values(conv, "products", out),
            _values(conv, "tiles", tiles.tile[0] * lengths[1] * tiles.out * block),
        )
    gradient = conv.batch * tiles.out * prod(tiles.count) * prod(tiles.tile)
    return (
        _values(conv, "kernel", reach[0] * lengths[1] * pairs),
        *shared,
        _values(conv, "padded_gradient", gradient),
        _values(conv, "spectra", into),
        _values(conv, "gradient_spectra", out),
        _values(conv, "products", spectrum * pairs),
    )


def fft_tiling(stage: str, conv: ConvShape, *, tiled: bool) -> tuple[Tiling, tuple[int, int]]:
    """The tiles of a pass over images, and the lengths of their transforms; a sequence is an image of height 1."""
    conv = conv.as_image()
    extents, reach = conv.x if stage == "dx" else conv.y, conv.windows.reach
    height, width = (_transform_length(extents[a], reach[a], tiled=tiled) for a in (0, 1))
    tile = (smaller(extents[0], height - reach[0] + 1), smaller(extents[1], width - reach[1] + 1))
    return tiling(stage, conv, tile), (height, width)


def _transform_length(extent: int, reach: int, *, tiled: bool) -> int:
    """As the kernels choose it: a product of 2, 3 and 5, at least the inputs of so many outputs, or of a tile."""
    needed = extent + reach - 1
    if tiled:
        tile = FFT_TILE
        while tile < 2 * (reach - 1):
            tile *= 2
        needed = smaller(needed, tile)
    lengths = transform_lengths()
    return entry(lengths, following(lengths, needed))


@cache
def transform_lengths() -> array[int]:
    """All products of 2, 3 and 5 up to 2³⁰, rising."""
    powers = (3**b * 5**c for b in range(19) for c in range(13))
    return array("q", sorted(2**a * odd for odd in powers for a in range(31) if 2**a * odd <= 2**30))


def _winograd(m: int) -> Algorithm:
    """F(m×m, 3×3)."""
    return Algorithm(
        f"winograd({m})",
        EVERY_LAYOUT,
        partial(_winograd_excluded, m),
        partial(_winograd_cost, m),
        partial(_winograd_workspaces, m),
        inexact=partial(_winograd_inexact, m),
    )


def _fft(name: str, *, tiled: bool) -> Algorithm:
    """Fourier transforms of whole images, or of tiles of bounded extent."""
    return Algorithm(name, LAYOUTS, _fft_excluded, partial(_fft_cost, tiled), partial(_fft_workspaces, tiled))


CONV_ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm("cudnn", ("NCHW", "NHWC"), _never, direct_cost, _cudnn_workspaces, ("gpu",)),
    Algorithm("direct", EVERY_LAYOUT, _never, direct_cost, _direct_workspaces),
    Algorithm("im2col", LAYOUTS, _never, direct_cost, _im2col_workspaces),
    _winograd(2),
    _winograd(4),
    _fft("fft", tiled=False),
    _fft("fft_tiled", tiled=True),
    Algorithm("implicit_gemm", ("NCHW", "NHWC"), _never, direct_cost, _no_workspaces, ("gpu", "accelerator")),
)
"""Of those that cost the same the first is taken: without tensor cores `direct` and `cudnn` have one price."""
