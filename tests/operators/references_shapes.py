"""Activations, arithmetic, products of matrices, and operators that move elements in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import add, mul, sub, truediv
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.operators.case import Reference

Tensors = Mapping[str, Tensor]
Attrs = Mapping[str, Any]


def leaky_relu(tensors: Tensors, attrs: Attrs) -> Tensor:
    return functional.leaky_relu(tensors["x"], attrs["slope"])


def elu(tensors: Tensors, attrs: Attrs) -> Tensor:
    return functional.elu(tensors["x"], attrs["alpha"])


def gelu(tensors: Tensors, attrs: Attrs) -> Tensor:
    return functional.gelu(tensors["x"], approximate=attrs["approximate"])


def softmax(tensors: Tensors, attrs: Attrs) -> Tensor:
    return functional.softmax(tensors["x"], attrs["axis"])


def log_softmax(tensors: Tensors, attrs: Attrs) -> Tensor:
    return functional.log_softmax(tensors["x"], attrs["axis"])


def of_one(function: Callable[[Tensor], Tensor]) -> Reference:
    return lambda tensors, _attrs: function(tensors["x"])


def arithmetic(function: Callable[[Any, Any], Tensor]) -> Reference:
    def compute(tensors: Tensors, attrs: Attrs) -> Tensor:
        if "scalar" in attrs:
            operands = (tensors["a"], attrs["scalar"])
            return function(*reversed(operands)) if attrs["scalar_first"] else function(*operands)
        return function(*aligned(tensors["a"], tensors["b"], attrs.get("axes")))

    return compute


def aligned(a: Tensor, b: Tensor, axes: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    """Both with as many axes; those of the smaller one stand at `axes` of the larger one."""
    rank = max(a.ndim, b.ndim)

    def spread(x: Tensor) -> Tensor:
        if x.ndim == rank or axes is None:
            return x
        return x.reshape([x.shape[axes.index(at)] if at in axes else 1 for at in range(rank)])

    return spread(a), spread(b)


def matmul(tensors: Tensors, attrs: Attrs) -> Tensor:
    a, b = tensors["a"], tensors["b"]
    rank = max(a.ndim, b.ndim)
    axes = (*attrs["axes"], rank - 2, rank - 1) if "axes" in attrs else None
    return torch.matmul(*aligned(a, b, axes))


def transpose(tensors: Tensors, attrs: Attrs) -> Tensor:
    x = tensors["x"]
    return x.permute(attrs["order"]) if "order" in attrs else x.transpose(-1, -2)


def flatten(tensors: Tensors, _attrs: Attrs) -> Tensor:
    return tensors["x"].flatten(1)


def reshape(tensors: Tensors, attrs: Attrs) -> Tensor:
    x = tensors["x"]
    return x.reshape(x.shape[0], *attrs["shape"])


def concat(tensors: Tensors, attrs: Attrs) -> Tensor:
    return torch.cat([tensors[role] for role in sorted(tensors, key=lambda role: int(role[1:]))], attrs["axis"])


def split(tensors: Tensors, attrs: Attrs) -> tuple[Tensor, ...]:
    return torch.split(tensors["x"], attrs["n"], attrs["axis"])


def sliced(tensors: Tensors, attrs: Attrs) -> Tensor:
    """PyTorch's own slices go forwards only."""
    x = tensors["x"]
    taken = range(x.shape[attrs["axis"]])[attrs["start"] : attrs.get("stop") : attrs["step"]]
    return x.index_select(attrs["axis"], torch.tensor(taken))


def pad(tensors: Tensors, attrs: Attrs) -> Tensor:
    """Axis by axis: what PyTorch pads at once depends on the mode and the rank."""
    x = tensors["x"]
    for axis, (before, after) in zip(attrs["axis"], attrs["amount"], strict=True):
        rows = x.movedim(axis, -1)
        flat = rows.reshape(1, -1, rows.shape[-1])
        if attrs["mode"] == "constant":
            flat = functional.pad(flat, (before, after), value=attrs["value"])
        else:
            flat = functional.pad(flat, (before, after), {"reflect": "reflect", "edge": "replicate"}[attrs["mode"]])
        x = flat.reshape(*rows.shape[:-1], -1).movedim(-1, axis)
    return x


REFERENCES: dict[str, Reference] = {
    "relu": of_one(torch.relu),
    "tanh": of_one(torch.tanh),
    "sigmoid": of_one(torch.sigmoid),
    "silu": of_one(functional.silu),
    "hard_swish": of_one(functional.hardswish),
    "leaky_relu": leaky_relu,
    "elu": elu,
    "gelu": gelu,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "add": arithmetic(add),
    "sub": arithmetic(sub),
    "mul": arithmetic(mul),
    "div": arithmetic(truediv),
    "matmul": matmul,
    "transpose": transpose,
    "flatten": flatten,
    "reshape": reshape,
    "concat": concat,
    "split": split,
    "slice": sliced,
    "pad": pad,
}
