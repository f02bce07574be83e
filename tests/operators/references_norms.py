"""Norms, embeddings, attention and dropout in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.operators.case import Reference

Tensors = Mapping[str, Tensor]
Attrs = Mapping[str, Any]


def layernorm(tensors: Tensors, attrs: Attrs) -> Tensor:
    x, scale = tensors["x"], tensors["scale"]
    return functional.layer_norm(x, scale.shape, scale, tensors["shift"], attrs["eps"])


def rmsnorm(tensors: Tensors, attrs: Attrs) -> Tensor:
    return functional.rms_norm(tensors["x"], tensors["scale"].shape, tensors["scale"], attrs["eps"])


def groupnorm(tensors: Tensors, attrs: Attrs) -> Tensor:
    return functional.group_norm(tensors["x"], attrs["groups"], tensors["scale"], tensors["shift"], attrs["eps"])


def lrn(tensors: Tensors, attrs: Attrs) -> Tensor:
    """PyTorch asks for an axis behind the channels."""
    x = tensors["x"]
    wide = x[..., None] if x.ndim == 2 else x
    return functional.local_response_norm(wide, *(attrs[name] for name in ("size", "alpha", "beta", "k"))).reshape(
        x.shape
    )


def bn(tensors: Tensors, attrs: Attrs) -> Tensor:
    """Each group by itself; in evaluation with the running averages."""
    x, scale, shift = tensors["x"], tensors["scale"], tensors["shift"]
    if not attrs["training"]:
        return functional.batch_norm(x, tensors["mean"], tensors["variance"], scale, shift, eps=attrs["eps"])
    parts = x.split(attrs["group"])
    return torch.cat([functional.batch_norm(part, None, None, scale, shift, True, eps=attrs["eps"]) for part in parts])


def dropout(tensors: Tensors, attrs: Attrs) -> Tensor:
    return tensors["x"] * tensors["mask"] / (1 - attrs["p"]) if attrs["training"] else tensors["x"]


def embedding(tensors: Tensors, _attrs: Attrs) -> Tensor:
    return functional.embedding(tensors["x"], tensors["weight"])


def position_embedding(tensors: Tensors, _attrs: Attrs) -> Tensor:
    return tensors["weight"].expand(*tensors["x"].shape, -1)


def split_heads(tensors: Tensors, attrs: Attrs) -> Tensor:
    return tensors["x"].unflatten(-1, (attrs["heads"], -1)).transpose(1, 2)


def merge_heads(tensors: Tensors, _attrs: Attrs) -> Tensor:
    return tensors["x"].transpose(1, 2).flatten(2)


def causal_mask(tensors: Tensors, _attrs: Attrs) -> Tensor:
    x = tensors["x"]
    return x.masked_fill(torch.ones(x.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)


def attention(tensors: Tensors, attrs: Attrs) -> Tensor:
    """MultiheadAttention's function, which has the sequence in front."""
    x = tensors["x"].transpose(0, 1)
    seq, _, width = x.shape
    mask = torch.ones(seq, seq, dtype=torch.bool).triu(1) if attrs["causal"] else None
    y, _ = functional.multi_head_attention_forward(
        x, x, x, width, attrs["heads"],
        tensors["in_proj_weight"], tensors.get("in_proj_bias"), None, None, False, 0.0,
        tensors["out_proj_weight"], tensors.get("out_proj_bias"),
        need_weights=False, attn_mask=mask,
    )  # fmt: skip
    return y.transpose(0, 1)


def weight_norm(tensors: Tensors, _attrs: Attrs) -> Tensor:
    return torch._weight_norm(tensors["direction"], tensors["magnitude"], 0)


REFERENCES: dict[str, Reference] = {
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
    "groupnorm": groupnorm,
    "lrn": lrn,
    "bn": bn,
    "dropout": dropout,
    "embedding": embedding,
    "position_embedding": position_embedding,
    "split_heads": split_heads,
    "merge_heads": merge_heads,
    "causal_mask": causal_mask,
    "attention": attention,
    "weight_norm": weight_norm,
}
