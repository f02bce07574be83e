"""Attention and its parts in ONNX, spelt out: ONNX's own op for it is younger than most readers of models."""

from __future__ import annotations

from math import sqrt
from typing import Any

from dlc.frontends.onnx.exporting import Export
from dlc.ir.graph import Node


def _attrs(node: Node) -> dict[str, Any]:
    return dict(node.attrs)


def affine(made: Export, node: Node, factors: list[str], bias: str | None, y: str, part: str = "") -> str:
    """The product of two values and perhaps a sum."""
    if bias is None:
        return made.add("MatMul", factors, y)
    product = made.add("MatMul", factors, f"{node.address}{part}.product")
    return made.add("Add", [product, bias], y)


def split_heads(made: Export, node: Node) -> None:
    """[batch, seq, width] -> [batch, heads, seq, width / heads]."""
    known = made.roles(node)
    _, _, width = made.type(node).shape
    _to_heads(made, known["x"], known["y"], _attrs(node)["heads"], width)


def _to_heads(made: Export, x: str, y: str, heads: int, width: int) -> str:
    shape = made.constant(f"{y}.shape", [0, 0, heads, width // heads])
    return made.add("Transpose", [made.add("Reshape", [x, shape], f"{y}.parts")], y, perm=[0, 2, 1, 3])


def merge_heads(made: Export, node: Node) -> None:
    """[batch, heads, seq, width] -> [batch, seq, heads·width]."""
    known = made.roles(node)
    _, heads, _, width = made.type(node).shape
    _from_heads(made, known["x"], known["y"], heads * width)


def _from_heads(made: Export, x: str, y: str, width: int) -> str:
    shape = made.constant(f"{y}.shape", [0, 0, width])
    return made.add("Reshape", [made.add("Transpose", [x], f"{y}.turned", perm=[0, 2, 1, 3]), shape], y)


def causal_mask(made: Export, node: Node) -> None:
    """−∞ is added where a key comes after the query."""
    known = made.roles(node)
    made.add("Add", [known["x"], _mask(made, made.type(node).shape[-1])], known["y"])


def _mask(made: Export, length: int) -> str:
    """The same constant for all ops with sequences of that length."""
    import numpy as np

    return made.constant(f"causal_mask_{length}", np.triu(np.full((length, length), -np.inf), 1), made.dtype)


def attention(made: Export, node: Node) -> None:
    """In projection, heads, scaled scores, out projection: spelt out."""
    known, attrs, at = made.roles(node), _attrs(node), node.address
    _, seq, width = made.type(node).shape
    heads = attrs["heads"]
    turned = made.add("Transpose", [known["in_proj_weight"]], f"{at}.in_turned")
    whole = affine(made, node, [known["x"], turned], known.get("in_proj_bias"), f"{at}.projected", ".in")
    parts = made.constant(f"{at}.parts", [width] * 3)
    projections = [f"{at}.{part}" for part in ("query", "key", "value")]
    made.add("Split", [whole, parts], *projections, axis=2)
    query, key, value = (_to_heads(made, part, f"{part}_heads", heads, width) for part in projections)
    scores = made.add("MatMul", [query, made.add("Transpose", [key], f"{at}.keys", perm=[0, 1, 3, 2])], f"{at}.scores")
    scale = made.number(f"{at}.scale", 1 / sqrt(width // heads))
    scores = made.add("Mul", [scores, scale], f"{at}.scaled")
    if attrs["causal"]:
        scores = made.add("Add", [scores, _mask(made, seq)], f"{at}.masked")
    weights = made.add("Softmax", [scores], f"{at}.weights", axis=-1)
    context = _from_heads(made, made.add("MatMul", [weights, value], f"{at}.context"), f"{at}.merged", width)
    turned = made.add("Transpose", [known["out_proj_weight"]], f"{at}.out_turned")
    affine(made, node, [context, turned], known.get("out_proj_bias"), known["y"], ".out")
