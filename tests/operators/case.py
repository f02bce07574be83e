"""What tests over all operators share: drawn configurations, and the same operators in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.kernels.calling import Known, Op

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """One op in a drawn configuration.

    `known` holds its inputs in float64 (labels in int32) by role; `roles` are the operands and weights whose gradients
    are checked.
    """

    op: Op
    known: Known
    roles: tuple[str, ...]


Draw = Callable[[np.random.Generator], Case]

Reference = Callable[["Mapping[str, Tensor]", Mapping[str, Any]], "Tensor | tuple[Tensor, ...]"]
"""An op in PyTorch: tensors by role (operands, weights, statistics, `mask` of dropout) and its normalised attributes,
with `training` besides -> its results."""


def drawn(op: Op, rng: np.random.Generator, *roles: str, **known: Any) -> Case:
    """A case with normally distributed inputs, but for those given; `roles` default to all inputs that are numbers."""
    inputs = op.draw(rng) | known
    floating = tuple(role for role in op.inputs if op.types[role].dtype.startswith("f"))
    return Case(op, inputs, roles or floating)
