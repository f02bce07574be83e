"""`-`: the difference of two values."""

from __future__ import annotations

from dlc.ops.broadcasting import arithmetic

SUB = arithmetic("sub", "-", needs=())
