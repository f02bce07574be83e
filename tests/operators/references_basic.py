"""Linear maps in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from tests.operators.case import Reference


def linear(tensors: Mapping[str, Tensor], attrs: Mapping[str, Any]) -> Tensor:
    """A tied weight may lie transposed."""
    weight = tensors["weight"].T if attrs.get("transposed") else tensors["weight"]
    return functional.linear(tensors["x"], weight, tensors.get("bias"))


REFERENCES: dict[str, Reference] = {"linear": linear}
