"""`*`: the product, element by element."""

from __future__ import annotations

from dlc.ops.broadcasting import arithmetic

MUL = arithmetic("mul", "*", needs=("a", "b"))
