"""`sigmoid`: y = 1 / (1 + e⁻ˣ); dx = dy·y·(1 − y)."""

from __future__ import annotations

from dlc.ops.activation import activation

SIGMOID = activation("sigmoid")
