"""What the kernels of family `numpy` do, as phases: matrix products, transforms, and passes over memory.

NumPy's calls run one after the other, each over whole arrays, so a kernel's time is the sum of its phases' times. A
phase is counted here and priced in `dlc.cost.compute`; nothing here knows a device. Two facts of each phase decide how
near it comes to the device's peak figures: the extents of a matrix product, and the run, the bytes that one inner loop
goes over before it jumps. The run is where layouts differ: where windows of Kx taps with stride 1 read an image to make
rows of W' outputs, it is W' values in NCHW, Kx·C in NHWC and W'·N in CHWN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Literal

from dlc.ir.tensor import DTYPE_BYTES, TensorType
from dlc.ops.blocks import without_blocks
from dlc.ops.conv_algorithms import ConvShape, conv_shape, fft_tiling, tiling
from dlc.ops.conv_transpose import as_conv
from dlc.ops.extents import chosen, larger, log2
from dlc.ops.operator import Operator, Shapes
from dlc.ops.windows import windows

Unit = Literal["matrix", "plain", "vector", "transform", "register", "alone"]

BLOCK_BYTES = 2**20
"""Kernels work in blocks whose scratch arrays have about this size (`dlc.ops.conv_algorithms.CACHE_BYTES`)."""


TRANSPOSED_RUN = 16.0
"""The run that stands for a copy which transposes: it was measured at a fifth to a half of the bandwidth."""


@dataclass(frozen=True, slots=True)
class Phase:
    """`flops` on a unit of the processor and `bytes` read or written in runs of `run` bytes, by `calls` calls.

    `extents` are (m, n, k) of the matrix products, m·n results of k products each. On a GPU so many `products` of these
    extents are one kernel, which reaches a `share` of what others of the same extents do; `plain` is a matrix product
    that tensor cores cannot do. Sums in registers, `register`, reach a `share` of the peak,
    those of one thread, `alone`, of its part of that.
    """

    flops: float = 0.0
    bytes: float = 0.0
    run: float = inf
    unit: Unit = "vector"
    extents: tuple[int, int, int] | None = None
    calls: float = 1.0
    products: int = 1
    share: float = 1.0


def phases(operator: Operator, stage: str, shapes: Shapes, algorithm: str = "", layout: str = "") -> tuple[Phase, ...]:
    """The phases of one kernel: of an algorithm in a layout where the op has a choice.

    ValueError for an algorithm of convolution that has no model here.
    """
    layout = without_blocks(layout)
    if operator.name in ("conv", "conv_transpose"):
        family = algorithm.partition("(")[0]
        if family not in _CONV:
            raise ValueError(f"no phases are known of {algorithm!r}")
        bias = _bias(stage, shapes) if shapes.attrs["bias"] else ()
        if operator.name == "conv_transpose":
            stage, shapes = as_conv(stage, shapes)
        conv, layout = conv_shape(stage, shapes), layout or "NCHW"
        return (*_CONV[family](stage, conv, algorithm, layout), *_around(stage, conv, layout), *bias)
    if operator.name in ("depthwise_conv", "local_conv"):
        bias = _bias(stage, shapes) if shapes.attrs["bias"] else ()
        model = _depthwise if operator.name == "depthwise_conv" else _local
        return (*model(stage, shapes, layout), *bias)
    if operator.name == "linear":
        return tuple(_linear(operator, stage, shapes))
    if operator.name == "matmul":
        return tuple(_matmul(operator, stage, shapes))
    if operator.name in ("maxpool", "avgpool"):
        return tuple(_pool(stage, shapes, layout))
    return (_elements(operator, stage, shapes, layout),)


def conversion(type_: TensorType) -> Phase:
    """A copy from one layout to another: all is read and written, one of the two in another order than it lies."""
    return Phase(bytes=2.0 * type_.bytes, run=TRANSPOSED_RUN)


# Everything that goes over whole arrays, element by element.

OPERATIONS = {
    "tanh": 8.0,
    "sigmoid": 8.0,
    "elu": 8.0,
    "silu": 8.0,
    "gelu": 16.0,
    "softmax": 3.0,
    "log_softmax": 3.0,
    "cross_entropy": 16.0,
}
"""Vector operations behind one counted operation, where it is no plain arithmetic."""

TRAFFIC = {
    ("bn", "forward"): (3.0, 10),
    ("bn", "dx"): (3.0, 12),
    ("bn", "statistics"): (2.0, 12),
    ("softmax", "forward"): (3.0, 5),
    ("softmax", "dx"): (2.0, 4),
    ("log_softmax", "forward"): (3.5, 7),
    ("log_softmax", "dx"): (2.0, 4),
    ("cross_entropy", "forward"): (4.0, 12),
    ("cross_entropy", "dx"): (2.0, 4),
    ("tanh", "dx"): (1.3, 3),
    ("sigmoid", "forward"): (2.0, 4),
    ("sigmoid", "dx"): (1.3, 3),
    ("elu", "forward"): (2.7, 5),
    ("elu", "dx"): (2.3, 4),
    ("leaky_relu", "forward"): (1.7, 3),
    ("leaky_relu", "dx"): (1.7, 3),
    ("hard_swish", "forward"): (2.5, 4),
    ("hard_swish", "dx"): (2.7, 7),
    ("silu", "forward"): (2.5, 5),
    ("silu", "dx"): (3.0, 9),
    ("gelu", "forward"): (4.0, 8),
    ("gelu", "dx"): (6.0, 12),
    ("relu", "dx"): (1.3, 2),
    ("dropout", "forward"): (30.0, 80),
    ("dropout", "dx"): (1.3, 2),
    ("sgd", "update"): (2.0, 4),
    ("adagrad", "update"): (3.0, 6),
    ("rmsprop", "update"): (3.0, 8),
    ("adam", "update"): (3.5, 12),
    ("adamw", "update"): (3.5, 12),
    ("lars", "update"): (3.0, 8),
    ("lamb", "update"): (6.0, 22),
    ("lbfgs", "update"): (1.5, 60),
    ("regularise", "regularise"): (1.5, 2),
    ("clip", "clip"): (2.0, 3),
    ("unscale", "unscale"): (2.0, 2),
}
"""(op, pass) -> (how often its operands' bytes go through the processor, NumPy calls); one pass and call elsewhere."""

PER_OPERAND = ("unscale", "clip", "regularise")
"""Passes whose NumPy calls are made for each operand."""


def _elements(operator: Operator, stage: str, shapes: Shapes, layout: str) -> Phase:
    """Work of §1 and the bytes of all operands, as often as the kernel's NumPy calls go over them."""
    if operator.view:
        return Phase(calls=0)
    cost = operator.cost(stage, shapes)
    passes, calls = TRAFFIC.get((operator.name, stage), (1.0, max(1, len(shapes.inputs) - 1)))
    run = _channel_run(shapes, layout) if operator.name in ("bn", "concat", "softmax") else inf
    operations = cost.work * OPERATIONS.get(operator.name, 1.0)
    return Phase(operations, cost.bytes * passes, run, calls=calls + 2 * (stage in PER_OPERAND) * len(shapes.inputs))


def _channel_run(shapes: Shapes, layout: str) -> float:
    """Bytes of one channel that lie together; in NHWC those of one pixel's channels, which one call goes over."""
    x = shapes.inputs[0]
    if len(x.axes) != 4:
        return inf
    n, c, h, w = x.shape
    together = {"NCHW": h * w, "NHWC": c, "CHWN": n * h * w}[layout or "NCHW"]
    return together * DTYPE_BYTES[x.dtype]


def _matmul(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """y = a·b; da = dy·bᵀ and db = aᵀ·dy: a product of each pair of matrices."""
    cost = operator.cost(stage, shapes)
    a, b = shapes.inputs[-2:]
    (m, k), n = a.shape[-2:], b.shape[-1]
    products = ((m, n, k),) if stage == "forward" else ((m, k, n), (k, n, m))
    for extents in products:
        share = len(products)
        yield Phase(2.0 * cost.macs / share, cost.bytes / share, unit="matrix", extents=extents)


def _linear(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x: one product each; the bias is a pass over y or dy."""
    cost = operator.cost(stage, shapes)
    weight = shapes.outputs[0] if stage == "dw" else shapes.inputs[1]
    fan_out, fan_in = weight.shape[::-1] if "transposed" in shapes.attrs else weight.shape
    rows = cost.macs // (fan_in * fan_out)
    extents = {"forward": (rows, fan_out, fan_in), "dx": (rows, fan_in, fan_out), "dw": (fan_out, fan_in, rows)}[stage]
    yield Phase(2.0 * cost.macs, cost.bytes, unit="matrix", extents=extents)
    if stage != "dx" and shapes.attrs["bias"]:
        values = rows * fan_out
        yield Phase(values, (2 if stage == "forward" else 1) * values * DTYPE_BYTES[weight.dtype])


def _pool(stage: str, shapes: Shapes, layout: str) -> Iterator[Phase]:
    """One pass over y for each tap of the window, strided over the image; the image is touched once more."""
    image, result = (shapes.outputs[0], shapes.inputs[0]) if stage == "dx" else (shapes.inputs[0], shapes.outputs[0])
    slide = windows(shapes.attrs, len(image.axes) - 2)
    n, c, width = *result.shape[:2], result.shape[-1]
    run = _run(layout, slide.stride[-1], n, c, width, 1) * DTYPE_BYTES[image.dtype]
    kept = sum(t.bytes for t in (shapes.inputs if stage == "dx" else shapes.outputs))
    moved = slide.taps * (2.0 * kept + result.bytes) + image.bytes
    calls = slide.taps * (3 if len(shapes.outputs) > 1 or len(shapes.inputs) > 1 else 1) + 1
    yield Phase(slide.taps * result.elements, moved, run, calls=calls)


def _run(layout: str, stride: int, n: int, c: int, width: int, taps: int) -> int:
    """How many values of an image one inner loop goes over where windows with so many taps in a row are read."""
    match layout:
        case "NHWC":
            return c * taps if taps > 1 or stride > 1 else c * width
        case "CHWN":
            return n * width if stride == 1 else n
    return width


# Convolution: one model an algorithm, from the kernels' own structure.


def _sizes(conv: ConvShape) -> tuple[int, int, int, int, int]:
    """Bytes of a value, of x, y and the weights, and the number of output pixels of all samples."""
    size = DTYPE_BYTES[conv.dtype]
    x = conv.batch * conv.channels * prod(conv.x) * size
    y = conv.batch * conv.filters * prod(conv.y) * size
    weights = conv.filters * conv.channels // conv.groups * conv.windows.taps * size
    return size, x, y, weights, conv.batch * prod(conv.y)


def _extents(stage: str, conv: ConvShape, layout: str, taps: int, samples: int) -> tuple[int, int, int]:
    """(m, n, k) of the products of a group: in NCHW one a sample for y and dx, else over all samples at once."""
    k, q = conv.filters // conv.groups, conv.channels // conv.groups * taps
    image = prod(conv.y)
    apart = layout == "NCHW" and stage != "dw"
    pixels = chosen(image > 1, image, samples) if apart else image * samples
    return {"forward": (k, pixels, q), "dx": (q, pixels, k), "dw": (k, q, pixels)}[stage]


def _around(stage: str, conv: ConvShape, layout: str) -> Iterator[Phase]:
    """What all algorithms do besides: copy the padded image, and the weights or dy in another order."""
    _, x, y, weights, _ = _sizes(conv)
    if stage != "dx" and conv.windows.pads:
        yield Phase(bytes=2.0 * x, calls=5)
    if layout == "NHWC":
        yield Phase(bytes=2.0 * weights, run=TRANSPOSED_RUN)
    if stage == "dw" and layout == "NCHW":
        yield Phase(bytes=2.0 * y)


def _bias(stage: str, shapes: Shapes) -> tuple[Phase, ...]:
    """Forward it is added to y, for dw dy is summed."""
    y = shapes.outputs[0] if stage == "forward" else shapes.inputs[0]
    return {"forward": (Phase(y.elements, 2.0 * y.bytes),), "dx": (), "dw": (Phase(y.elements, y.bytes),)}[stage]


def _im2col(stage: str, conv: ConvShape, _name: str, layout: str) -> Iterator[Phase]:
    """Columns written (dx: read and added up), and the product with them, block by block."""
    size, x, y, weights, pixels = _sizes(conv)
    taps = conv.windows.taps
    columns = 0 if conv.plain else conv.channels * taps * pixels * size
    blocks = larger(1, -(-columns // BLOCK_BYTES))
    samples = larger(1, conv.batch // blocks)
    if not conv.plain:
        c, width, kx = conv.channels // conv.groups, conv.y[-1], conv.windows.window[-1]
        whole = conv.windows.dilation[-1] == 1 and stage != "dx"
        run = _run(layout, conv.windows.stride[-1], samples, c, width, kx if whole else 1)
        yield Phase(bytes=x + (3.0 if stage == "dx" else 2.0) * columns, run=run * size, calls=blocks)
        if stage == "dx":
            yield Phase(bytes=x, calls=blocks * taps)
    products = blocks * conv.groups * (samples if layout == "NCHW" and stage != "dw" else 1)
    extents = _extents(stage, conv, layout, taps, samples)
    yield Phase(2.0 * conv.macs, x + y + weights, unit="matrix", extents=extents, calls=4 * blocks + products / 4)


def _direct(stage: str, conv: ConvShape, _name: str, layout: str) -> Iterator[Phase]:
    """For each tap of the window: the shifted image copied, a product over the channels, the result added up."""
    size, x, y, weights, pixels = _sizes(conv)
    taps = conv.windows.taps
    shifted = conv.channels * pixels * size
    blocks = larger(1, -(-larger(shifted, y) // BLOCK_BYTES))
    samples = larger(1, conv.batch // blocks)
    run = _run(layout, conv.windows.stride[-1], samples, conv.channels // conv.groups, conv.y[-1], 1)
    yield Phase(bytes=x + 2.0 * taps * shifted, run=run * size, calls=2 * taps * blocks)
    yield Phase(bytes=3.0 * (taps - 1) * (weights / taps if stage == "dw" else y), calls=taps * blocks)
    products = blocks * conv.groups * (samples if layout == "NCHW" and stage != "dw" else 1)
    extents = _extents(stage, conv, layout, 1, samples)
    yield Phase(2.0 * conv.macs, x + y + weights, unit="matrix", extents=extents, calls=taps * products / 2)


def _fft(stage: str, conv: ConvShape, name: str, layout: str) -> Iterator[Phase]:
    """Spectra of two operands, a complex product for each frequency, and the transform back (cost-models.md §2)."""
    size, x, y, weights, _ = _sizes(conv)
    tiles, lengths = fft_tiling(stage, conv, tiled=name == "fft_tiled")
    C, K = conv.channels // conv.groups, conv.filters // conv.groups
    images, points = conv.batch * prod(tiles.count), prod(lengths)
    transforms = conv.groups * (images * (C + K) + C * K)
    spectra = transforms * (points // 2 + 1) * 2 * size
    yield Phase(2.5 * transforms * points * log2(points), x + y + weights + 2.0 * spectra, unit="transform", calls=6)
    yield Phase(bytes=2.0 * spectra, run=TRANSPOSED_RUN, calls=3)
    frequencies = points // 2 + 1
    extents = {"forward": (K, images, C), "dx": (C, images, K), "dw": (K, C, images)}[stage]
    flops = 8.0 * conv.groups * frequencies * images * C * K
    yield Phase(flops, spectra, unit="matrix", extents=extents, calls=conv.groups * frequencies / 4)


def _winograd(stage: str, conv: ConvShape, name: str, layout: str) -> Iterator[Phase]:
    """Tiles of m x m outputs: transforms into and out of α² positions, and a product at each (cost-models.md §2)."""
    size, x, y, weights, _ = _sizes(conv)
    m = 4 if "4" in name else 2
    r = conv.windows.window[0]
    alpha = m + r - 1
    C, K = conv.channels // conv.groups, conv.filters // conv.groups
    tiles = conv.batch * prod(tiling(stage, conv, (m, m)).count)
    read, written = conv.groups * C * tiles * alpha**2, conv.groups * K * tiles * alpha**2
    run = _run(layout, m, conv.batch, C, -(-conv.y[1] // m), 1) * size  # tiles begin m pixels apart
    yield Phase(2.0 * read * 2 * alpha, x + 6.0 * size * read, run, calls=6)
    yield Phase(2.0 * written * 2 * m, y + 6.0 * size * written, run, calls=6)
    yield Phase(
        4.0 * conv.groups * C * K * alpha**2 * r, weights + 3.0 * size * conv.groups * C * K * alpha**2, calls=4
    )
    extents = {"forward": (K, tiles, C), "dx": (C, tiles, K), "dw": (K, C, tiles)}[stage]
    flops = 2.0 * conv.groups * C * K * tiles * alpha**2
    yield Phase(flops, (read + written) * size, unit="matrix", extents=extents, calls=conv.groups * alpha**2 / 4)


def _depthwise(stage: str, shapes: Shapes, layout: str) -> Iterator[Phase]:
    """For each tap of the window one product and one sum over y, strided over the image."""
    image = {"forward": shapes.inputs[0], "dx": shapes.outputs[0]}.get(stage, shapes.inputs[-1])
    result = shapes.outputs[0] if stage == "forward" else shapes.inputs[0]
    slide = windows(shapes.attrs, len(image.axes) - 2)
    n, c, width = *image.shape[:2], result.shape[-1]
    run = (c if layout == "NHWC" else _run(layout, slide.stride[-1], n, c, width, 1)) * DTYPE_BYTES[image.dtype]
    blocks = larger(1, result.bytes // BLOCK_BYTES)
    moved = (2.0 if stage == "dw" else 3.0) * slide.taps * result.bytes
    yield Phase(2.0 * slide.taps * result.elements, image.bytes + moved, run, calls=2.0 * slide.taps * blocks)


def _local(stage: str, shapes: Shapes, layout: str) -> Iterator[Phase]:
    """Columns with the samples innermost, and a product for each output position, which has weights of its own."""
    conv = conv_shape(stage, replace(shapes, attrs={**shapes.attrs, "groups": 1}))
    size, x, y, weights, _ = _sizes(conv)
    q, positions = conv.channels * conv.windows.taps, prod(conv.y)
    columns = q * positions * conv.batch * size
    run = conv.batch * size if layout == "CHWN" else TRANSPOSED_RUN
    yield Phase(bytes=x + (3.0 if stage == "dx" else 2.0) * columns, run=run, calls=conv.windows.taps)
    extents = {
        "forward": (conv.filters, conv.batch, q),
        "dx": (q, conv.batch, conv.filters),
        "dw": (conv.filters, q, conv.batch),
    }[stage]
    yield Phase(2.0 * conv.macs, y + weights * positions, unit="matrix", extents=extents, calls=positions / 4)


_CONV: dict[str, Callable[[str, ConvShape, str, str], Iterator[Phase]]] = {
    "direct": _direct,
    "im2col": _im2col,
    "fft": _fft,
    "fft_tiled": _fft,
    "winograd": _winograd,
}
