"""Loss scaling: small gradients survive in half precision where the loss is multiplied by a scale.

As PyTorch's GradScaler: a step with a gradient that is infinite or not a number, on any rank, is skipped by all, and a
dynamic scale halves; after 2000 good steps in a row it doubles.
"""

from __future__ import annotations

import numpy as np

from .layout import Array

GROWTH_INTERVAL = 2000
"""Good steps in a row behind which a dynamic scale doubles."""


def not_finite(*arrays: Array, **_: object) -> None:
    """Gradients -> how many elements are infinite or not a number, which is added up over all ranks."""
    *gradients, found = arrays
    found[0] = sum(gradient.size - int(np.count_nonzero(np.isfinite(gradient))) for gradient in gradients)


def unscale_gradients(*arrays: Array, dynamic: bool, **_: object) -> None:
    """Gradients, the scale, [good steps in a row, skipped ones in a row, and in all], [how many are not finite].

    Divides the gradients by the scale, or, where any element on any rank is not finite, fills them with zeros, and
    adapts the scale for the next step.
    """
    *gradients, scale, steps, found = arrays
    sound = not found[0]
    for gradient in gradients:
        if sound:
            np.divide(gradient, scale, out=gradient)
        else:
            gradient.fill(0)
    steps[...] = (steps[0] + 1, 0, steps[2]) if sound else (0, steps[1] + 1, steps[2] + 1)
    if dynamic and not sound:
        scale /= 2
    if dynamic and steps[0] == GROWTH_INTERVAL:
        scale *= 2
        steps[0] = 0
