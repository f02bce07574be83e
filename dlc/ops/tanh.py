"""`tanh`: the hyperbolic tangent; dx = dy·(1 − y²)."""

from __future__ import annotations

from dlc.ops.activation import activation

TANH = activation("tanh")
