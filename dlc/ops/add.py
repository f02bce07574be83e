"""`+`: the sum of two values; dy itself is the gradient of both where their shapes are equal."""

from __future__ import annotations

from dlc.ops.broadcasting import arithmetic

ADD = arithmetic("add", "+", needs=(), identity_gradient=True)
