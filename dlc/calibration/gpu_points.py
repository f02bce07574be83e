"""What is measured on a GPU: a fixed list, drawn from what networks are made of, and none of it from a network.

Shapes are those of calibration on processors (`points`) made larger, so that they fill a device. `tiny` ones are for
going through all of it without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from backends.cupy_mpi.timing import Copies, Launches, Products
from backends.numpy_mpi.timing import Case, NoKernelError
from dlc.calibration.points import IMAGE_CHANNELS, IMAGE_OPS, TEXT_OPS, Convolution, cases
from dlc.ir.tensor import tensor
from dlc.ops import operator, optimizer
from dlc.ops.operator import Operator, Shapes

LAYOUTS = ("NCHW", "NHWC")

CONVOLUTIONS = (
    Convolution(32, 40, 48, 56, 3),
    Convolution(32, 112, 26, 96, 3),
    Convolution(32, 416, 13, 480, 3),
    Convolution(32, 3, 200, 48, 7, 2),
    Convolution(32, 88, 30, 144, 1),
    Convolution(32, 480, 14, 160, 1),
    Convolution(32, 104, 40, 120, 3, 2),
    Convolution(32, 176, 28, 304, 1, 2),
    Convolution(64, 10, 13, 20, 5),
)
"""Of stems, 3x3 windows on large and small images, 1x1 windows, with strides, and a small one."""

TINY = (Convolution(2, 4, 8, 6, 3), Convolution(2, 6, 8, 4, 1, 2))

ALGORITHMS = ("direct", "implicit_gemm", "im2col", "winograd(4)", "winograd(2)", "fft")

SIZES = ((32, 24, 30), (32, 104, 30), (64, 56, 56))
"""Samples, channels, rows and columns of images: 2.8 to 45 MB."""

TEXTS = ((8, 60, 240), (8, 400, 800), (8, 900, 1600))
"""Samples, tokens and width."""

ATTENTIONS = ((8, 112, 320, 5), (8, 448, 640, 10), (4, 900, 768, 12))
LINEARS = ((48, 1, 110, 70), (56, 1, 1800, 1300), (120, 1, 5200, 2600), (8, 400, 600, 1500), (8, 700, 1500, 600))
RECURRENCES = ((16, 24, 200, 240), (20, 20, 420, 460), (64, 40, 600, 640))
CLASSES = ((48, 10), (128, 1200), (2000, 20_000))
UPDATES = (900, 60_000, 1_600_000, 30_000_000)

GEMM = (40, 200, 1000, 5000)
"""Extents m, n and k of the grid of matrix products."""

TYPES = ("f32", "tf32", "bf16", "f16", "f64")
"""Element types of products."""

COPIED = (2**12, 2**16, 2**20, 2**24, 2**28)
"""Bytes that are copied."""


def launches() -> list[Launches]:
    """One by one, and in a graph."""
    return [Launches(graph=False), Launches(graph=True)]


def copies(ways: Iterable[str], tiny: bool = False) -> list[Copies]:
    """Copies in these ways, of all sizes."""
    return [Copies(way, size) for way in ways for size in (COPIED[:2] if tiny else COPIED)]


def products(dtype: str, tiny: bool = False) -> list[Products]:
    """Matrix products over the grid."""
    return [Products(dtype, *extents) for extents in product(gemm(tiny), repeat=3)]


def gemm(tiny: bool = False) -> tuple[int, ...]:
    """The extents of the grid."""
    return (4, 16) if tiny else GEMM


def convolutions(tiny: bool = False) -> list[Case]:
    """Each algorithm, layout and pass."""
    shapes = TINY if tiny else CONVOLUTIONS
    ways = product(ALGORITHMS, shapes, LAYOUTS)
    return [case for algorithm, each, layout in ways for case in _convolutions(algorithm, each, layout)]


def others(tiny: bool = False) -> list[Case]:
    """Everything else."""
    return list(_known((*_images(tiny), *_texts(tiny), *_others(tiny), *_updates(tiny))))


def _convolutions(algorithm: str, each: Convolution, layout: str) -> Iterator[Case]:
    op = _operator("conv")
    rules = {known.name: known for known in op.algorithms}[algorithm]
    x = tensor("f32", batch=each.n, channel=each.channels, height=each.extent, width=each.extent)
    args = {"filters": each.filters, "window": (each.window,) * 2, "stride": (each.stride,) * 2,
            "pad": ((each.window // 2,) * 2,) * 2, "bias": False}  # fmt: skip
    for case in _known(cases(op, (x,), args, algorithm, layout, "numpy")):
        first = case.stage == "dx" and each.channels <= IMAGE_CHANNELS  # no network asks for it
        if not first and rules.excluded(case.stage, case.shapes) is None and layout in rules.layouts:
            yield case


def _images(tiny: bool) -> Iterator[Case]:
    for name, (n, channels, extent) in product(IMAGE_OPS, ((2, 4, 6),) if tiny else SIZES):
        op = _operator(name)
        x = tensor("f32", batch=n, channel=channels, height=extent, width=extent)
        args = {**IMAGE_OPS[name], "group": n} if name == "bn" else IMAGE_OPS[name]
        for layout in LAYOUTS[:1] if op.elementwise else LAYOUTS:
            yield from cases(op, (x,) * (2 if name in ("add", "concat") else 1), args, "", layout, "numpy")
        if name == "add":
            yield Case("sum", "sum", Shapes((x, x), (x,), {}), "", LAYOUTS[0])
            for source, target in (LAYOUTS, LAYOUTS[::-1]):
                told = {"source": source, "target": target}
                yield Case("convert", "forward", Shapes((x,), (x,), told), "", target)


def _texts(tiny: bool) -> Iterator[Case]:
    texts = ((2, 6, 8),) if tiny else TEXTS
    for name, (n, tokens, width) in product(TEXT_OPS, texts):
        operands = (tensor("f32", batch=n, seq=tokens, width=width),) * (2 if name == "mul" else 1)
        if name == "merge_heads":
            operands = (tensor("f32", batch=n, heads=4, seq=tokens, key=width // 4),)
        yield from cases(_operator(name), operands, TEXT_OPS[name], "", "", "numpy")
    for n, tokens, width, heads in ((2, 6, 8, 2),) if tiny else ATTENTIONS:
        x = tensor("f32", batch=n, seq=tokens, width=width)
        yield from cases(_operator("attention"), (x,), {"heads": heads, "causal": True}, "", "", "numpy")
    for n, tokens, width in texts:
        x = tensor("i32", batch=n, seq=tokens)
        yield from cases(_operator("embedding"), (x,), {"vocab": 3000, "width": width}, "", "", "numpy")
        yield from cases(_operator("position_embedding"), (x,), {"width": width}, "", "", "numpy")


def _others(tiny: bool) -> Iterator[Case]:
    for n, tokens, fan_in, fan_out in ((2, 1, 6, 4), (2, 3, 6, 4)) if tiny else LINEARS:
        x = tensor("f32", batch=n, feature=fan_in) if tokens == 1 else tensor("f32", batch=n, seq=tokens, width=fan_in)
        yield from cases(_operator("linear"), (x,), {"features": fan_out}, "", "", "numpy")
    for name, (n, tokens, width, hidden) in product(("lstm", "gru"), ((2, 3, 4, 4),) if tiny else RECURRENCES):
        x = tensor("f32", batch=n, seq=tokens, width=width)
        yield from cases(_operator(name), (x,), {"hidden": hidden}, "", "", "numpy")
    for name, (n, classes) in product(("cross_entropy", "accuracy", "softmax"), ((4, 3),) if tiny else CLASSES):
        scores = tensor("f32", batch=n, feature=classes)
        operands = (scores,) if name == "softmax" else (scores, tensor("i32", batch=n))
        yield from cases(_operator(name), operands, {}, "", "", "numpy")


def _updates(tiny: bool) -> Iterator[Case]:
    rules: tuple[tuple[str, dict[str, object]], ...] = (("sgd", {"momentum": 0.9}), ("adam", {}), ("adamw", {}))
    for (name, args), size in product(rules, UPDATES[:1] if tiny else UPDATES):
        rule = optimizer(name)
        weight = tensor("f32", **{"out": size // 100, "in": 100})
        attrs = {p.name: p.default for p in rule.operator.parameters if p.default is not None} | args
        yield Case(name, "update", Shapes((weight,) * (2 + len(rule.states(attrs))), (), attrs))


def _known(found: Iterable[Case]) -> Iterator[Case]:
    """Those that there are kernels for."""
    for case in found:
        try:
            case.kernel  # noqa: B018  it is looked for here
        except NoKernelError:
            continue
        yield case


def _operator(name: str) -> Operator:
    found = operator(name)
    if found is None:
        raise KeyError(name)
    return found
