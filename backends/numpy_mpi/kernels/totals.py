"""Running totals of an evaluation, and what is shown of them."""

from __future__ import annotations

import math

from .layout import Array


def totals_forward(loss: Array, *rest: Array, count: int) -> None:
    """loss [], metrics [] … -> totals [loss, metrics …] in float64, added to what is there.

    The loss of this rank's samples was divided by `count`, the samples of the whole batch; here it is a sum again.
    """
    *metrics, totals = rest
    totals[0] += float(loss) * count
    for entry, metric in enumerate(metrics, 1):
        totals[entry] += float(metric)


def mean(total: float, count: int) -> float:
    """A total over `count` samples as their mean."""
    return total / count


def exp(total: float, count: int) -> float:
    """e to the power of the mean; infinite where no float is as large."""
    try:
        return math.exp(total / count)
    except OverflowError:
        return math.inf
