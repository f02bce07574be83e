"""Cases of convolutions and pools: over sequences, images and volumes, by every algorithm and in every layout."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS, OperandError
from tests.kernels.calling import Op
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
    """Windows, strides, pads of all kinds and dilations; often such that every algorithm can compute them."""
    if rank == 2 and rng.random() < 0.4:
        return {"window": 3, "pad": one_of(rng, 0, 1, "same", ((0, 2), (1, 0)))}
    pads = (0, 1, several(rng, rank, 0, 3), "same", "valid", uneven(rng, rank))
    steps = (1, 1, several(rng, rank, 1, 3))
    return {
        "window": several(rng, rank, 1, 4),
        "stride": one_of(rng, *steps),
        "pad": one_of(rng, *pads),
        "dilation": one_of(rng, *steps),
    }


def convolved(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Channels and arguments of `conv`, up to three groups."""
    groups = int(one_of(rng, 1, 1, 2, 3))
    into, out = several(rng, 2, 1, 3 if groups < 3 else 2)
    shared: Arguments = {"filters": out * groups, "groups": groups, "bias": bool(rng.random() < 0.7)}
    return into * groups, shared | sliding(rng, rank)


def pooled(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Channels and arguments of a pool; pads are even, as PyTorch's."""
    window = several(rng, rank, 1, 4)
    stride = one_of(rng, window, several(rng, rank, 1, 4))
    pad = one_of(rng, 0, tuple(extent // 2 for extent in window))
    return int(rng.integers(1, 3)), {"window": window, "stride": stride, "pad": pad, "ceil": bool(rng.random() < 0.5)}


def maxpooled(rng: Rng, rank: int) -> tuple[int, Arguments]:
    """Also with the uneven pads of `same`."""
    channels, arguments = pooled(rng, rank)
    return channels, arguments | one_of(rng, {}, {"pad": "same", "ceil": False})


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
    **over_axes("maxpool", spread, maxpooled),
    **over_axes("avgpool", case, averaged),
    **over_axes("global_avgpool", case, whole),
    **over_axes("global_maxpool", spread, whole),
}
