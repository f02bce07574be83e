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
    import numpy as np
    import numpy.typing as npt

    Tensors = dict[str, npt.NDArray[np.generic]]

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
    noise = frozenset() if exact else made_of_noise(step.reference)
    judgements = [
        _judge_tensor(f"step {number}: {name}", name, step, bound, exact)
        for name in step.reference
        if name not in noise
    ]
    return worst(judgements)


def _judge_tensor(title: str, name: str, step: Step, bound: float, exact: bool) -> Judgement:
    import numpy as np

    expected, tested = step.reference[name], step.tested[name]
    if exact:
        error, bound = (0.0 if np.array_equal(expected, tested) else 1.0), 0.0
    else:
        scale = _scale(name, step.reference)
        error = _distance(tested, expected, scale)
        spread = max((_distance(other[name], expected, scale) for other in step.noisy), default=0.0)
        bound = max(bound, SPREAD_FACTOR * spread)
    return Judgement(title, error, bound, 1, () if error <= bound else (title,))  # NaN fails too


def _scale(name: str, reference: Tensors) -> float:
    """What an error is relative to: the tensor's norm; for a gradient that is zero but for rounding, the largest one's.

    A bias in front of a batch norm has such a gradient: its own norm says nothing.
    """
    import numpy as np

    is_zero = name.startswith("g.") and _is_zero(name, reference)
    return _largest_gradient(reference) if is_zero else float(np.linalg.norm(reference[name]))


def _is_zero(gradient: str, reference: Tensors) -> bool:
    """Whether a gradient is zero but for rounding."""
    import numpy as np

    tensor = reference[gradient]
    rounding = float(np.finfo(tensor.dtype.name).eps) * tensor.size**0.5
    return bool(np.linalg.norm(tensor) <= 64 * rounding * _largest_gradient(reference))


def _largest_gradient(reference: Tensors) -> float:
    import numpy as np

    return max(float(np.linalg.norm(tensor)) for name, tensor in reference.items() if name.startswith("g."))


def made_of_noise(reference: Tensors) -> frozenset[str]:
    """Weights and states after a step whose gradient was zero but for rounding: Adam makes steps of any size of it.

    Their gradients are compared all the same, and the next step begins with the serial program's state.
    """
    weights = [name.removeprefix("g.") for name in reference if name.startswith("g.")]
    zero = {weight for weight in weights if _is_zero(f"g.{weight}", reference)}

    def owner(attribute: str) -> str:
        """`c1_bias` of `c1_bias` and of its state `c1_bias_velocity`."""
        return max((w for w in weights if attribute == w or attribute.startswith(f"{w}_")), key=len, default="")

    after = (name for name in reference if name.startswith(("after.w.", "after.s.")))
    return frozenset(name for name in after if owner(name[len("after.w.") :]) in zero)


def _distance(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], scale: float) -> float:
    """‖a − b‖ over the scale; 0 where both are the same, whatever the scale."""
    import numpy as np

    difference = float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)))
    if not difference:
        return 0.0
    return difference / scale if scale else float("inf")
