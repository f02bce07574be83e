"""How far two runs of the same training steps are apart, tensor by tensor, and how far they may be.

The measure is the relative error of each tensor, ‖a − b‖/‖b‖ (Frobenius). The bound is 1e-12 in float64 and 1e-5 in
float32 or, where larger, 8 times what the reference itself moves by under another order of samples and one unit in the
last place of its weights. Exact runs (small integers, no rounding anywhere) must be equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import EllipsisType

    import numpy as np
    import numpy.typing as npt

    Tensors = dict[str, npt.NDArray[np.generic]]
    Elements = npt.NDArray[np.bool_] | EllipsisType

BOUNDS = {"f64": 1e-12, "f32": 1e-5, "tf32": 1e-5, "f16": 1e-3, "bf16": 8e-3}
SPREAD_FACTOR = 8


@dataclass(frozen=True, slots=True)
class Step:
    """What one step came to, by name: `loss`, gradients `g.W`, weights `after.w.W` and states `after.s.W_S` after it.

    Of the reference, of the run that is tested, and of the reference under noise.
    """

    reference: Tensors
    tested: Tensors
    noisy: tuple[Tensors, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """`error` and `bound` are those of the tensor that is nearest to its bound, of `tensors` that were compared."""

    tensor: str
    error: float
    bound: float
    tensors: int
    failed: tuple[str, ...]

    @property
    def share(self) -> float:
        """How much of its bound the error takes; above 1 it fails."""
        if self.error <= self.bound:
            return self.error / self.bound if self.bound else 0.0
        return float("inf")


def judge(steps: Iterable[Step], bound: float, *, exact: bool = False) -> Judgement:
    """Compare the steps in order; ValueError where the two runs recorded different tensors."""
    return worst([judge_step(number, step, bound, exact=exact) for number, step in enumerate(steps)])


def worst(judgements: Sequence[Judgement]) -> Judgement:
    """All of them as one: the tensor that is nearest to its bound, every failure, all tensors counted."""
    nearest = max(judgements, key=lambda judgement: judgement.share)
    failed = tuple(name for judgement in judgements for name in judgement.failed)
    return replace(nearest, tensors=sum(judgement.tensors for judgement in judgements), failed=failed)


def judge_step(number: int, step: Step, bound: float, *, exact: bool = False) -> Judgement:
    """Compare the step of that number; ValueError where the two runs recorded different tensors."""
    if step.reference.keys() != step.tested.keys():
        raise ValueError(f"different tensors: {sorted(step.reference.keys() ^ step.tested.keys())}")
    judged = _equal_bits if exact else _Bounds(bound, _scales(step.reference)).judgement
    return worst([judged(f"step {number}: {name}", name, step) for name in step.reference])


def _equal_bits(title: str, name: str, step: Step) -> Judgement:
    import numpy as np

    equal = np.array_equal(step.reference[name], step.tested[name])
    return Judgement(title, 0.0 if equal else 1.0, 0.0, 1, () if equal else (title,))


@dataclass(frozen=True, slots=True)
class _Bounds:
    """How far the tensors of a step may be apart: `least`, or what noise does to them; `scales` are those of errors."""

    least: float
    scales: dict[str, float]

    def judgement(self, title: str, name: str, step: Step) -> Judgement:
        which = self._compared(name, step)
        error, bound = self._error(name, step, which), self._bound(name, step, which)
        return Judgement(title, error, bound, 1, () if error <= bound else (title,))  # NaN fails too

    def _compared(self, name: str, step: Step) -> Elements:
        """All elements; of what an optimizer made not those whose gradients are rounding: they differ, and may by more.

        Adam makes steps of any size of such a gradient. It is compared itself, and the next step begins with the serial
        program's state.
        """
        import numpy as np

        gradient = _gradient_of(name, step.reference)
        if gradient is None or step.reference[gradient].shape != step.reference[name].shape:
            return ...
        expected, tested = step.reference[gradient], step.tested[gradient]
        allowed = self._bound(gradient, step) * self.scales[gradient]
        compared: npt.NDArray[np.bool_] = (expected == tested) | (np.abs(expected) > allowed)
        return compared

    def _bound(self, name: str, step: Step, which: Elements = ...) -> float:
        spread = (self._error(name, replace(step, tested=noisy), which) for noisy in step.noisy)
        return max(self.least, SPREAD_FACTOR * max(spread, default=0.0))

    def _error(self, name: str, step: Step, which: Elements = ...) -> float:
        return _distance(step.tested[name][which], step.reference[name][which], self.scales[name])


def _gradient_of(name: str, reference: Tensors) -> str | None:
    """`g.c1_bias` of `after.w.c1_bias` and of its state `after.s.c1_bias_velocity`."""
    if not name.startswith(("after.w.", "after.s.")):
        return None
    attribute = name[len("after.w.") :]
    gradients = (g for g in reference if g.startswith("g.") and f"{attribute}_".startswith(f"{g[2:]}_"))
    return max(gradients, key=len, default=None)


def _scales(reference: Tensors) -> dict[str, float]:
    """What errors are relative to: a tensor's norm; for gradients that are zero but for rounding, the largest one's.

    A bias in front of a batch norm has such a gradient: its own norm says nothing.
    """
    import numpy as np

    norms = {name: float(np.linalg.norm(tensor)) for name, tensor in reference.items()}
    largest = max((norm for name, norm in norms.items() if name.startswith("g.")), default=0.0)

    def is_zero(name: str) -> bool:
        rounding = float(np.finfo(reference[name].dtype.name).eps) * reference[name].size ** 0.5
        return bool(norms[name] <= 64 * rounding * largest)

    return {name: largest if name.startswith("g.") and is_zero(name) else norm for name, norm in norms.items()}


def _distance(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], scale: float) -> float:
    """‖a − b‖ over the scale; 0 where both are the same, whatever the scale."""
    import numpy as np

    difference = float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)))
    if not difference:
        return 0.0
    return difference / scale if scale else float("inf")
