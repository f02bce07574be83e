"""Initial weights: they depend on the seed, the weight's address and its kind of initialisation, and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .layout import Array
from .philox import Key, uniform, words


def initialise(
    weight: Array,
    *,
    kind: str,
    key: Key,
    fan_in: int = 0,
    fan_out: int = 0,
    value: float = 0.0,
    of: Array | None = None,
) -> None:
    """Fill a weight; `key` is `philox.key(seed, address)`.

    Kinds: `kaiming_uniform` U(±1/√fan_in), PyTorch's default for conv and linear; `he` normal with std √(2/fan_in);
    `glorot` U(±√(6/(fan_in + fan_out))); `normal` with std `value`; `constant` `value`; `norms` those of the rows of
    the weight `of`, an entry each. ValueError for another kind.
    """
    match kind:
        case "constant":
            weight.fill(value)
        case "kaiming_uniform":
            _fill(weight, (2 * _uniform(weight.size, key) - 1) / np.sqrt(fan_in))
        case "glorot":
            _fill(weight, (2 * _uniform(weight.size, key) - 1) * np.sqrt(6 / (fan_in + fan_out)))
        case "he":
            _fill(weight, _normal(weight.size, key) * np.sqrt(2 / fan_in))
        case "normal":
            _fill(weight, _normal(weight.size, key) * value)
        case "norms" if of is not None:
            _fill(weight, np.linalg.norm(of.reshape(of.shape[0], -1), axis=1))
        case _:
            raise ValueError(f"there is no initialisation {kind!r}")


def _fill(weight: Array, values: NDArray[np.float64]) -> None:
    np.copyto(weight, values.reshape(weight.shape), casting="same_kind")


def _uniform(size: int, key: Key) -> NDArray[np.float64]:
    return uniform(words([0], size, key)[0])


def _normal(size: int, key: Key) -> NDArray[np.float64]:
    """Box and Muller's transform of pairs of uniform numbers."""
    pairs = uniform(words([0, 1], -(-size // 2), key))
    radius, angle = np.sqrt(-2 * np.log1p(-pairs[0])), 2 * np.pi * pairs[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
