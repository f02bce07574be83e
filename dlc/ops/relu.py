"""`relu`: y = max(x, 0); dx = dy where y > 0."""

from __future__ import annotations

from dlc.ops.activation import activation

RELU = activation("relu")
