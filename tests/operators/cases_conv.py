"""Cases of convolutions and pools: over sequences, images and volumes, by every algorithm and in every layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

from backends.numpy_mpi.kernels import conv_depthwise, local_conv
from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops import conv_algorithms, operator
from dlc.ops.operator import LAYOUTS, OperandError
from tests.kernels.calling import Known, Op, image
from tests.operators.case import Case, Draw, drawn

Rng = np.random.Generator
Arguments = dict[str, Attr]

NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
EXTENTS = {1: (5, 10), 2: (3, 6), 3: (2, 4)}
"""Smallest extent of an axis and the first that is too large, by the number of axes."""


def signal(rng: Rng, rank: int, channels: int) -> TensorType:
    """A batch of sequences, images or volumes."""
    extents = rng.integers(*EXTENTS[rank], rank)
    batch = int(rng.integers(1, 3))
    axes = (Axis(name, int(extent)) for name, extent in zip(NAMES[rank], extents, strict=True))
    return TensorType("f64", (Axis("batch", batch), Axis("channel", channels), *axes))


def several(rng: Rng, rank: int, low: int, high: int) -> tuple[int, ...]:
    """One number an axis."""
    return tuple(int(number) for number in rng.integers(low, high, rank))


def one_of(rng: Rng, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def uneven(rng: Rng, rank: int) -> tuple[tuple[int, int], ...]:
    """Pads that differ before and after."""
    return tuple(zip(several(rng, rank, 0, 3), several(rng, rank, 0, 3), strict=True))


def legal(name: str, rng: Rng, rank: int, arguments: Any) -> Op:
    """An op in a layout and by an algorithm that can compute it; windows that do not fit are drawn again."""
    op = operator(name)
    assert op is not None
    while True:
        channels, args = arguments(rng, rank)
        layout = LAYOUTS[int(rng.integers(3))] if rank == 2 and op.layout_free else "NCHW"
        algorithm = one_of(rng, *(algorithm.name for algorithm in op.algorithms)) if op.algorithms else ""
        try:
            made = Op(op, (signal(rng, rank, channels),), args, layout, algorithm)
        except OperandError:
            continue
        if all(made.excluded(stage) is None for stage in ("forward", "dx", "dw")):
            return made


def case(name: str, arguments: Any, rank: int, rng: Rng) -> Case:
    """Normally distributed inputs."""
    return drawn(legal(name, rng, rank, arguments), rng)


def spread(name: str, arguments: Any, rank: int, rng: Rng) -> Case:
    """Inputs that are further apart than the differences' steps: no other element becomes the largest."""
    op = legal(name, rng, rank, arguments)
    shape = op.types["x"].shape
    values = (rng.permutation(int(np.prod(shape))) - 7.5) * 0.02
    return drawn(op, rng, x=values.reshape(shape))


def sliding(rng: Rng, rank: int) -> Arguments:
    """Windows, strides, pads of all kinds and dilations."""
    pads = (0, 1, several(rng, rank, 0, 3), "same", "valid", uneven(rng, rank))
    steps = (1, 1, several(rng, rank, 1, 3))
    return {
        "window": several(rng, rank, 1, 4),
        "stride": one_of(rng, *steps),
        "pad": one_of(rng, *pads),
        "dilation": one_of(rng, *steps),
    }


