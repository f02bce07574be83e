"""`log_softmax(axis = …)`: x − log Σ eˣ along an axis, the last one by default."""

from __future__ import annotations

from dlc.ops.counting import by_rows, lg
from dlc.ops.operator import Cost, Shapes
from dlc.ops.softmax import along_axis, row_length


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """A row of C, forward: maximum and sum C − 1 each, subtract C twice, exponential C, one logarithm.

    dx = dy − eʸ·Σ dy: sum C − 1; exponential, product and difference C each.
    """
    length = row_length(shapes)
    if pass_ == "dx":
        return by_rows(shapes, length, 4 * length - 1, lg(length) + 2)
    return by_rows(shapes, length, 5 * length - 1, 2 * lg(length) + 4)


LOG_SOFTMAX = along_axis("log_softmax", _cost)
