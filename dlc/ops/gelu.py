"""`gelu(approximate = none | tanh)`: x·Φ(x), or its approximation by tanh (Hendrycks and Gimpel, 2016)."""

from __future__ import annotations

from dlc.ops.activation import activation
from dlc.ops.operator import Parameter

GELU = activation(
    "gelu",
    parameters=(Parameter("approximate", "choice", default="none", choices=("none", "tanh")),),
    needs="x",
)
