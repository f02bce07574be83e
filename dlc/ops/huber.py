"""`huber(prediction, target, delta = 1)`: the mean over all elements of d²/2 where |d| ≤ δ, else δ(|d| − δ/2).

d is prediction − target; its gradient is d limited to ±δ. As PyTorch's HuberLoss (P. Huber, *Robust Estimation of a
Location Parameter*, 1964).
"""

from __future__ import annotations

from dlc.ops.compared import comparison
from dlc.ops.operator import Parameter

HUBER = comparison("huber", parameters=(Parameter("delta", "number", default=1.0, above=0),), operations=6, backward=3)
