"""Cases of activations, arithmetic, products of matrices, and operators that move elements."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS, Operator
from tests.kernels.calling import Op
from tests.operators.case import Case, Draw, drawn

Rng = np.random.Generator

SHAPES = (
    ("batch", "feature"),
    ("batch", "seq", "width"),
    ("batch", "channel", "height", "width"),
    ("batch", "channel", "depth", "height", "width"),
)
"""Axes of rows, sequences, images and volumes."""

KINKS = {"hard_swish": (-3.0, 3.0)}
"""Where an activation bends, if not at 0."""

GAP = 0.05
"""How far from a kink operands stay; differences reach 0.002."""


def named(name: str) -> Operator:
    found = operator(name)
    assert found is not None
    return found


def value(names: tuple[str, ...], *extents: int) -> TensorType:
    return TensorType("f64", tuple(Axis(name, int(extent)) for name, extent in zip(names, extents, strict=True)))


def any_value(rng: Rng, least: int = 1, most: int = 3) -> TensorType:
    """Of any rank; some axes may have one element."""
    names = SHAPES[rng.integers(len(SHAPES))]
    return value(names, *rng.integers(least, most + (len(names) < 4), len(names)))


def layout_of(rng: Rng, *types: TensorType) -> str:
    """Any, where there is an image."""
    return str(rng.choice(LAYOUTS)) if any(len(type_.axes) == 4 for type_ in types) else "NCHW"


def beside(x: Any, *kinks: float) -> Any:
    """Those that are near a kink moved away from it."""
    for kink in kinks:
        near = np.abs(x - kink) < GAP
        x = np.where(near, x + np.where(x < kink, -GAP, GAP), x)
    return x


def activation(name: str, rng: Rng, **args: Attr) -> Case:
    x = any_value(rng)
    op = Op(named(name), (x,), args, layout_of(rng, x))
    return drawn(op, rng, x=beside(2 * rng.standard_normal(x.shape), *KINKS.get(name, (0.0,))))


def leaky_relu(rng: Rng) -> Case:
    return activation("leaky_relu", rng, slope=float(rng.choice([0.0, 0.01, 0.3])))


def elu(rng: Rng) -> Case:
    return activation("elu", rng, alpha=float(rng.choice([0.5, 1.0, 1.7])))


def rows(name: str, rng: Rng) -> Case:
    """Along any axis, or along the last one; of one element the gradient would be 0."""
    x = any_value(rng)
    axis = str(rng.choice(x.names[1:]))
    args: dict[str, Attr] = {"axis": axis} if axis != x.names[-1] or rng.random() < 0.5 else {}
    x = x.with_extent(axis, int(rng.integers(2, 5)))
    return drawn(Op(named(name), (x,), args, layout_of(rng, x)), rng)


def arithmetic(name: str, rng: Rng) -> Case:
    """Of two values, one of which may lack axes or have one element along some; divisors are not near 0."""
    a = any_value(rng)
    axes = [axis for axis in a.axes if rng.random() < 0.7] or [a.axes[-1]]
    b = TensorType("f64", tuple(Axis(axis.name, 1) if lone(axis, rng) else axis for axis in axes))
    operands = (a, b) if rng.random() < 0.5 else (b, a)
    op = Op(named(name), operands, {}, layout_of(rng, a))
    divisor = {"b": away_from_zero(rng, operands[1])} if name == "div" else {}
    return drawn(op, rng, **divisor)


def lone(axis: Axis, rng: Rng) -> bool:
    return axis.name != "batch" and bool(rng.random() < 0.3)


def away_from_zero(rng: Rng, type_: TensorType) -> Any:
    return rng.choice([-1, 1], type_.shape) * rng.uniform(0.5, 2, type_.shape)


def with_number(name: str, rng: Rng) -> Case:
    """Of a value and a number, on either side."""
    x = any_value(rng)
    args: dict[str, Attr] = {"scalar": float(rng.uniform(0.5, 2)), "scalar_first": bool(rng.integers(2))}
    return drawn(Op(named(name), (x,), args, layout_of(rng, x)), rng, a=away_from_zero(rng, x))


def matmul(rng: Rng) -> Case:
    """With up to two axes of matrices, of which either operand may lack some."""
    n, heads, m, k, width = rng.integers(1, 4, 5)
    numbers = (Axis("batch", int(n)), Axis("heads", int(heads)))[: rng.integers(1, 3)]
    fewer = tuple(axis for axis in numbers if rng.random() < 0.6)
    left, right = (numbers, fewer) if rng.random() < 0.5 else (fewer, numbers)
    a = TensorType("f64", (*left, Axis("seq", int(m)), Axis("inner", int(k))))
    b = TensorType("f64", (*right, Axis("inner", int(k)), Axis("width", int(width))))
    return drawn(Op(named("matmul"), (a, b), {}), rng)


def transpose(rng: Rng) -> Case:
    x = any_value(rng)
    behind = [str(name) for name in rng.permutation(x.names[1:])]
    args: dict[str, Attr] = {"order": tuple(behind)} if len(x.axes) < 3 or rng.random() < 0.6 else {}
    return drawn(Op(named("transpose"), (x,), args), rng)


def concat(rng: Rng) -> Case:
    x = any_value(rng, most=2)
    axis = str(rng.choice(x.names[1:]))
    operands = tuple(x.with_extent(axis, int(extent)) for extent in rng.integers(1, 4, rng.integers(1, 4)))
    return drawn(Op(named("concat"), operands, {"axis": axis}, layout_of(rng, x)), rng)


def split(rng: Rng) -> Case:
    """Into equal parts or into any."""
    x = any_value(rng, most=2)
    axis, count = str(rng.choice(x.names[1:])), int(rng.integers(1, 4))
    parts = tuple(int(extent) for extent in rng.integers(1, 4, count))
    n = count if rng.random() < 0.5 else parts
    x = x.with_extent(axis, 2 * count if n == count else sum(parts))
    return drawn(Op(named("split"), (x,), {"n": n, "axis": axis}, layout_of(rng, x)), rng)


def sliced(rng: Rng) -> Case:
    """Forwards and backwards, with bounds from either end and without."""
    x = any_value(rng, most=2)
    axis, extent = str(rng.choice(x.names[1:])), int(rng.integers(3, 6))
    x = x.with_extent(axis, extent)
    step = int(rng.choice([-2, -1, 1, 2]))
    low, high = sorted(int(bound) for bound in rng.choice(extent, 2, replace=False))
    start, stop = (low, high) if step > 0 else (high, low)
    args: dict[str, Attr] = {"axis": axis, "step": step}
    if rng.random() < 0.7:
        args["start"] = start - extent * int(rng.integers(2))
    if rng.random() < 0.7:
        args["stop"] = stop - extent * int(rng.integers(2))
    return drawn(Op(named("slice"), (x,), args, layout_of(rng, x)), rng)


def pad(mode: str, rng: Rng) -> Case:
    """Of the axes that windows slide over, or of any that are named."""
    x = any_value(rng, least=2)
    args: dict[str, Attr] = {"mode": mode, "value": float(rng.integers(3))}
    axes = x.names[2:] if x.names[1] == "channel" else (str(rng.choice(x.names[1:])),)
    if x.names[1] != "channel":
        args["axis"] = axes
    most = min(x.extent(name) for name in axes)
    pairs = tuple((int(before), int(after)) for before, after in rng.integers(0, most, (len(axes), 2)))
    args["amount"] = pairs if rng.random() < 0.8 else int(rng.integers(0, most))
    return drawn(Op(named("pad"), (x,), args, layout_of(rng, x)), rng)


CASES: dict[str, Draw] = {
    **{name: partial(activation, name) for name in ("relu", "tanh", "sigmoid", "silu", "hard_swish")},
    "leaky_relu": leaky_relu,
    "elu": elu,
    **{f"gelu/{word}": partial(activation, "gelu", approximate=word) for word in ("none", "tanh")},
    **{name: partial(rows, name) for name in ("softmax", "log_softmax")},
    **{name: partial(arithmetic, name) for name in ("add", "sub", "mul", "div")},
    **{f"{name}/number": partial(with_number, name) for name in ("add", "sub", "mul", "div")},
    "matmul": matmul,
    "transpose": transpose,
    "concat": concat,
    "split": split,
    "slice": sliced,
    **{f"pad/{mode}": partial(pad, mode) for mode in ("constant", "reflect", "edge")},
}
