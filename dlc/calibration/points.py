"""Which kernels are measured, on which shapes: a fixed list, so that two runs on a machine measure the same.

The shapes are drawn from what networks are made of, and none of them from a network: extents that are no powers of two,
several sizes of each op, from what the first cache holds to what no cache does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

from backends.numpy_mpi.timing import Case, NoKernelError
from dlc.ir.schema import given, needed
from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator, optimizer
from dlc.ops.operator import LAYOUTS, Operator, Shapes


class Convolution(NamedTuple):
    """Samples, channels, rows and columns, filters, window, stride."""

    n: int
    channels: int
    extent: int
    filters: int
    window: int
    stride: int = 1


CONVOLUTIONS = (
    Convolution(4, 40, 48, 56, 3),
    Convolution(4, 112, 26, 96, 3),
    Convolution(4, 240, 15, 208, 3),
    Convolution(4, 416, 8, 480, 3),
    Convolution(8, 3, 120, 48, 7, 2),
    Convolution(8, 88, 30, 144, 1),
    Convolution(4, 480, 14, 160, 1),
    Convolution(4, 104, 40, 120, 3, 2),
    Convolution(4, 176, 28, 304, 1, 2),
    Convolution(16, 12, 22, 20, 5),
    Convolution(4, 3, 100, 56, 3),
)
"""Of stems, of 3x3 windows on large and small images, of 1x1 windows, with strides, and a small one."""

DEEP = (Convolution(4, 496, 13, 528, 3), Convolution(2, 480, 26, 464, 3))
"""Of as many channels as the filters of a tiling fill the caches with."""

IMAGE_CHANNELS = 3
"""Those of the images that networks are given."""

FEW_PIXELS = Convolution(64, 18, 4, 100, 5)
"""Of more weights than image."""

SMALL_CONVOLUTIONS = (
    Convolution(48, 1, 30, 8, 5),
    Convolution(48, 10, 13, 20, 5),
    Convolution(40, 20, 6, 96, 5),
    Convolution(16, 24, 18, 40, 3),
    Convolution(64, 12, 12, 28, 5),
    Convolution(32, 28, 9, 72, 3),
    Convolution(64, 1, 26, 10, 5),
    Convolution(64, 8, 15, 18, 5),
    FEW_PIXELS,
)
"""Those that samples as vectors are for; of these some are as many as batches are, which share few sets of a cache."""

OTHERS_IN_SAMPLES = (Convolution(16, 72, 14, 104, 3), Convolution(16, 56, 24, 88, 5))
"""Of images that they are not for, which no cache holds: by small ones alone they seem to be the fastest there too."""

PLAIN_CONVOLUTIONS = (
    Convolution(2, 40, 24, 56, 3),
    Convolution(2, 112, 13, 96, 3),
    Convolution(4, 3, 60, 32, 7, 2),
    Convolution(4, 88, 15, 144, 1),
    *SMALL_CONVOLUTIONS[:3],
    FEW_PIXELS,
)
"""Those that NumPy's kernels are measured on, which are slower."""

MIDDLING = Convolution(4, 240, 15, 208, 3)
"""Of many channels: without it NumPy's tilings seem to be faster on these than those in C."""

MANY_CHANNELS = Convolution(8, 464, 9, 496, 3)
"""For tilings, whose arrays no cache holds then: they take three times what those of few channels tell of them."""

C_WAYS = {
    ("direct", "NHWC"): CONVOLUTIONS,
    ("winograd(4)", "NHWC"): (*CONVOLUTIONS[:4], *DEEP),
    ("winograd(2)", "NHWC"): (*CONVOLUTIONS[:3], DEEP[0]),
    ("direct", "CHWN"): (*SMALL_CONVOLUTIONS, *OTHERS_IN_SAMPLES),
}
"""(algorithm, layout) of convolution in C -> shapes."""

NUMPY_WAYS = {
    (algorithm, layout): (
        *PLAIN_CONVOLUTIONS,
        *((MIDDLING,) if algorithm != "fft" else ()),
        *((MANY_CHANNELS,) if algorithm.startswith("winograd") else ()),
    )
    for algorithm, layout in product(("im2col", "direct", "winograd(4)", "winograd(2)", "fft"), LAYOUTS)
}

