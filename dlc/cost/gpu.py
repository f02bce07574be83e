"""What the kernels of a GPU's libraries (cuDNN, cuBLAS, cuFFT and their like) do, as phases.

A phase is one kernel, or a few that follow each other over the same data: its operands go through memory once, tiles
that several threads need come from the cache. Element-wise ops take one pass; batch norm reads its input twice. A
convolution by `cudnn` or `implicit_gemm` is a matrix product whose column matrix is never stored, `im2col` stores that
of one sample at a time, `winograd` transforms small tiles in the kernel of the product, `fft` writes and reads spectra.
Layouts cost nothing where threads read runs together, but products on tensor cores take channels last: in another
layout the operands are first put in order (NVIDIA, *cuDNN developer guide*, tensor cores and layouts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

from dlc.cost.phases import OPERATIONS, Phase
from dlc.cost.rates import TENSOR_TYPES
from dlc.ir.tensor import DTYPE_BYTES
from dlc.ops.attention import heads_at_hand
from dlc.ops.attributes import flag, integer
from dlc.ops.conv_algorithms import ConvShape, conv_shape, fft_tiling, tiling
from dlc.ops.conv_transpose import as_conv
from dlc.ops.counting import touched
from dlc.ops.extents import larger, log2
from dlc.ops.operator import Operator, Shapes

SHARES = {
    "cudnn": 0.75,
    "implicit_gemm": 0.6,
    "direct": 0.75,
    "winograd": 0.6,
    "fft": 0.6,
}
"""How near the products of a convolution come to the rate of a matrix product of their extents.

`cudnn` and `implicit_gemm` compute addresses while they multiply, `winograd` of 2x2 tiles transforms them, `fft`
multiplies complex numbers. Set by hand: 0.75 is what cuDNN R2 reached on the layers L2 to L5 of convnet-benchmarks, 0.6
of the peak where a product of large matrices has 0.8; the others are estimates that were not fitted to anything:
`implicit_gemm` is the program's own kernel."""

PASSES = {
    ("bn", "forward"): (1.5, 2),
    ("bn", "dx"): (5 / 3, 2),
    ("softmax", "forward"): (1.5, 1),
    ("softmax", "dx"): (4 / 3, 1),
    ("log_softmax", "forward"): (1.5, 1),
    ("log_softmax", "dx"): (4 / 3, 1),
    ("lars", "update"): (1.5, 2),
    ("lamb", "update"): (1.5, 2),
    ("lbfgs", "update"): (1.5, 60),
    ("clip", "clip"): (1.5, 2),
    ("unscale", "unscale"): (1.5, 2),
}
"""(op, pass) -> (how often its operands' bytes go through memory, kernels); one pass by one kernel elsewhere.

What a row or channel is normalised by is known after one pass over it, so its operands are read twice and the result
is written once: three passes over two operands are 1.5 times their bytes."""


def gpu_phases(operator: Operator, stage: str, shapes: Shapes, algorithm: str, layout: str) -> tuple[Phase, ...]:
    """The phases of one kernel of a GPU; ValueError for an algorithm of convolution that has no model here."""
    if operator.view:
        return (Phase(calls=0),)
    if operator.name in ("conv", "conv_transpose"):
        family = algorithm.partition("(")[0]
        if family not in _CONV:
            raise ValueError(f"no phases are known of {algorithm!r}")
        bias = _summed_bias(stage, shapes)
        if operator.name == "conv_transpose":
            stage, shapes = as_conv(stage, shapes)
        return (*_CONV[family](stage, conv_shape(stage, shapes), algorithm, layout), *bias)
    if operator.name in _MODELS:
        return tuple(_MODELS[operator.name](operator, stage, shapes))
    return (_elements(operator, stage, shapes),)


def _elements(operator: Operator, stage: str, shapes: Shapes) -> Phase:
    cost = operator.cost(stage, shapes)
    passes, kernels = PASSES.get((operator.name, stage), (1.0, 1))
    return Phase(cost.work * OPERATIONS.get(operator.name, 1.0), cost.bytes * passes, calls=kernels)


def _summed_bias(stage: str, shapes: Shapes) -> tuple[Phase, ...]:
    """For dw dy is summed; forward the bias is added where y is written."""
    if stage != "dw" or not shapes.attrs["bias"]:
        return ()
    dy = shapes.inputs[0]
    return (Phase(dy.elements, dy.bytes),)


