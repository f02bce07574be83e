"""Ways to compute a convolution: which are legal where, their counts (cost-models.md §2) and their scratch memory.

The scratch arrays are those of the kernels in `backends/numpy_mpi/kernels`; a kernel works through the samples in
blocks, as many at a time as the first axis of its workspaces has, so that a block stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from dlc.ir.tensor import DTYPE_BYTES, TensorType, tensor
from dlc.ops.operator import LAYOUTS, Algorithm, Cost, Shapes, Workspace
from dlc.ops.windows import Pair, Windows, by, windows

CACHE_BYTES = 2**20
"""Blocks of samples are as large as keeps their scratch arrays about this size: half of a core's own cache."""

FFT_TILE = 16
"""Extent of the tiles of `fft_tiled`, doubled until at least half of a tile is output."""

_IN_FAMILY_NUMPY = "the kernel family `numpy` has no kernel for it"


@dataclass(frozen=True, slots=True)
class ConvShape:
    """The extents of one convolution, as the survey's formulas name them; `y` and `x` are (height, width)."""

    batch: int
    channels: int
    x: Pair
    filters: int
    y: Pair
    windows: Windows
    groups: int
    dtype: str

    @property
    def macs(self) -> int:
        """Multiply-adds of the direct form: N·Cout·Cin/groups·H'W'·KxKy."""
        return self.batch * self.filters * self.channels // self.groups * prod(self.y) * self.windows.taps

    @property
    def plain(self) -> bool:
        """Whether the column matrix is the input itself: a 1x1 window, stride 1, no pad."""
        return self.windows.window == self.windows.stride == (1, 1) and self.windows.padded(self.x) == self.x


def conv_shape(stage: str, shapes: Shapes) -> ConvShape:
    """The extents behind a conv node of a pass: `forward` has x, weight -> y; `dx` dy, weight -> x; `dw` dy, x -> w."""
    x, y = {
        "forward": (shapes.inputs[0], shapes.outputs[0]),
        "dx": (shapes.outputs[0], shapes.inputs[0]),
        "dw": (shapes.inputs[1], shapes.inputs[0]),
    }[stage]
    n, c, h, w = x.shape
    groups = shapes.attrs["groups"]
    assert isinstance(groups, int)
    return ConvShape(n, c, (h, w), y.shape[1], (y.shape[2], y.shape[3]), windows(shapes.attrs), groups, x.dtype)


def ceil_log2(n: int) -> int:
    """⌈lg n⌉: the depth of a reduction of n values."""
    return (n - 1).bit_length()


def touched(shapes: Shapes) -> int:
    """Bytes of all inputs and outputs: each is touched at least once."""
    return sum(value.bytes for value in (*shapes.inputs, *shapes.outputs))


def direct_cost(stage: str, shapes: Shapes) -> Cost:
    """Counts of the direct form (cost-models.md §1): W is the same for the three passes, D is not."""
    conv = conv_shape(stage, shapes)
    ky, kx = map(ceil_log2, conv.windows.window)
    depth = {
        "forward": ceil_log2(conv.channels // conv.groups) + ky + kx,
        "dx": ceil_log2(conv.filters // conv.groups) + ky + kx,
        "dw": ceil_log2(conv.batch) + ceil_log2(conv.y[0]) + ceil_log2(conv.y[1]),
    }[stage]
    return Cost(conv.macs, conv.macs, depth, touched(shapes))


def _never(stage: str, shapes: Shapes) -> None:
    return None


def _scratch(conv: ConvShape, role: str, dtype: str | None = None, **extents: int) -> Workspace:
    return Workspace(role, tensor(dtype or conv.dtype, **extents))


def _block(conv: ConvShape, values_a_sample: int) -> int:
    """How many samples a kernel handles at a time: at least one, at most all."""
    return max(1, min(conv.batch, CACHE_BYTES // max(1, values_a_sample * DTYPE_BYTES[conv.dtype])))


def _im2col_workspaces(stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    conv = conv_shape(stage, shapes)
    if conv.plain:
        return ()
    column = conv.channels * conv.windows.taps * prod(conv.y)
    return (_scratch(conv, "columns", batch=conv.batch, column=column),)


def _direct_workspaces(stage: str, shapes: Shapes, layout: str) -> tuple[Workspace, ...]:
    conv = conv_shape(stage, shapes)
    return (_scratch(conv, "tap", batch=conv.batch, column=conv.channels * prod(conv.y)),)


CONV_ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm("direct", LAYOUTS, _never, direct_cost, _direct_workspaces),
    Algorithm("im2col", LAYOUTS, _never, direct_cost, _im2col_workspaces),
)