SIZES = ((4, 24, 10), (8, 56, 22), (4, 104, 56))
"""Samples, channels, rows and columns of images of three sizes: 38 KB, 870 KB, 5 MB."""

SAMPLES_INSIDE = ((40, 6, 26), (24, 16, 10), (64, 24, 22), (4, 56, 22))
"""The same for layouts with samples innermost, which are for many of them."""

PLAIN = ((40, 6, 26), (8, 56, 22))
"""The same for layouts with columns innermost, which C has pooling for beside convolutions of NumPy."""

IMAGE_OPS: Mapping[str, Mapping[str, Any]] = {
    "relu": {},
    "tanh": {},
    "add": {},
    "bn": {"group": 4},
    "maxpool": {"window": (3, 3), "stride": (2, 2), "pad": ((1, 1), (1, 1))},
    "avgpool": {"window": (2, 2), "stride": (2, 2)},
    "global_avgpool": {},
    "lrn": {},
    "concat": {"axis": "channel"},
    "dropout": {"p": 0.4},
}

VECTORS = ((40, 150), (24, 1300))
"""Samples and features of what stands between linear maps."""

VECTOR_OPS: Mapping[str, Mapping[str, Any]] = {"relu": {}, "tanh": {}, "sigmoid": {}, "dropout": {"p": 0.4}}

TEXTS = ((4, 24, 96), (8, 60, 240), (8, 120, 800))
"""Samples, tokens and width of texts of three sizes."""

TEXT_OPS: Mapping[str, Mapping[str, Any]] = {
    "gelu": {},
    "sigmoid": {},
    "mul": {},
    "dropout": {"p": 0.1},
    "layernorm": {},
    "softmax": {},
    "split_heads": {"heads": 4},
    "merge_heads": {},
    "transpose": {},
}

ATTENTIONS = ((4, 40, 96, 4), (4, 112, 320, 5), (2, 240, 448, 8))
"""Samples, tokens, width, heads."""

LINEARS = (
    (8, 1, 700, 900),
    (24, 1, 1800, 1300),
    (48, 1, 110, 70),
    (56, 1, 90, 12),
    (40, 1, 300, 150),
    (4, 1, 5200, 2600),
    (14, 1, 3000, 2200),
    (4, 56, 200, 300),
    (8, 90, 440, 360),
    (8, 60, 520, 1500),
)
"""Samples, tokens (1: none), features in and out."""

RECURRENCES = ((8, 12, 80, 96), (16, 24, 200, 240), (20, 20, 420, 460), (24, 22, 560, 600))
"""Samples, tokens, width, hidden."""

MOVING = ("add", "mul", "relu", "sum", "sgd")
"""Ops that do nothing but go through memory."""

CLASSES = ((24, 10), (56, 12), (120, 40), (48, 240), (16, 2400))
UPDATES = (900, 8_000, 60_000, 1_600_000, 9_000_000)
"""Elements of a weight."""


GEMM = (6, 40, 200, 900)
"""Extents m, n and k of the grid of matrix products."""

RUNS = (4, 16, 64, 512, 4096)
"""Values of f32 that lie together in the copies that bandwidth is measured by: NumPy copies single ones in one long
strided loop, which tells nothing of short ones."""

COPIED = 2**21
"""Values of such a copy."""


def convolutions(kernels: str) -> list[Case]:
    """Convolutions of a family, each algorithm, layout and pass."""
    return list(_known(_convolutions(kernels)))


def others(kernels: str) -> list[Case]:
    """Everything else of a family."""
    return list(_known((*_images(kernels), *_texts(kernels), *_others(kernels), *_updates(kernels))))


def products(dtype: str) -> list[Case]:
    """Matrix products over the grid: a linear layer's gradient by its input is one and nothing else."""
    found = []
    for m, n, k in product(GEMM, repeat=3):
        weight = tensor(dtype, **{"out": k, "in": n})
        dy, dx = tensor(dtype, batch=m, feature=k), tensor(dtype, batch=m, feature=n)
        found.append(Case("linear", "dx", Shapes((dy, weight), (dx,), {"features": k, "bias": False})))
    return found


