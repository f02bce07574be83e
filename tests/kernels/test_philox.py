"""Random numbers: the published vectors, streams that do not depend on shards, initial weights, dropout."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from backends.numpy_mpi.kernels.initial import initialise
from backends.numpy_mpi.kernels.philox import dropout_dx, dropout_forward, key, philox4x32, uniform, words


@pytest.mark.parametrize(
    ("counter", "keys", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_vectors_of_random123(counter: tuple[int, int, int, int], keys: tuple[int, int], expected: str) -> None:
    """kat_vectors of the authors' library, philox4x32 with 10 rounds."""
    assert " ".join(f"{int(word):08x}" for word in philox4x32(counter, keys)) == expected


def test_words_count_elements_by_four() -> None:
    drawn = words([3, 9], 6, (5, 6), step=2)
    assert drawn.shape == (2, 6)
    assert drawn[1, :4].tolist() == [int(w) for w in philox4x32((2, 9, 0, 0), (5, 6))]
    assert drawn[1, 4:].tolist() == [int(w) for w in philox4x32((2, 9, 1, 0), (5, 6))][:2]


def test_uniform_numbers_are_below_one() -> None:
    numbers = uniform(np.array([0, 255, 256, 0xFFFFFFFF], dtype=np.uint32))
    assert numbers.tolist() == [0, 0, 2.0**-24, 1 - 2.0**-24]
    assert (numbers.astype(np.float32) == numbers).all()


def test_keys_differ_by_seed_and_address() -> None:
    found = {key(seed, address) for seed in range(4) for address in ("a.conv.weight", "b.conv.weight")}
    assert len(found) == 8
    assert key(0, "c1.conv.weight") == (0xD005394F, 0x419F8E91)


def test_dropout_is_the_same_on_any_shards() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3, 5))

    def run(start: int, stop: int, step: int = 4) -> tuple[np.ndarray, np.ndarray]:
        part = np.ascontiguousarray(x[start:stop])
        y, mask = np.full_like(part, 7), np.full(part.shape, 7, np.uint8)
        dropout_forward(part, y, mask, p=0.3, key=(1, 2), step=step, position=start)
        return y, mask

    y, mask = run(0, 6)
    for cuts in ((0, 2, 6), (0, 1, 3, 6)):
        parts = [run(start, stop) for start, stop in pairwise(cuts)]
        assert np.array_equal(np.concatenate([part[0] for part in parts]), y)
    assert np.allclose(y, x * mask / 0.7, rtol=1e-15, atol=0)
    assert not np.array_equal(run(0, 6, step=5)[1], mask)
    dx = np.empty_like(x)
    dropout_dx(x, mask, dx, p=0.3)
    assert np.array_equal(dx, y)


def test_dropout_keeps_its_share() -> None:
    x = np.ones((50, 400))
    y, mask = np.empty_like(x), np.empty(x.shape, np.uint8)
    dropout_forward(x, y, mask, p=0.25, key=(3, 4), step=0, position=0)
    assert set(np.unique(mask)) == {0, 1}
    assert mask.mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / mask.size))


@pytest.mark.parametrize(
    ("kind", "fans", "std", "largest"),
    [
        ("kaiming_uniform", {"fan_in": 25}, 0.2 / np.sqrt(3), 0.2),
        ("glorot", {"fan_in": 40, "fan_out": 56}, 0.25 / np.sqrt(3), 0.25),
        ("he", {"fan_in": 50}, 0.2, 1.5),
        ("normal", {"value": 0.02}, 0.02, 0.15),
    ],
)
def test_initial_weights(kind: str, fans: dict[str, float], std: float, largest: float) -> None:
    weights = np.full((60, 101), 7.0)
    initialise(weights, kind=kind, key=key(0, "c1.conv.weight"), **fans)
    assert abs(weights.mean()) < 4 * std / np.sqrt(weights.size)
    assert weights.std() == pytest.approx(std, rel=0.04)
    assert np.abs(weights).max() <= largest
    single = np.empty((60, 101), np.float32)
    initialise(single, kind=kind, key=key(0, "c1.conv.weight"), **fans)
    assert np.array_equal(single, weights.astype(np.float32))
    other = np.empty_like(weights)
    initialise(other, kind=kind, key=key(1, "c1.conv.weight"), **fans)
    assert not np.array_equal(other, weights)


def test_constants_and_unknown_kinds() -> None:
    weights = np.full(4, 7.0)
    initialise(weights, kind="constant", key=(0, 0), value=1.5)
    assert weights.tolist() == [1.5] * 4
    with pytest.raises(ValueError, match="orthogonal"):
        initialise(weights, kind="orthogonal", key=(0, 0))
