"""Whether this machine is as fast as when it was calibrated: a few points of its profile, timed again.

A virtual machine changes its speed with what its neighbours do, and a laptop with its temperature. A prediction that is
off by as much as these points are, is no fault of the formulas. Predictions are not changed by it.
"""

from __future__ import annotations

from collections.abc import Iterator

from backends.numpy_mpi.timing import Case, time_kernels
from dlc.calibration import points
from dlc.cost.profile import Profile
from dlc.inspect.speeds import Speed

ROUNDS, SECONDS = 9, 0.4
"""What a check takes, a second with starting a process."""


def speed_now(profile: Profile) -> Speed:
    """Time the largest matrix product, the longest copy and the smallest call that a profile has, in a second.

    RuntimeError or OSError where the process that times them fails.
    """
    asked = dict(_asked(profile))
    if not asked:
        return Speed()
    others = points.copies()[:-1] if "copies" in asked else []  # they took turns, so that no cache holds their arrays
    cases = [*(case for case, _ in asked.values()), *others]
    timed = list(time_kernels(cases, rounds=ROUNDS, seconds=SECONDS))
    return Speed(
        **{name: timing.seconds / then for (name, (_, then)), timing in zip(asked.items(), timed, strict=False)}
    )


def _asked(profile: Profile) -> Iterator[tuple[str, tuple[Case, float]]]:
    """Name -> a case and the seconds that it took, what the profile has of them."""
    product, copied = points.products("f32")[-1], points.copies()[-1]
    dy, weight = product.shapes.inputs
    (m, k), n = dy.shape, weight.shape[1]
    rate = profile.gemm_rate("f32", m, n, k)
    if rate is not None:
        yield "products", (product, 2.0 * m * n * k / rate)
    bandwidth = profile.bandwidth_of(4.0 * points.RUNS[-1])
    if bandwidth is not None:
        yield "copies", (copied, 2.0 * copied.shapes.outputs[0].bytes / bandwidth)
    if profile.call is not None:
        yield "calls", (points.call(), profile.call)
