"""Readers: what good files hold, and which file, row and cause a damaged one is reported with."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.files import Files
from backends.numpy_mpi.runtime.readers import cifar10, digits, mnist, npz, own_samples, synthetic


def idx(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    """Five images to train on, of which two files are compressed, three to test on."""
    for part, count in (("train", 5), ("t10k", 3)):
        images = np.arange(count * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(count, 28, 28)
        labels = np.arange(count, dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_digits() -> None:
    dataset = digits()
    images, labels = (dataset.train.columns[name] for name in ("image", "label"))
    assert images.values.shape == (1797, 1, 8, 8)
    assert (images.values.min(), images.values.max(), images.divisor) == (0, 16, 16.0)
    assert np.bincount(labels.values).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]  # as UCI lists them
    assert len(dataset.test) == 0


def test_digits_scaled_and_split() -> None:
    dataset = digits(4, input="x", test=0.2, seed=7)
    assert (len(dataset.train), len(dataset.test)) == (1438, 359)
    values = dataset.train.columns["x"].values
    assert values.shape[1:] == (1, 32, 32)
    assert (values == values[:, :, ::4, ::4].repeat(4, 2).repeat(4, 3)).all()
    dataset.require({"x": (1, 32, 32)}, {"label": 10})


@pytest.mark.parametrize("pad", [0, 2])
def test_mnist(mnist_folder: Path, pad: int) -> None:
    dataset = mnist(Files(mnist_folder), ".", pad=pad)
    values = dataset.train.columns["image"].values
    assert values.shape == (5, 1, 28 + 2 * pad, 28 + 2 * pad)
    assert values[0, 0, pad, pad : pad + 28].tolist() == list(range(28))
    assert values.sum() == values[:, :, pad : pad + 28, pad : pad + 28].sum()
    assert dataset.test.columns["label"].values.tolist() == [0, 1, 2]


def test_damaged_mnist(mnist_folder: Path) -> None:
    images = mnist_folder / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    cases = [
        (whole[:1000], "train-images-idx3-ubyte: expected 3936 bytes, found 1000"),
        (whole[:10], "train-images-idx3-ubyte: expected a header of 16 bytes, found 10 bytes"),
        (b"\x89PNG" + whole[4:], "expected an IDX file of bytes with 3 axes, found one that begins 89504e47"),
        (idx(np.zeros((4, 28, 28), np.uint8)), "has 5 labels, train-images-idx3-ubyte has 4 images"),
    ]
    for content, message in cases:
        images.write_bytes(content)
        with pytest.raises(ProgramError) as failure:
            mnist(Files(mnist_folder), ".")
        assert message in failure.value.text
        assert failure.value.code == "E0715"
    images.unlink()
    with pytest.raises(ProgramError, match=r"there is no file `./train-images-idx3-ubyte`"):
        mnist(Files(mnist_folder), ".")


def test_damaged_mnist_labels(mnist_folder: Path) -> None:
    labels = mnist_folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-6])
    with pytest.raises(ProgramError, match=r"train-labels-idx1-ubyte.gz: cannot be read: Compressed file ended"):
        mnist(Files(mnist_folder), ".")
    labels.write_bytes(gzip.compress(idx(np.array([0, 1, 12, 3, 99], np.uint8))))
    with pytest.raises(ProgramError, match="row 2: the label is 12, labels are 0 to 9"):
        mnist(Files(mnist_folder), ".")


def test_cifar10(tmp_path: Path) -> None:
    row = np.arange(3073, dtype=np.uint32).astype(np.uint8)
    for number, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        row[0] = number
        (tmp_path / name).write_bytes(row.tobytes() * 2)
    dataset = cifar10(Files(tmp_path), ".")
    assert dataset.train.columns["image"].values.shape == (10, 3, 32, 32)
    assert dataset.train.columns["image"].values[0, 0, 0, :3].tolist() == [1, 2, 3]
    assert dataset.train.columns["label"].values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert dataset.test.columns["label"].values.tolist() == [5, 5]
    row[0] = 10
    (tmp_path / "data_batch_3.bin").write_bytes(row.tobytes())
    with pytest.raises(ProgramError, match=r"data_batch_3.bin: row 0: the label is 10"):
        cifar10(Files(tmp_path), ".")
    for content in (b"", b"short"):
        (tmp_path / "test_batch.bin").write_bytes(content)
        (tmp_path / "data_batch_3.bin").write_bytes(bytes(3073))
        with pytest.raises(ProgramError, match=rf"test_batch.bin: expected rows of 3073 bytes, found {len(content)}"):
            cifar10(Files(tmp_path), ".")


def test_npz(tmp_path: Path) -> None:
    arrays = {"image": np.random.default_rng(0).random((10, 3)), "label": np.arange(10), "unused": np.zeros(3)}
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    dataset = npz(Files(tmp_path), "data.npz", names=("image", "label"), test=0.3, seed=1)
    assert (len(dataset.train), len(dataset.test)) == (7, 3)
    assert dataset.train.names == ("image", "label")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"label": np.arange(3)}, "data.npz: has no array `image`, it has label"),
        ({"image": np.zeros((4, 2)), "label": np.arange(3)}, "has 3 rows of `label` and 4 of `image`"),
        (
            {"image": np.array([[0.0], [np.nan], [1.0]]), "label": np.arange(3)},
            "row 1: `image` holds a value that is not",
        ),
        (
            {"image": np.array(["a", "b"]), "label": np.arange(2)},
            "`image` has values of type <U1, expected whole or real",
        ),
        ({"image": np.array([{}, {}]), "label": np.arange(2)}, "cannot be read as .npz: Object arrays"),
        ({"image": np.float64(1), "label": np.arange(2)}, "`image` is a single number, expected one row per sample"),
    ],
)
def test_npz_with_wrong_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:  # type: ignore[type-arg]
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ProgramError) as failure:
        npz(Files(tmp_path), "data.npz", names=("image", "label"))
    assert message in failure.value.text


def test_damaged_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.zeros((100, 10)), label=np.zeros(100))
    whole = (tmp_path / "data.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[300] ^= 1
    for content in (whole[:1000], b"", b"no archive", bytes(flipped)):
        (tmp_path / "data.npz").write_bytes(content)
        with pytest.raises(ProgramError, match=r"data.npz: cannot be read as .npz"):
            npz(Files(tmp_path), "data.npz", names=("image", "label"))


def test_synthetic_can_be_learned_and_stays_the_same() -> None:
    dataset = synthetic({"image": (1, 4, 4), "other": (3,)}, samples=400, classes=3, test=0.25, seed=5)
    again = synthetic({"image": (1, 4, 4), "other": (3,)}, samples=400, classes=3, test=0.25, seed=5)
    x, label = dataset.train.columns["image"].values, dataset.train.columns["label"].values
    assert np.array_equal(x, again.train.columns["image"].values)
    assert x.dtype == np.float32
    assert np.bincount(label).min() > 60
    means = np.stack([x[label == c].mean(axis=0) for c in range(3)])
    test = dataset.test.columns["image"].values
    nearest = ((test[:, None] - means) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert (nearest == dataset.test.columns["label"].values).mean() > 0.95


def test_synthetic_tokens_can_be_learned() -> None:
    shapes, below = {"text": (12,), "image": (2, 3)}, {"text": 5}
    dataset = synthetic(shapes, below=below, next="text", samples=300, classes=4, seed=2)
    text, following = (dataset.train.columns[name].values for name in ("text", "next"))
    assert text.shape == following.shape == (300, 12)
    assert np.array_equal(text[:, 1:], following[:, :-1])
    assert (text.min(), text.max(), text.dtype) == (0, 4, np.int32)
    assert dataset.train.columns["image"].values.dtype == np.float32
    label = dataset.train.columns["label"].values
    for c in range(4):
        most = np.array([np.bincount(column, minlength=5).max() for column in text[label == c].T])
        assert (most > 0.6 * (label == c).sum()).all(), "most tokens are those of the class"
    dataset.require({"text": (12,), "image": (2, 3)}, {"text": 5, "next": 5, "label": 4})


def test_integers_of_any_shape_name_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", text=np.array([[0, 1, 2], [3, 4, 5]]), mask=np.array([[0.0, 1.0], [0.5, 1.0]]))
    dataset = npz(Files(tmp_path), "data.npz", names=("text", "mask"))
    dataset.require({"text": (3,), "mask": (2,)}, {"text": 6})
    with pytest.raises(ProgramError, match=r"data.npz, row 1: `text` is 4, classes are 0 to 3"):
        dataset.require({}, {"text": 4})
    with pytest.raises(ProgramError, match=r"data.npz, row 1: `mask` is 0.5, classes are 0 to 1"):
        dataset.require({}, {"mask": 2})


def test_samples_of_ones_own(tmp_path: Path) -> None:
    file = str(tmp_path / "mine.npz")
    shapes = {"image": (1, 2, 2), "text": (3,)}
    arrays = {"image": np.zeros((5, 1, 2, 2)), "text": np.arange(15).reshape(5, 3)}
    np.savez(file, **arrays)
    assert len(own_samples(file, shapes, {"text": 15, "label": 10})) == 5
    cases = [
        ({"image": arrays["image"]}, "mine.npz: has no array `text`, it has image"),
        (arrays | {"text": arrays["text"][:4]}, "has 4 rows of `text` and 5 of `image`"),
        (arrays | {"image": np.zeros((5, 2, 2))}, "mine.npz has `image` of shape 2x2, the network takes 1x2x2"),
        (arrays | {"text": arrays["text"] + 1}, "mine.npz, row 4: `text` is 15, classes are 0 to 14"),
        ({name: array[:0] for name, array in arrays.items()}, "mine.npz: holds no sample"),
    ]
    for content, message in cases:
        np.savez(file, **content)  # type: ignore[arg-type]
        with pytest.raises(ProgramError) as failure:
            own_samples(file, shapes, {"text": 15})
        assert message in failure.value.text
    with pytest.raises(ProgramError, match=r"there is no file `nowhere.npz`"):
        own_samples("nowhere.npz", shapes, {})


def test_paths_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").write_text("secret")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "inside").write_text("data")
    (root / "good_link").symlink_to(root / "inside")
    files = Files(root)
    assert files.inside("inside").read_text() == "data"
    assert files.inside("good_link").read_text() == "data"
    for path in ("../outside", "link", str(tmp_path / "outside")):
        with pytest.raises(ProgramError, match="lies outside the data folder"):
            files.inside(path)
    os.mkfifo(root / "pipe")
    for path in ("pipe", "."):
        with pytest.raises(ProgramError, match="is not a regular file"):
            files.inside(path)
    with pytest.raises(ProgramError, match="there is no file `missing`"):
        files.inside("missing")
