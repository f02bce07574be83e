"""`/`: the quotient, element by element."""

from __future__ import annotations

from dlc.ops.broadcasting import arithmetic

DIV = arithmetic("div", "/", needs=("a", "b"))
