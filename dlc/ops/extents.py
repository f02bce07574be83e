"""Arithmetic on extents: those of one shape, or of many candidates at once.

A cost is a formula of extents. Where some of these are NumPy arrays with an entry a candidate, the same formula gives
the costs of all of them: `+ - * //` and `math.prod` do so by themselves, the functions here do the rest. Annotations
speak of one candidate; NumPy is imported only where there are arrays.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeVar, cast

Number = TypeVar("Number", int, float)


def single(*numbers: float) -> bool:
    """Whether all of these are numbers of one shape."""
    return all(isinstance(number, (int, float)) for number in numbers)


def larger(a: Number, b: Number) -> Number:
    """The larger of two numbers."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a if a >= b else b
    import numpy as np

    return cast("Number", np.maximum(a, b))


def smaller(a: Number, b: Number) -> Number:
    """The smaller of two numbers."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a if a <= b else b
    import numpy as np

    return cast("Number", np.minimum(a, b))


def nothing(amount: float) -> bool:
    """Whether it is 0, for all candidates alike."""
    return isinstance(amount, (int, float)) and not amount


def chosen(condition: bool, a: Number, b: Number) -> Number:
    """`a` where the condition holds, else `b`."""
    if isinstance(condition, bool):
        return a if condition else b
    import numpy as np

    return cast("Number", np.where(condition, a, b))


def log2(n: float) -> float:
    """log₂ n for n > 0."""
    if isinstance(n, (int, float)):
        return math.log2(n)
    import numpy as np

    return cast("float", np.log2(n))


def entry(table: Sequence[Number], index: int) -> Number:
    """The number at an index of a table."""
    if isinstance(index, int):
        return table[index]
    import numpy as np

    return cast("Number", np.asarray(table)[index])


def following(table: Sequence[float], n: float) -> int:
    """The index of the first number of a rising table that is not below n; its length where n is above all."""
    if isinstance(n, (int, float)):
        return bisect_left(table, n)
    import numpy as np

    return cast("int", np.searchsorted(table, n))
