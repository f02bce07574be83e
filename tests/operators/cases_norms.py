"""Cases of norms, embeddings, attention and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from tests.kernels.calling import Op
from tests.operators.case import Case, Draw, drawn

SPATIAL = ((), ("width",), ("height", "width"), ("depth", "height", "width"))


def extent(rng: np.random.Generator, low: int, high: int) -> int:
    """An extent from low to high, both included."""
    return int(rng.integers(low, high + 1))


def typed(dtype: str = "f64", **extents: int) -> TensorType:
    return TensorType(dtype, tuple(Axis(name, count) for name, count in extents.items()))


def rows(rng: np.random.Generator) -> TensorType:
    """Features, sequences or images; the last axis has two elements or more."""
    names = (("feature",), ("seq", "width"), ("channel", "height", "width"))[rng.integers(3)]
    return typed(
        batch=extent(rng, 1, 3), **{name: extent(rng, 1, 3) for name in names[:-1]}, **{names[-1]: extent(rng, 2, 5)}
    )


def pixels(rng: np.random.Generator, channels: int, least: int = 1, smallest_batch: int = 1) -> TensorType:
    """Channels and from none to three axes of pixels, at least `least` elements in a channel of a sample."""
    while True:
        names = SPATIAL[rng.integers(4)]
        found = {name: extent(rng, 1, 3) for name in names}
        if np.prod([*found.values(), 1]) >= least:
            return typed(batch=extent(rng, smallest_batch, 3), channel=channels, **found)


def of_rows(name: str) -> Draw:
    """A norm of the last axis."""

    def draw(rng: np.random.Generator) -> Case:
        eps = float(rng.choice([1e-5, 1e-2, 0.5]))
        return drawn(Op(operator(name), (rows(rng),), {"eps": eps}), rng)

    return draw


def groupnorm(rng: np.random.Generator) -> Case:
    groups, each = extent(rng, 1, 3), extent(rng, 1, 2)
    x = pixels(rng, groups * each, least=3 - each)
    return drawn(Op(operator("groupnorm"), (x,), {"groups": groups, "eps": 1e-2}, layout=layout(rng, x)), rng)


def lrn(rng: np.random.Generator) -> Case:
    x = pixels(rng, extent(rng, 1, 6))
    beta = float(rng.choice([0.75, 0.5, 1.3]))
    args = {"size": extent(rng, 1, 6), "alpha": float(rng.uniform(0.1, 2)), "beta": beta, "k": float(rng.uniform(1, 2))}
    return drawn(Op(operator("lrn"), (x,), args, layout=layout(rng, x)), rng)


def bn(rng: np.random.Generator) -> Case:
    """Groups of two samples or more, a remainder too."""
    x = pixels(rng, extent(rng, 1, 3), smallest_batch=2)
    batch = 2 * x.shape[0]
    x = x.with_extent("batch", batch)
    group = int(rng.choice([g for g in range(2, batch + 1) if batch % g != 1]))
    runtime = {"count": batch, "position": 0}
    op = Op(operator("bn"), (x,), {"group": group, "eps": 1e-2}, layout=layout(rng, x), runtime=runtime)
    case = drawn(op, rng)
    return Case(op, case.known, ("x", "scale", "shift"))


def layout(rng: np.random.Generator, x: TensorType) -> str:
    """An image lies in memory in any order."""
    return str(rng.choice(["NCHW", "NHWC", "CHWN"])) if len(x.axes) == 4 else "NCHW"


def dropout(rng: np.random.Generator) -> Case:
    runtime: dict[str, Any] = {"step": extent(rng, 0, 9), "position": extent(rng, 0, 9), "key": (3, 5)}
    return drawn(Op(operator("dropout"), (rows(rng),), {"p": float(rng.uniform(0, 0.8))}, runtime=runtime), rng)


def of_tokens(name: str) -> Draw:
    """A table, looked up by tokens of which some are equal; kept in float64."""

    def draw(rng: np.random.Generator) -> Case:
        names = ("batch", "seq")[: extent(rng, 1, 2)] if name == "embedding" else ("batch", "seq")
        x, vocab = typed("i32", **{axis: extent(rng, 1, 4) for axis in names}), extent(rng, 1, 5)
        args = {"width": extent(rng, 1, 4)} | ({"vocab": vocab} if name == "embedding" else {})
        op = Op(operator(name), (x,), args)
        op.types = {role: t.with_dtype("f64") if t.dtype == "f32" else t for role, t in op.types.items()}
        return drawn(op, rng, "weight", x=rng.integers(0, vocab, x.shape, dtype=np.int32))

    return draw


def split_heads(rng: np.random.Generator) -> Case:
    heads, width = extent(rng, 1, 3), extent(rng, 1, 3)
    x = typed(batch=extent(rng, 1, 3), seq=extent(rng, 1, 4), width=heads * width)
    return drawn(Op(operator("split_heads"), (x,), {"heads": heads}), rng)


def merge_heads(rng: np.random.Generator) -> Case:
    heads, seq = extent(rng, 1, 3), extent(rng, 1, 4)
    x = typed(batch=extent(rng, 1, 3), heads=heads, seq=seq, width=extent(rng, 1, 3))
    return drawn(Op(operator("merge_heads"), (x,), {}), rng)


def causal_mask(rng: np.random.Generator) -> Case:
    seq, heads = extent(rng, 1, 5), {"heads": extent(rng, 1, 2)} if rng.random() < 0.5 else {}
    return drawn(Op(operator("causal_mask"), (typed(batch=extent(rng, 1, 2), **heads, seq=seq, key=seq),), {}), rng)


def attention(causal: bool) -> Callable[[np.random.Generator], Case]:
    def draw(rng: np.random.Generator) -> Case:
        heads = extent(rng, 1, 2)
        x = typed(batch=extent(rng, 1, 3), seq=extent(rng, 1, 4), width=heads * extent(rng, 1, 2))
        args = {"heads": heads, "causal": causal, "bias": bool(rng.random() < 0.7)}
        return drawn(Op(operator("attention"), (x,), args), rng)

    return draw


def weight_norm(rng: np.random.Generator) -> Case:
    """Of a matrix or of filters."""
    names = ("out", "in", "height", "width")[: rng.choice([2, 3, 4])]
    extents = {name: extent(rng, 1, 3) for name in names}
    direction = typed(**extents)
    magnitude = typed(**{name: count if name == "out" else 1 for name, count in extents.items()})
    away = rng.choice([-1, 1], direction.shape) * rng.uniform(0.5, 2, direction.shape)
    return drawn(Op(operator("weight_norm"), (direction, magnitude), {}), rng, direction=away)


CASES: dict[str, Draw] = {
    "layernorm": of_rows("layernorm"),
    "rmsnorm": of_rows("rmsnorm"),
    "groupnorm": groupnorm,
    "lrn": lrn,
    "bn": bn,
    "dropout": dropout,
    "embedding": of_tokens("embedding"),
    "position_embedding": of_tokens("position_embedding"),
    "split_heads": split_heads,
    "merge_heads": merge_heads,
    "causal_mask": causal_mask,
    "attention": attention(causal=False),
    "attention/causal": attention(causal=True),
    "weight_norm": weight_norm,
}
