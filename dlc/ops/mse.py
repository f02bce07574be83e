"""`mse(prediction, target)` and `half_mse`: the mean of (prediction − target)², and half of it.

The mean is over all elements, as PyTorch's: the sum over the samples at hand is divided by `count`, the samples of the
global batch, and by the elements of one sample.
"""

from __future__ import annotations

from dlc.ops.compared import comparison

MSE = comparison("mse")
HALF_MSE = comparison("half_mse")
