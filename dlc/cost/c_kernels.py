"""What the kernels of family `c` do, as phases; kernels that the family does not have are NumPy's.

Convolutions keep sums in registers, vectors along the channels of the result (NHWC) or along samples (CHWN): lanes that
stand for nothing are computed too. Everything else goes over its operands once or a few times. The shares were fitted
by hand to benchmarks/records/c_kernels.json, one AVX-512 core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from dlc.cost.phases import OPERATIONS, Phase, phases
from dlc.ir.tensor import DTYPE_BYTES
from dlc.ops.conv_algorithms import ConvShape, conv_shape, tiling
from dlc.ops.operator import Operator, Shapes

CALL = 3.0
"""A call of C costs so many calls of NumPy: finding what was prepared for its arrays."""

VECTOR_BYTES = 64
"""Of the vectors that shapes are padded to."""

DIRECT = {"forward": 0.97, "dx": 0.92, "dw": 0.92}
"""Share of the peak that direct convolution reaches with whole vectors."""

STRIP = 12.0
"""Products that moving one value of an image into the strip that tiles read takes the time of."""

PRODUCTS, TRANSFORMS = 0.85, 0.35
"""Shares of the peak of Winograd's products and transforms."""

PASSES = {
    ("bn", "forward"): 1.5,
    ("bn", "dx"): 5 / 3,
    ("bn", "inference"): 1.0,
    ("relu", "forward"): 1.0,
    ("relu", "dx"): 1.0,
    ("tanh", "forward"): 1.0,
    ("tanh", "dx"): 1.0,
    ("sigmoid", "forward"): 1.0,
    ("sigmoid", "dx"): 1.0,
    ("add", "forward"): 1.0,
    ("maxpool", "forward"): 1.0,
    ("maxpool", "dx"): 1.0,
    ("avgpool", "forward"): 1.0,
    ("avgpool", "dx"): 1.0,
}
"""(op, pass) -> how often its operands' bytes go through memory."""


def c_phases(operator: Operator, stage: str, shapes: Shapes, algorithm: str, layout: str) -> tuple[Phase, ...]:
    """The phases of one kernel, as `phases.phases` gives those of NumPy's."""
    if operator.name == "conv" and layout != "NCHW" and len(shapes.attrs["window"]) == 2:  # type: ignore[arg-type]
        conv = conv_shape(stage, shapes)
        if algorithm == "direct":
            return (_direct(stage, conv, layout),)
        if algorithm.startswith("winograd") and layout == "NHWC" and shapes.attrs.get("groups", 1) == 1:
            return tuple(_winograd(stage, conv, 4 if "4" in algorithm else 2))
    passes = PASSES.get((operator.name, stage))
    if passes is None:
        return phases(operator, stage, shapes, algorithm, layout)
    cost = operator.cost(stage, shapes)
    return (Phase(cost.work * OPERATIONS.get(operator.name, 1.0), cost.bytes * passes, calls=CALL),)


def _direct(stage: str, conv: ConvShape, layout: str) -> Phase:
    """All products in one loop nest; what it reads is put in order once."""
    size, groups = DTYPE_BYTES[conv.dtype], conv.groups
    lanes = VECTOR_BYTES // size
    along = conv.batch if layout == "CHWN" else (conv.channels if stage == "dx" else conv.filters) // groups
    filled = -(-along // lanes) * lanes
    read = conv.y_values if stage == "dx" else conv.batch * conv.channels * prod(conv.x)
    moved = STRIP * read if layout == "NHWC" and not conv.plain else 0.0
    flops = 2.0 * conv.macs / along * filled + moved
    images = conv.y_values + conv.batch * conv.channels * prod(conv.x)
    share = DIRECT[stage] * (0.85 if layout == "CHWN" else 1.0)
    return Phase(flops, size * (images + 3.0 * conv.weights), unit="register", share=share, calls=CALL)


def _winograd(stage: str, conv: ConvShape, m: int) -> Iterator[Phase]:
    """Filters to α² positions and back from them, which go through memory; tiles, which stay in the cache; products."""
    size, alpha = DTYPE_BYTES[conv.dtype], m + 2
    pairs, tiles = conv.channels * conv.filters, tiling(stage, conv, (m, m))
    count = conv.batch * prod(tiles.count)
    yield Phase(
        2.0 * pairs * alpha * (9 + 3 * alpha),
        size * pairs * (9 + 2.0 * alpha**2),
        unit="register",
        share=TRANSFORMS,
        calls=CALL,
    )
    data = 2.0 * count * (conv.channels + conv.filters) * 2 * alpha**3 / 2
    images = conv.y_values + conv.batch * conv.channels * prod(conv.x)
    yield Phase(data, size * images, unit="register", share=TRANSFORMS, calls=0)
    lanes = VECTOR_BYTES // size
    along = conv.channels if stage == "dx" else conv.filters
    filled = -(-along // lanes) * lanes
    yield Phase(2.0 * pairs // along * filled * count * alpha**2, unit="register", share=PRODUCTS, calls=0)


def c_conversion(numpys: Phase) -> Phase:
    """A copy from one layout to another, by squares that are turned in registers."""
    return replace(numpys, run=VECTOR_BYTES * 2.0, calls=CALL)
