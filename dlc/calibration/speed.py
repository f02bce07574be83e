"""Whether this machine is as fast as when it was calibrated: the readings of that time, made again.

A virtual machine changes its speed with what its neighbours do, and a laptop with its temperature. A prediction that is
off by as much as these readings are, is no fault of the formulas. Predictions are not changed by it.
"""

from __future__ import annotations

from backends.numpy_mpi.timing import turns_of
from dlc.calibration import points
from dlc.calibration.turns import usual_of
from dlc.cost.profile import Profile
from dlc.inspect.speeds import Speed

READINGS = 15
"""What a check takes, a second with starting a process."""


def speed_now(profile: Profile) -> Speed | None:
    """A product, a copy and a call against their usual times, in a second; None of a profile that has none.

    Between two readings long arrays are copied, so that the caches are as other work leaves them.

    RuntimeError or OSError where the process that times them fails.
    """
    usual = profile.usual
    if usual is None:
        return None
    (turns,) = turns_of(points.copies())
    with turns:
        for _ in range(READINGS):
            turns.turn()
    now = usual_of([reading for each in turns.rounds for reading in each.readings])
    assert now is not None, "each round begins with a reading"
    return Speed(now.products / usual.products, now.copies / usual.copies, now.calls / usual.calls)