def _linear(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x."""
    cost = operator.cost(stage, shapes)
    weight = shapes.outputs[0] if stage == "dw" else shapes.inputs[1]
    fan_out, fan_in = weight.shape[::-1] if "transposed" in shapes.attrs else weight.shape
    rows = cost.macs // (fan_in * fan_out)
    extents = {"forward": (rows, fan_out, fan_in), "dx": (rows, fan_in, fan_out), "dw": (fan_out, fan_in, rows)}[stage]
    yield Phase(2.0 * cost.macs, cost.bytes, unit="matrix", extents=extents)
    yield from _summed_bias(stage, shapes)


def _matmul(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """y = a·b; da = dy·bᵀ and db = aᵀ·dy: a product of each pair of matrices, all of them by one kernel."""
    cost = operator.cost(stage, shapes)
    a, b = shapes.inputs[-2:]
    (m, k), n = a.shape[-2:], b.shape[-1]
    each = ((m, n, k),) if stage == "forward" else ((m, k, n), (k, n, m))
    pairs = larger(1, cost.macs // (len(each) * m * n * k))
    for extents in each:
        yield Phase(2.0 * cost.macs / len(each), cost.bytes / len(each), unit="matrix", extents=extents, products=pairs)


def _attention(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """Both projections, scores and their use, and the softmax between; backward two products for each of them."""
    x = shapes.inputs[0]
    (batch, seq, width), (heads, inner) = x.shape, heads_at_hand(shapes)
    rows, size, times = batch * seq, DTYPE_BYTES[x.dtype], 1 if stage == "forward" else 2
    for fan_in, fan_out in ((width, 3 * inner), (inner, width)):
        moved = size * (rows * (fan_in + fan_out) + fan_in * fan_out)
        flops, extents = 2.0 * times * rows * fan_in * fan_out, (rows, fan_out, fan_in)
        yield Phase(flops, times * moved, unit="matrix", extents=extents, calls=times)
    scores, width = batch * heads * seq * seq, larger(1, inner // heads)
    for extents in ((seq, seq, width), (seq, width, seq)):
        moved = times * size * (scores + 2 * rows * inner)
        yield Phase(
            2.0 * times * scores * width, moved, unit="matrix", extents=extents, products=batch * heads, calls=times
        )
    yield Phase(5.0 * scores, 3.0 * size * scores)


def _recurrent(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """For each element of the sequence, layer and direction a product and a kernel for the gates, in order."""
    cost = operator.cost(stage, shapes)
    first = 0 if stage == "forward" else 1
    (batch, seq, _), gates = shapes.inputs[first].shape, shapes.inputs[first + 1].shape[0]
    hidden, layers = (integer(shapes.attrs, name) for name in ("hidden", "layers"))
    steps = seq * layers * (1 + flag(shapes.attrs, "bidirectional"))
    yield Phase(2.0 * cost.macs, cost.bytes, unit="matrix", extents=(batch, gates, hidden), calls=2 * steps)


def _depthwise(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """Each result by itself, from a window that lies in the cache."""
    cost = operator.cost(stage, shapes)
    yield Phase(2.0 * cost.macs, cost.bytes)
    yield from _summed_bias(stage, shapes)


def _local(operator: Operator, stage: str, shapes: Shapes) -> Iterator[Phase]:
    """A product for each output position, which has weights of its own."""
    conv = conv_shape(stage, replace(shapes, attrs={**shapes.attrs, "groups": 1}))
    q, positions = conv.channels * conv.windows.taps, prod(conv.y)
    extents = {
        "forward": (conv.filters, conv.batch, q),
        "dx": (q, conv.batch, conv.filters),
        "dw": (conv.filters, q, conv.batch),
    }[stage]
    yield Phase(2.0 * conv.macs, touched(shapes), unit="matrix", extents=extents, products=positions)
    yield from _summed_bias(stage, shapes)


_MODELS: dict[str, Callable[[Operator, str, Shapes], Iterator[Phase]]] = {
    "linear": _linear,
    "matmul": _matmul,
    "attention": _attention,
    "rnn": _recurrent,
    "lstm": _recurrent,
    "gru": _recurrent,
    "depthwise_conv": _depthwise,
    "local_conv": _local,
}


# Convolution: one model an algorithm, for the convolution of a pass.


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a value, of x, y and the weights."""

    value: int
    x: int
    y: int
    weights: int

    @property
    def all(self) -> int:
        """What every algorithm reads and writes."""
        return self.x + self.y + self.weights


def _sizes(conv: ConvShape) -> Sizes:
    value = DTYPE_BYTES[conv.dtype]
    x = conv.batch * conv.channels * prod(conv.x) * value
    return Sizes(value, x, conv.y_values * value, conv.weights * value)


def _product(stage: str, conv: ConvShape, samples: int) -> tuple[int, int, int]:
    """(m, n, k) of the product of a group over so many samples: a row of dx sums over the taps that reach it."""
    into, out, taps = conv.channels // conv.groups, conv.filters // conv.groups, conv.windows.taps
    if stage == "dx":
        reached = larger(1, taps // prod(conv.windows.stride))
        return into, samples * prod(conv.x), out * reached
    pixels = samples * prod(conv.y)
    return (out, pixels, into * taps) if stage == "forward" else (out, into * taps, pixels)


def _implicit_gemm(stage: str, conv: ConvShape, name: str, layout: str) -> Iterator[Phase]:
    """One product over all samples; its columns are found in x as they are needed."""
    sizes = _sizes(conv)
    if layout != "NHWC" and conv.dtype in TENSOR_TYPES:
        yield Phase(bytes=2.0 * (sizes.x + sizes.y), calls=2)
    extents = _product(stage, conv, conv.batch)
    yield Phase(
        2.0 * conv.macs,
        sizes.all,
        unit="matrix",
        extents=extents,
        products=conv.groups,
        share=SHARES[name.partition("(")[0]],
    )


def _direct(stage: str, conv: ConvShape, name: str, layout: str) -> Iterator[Phase]:
    """As `implicit_gemm`, by ordinary arithmetic."""
    extents, groups = _product(stage, conv, conv.batch), conv.groups
    yield Phase(
        2.0 * conv.macs,
        _sizes(conv).all,
        unit="plain",
        extents=extents,
        products=groups,
        share=SHARES[name.partition("(")[0]],
    )


def _im2col(stage: str, conv: ConvShape, name: str, layout: str) -> Iterator[Phase]:
    """The columns of one sample after the other, and the product with them; one product where they are the input."""
    sizes, taps = _sizes(conv), conv.windows.taps
    if conv.plain:
        each = 1 if layout == "NHWC" or stage == "dw" else conv.batch
        extents, products = _product(stage, conv, conv.batch // each), conv.groups * each
        yield Phase(2.0 * conv.macs, sizes.all, unit="matrix", extents=extents, products=products)
        return
    columns = conv.channels * taps * conv.batch * prod(conv.y) * sizes.value
    into, out, pixels = conv.channels // conv.groups * taps, conv.filters // conv.groups, prod(conv.y)
    extents = {"forward": (out, pixels, into), "dx": (into, pixels, out), "dw": (out, into, pixels)}[stage]
    moved = columns + sizes.y + conv.batch * sizes.weights
    yield Phase(bytes=columns + sizes.x, calls=conv.batch)
    yield Phase(2.0 * conv.macs, moved, unit="matrix", extents=extents, products=conv.groups, calls=conv.batch)


def _winograd(stage: str, conv: ConvShape, name: str, layout: str) -> Iterator[Phase]:
    """The filters' transforms, then the products at α² positions of each tile.

    Tiles of 2x2 are transformed in the kernel of the product. Those of 4x4, with 36 positions, are too large for its
    registers: they are written transformed, multiplied as one batch of matrix products, and transformed back.
    """
    sizes, m = _sizes(conv), 4 if "4" in name else 2
    positions = (m + conv.windows.window[0] - 1) ** 2
    into, out = conv.channels // conv.groups, conv.filters // conv.groups
    tiles = conv.batch * prod(tiling(stage, conv, (m, m)).count)
    extents = {"forward": (out, tiles, into), "dx": (into, tiles, out), "dw": (out, into, tiles)}[stage]
    transformed = sizes.weights * positions / conv.windows.taps
    flops = 2.0 * conv.groups * into * out * tiles * positions
    if m == 2:
        yield Phase(bytes=sizes.weights + transformed)
        moved, share = sizes.x + sizes.y + transformed, SHARES["winograd"]
    else:
        moved, share = conv.groups * (into + out) * tiles * positions * sizes.value + transformed, 1.0
        yield Phase(bytes=sizes.all + moved, calls=3)
    yield Phase(flops, moved, unit="plain", extents=extents, products=conv.groups * positions, share=share)


def _fft(stage: str, conv: ConvShape, name: str, layout: str) -> Iterator[Phase]:
    """Spectra of two operands, put in order of frequencies; a complex product for each; the transform back."""
    sizes = _sizes(conv)
    tiles, lengths = fft_tiling(stage, conv, tiled=name == "fft_tiled")
    into, out = conv.channels // conv.groups, conv.filters // conv.groups
    images, points = conv.batch * prod(tiles.count), prod(lengths)
    frequencies = points // 2 + 1
    transforms = conv.groups * (images * (into + out) + into * out)
    spectra = transforms * frequencies * 2 * sizes.value
    flops = 2.5 * transforms * points * log2(points)
    yield Phase(flops, sizes.all + spectra, unit="transform", calls=3)
    yield Phase(bytes=2.0 * spectra, calls=3)
    extents = {"forward": (out, images, into), "dx": (into, images, out), "dw": (out, into, images)}[stage]
    products = conv.groups * frequencies
    yield Phase(
        8.0 * products * images * into * out,
        spectra,
        unit="plain",
        extents=extents,
        products=products,
        share=SHARES["fft"],
    )


BY_LAYOUT = frozenset({"cudnn", "implicit_gemm", "im2col"})
"""Algorithms whose phases depend on the layout of their operands; those of other ops never do."""

_CONV: dict[str, Callable[[str, ConvShape, str, str], Iterator[Phase]]] = {
    "cudnn": _implicit_gemm,
    "implicit_gemm": _implicit_gemm,
    "direct": _direct,
    "im2col": _im2col,
    "winograd": _winograd,
    "fft": _fft,
    "fft_tiled": _fft,
}
