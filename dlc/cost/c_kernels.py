"""What the kernels of family `c` do, as phases; kernels that the family does not have are NumPy's.

Convolutions keep sums in registers, vectors along the channels of the result (NHWC) or along samples (CHWN): lanes that
stand for nothing are computed too. Everything else goes over its operands once or a few times. The shares were fitted
by hand to benchmarks/records/c_kernels.json, one AVX-512 core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from dlc.cost.phases import OPERATIONS, TRANSPOSED_RUN, Phase, phases
from dlc.ir.tensor import DTYPE_BYTES
from dlc.ops.blocks import BLOCKED
from dlc.ops.conv_algorithms import ConvShape, conv_shape, tiling
from dlc.ops.extents import chosen, larger, smaller
from dlc.ops.operator import Operator, Shapes

CALL = 3.0
"""A call of C costs so many calls of NumPy: finding what was prepared for its arrays."""

WIDEST = 64
"""Bytes of the vectors that shapes are padded to, where nobody says what instructions there are."""

VECTORS = (("avx512", 64), ("avx2", 32), ("neon", 16), ("asimd", 16))
"""What names of instructions begin with, widest vectors first, and the bytes of these."""

DIRECT = {"forward": 0.97, "dx": 0.92, "dw": 0.92}
"""Share of the peak that direct convolution reaches with whole vectors."""

IN_SAMPLES = 0.8
"""The same with samples as vectors, times this: of small images."""

REACHED = 0.7
"""Share of a convolution's operands that its products wait for."""

STRIP = 12.0
"""Products that moving one value of an image into the strip that tiles read takes the time of."""

PRODUCTS, TRANSFORMS = {"forward": 0.85, "dx": 0.85, "dw": 0.72}, 0.35
"""Shares of the peak of Winograd's products and transforms."""

FILTER_PASSES = 3.0
"""How often the transformed filters go through memory: written, which reads first, and read, in a program in which
other ops fill the cache between."""

PACKED = 0.9
"""BLAS copies what direct sums read where it lies: NumPy's product of a 1x1 convolution against theirs."""

ONCE = (
    *("add", "sub", "mul", "div"),
    *("relu", "leaky_relu", "elu", "tanh", "sigmoid", "silu", "hard_swish", "gelu"),
    *("maxpool", "avgpool", "global_avgpool", "global_maxpool"),
)
"""Ops whose operands go through memory once, forward and back."""

PASSES = {
    **{(op, stage): 1.0 for op in ONCE for stage in ("forward", "dx")},
    **{(op, "update"): 1.0 for op in ("sgd", "adam", "adamw")},
    **{(op, "forward"): 1.5 for op in ("bn", "layernorm", "rmsnorm", "softmax", "log_softmax", "cross_entropy")},
    **{(op, "dx"): 5 / 3 for op in ("bn", "layernorm", "rmsnorm")},
    **{(op, "dx"): 4 / 3 for op in ("softmax", "log_softmax", "cross_entropy")},
    ("bn", "inference"): 1.0,
    ("dropout", "forward"): 2.4,  # drawing is what takes long
    ("dropout", "dx"): 1.0,
    ("lrn", "forward"): 2.0,
    ("lrn", "dx"): 2.0,
}
"""(op, pass) -> how often its operands' bytes go through memory: those that are read to be normalised, twice."""


FUSED = {"lstm": 0.83, "gru": 0.75, "rnn": 0.75, "attention": 0.8}
"""Ops that are one call with all their products and what stands between these: the share of the peak that they reach.

Fitted to benchmarks/records/c_products.json."""


CELLS = {"lstm": (25.0, 12.0), "gru": (25.0, 12.0), "rnn": (25.0, 12.0)}
"""Vector operations behind one that is counted of a cell's gates, forward and back: exponentials, quotients, and what
is kept for the way back. Fitted to the points of calibration: a quarter of the time of 256 values, a tenth of 600."""

LINEAR = 0.83
"""Share of the peak of linear maps, with whole tiles of two vectors."""

FEW_ROWS, OF_FEW = 16, 0.5
"""With so few rows at most the weight is read once, as it lies, at this share of the peak."""


def vector_bytes(instructions: str) -> int:
    """Bytes of the widest vectors among instructions like `avx512` or `avx2 fma`; `WIDEST` where none is known."""
    names = instructions.lower().split()
    return next((width for name, width in VECTORS if any(word.startswith(name) for word in names)), WIDEST)


def c_phases(
    operator: Operator, stage: str, shapes: Shapes, algorithm: str, layout: str, vector: int = WIDEST
) -> tuple[Phase, ...]:
    """The phases of one kernel with vectors of so many bytes, as `phases.phases` gives those of NumPy's."""
    if operator.name == "conv" and layout != "NCHW" and len(shapes.attrs["window"]) == 2:  # type: ignore[arg-type]
        conv, layout = conv_shape(stage, shapes), "NHWC" if layout in BLOCKED else layout
        if algorithm == "direct":
            return tuple(_direct(stage, conv, layout, vector))
        if algorithm == "im2col" and conv.plain:
            return tuple(_product(stage, conv, layout, vector))
        if algorithm.startswith("winograd") and layout == "NHWC" and shapes.attrs.get("groups", 1) == 1:
            return tuple(_winograd(stage, conv, 4 if "4" in algorithm else 2, vector))
    if operator.name in FUSED:
        cost = operator.cost(stage, shapes)
        products = Phase(2.0 * cost.macs, cost.bytes, unit="register", share=FUSED[operator.name], calls=CALL)
        if operator.name not in CELLS:
            return (products,)
        return products, Phase((cost.work - cost.macs) * CELLS[operator.name][stage != "forward"], calls=0)
    if operator.name == "linear":
        return (_linear(operator, stage, shapes, vector),)
    passes = PASSES.get((operator.name, stage))
    if passes is None:
        return phases(operator, stage, shapes, algorithm, layout)
    cost = operator.cost(stage, shapes)
    return (Phase(cost.work * OPERATIONS.get(operator.name, 1.0), cost.bytes * passes, calls=CALL),)


