"""`leaky_relu(slope = 0.01)`: y = x where x > 0, else slope·x; dx = dy where y > 0, else slope·dy."""

from __future__ import annotations

from dlc.ops.activation import activation
from dlc.ops.operator import Parameter

LEAKY_RELU = activation("leaky_relu", parameters=(Parameter("slope", "number", default=0.01, minimum=0),))
