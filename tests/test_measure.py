"""How far two steps may be apart, on tensors that are made up."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dlc.measure import BOUNDS, Step, judge_step

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

GRADIENT = np.array([1.0, 0.5, 1e-4, 0.0])
RATE = 0.1


def adam(gradient: Array, *, rates: float | Array = RATE, zero: bool = False) -> Tensors:
    """The first step of Adam on weights of one: it goes by the signs of a gradient. `zero`: of one that is rounding."""
    largest = {"g.other": np.array([1e14])} if zero else {}
    return {"g.w": gradient, "after.w.w": 1 - rates * np.sign(gradient), "after.s.w_mean": 0.1 * gradient, **largest}


def failed(tested: Tensors, *noisy: Tensors, reference: Tensors | None = None) -> tuple[str, ...]:
    return judge_step(0, Step(reference or adam(GRADIENT), tested, noisy), BOUNDS["f64"]).failed


NOISY = adam(GRADIENT + np.array([0.0, 0.0, 5e-5, 0.0]))
OTHER_SIGN = GRADIENT - np.array([0.0, 0.0, 2e-4, 0.0])


def test_a_gradient_may_be_apart_by_eight_times_what_noise_does() -> None:
    assert failed(adam(OTHER_SIGN)) == ("step 0: g.w", "step 0: after.w.w", "step 0: after.s.w_mean")
    assert failed(adam(OTHER_SIGN), NOISY) == ()


@pytest.mark.parametrize("element", [0, 1])
def test_steps_of_gradients_that_are_no_rounding_are_compared(element: int) -> None:
    rates = np.full(4, RATE)
    rates[element] = 0.0
    assert failed(adam(OTHER_SIGN, rates=rates), NOISY) == ("step 0: after.w.w",)


def test_steps_of_equal_gradients_are_compared_however_small_they_are() -> None:
    moved = adam(GRADIENT)
    moved["after.w.w"] = moved["after.w.w"] + np.array([0.0, 0.0, 0.0, RATE])
    assert failed(moved, NOISY) == ("step 0: after.w.w",)
    still = adam(GRADIENT, rates=np.array([RATE, RATE, 0.0, RATE]))
    assert failed(still, NOISY) == ("step 0: after.w.w",)


def test_gradients_that_are_zero_are_relative_to_the_largest() -> None:
    assert failed(adam(-GRADIENT, zero=True), reference=adam(GRADIENT, zero=True)) == ()
    assert failed(adam(1e3 * GRADIENT, zero=True), reference=adam(GRADIENT, zero=True))
