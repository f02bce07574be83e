"""`silu`: y = x·σ(x), σ being the sigmoid; dx = dy·σ(x)·(1 + x·(1 − σ(x)))."""

from __future__ import annotations

from dlc.ops.activation import activation

SILU = activation("silu", needs="x")
