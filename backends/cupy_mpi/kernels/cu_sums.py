"""Sums of many values for each of some channels: into how many parts they are cut, which blocks add up (sums.cu)."""

from __future__ import annotations

ENOUGH_BLOCKS = 132 * 8
"""More parts than give so many blocks are not made."""

LEAST_VALUES = 2048
"""Of a part of values that a block adds up."""

LEAST_ROWS = 64
"""Of a part whose block adds up 32 columns."""


def parts_of_values(channels: int, values: int) -> int:
    """Where a block adds up a part of one channel's values."""
    return _parts(channels, -(-values // LEAST_VALUES))


def parts_of_rows(columns: int, rows: int) -> int:
    """Where a block adds up 32 columns of a part of the rows."""
    return _parts(columns_of_blocks(columns), -(-rows // LEAST_ROWS))


def columns_of_blocks(columns: int) -> int:
    """Blocks for 32 columns each."""
    return -(-columns // 32)


def _parts(blocks: int, most: int) -> int:
    return max(1, min(-(-ENOUGH_BLOCKS // max(1, blocks)), most))
