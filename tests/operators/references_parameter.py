"""A weight that is a value by itself, in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def parameter(tensors: Mapping[str, Tensor], attrs: Mapping[str, Any]) -> Tensor:
    return tensors["weight"].clone()


REFERENCES = {"parameter": parameter}
