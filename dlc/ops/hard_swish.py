"""`hard_swish`: y = x·min(max(x + 3, 0), 6)/6 (Howard et al., MobileNetV3, 2019); dx = dy·(2x + 3)/6 where |x| < 3."""

from __future__ import annotations

from dlc.ops.activation import activation

HARD_SWISH = activation("hard_swish", needs="x")
