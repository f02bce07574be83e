"""What embeddings in C are told; where the table is split by rows, NumPy has the code."""

from __future__ import annotations

from .layout import Array, Origin
from .native import Numbers


def embedding_forward(
    x: Array, weight: Array, _y: Array, *, origin: Origin | None = None, **_: object
) -> Numbers | None:
    """Tokens, rows of the table and their width."""
    return _numbers(x, weight, origin)


def embedding_dw(_dy: Array, x: Array, dweight: Array, *, origin: Origin | None = None, **_: object) -> Numbers | None:
    """The same."""
    return _numbers(x, dweight, origin)


def _numbers(x: Array, table: Array, origin: Origin | None) -> Numbers | None:
    return Numbers((x.size, *table.shape)) if origin is None and x.dtype == "int32" else None