def convolved(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Channels and arguments of `conv`, up to three groups; often such that every algorithm can compute it."""
    groups = int(one_of(rng, 1, 1, 2, 3))
    into, out = several(rng, 2, 1, 3 if groups < 3 else 2)
    shared: Arguments = {"filters": out * groups, "groups": groups, "bias": bool(rng.random() < 0.7)}
    if rank == 2 and rng.random() < 0.4:
        return into * groups, shared | {"window": 3, "pad": one_of(rng, 0, 1, "same", ((0, 2), (1, 0)))}
    return into * groups, shared | sliding(rng, rank)


@dataclass
class SmallBlocks(Op):
    """An op whose kernels work through as few samples, channels or rows at a time as they can."""

    def call(self, *args: Any) -> Known:
        with (
            patch.object(conv_algorithms, "CACHE_BYTES", 1),
            patch.object(conv_depthwise, "BLOCK", 1),
            patch.object(local_conv, "BLOCK", 1),
        ):
            return super().call(*args)


def in_blocks(name: str, arguments: Arguments, rng: Rng) -> Case:
    """An op on images, block by block."""
    op = operator(name)
    assert op is not None
    x = image("f64", 3, 2, *several(rng, 2, 4, 6))
    algorithm = one_of(rng, "direct", "im2col") if op.algorithms else ""
    return drawn(SmallBlocks(op, (x,), {"window": 3, "pad": 1, **arguments}, one_of(rng, *LAYOUTS), algorithm), rng)


def depthwise(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Of one or two results a channel."""
    channels, multiplier = several(rng, 2, 1, 3)
    return channels, {"multiplier": multiplier, "bias": bool(rng.random() < 0.7)} | sliding(rng, rank)


def transposed(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """The output pads are below the strides or the dilations."""
    channels, arguments = convolved(rng, rank)
    arguments = arguments | sliding(rng, rank)
    steps = arguments["stride"] if rng.random() < 0.7 else arguments["dilation"]
    most = steps if isinstance(steps, tuple) else (steps,) * rank
    behind = tuple(int(rng.integers(step)) for step in most)
    return channels, arguments | {"output_pad": behind}


def local(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Few filters: every position has weights."""
    channels, filters = several(rng, 2, 1, 3)
    shared: Arguments = {"filters": filters, "bias": bool(rng.random() < 0.7)}
    most = 4 if rank < 3 else 3
    stride = one_of(rng, 2, several(rng, rank, 1, 3))
    return channels, shared | sliding(rng, rank) | {"window": several(rng, rank, 1, most), "stride": stride}


def upsampled(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """By one factor or one for each axis."""
    factor = one_of(rng, 2, several(rng, rank, 1, 4 if rank < 3 else 3))
    return int(rng.integers(1, 3)), {"factor": factor, "mode": one_of(rng, "nearest", "linear")}


def pooled(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Channels and arguments of a pool; the pads of `same` may be uneven, PyTorch has no `ceil` with these."""
    window = several(rng, rank, 1, 4 if rank < 3 else 3)
    stride = one_of(rng, window, several(rng, rank, 1, 4))
    pad = one_of(rng, 0, "same", tuple(extent // 2 for extent in window))
    ceil = pad != "same" and bool(rng.random() < 0.5)
    return int(rng.integers(1, 3)), {"window": window, "stride": stride, "pad": pad, "ceil": ceil}


def averaged(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """With pads counted or not."""
    channels, arguments = pooled(rng, rank)
    return channels, arguments | {"count_pad": bool(rng.random() < 0.5)}


def whole(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Pools over all there is have no arguments."""
    return int(rng.integers(1, 4)), {}


def over_axes(name: str, draw: Any, arguments: Any, ranks: tuple[int, ...] = (1, 2, 3)) -> dict[str, Draw]:
    """`name/1d`, `name/2d` and `name/3d`."""
    return {f"{name}/{rank}d": partial(draw, name, arguments, rank) for rank in ranks}


CASES: dict[str, Draw] = {
    **over_axes("conv", case, convolved),
    "conv/blocks": partial(in_blocks, "conv", {"filters": 2, "groups": 2}),
    "conv_transpose/blocks": partial(in_blocks, "conv_transpose", {"filters": 2, "stride": 2}),
    "depthwise_conv/blocks": partial(in_blocks, "depthwise_conv", {"multiplier": 2}),
    "local_conv/blocks": partial(in_blocks, "local_conv", {"filters": 1, "pad": 0}),
    **over_axes("depthwise_conv", case, depthwise),
    **over_axes("conv_transpose", case, transposed),
    **over_axes("local_conv", case, local),
    **over_axes("upsample", case, upsampled),
    **over_axes("maxpool", spread, pooled),
    **over_axes("avgpool", case, averaged),
    **over_axes("global_avgpool", case, whole),
    **over_axes("global_maxpool", spread, whole),
}
