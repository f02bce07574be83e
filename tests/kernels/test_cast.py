"""Half precision: rounding to f16 and bf16, and what a loss scale does with gradients that are not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from backends.numpy_mpi.kernels.cast import CHUNK, cast
from backends.numpy_mpi.kernels.scale import GROWTH_INTERVAL, not_finite, unscale_gradients

Array = npt.NDArray[Any]


def as_bf16(values: Array) -> Array:
    made = np.empty(values.shape, np.uint16)
    cast(values, made)
    return made


def from_bf16(bits: Array) -> Array:
    made = np.empty(bits.shape, np.float32)
    cast(bits, made)
    return made


def test_every_bf16_comes_back() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    values = from_bf16(bits)
    numbers = ~np.isnan(values)
    assert np.array_equal(as_bf16(values)[numbers], bits[numbers])
    assert np.isnan(from_bf16(as_bf16(values[~numbers]))).all()


def test_bf16_is_the_nearest_and_of_two_the_even_one() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(3 * CHUNK + 5) * 10.0 ** rng.integers(-30, 30, 3 * CHUNK + 5)).astype(np.float32)
    low = from_bf16((values.view(np.uint32) >> 16).astype(np.uint16)).astype(np.float64)
    high = from_bf16(((values.view(np.uint32) >> 16) + 1).astype(np.uint16)).astype(np.float64)
    found = from_bf16(as_bf16(values)).astype(np.float64)
    nearest = np.where(np.abs(values - low) < np.abs(values - high), low, high)
    ties = np.abs(values - low) == np.abs(values - high)
    assert np.array_equal(found[~ties], nearest[~ties])
    halves = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)  # between 1 and 1 + 2⁻⁷, and that and 1 + 2⁻⁶
    assert from_bf16(as_bf16(halves)).tolist() == [1.0, 1 + 2**-6]


@pytest.mark.oracle
def test_bf16_is_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its results are not compared with")
    values = np.random.default_rng(1).standard_normal((7, 9)).astype(np.float32)
    theirs = torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()
    assert np.array_equal(from_bf16(as_bf16(values)), theirs)


@pytest.mark.parametrize("half", [np.float16, np.uint16])
def test_parts_with_gaps_are_cast_in_place(half: Any) -> None:
    values = np.random.default_rng(2).standard_normal((6, 8)).astype(np.float32)
    whole, part = np.zeros((6, 8), half), np.zeros((6, 8), half)
    cast(values, whole)
    cast(values[::2, 1:4], part[::2, 1:4])
    assert np.array_equal(part[::2, 1:4], whole[::2, 1:4])
    assert not part[1::2].any()


def test_f16_overflows_to_infinity_without_a_warning() -> None:
    made = np.empty(3, np.float16)
    with np.errstate(all="raise"):
        cast(np.array([65504.0, 65519.0, -1e6], np.float32), made)
    assert made.tolist() == [65504.0, 65504.0, -np.inf]


def step(
    scale: float, steps: tuple[float, float, float], gradient: float, dynamic: bool = True
) -> tuple[float, Array, Array]:
    """(scale, counts, gradient) behind a step whose gradients are this one and 8."""
    gradients = np.array([gradient, 8.0], np.float32), np.full((2, 2), 8.0, np.float32)
    factor, counts, found = np.array(scale, np.float32), np.array(steps, np.float32), np.zeros(1)
    not_finite(*gradients, found)
    unscale_gradients(*gradients, factor, counts, found, dynamic=dynamic)
    return float(factor), counts, gradients[0]


def test_a_good_step_divides_by_the_scale() -> None:
    scale, counts, gradient = step(4.0, (5, 2, 3), 16.0)
    assert (scale, counts.tolist(), gradient.tolist()) == (4.0, [6, 0, 3], [4.0, 2.0])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_step_with_an_overflow_drops_gradients_and_halves_the_scale(bad: float) -> None:
    scale, counts, gradient = step(4.0, (5, 1, 3), bad)
    assert (scale, counts.tolist(), gradient.tolist()) == (2.0, [0, 2, 4], [0.0, 0.0])
    assert step(4.0, (5, 1, 3), bad, dynamic=False)[0] == 4.0


def test_the_scale_doubles_behind_so_many_good_steps() -> None:
    scale, counts, _ = step(4.0, (GROWTH_INTERVAL - 1, 0, 3), 1.0)
    assert (scale, counts.tolist()) == (8.0, [0, 0, 3])
    assert step(4.0, (GROWTH_INTERVAL - 1, 0, 3), 1.0, dynamic=False)[0] == 4.0