def _linear(operator: Operator, stage: str, shapes: Shapes, vector: int) -> Phase:
    """One product, the bias in the same call; columns that do not fill tiles are computed by BLAS, which pads as much.

    Of the weight's gradient the memory that is written is read first.
    """
    cost = operator.cost(stage, shapes)
    weight = shapes.outputs[0] if stage == "dw" else shapes.inputs[1]
    fan_out, fan_in = weight.shape[::-1] if "transposed" in shapes.attrs else weight.shape
    rows, tile = cost.macs // (fan_in * fan_out), 2 * vector // DTYPE_BYTES[weight.dtype]
    columns = {"forward": fan_out, "dx": fan_in, "dw": weight.shape[-1]}[stage]
    padded = 1.0 / columns * (-(-columns // tile) * tile)
    more = padded if stage == "dw" else chosen(rows <= FEW_ROWS, LINEAR / OF_FEW, padded)
    moved = cost.bytes + (weight.bytes if stage == "dw" else 0)
    return Phase(2.0 * cost.macs * more, moved, unit="register", share=LINEAR, calls=CALL)


def _direct(stage: str, conv: ConvShape, layout: str, vector: int) -> Iterator[Phase]:
    """All products in one loop nest, behind it what memory brings; an image in NHWC is put in order for tiles first.

    There dx is computed for every pixel of x with all taps, also where these meet zeros around dy. With samples as
    vectors y and dx are sums over those taps alone that read inside the image.
    """
    size, pixels = DTYPE_BYTES[conv.dtype], conv.batch * prod(conv.x)
    lanes = vector // size
    along = conv.batch if layout == "CHWN" else (conv.channels if stage == "dx" else conv.filters) // conv.groups
    filled = -(-along // lanes) * lanes
    macs, strip = conv.macs, 0.0
    if layout == "NHWC":
        macs = pixels * conv.weights // prod(conv.windows.stride) if stage == "dx" else macs
        strip = 0.0 if conv.plain else STRIP * (conv.y_values if stage == "dx" else pixels * conv.channels)
    elif stage != "dw":
        macs = conv.batch * conv.filters * conv.channels // conv.groups * taps_inside(conv)
    share = DIRECT[stage] * (1.0 if layout == "NHWC" else IN_SAMPLES)
    yield Phase(2.0 * macs / along * filled + strip, unit="register", share=share, calls=CALL)
    yield Phase(bytes=REACHED * size * (conv.y_values + pixels * conv.channels + 3.0 * conv.weights), calls=0)


def taps_inside(conv: ConvShape) -> int:
    """How many (pixel of y, tap) read a pixel of x, not its padding: of each axis, for each tap the pixels that do."""
    slide, found = conv.windows, 1
    for x, y, window, stride, (before, _), dilation in zip(
        conv.x, conv.y, slide.window, slide.stride, slide.pad, slide.dilation, strict=True
    ):
        inside = 0
        for tap in range(window):
            shift = before - tap * dilation
            first, last = larger(0, -(-shift // stride)), smaller(y - 1, (x - 1 + shift) // stride)
            inside = inside + larger(0, last - first + 1)
        found = found * inside
    return found


def _product(stage: str, conv: ConvShape, layout: str, vector: int) -> Iterator[Phase]:
    """NumPy's product of a 1x1 convolution, in one thread; few rows or columns are padded as they are here."""
    register, memory = _direct(stage, conv, "NHWC", vector)
    yield replace(register, share=register.share * PACKED, unit="alone")
    yield memory
    if layout == "NHWC":
        yield Phase(bytes=2.0 * DTYPE_BYTES[conv.dtype] * conv.weights, run=TRANSPOSED_RUN)


def _winograd(stage: str, conv: ConvShape, m: int, vector: int) -> Iterator[Phase]:
    """Filters to α² positions and back from them, which go through memory; tiles, which stay in the cache; products."""
    size, alpha = DTYPE_BYTES[conv.dtype], m + 2
    pairs, tiles = conv.channels * conv.filters, tiling(stage, conv, (m, m))
    count = conv.batch * prod(tiles.count)
    yield Phase(
        2.0 * pairs * alpha * (9 + 3 * alpha),
        size * pairs * (9 + FILTER_PASSES * alpha**2),
        unit="register",
        share=TRANSFORMS,
        calls=CALL,
    )
    data = 2.0 * count * (conv.channels + conv.filters) * 2 * alpha**3 / 2
    images = conv.y_values + conv.batch * conv.channels * prod(conv.x)
    yield Phase(data, size * images, unit="register", share=TRANSFORMS, calls=0)
    lanes = vector // size
    along = conv.channels if stage == "dx" else conv.filters
    filled = -(-along // lanes) * lanes
    yield Phase(2.0 * pairs // along * filled * count * alpha**2, unit="register", share=PRODUCTS[stage], calls=0)
