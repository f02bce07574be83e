"""Split, order and shares: properties that hold for every size, seed and number of ranks."""

from itertools import pairwise

import numpy as np
import pytest

from backends.numpy_mpi.runtime.data import Column, Dataset, Loader, Samples, permutation, split
from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.spec import shard


def samples(count: int) -> Samples:
    """Images that hold their own number, and labels of ten classes."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros((count, 2, 3, 4), np.uint8)
    return Samples({"image": Column(images, 2.0), "label": Column(np.arange(count, dtype=np.int32) % 10)}, "test data")


@pytest.mark.parametrize("ranks", range(1, 9))
def test_shards_cover_a_batch_and_differ_by_at_most_one(ranks: int) -> None:
    for count in range(40):
        shards = [shard(count, ranks, rank) for rank in range(ranks)]
        extents = [stop - start for start, stop in shards]
        assert shards[0][0] == 0
        assert shards[-1][1] == count
        assert all(a[1] == b[0] for a, b in pairwise(shards))
        assert extents == sorted(extents, reverse=True)
        assert extents.count(max(extents)) == (count % ranks or ranks)
        assert max(extents) - min(extents) <= 1


@pytest.mark.parametrize("test", [0.0, 0.2, 0.5, 1.0])
def test_split_is_a_partition_in_order(test: float) -> None:
    dataset = split(samples(101), test, seed=3)
    train, held = (part.columns["image"].values[:, 0, 0, 0].tolist() for part in (dataset.train, dataset.test))
    assert sorted(train + held) == list(range(101))
    assert train == sorted(train)
    assert held == sorted(held)
    assert len(dataset.test) == round(101 * test)


def test_rows_are_those_of_the_source() -> None:
    whole = samples(50)
    whole.columns["label"].values[37] = 99
    with pytest.raises(ProgramError, match="test data, row 37: `label` is 99, classes are 0 to 9"):
        split(whole, 0.2, seed=0).require({}, {"label": 10})


def test_split_depends_on_the_seed() -> None:
    first, same, other = (split(samples(101), 0.2, seed).test.columns["image"].values.tobytes() for seed in (0, 0, 1))
    assert first == same != other


def test_permutations_stay_what_they_are() -> None:
    """The order of samples is part of what a spec means: it must not change with NumPy or with this program."""
    assert permutation(0, 0, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert permutation(-1, 2**63, 3).tolist() == permutation(2**64 - 1, 2**63, 3).tolist()


@pytest.mark.parametrize(("last", "steps"), [("drop", 3), ("keep", 4)])
def test_an_epoch_is_a_permutation(last: str, steps: int) -> None:
    loader = Loader(samples(35), 10, seed=1, last=last)  # type: ignore[arg-type]
    assert loader.steps_per_epoch == steps
    epochs = [np.concatenate([loader.indices(epoch * steps + i) for i in range(steps)]).tolist() for epoch in (0, 1)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == (35 if last == "keep" else 30)
    assert epochs[0] != epochs[1]
    assert loader.indices(0).tolist() == epochs[0][:10]  # going back gives the same batch again


def test_without_shuffle_the_order_is_the_data_sets() -> None:
    loader = Loader(samples(5), 2, shuffle=False, last="keep")
    assert [loader.indices(step).tolist() for step in range(4)] == [[0, 1], [2, 3], [4], [0, 1]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_ranks_together_get_the_batch(ranks: int) -> None:
    loader = Loader(samples(35), 10, seed=1, last="keep")
    for step in range(8):
        indices = loader.indices(step)
        rows = []
        for rank in range(ranks):
            start, stop = shard(len(indices), ranks, rank)
            image = np.empty((stop - start, 2, 3, 4), np.float32)
            label = np.empty(stop - start, np.int32)
            loader.fill(indices[start:stop], {"image": image, "label": label})
            assert (image == image[:, :1, :1, :1]).all()
            assert (label == image[:, 0, 0, 0] * 2 % 10).all()
            rows += (image[:, 0, 0, 0] * 2).tolist()
        assert rows == indices.tolist()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHWN"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fill_in_a_layout(layout: str, dtype: str) -> None:
    stored = Samples({"image": Column(np.arange(120.0, dtype=np.float32).reshape(5, 2, 3, 4))}, "test data")
    loader = Loader(stored, 3, shuffle=False, last="keep", layouts={"image": layout})
    order = ["NCHW".index(axis) for axis in layout]
    for indices in (np.array([4, 0, 2]), np.array([1])):
        expected = stored.columns["image"].values[indices].transpose(order)
        image = np.empty(expected.shape, dtype)
        loader.fill(indices, {"image": image})
        assert np.array_equal(image, expected)


def test_filling_allocates_no_batch_after_the_first() -> None:
    loader = Loader(samples(35), 10)
    image = np.empty((10, 2, 3, 4), np.float32)
    loader.fill(loader.indices(0), {"image": image})
    room = loader._taken["image"]
    loader.fill(loader.indices(1)[:7], {"image": image[:7]})
    assert loader._taken["image"] is room


def test_a_batch_that_is_too_large() -> None:
    with pytest.raises(ProgramError, match="test data has 3 samples, fewer than one batch of 4"):
        Loader(samples(3), 4)
    assert Loader(samples(3), 4, last="keep").steps_per_epoch == 1
    assert Loader(samples(0), 4, shuffle=False).steps_per_epoch == 0


def test_require() -> None:
    dataset = Dataset(samples(20), samples(10))
    dataset.require({"image": (2, 3, 4)}, {"label": 10})
    with pytest.raises(ProgramError, match="`image` of shape 2x3x4, the network takes 1x3x4"):
        dataset.require({"image": (1, 3, 4)})
    with pytest.raises(ProgramError, match="row 5: `label` is 5, classes are 0 to 4"):
        dataset.require({}, {"label": 5})
    with pytest.raises(ProgramError, match="test data has no `picture`") as failure:
        dataset.require({"picture": (2, 3, 4)})
    assert failure.value.notes == ("it has `image`, `label`",)