def copies() -> list[Case]:
    """Copies of one half of each row, by the length of these."""
    found = []
    for run in RUNS:
        x, y = (tensor("f32", batch=COPIED // run, feature=extent) for extent in (2 * run, run))
        found.append(Case("slice", "forward", Shapes((x,), (y,), {"axis": 1, "start": 0, "step": 1, "stop": run})))
    return found


def call() -> Case:
    """A call with next to no work."""
    x = tensor("f32", batch=1, feature=1)
    return Case("relu", "forward", Shapes((x,), (x,), {}))


def _known(found: Iterable[Case]) -> Iterator[Case]:
    """Those that there are kernels for."""
    for case in found:
        try:
            case.kernel  # noqa: B018  it is looked for here
        except NoKernelError:
            continue
        yield case


def _convolutions(kernels: str) -> Iterator[Case]:
    op = _operator("conv")
    for (algorithm, layout), shapes in (C_WAYS if kernels == "c" else NUMPY_WAYS).items():
        rules = next(known for known in op.algorithms if known.name == algorithm)
        for each in shapes:
            x = tensor("f32", batch=each.n, channel=each.channels, height=each.extent, width=each.extent)
            args = {"filters": each.filters, "window": (each.window,) * 2, "stride": (each.stride,) * 2,
                    "pad": ((each.window // 2,) * 2,) * 2, "bias": False}  # fmt: skip
            for case in cases(op, (x,), args, algorithm, layout, kernels):
                first = case.stage == "dx" and each.channels <= IMAGE_CHANNELS  # no network asks for it
                if not first and rules.excluded(case.stage, case.shapes) is None and layout in rules.layouts:
                    yield case


def _images(kernels: str) -> Iterator[Case]:
    for name in IMAGE_OPS:
        op = _operator(name)
        for layout, sizes in _sizes(op, kernels).items():
            for n, channels, extent in sizes:
                x = tensor("f32", batch=n, channel=channels, height=extent, width=extent)
                args = {**IMAGE_OPS[name], "group": n} if name == "bn" else IMAGE_OPS[name]
                yield from cases(op, (x,) * (2 if name in ("add", "concat") else 1), args, "", layout, kernels)
                if name == "add":
                    yield Case("sum", "sum", Shapes((x, x), (x,), {}), "", layout, kernels)


def _sizes(op: Operator, kernels: str) -> Mapping[str, tuple[tuple[int, int, int], ...]]:
    """Layout -> the images that an op is measured on; where it goes over elements as they lie, one layout."""
    if op.elementwise:
        return {"NHWC" if kernels == "c" else "NCHW": SIZES}
    if kernels != "c":
        return dict.fromkeys(("NCHW", "NHWC"), SIZES)
    plain = {"NCHW": PLAIN} if op.name in ("maxpool", "avgpool") else {}
    return {"NHWC": SIZES, "CHWN": SAMPLES_INSIDE, **plain}


def _texts(kernels: str) -> Iterator[Case]:
    for name, (n, features) in product(VECTOR_OPS, VECTORS):
        x = tensor("f32", batch=n, feature=features)
        yield from cases(_operator(name), (x,), VECTOR_OPS[name], "", "", kernels)
    for name, (n, tokens, width) in product(TEXT_OPS, TEXTS):
        operands = (tensor("f32", batch=n, seq=tokens, width=width),) * (2 if name == "mul" else 1)
        if name == "merge_heads":
            operands = (tensor("f32", batch=n, heads=4, seq=tokens, key=width // 4),)
        yield from cases(_operator(name), operands, TEXT_OPS[name], "", "", kernels)
    for n, tokens, width, heads in ATTENTIONS:
        x = tensor("f32", batch=n, seq=tokens, width=width)
        yield from cases(_operator("attention"), (x,), {"heads": heads, "causal": True}, "", "", kernels)
    for n, tokens, width in TEXTS:
        x = tensor("i32", batch=n, seq=tokens)
        yield from cases(_operator("embedding"), (x,), {"vocab": 3000, "width": width}, "", "", kernels)
        yield from cases(_operator("position_embedding"), (x,), {"width": width}, "", "", kernels)


def _others(kernels: str) -> Iterator[Case]:
    for n, tokens, fan_in, fan_out in LINEARS:
        x = tensor("f32", batch=n, feature=fan_in) if tokens == 1 else tensor("f32", batch=n, seq=tokens, width=fan_in)
        yield from cases(_operator("linear"), (x,), {"features": fan_out}, "", "", kernels)
    for name, (n, tokens, width, hidden) in product(("lstm", "gru"), RECURRENCES):
        x = tensor("f32", batch=n, seq=tokens, width=width)
        yield from cases(_operator(name), (x,), {"hidden": hidden}, "", "", kernels)
    for name, (n, classes) in product(("cross_entropy", "accuracy", "softmax"), CLASSES):
        scores = tensor("f32", batch=n, feature=classes)
        operands = (scores,) if name == "softmax" else (scores, tensor("i32", batch=n))
        yield from cases(_operator(name), operands, {}, "", "", kernels)
    for (source, target), (n, channels, extent) in product(
        (("NCHW", "NHWC"), ("NHWC", "NCHW"), ("NHWC", "CHWN"), ("CHWN", "NHWC")), SIZES
    ):
        x = tensor("f32", batch=n, channel=channels, height=extent, width=extent)
        yield Case("convert", "forward", Shapes((x,), (x,), {"source": source, "target": target}), "", target, kernels)


def _updates(kernels: str) -> Iterator[Case]:
    for (name, args), size in product((("sgd", {"momentum": 0.9}), ("adam", {}), ("adamw", {})), UPDATES):
        rule = optimizer(name)
        weight = tensor("f32", **{"out": size // 100, "in": 100})
        attrs = {p.name: p.default for p in rule.operator.parameters if p.default is not None} | args
        shapes = Shapes((weight,) * (2 + len(rule.states(attrs))), (), attrs)
        yield Case(name, "update", shapes, kernels=kernels)


def cases(
    op: Operator, operands: tuple[TensorType, ...], args: Mapping[str, Any], algorithm: str, layout: str, kernels: str
) -> Iterator[Case]:
    """The passes of an op on these operands: forward, and each gradient."""
    defaults = {p.name: p.default for p in op.parameters if p.default is not None}
    inferred = op.infer(operands, {**defaults, **args})
    named = [f"x{at}" for at in range(len(operands))] if op.variadic else op.operands
    types = dict(zip(named, operands, strict=False)) | {weight.role: weight.type for weight in inferred.weights}
    inputs, results = tuple(types), dict(zip(op.results, inferred.results, strict=False)) | dict(inferred.saved)
    types |= results
    attrs, roles = dict(inferred.attrs), {role: role for role in types}
    stage = op.role if op.role in ("loss", "metric") else "forward"
    yield Case(op.name, stage, _shapes(types, inputs, tuple(results), attrs), algorithm, layout, kernels)
    types |= {f"d{role}": type_ for role, type_ in list(types.items())}
    for gradient in op.gradients:
        needs = tuple(f"d{op.results[0]}" if role == "dy" else role for role in needed(gradient, roles))
        gives = tuple(f"d{role}" for role in given(gradient, roles))
        if gradient.suffix != "dt" and gives:
            shapes = _shapes(types, tuple(role for role in needs if role in types), gives, attrs)
            yield Case(op.name, gradient.suffix, shapes, algorithm, layout, kernels)


def _shapes(
    types: Mapping[str, TensorType], ins: tuple[str, ...], outs: tuple[str, ...], attrs: Mapping[str, Any]
) -> Shapes:
    return Shapes(tuple(types[role] for role in ins), tuple(types[role] for role in outs), attrs)


def _operator(name: str) -> Operator:
    found = operator(name)
    if found is None:
        raise KeyError(name)
    return found
