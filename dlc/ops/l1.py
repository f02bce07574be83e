"""`l1(prediction, target)`: the mean of |prediction − target| over all elements, as PyTorch's L1Loss.

The gradient of |d| is its sign, 0 at 0.
"""

from __future__ import annotations

from dlc.ops.compared import comparison

L1 = comparison("l1")
