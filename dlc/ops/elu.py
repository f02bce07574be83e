"""`elu(alpha = 1)`: y = x where x > 0, else alpha·(eˣ − 1); dx = dy where y > 0, else dy·(y + alpha)."""

from __future__ import annotations

from dlc.ops.activation import activation
from dlc.ops.operator import Parameter

ELU = activation("elu", parameters=(Parameter("alpha", "number", default=1.0, minimum=0),))
