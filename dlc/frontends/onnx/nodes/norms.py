"""Normalisation."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from dlc.frontends.onnx.cover import Cover
from dlc.frontends.onnx.flow import UncoveredError
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.numbers import real
from dlc.frontends.onnx.translation import Translation

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array


def batch_norm(node: OnnxNode, made: Translation) -> None:
    """In inference form, by running averages. ONNX's momentum is the share of the old average, dlc's of the new."""
    if node.get("training_mode", 0):
        raise UncoveredError("attribute `training_mode` is 1")
    roles = ("scale", "shift", "mean", "variance")
    weights = {role: made.constant(node, index) for index, role in enumerate(roles, start=1)}
    momentum = round(1 - real(node, "momentum", 0.9), 9)
    made.bind(node, made.value(node).apply("bn", weights, eps=real(node, "epsilon", 1e-5), momentum=momentum))


def layer_norm(node: OnnxNode, made: Translation) -> None:
    """Over all axes from `axis` on, joined to one where there are several; without a bias the shift is zero."""
    import numpy as np

    scale, bias = made.constant(node, 1), made.constant(node, 2)
    assert scale is not None
    _over_rows("layernorm", node, made, scale=scale, shift=np.zeros_like(scale) if bias is None else bias)


def rms_norm(node: OnnxNode, made: Translation) -> None:
    """Likewise, with a scale alone."""
    scale = made.constant(node, 1)
    assert scale is not None
    _over_rows("rmsnorm", node, made, scale=scale)


def _over_rows(op: str, node: OnnxNode, made: Translation, **weights: Array) -> None:
    import numpy as np

    x = made.value(node)
    first = x.require_rows(node.get("axis", -1))
    row, leading = x.type.shape[first:], x.type.shape[1:first]
    fitted = {role: np.broadcast_to(array, row).reshape(-1) for role, array in weights.items()}
    rows = made.sampled(x, (*leading, prod(row)))
    y = rows.apply(op, fitted, eps=real(node, "epsilon", 1e-5))
    made.bind(node, made.sampled(y, x.extents))


def group_norm(node: OnnxNode, made: Translation) -> None:
    """Before opset 21 scale and bias have an entry a group, since then one a channel as in dlc."""
    import numpy as np

    x, groups = made.value(node), node.get("num_groups", 1)
    roles = {"scale": made.constant(node, 1), "shift": made.constant(node, 2)}
    channels = x.type.shape[1] // groups if node.version < 21 else 1
    weights = {role: None if array is None else np.repeat(array, channels) for role, array in roles.items()}
    made.bind(node, x.apply("groupnorm", weights, groups=groups, eps=real(node, "epsilon", 1e-5)))


def local_response(node: OnnxNode, made: Translation) -> None:
    """The same sum of squares where it is symmetric: for an odd size."""
    size = node.get("size", 1)
    if size % 2 == 0:
        raise UncoveredError(f"attribute `size` is {size}, an even number")
    settings = {"alpha": real(node, "alpha", 1e-4), "beta": real(node, "beta", 0.75), "k": real(node, "bias", 1.0)}
    made.bind(node, made.value(node).apply("lrn", size=size, **settings))


TABLE = {
    "BatchNormalization": Cover(
        batch_norm,
        versions=(7, 9, 14, 15),
        attributes=("epsilon", "momentum", "training_mode"),
        constants=(1, 2, 3, 4),
        by_sample=True,
    ),
    "LayerNormalization": Cover(
        layer_norm, versions=(17,), attributes=("axis", "epsilon", "stash_type"), constants=(1, 2)
    ),
    "RMSNormalization": Cover(rms_norm, versions=(23,), attributes=("axis", "epsilon", "stash_type"), constants=(1,)),
    "GroupNormalization": Cover(
        group_norm,
        versions=(18, 21),
        attributes=("num_groups", "epsilon", "stash_type"),
        constants=(1, 2),
        by_sample=True,
    ),
    "LRN": Cover(local_response, versions=(1, 13), attributes=("size", "alpha", "beta", "bias"), by_sample=True),
}
