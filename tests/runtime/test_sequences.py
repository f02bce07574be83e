"""Texts and tokens in windows: what they hold, and what a bad file is refused with."""

from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.files import Files
from backends.numpy_mpi.runtime.sequences import text, tokens


def written(folder: Path, content: str | bytes, name: str = "corpus.txt") -> Files:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Files(folder)


def test_windows_of_characters(tmp_path: Path) -> None:
    samples = text(written(tmp_path, "banana bread"), "corpus.txt", seq=3, input="x").train
    # sorted: blank a b d e n r
    assert samples.columns["x"].values.tolist() == [[2, 1, 5], [1, 5, 1], [0, 2, 6]]
    assert samples.columns["next"].values.tolist() == [[1, 5, 1], [5, 1, 0], [2, 6, 4]]
    assert samples.columns["x"].values.dtype == np.uint8


def test_characters_count_as_they_stand(tmp_path: Path) -> None:
    found = text(written(tmp_path, "\ufeffé\r\n日本é\U0001f407"), "corpus.txt", seq=2).train
    # sorted by code point: \n \r é 日 本 the rabbit; the byte-order mark is none of them
    assert found.columns["text"].values.tolist() == [[2, 1], [0, 3], [4, 2]]
    assert found.columns["next"].values.tolist() == [[1, 0], [3, 4], [2, 5]]


def test_more_characters_than_a_byte_holds(tmp_path: Path) -> None:
    letters = "".join(chr(0x4E00 + i) for i in range(300)) * 2
    found = text(written(tmp_path, letters), "corpus.txt", seq=299).train.columns
    assert found["text"].values[0].tolist() == list(range(299))
    assert found["next"].values[0].tolist() == list(range(1, 300))


def test_no_window_is_in_both_parts(tmp_path: Path) -> None:
    content = "".join(chr(97 + i % 26) + chr(48 + i % 7) for i in range(900))
    files = written(tmp_path, content)
    dataset, again, other = (text(files, "corpus.txt", seq=11, test=0.25, seed=seed) for seed in (4, 4, 5))
    assert (len(dataset.train), len(dataset.test)) == (122, 41)
    assert dataset.about == "corpus.txt: 1,800 characters, 33 of them distinct; 163 windows of 11"
    held = dataset.test.columns["text"].values
    assert np.array_equal(held, again.test.columns["text"].values)
    assert not np.array_equal(held, other.test.columns["text"].values)
    whole = text(files, "corpus.txt", seq=11).train.columns["text"].values
    joined = np.concatenate([held, dataset.train.columns["text"].values])
    assert sorted(map(tuple, joined)) == sorted(map(tuple, whole))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "corpus.txt: holds no text"),
        ("\ufeff", "corpus.txt: holds no text"),
        (b"one\ntwo \xff three", "is no UTF-8 text: byte 8 (0xff, line 2) begins no character"),
        ("日本".encode()[:-1], "is no UTF-8 text: byte 3 (0xe6, line 1) begins no character"),
        ("short", "holds 5 tokens, a window of 5 and the one after it take 6"),
        ("abcdefgh", "corpus.txt has 8 distinct characters, the network has classes for 7"),
    ],
)
def test_bad_texts(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ProgramError) as failure:
        text(written(tmp_path, content), "corpus.txt", seq=5, classes=7)
    assert message in failure.value.text
    assert failure.value.code == "E0715"


def test_tokens(tmp_path: Path) -> None:
    numbers = np.arange(7) * 50
    np.save(tmp_path / "t.npy", numbers)
    np.savez(tmp_path / "t.npz", tokens=numbers, other=np.zeros(3))
    (tmp_path / "t.bin").write_bytes(numbers.astype("<u2").tobytes())
    for name in ("t.npy", "t.npz", "t.bin"):
        found = tokens(Files(tmp_path), name, seq=3, input="x").train.columns
        assert found["x"].values.tolist() == [[0, 50, 100], [150, 200, 250]]
        assert found["next"].values.tolist() == [[50, 100, 150], [200, 250, 300]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(9), "holds values of type float64 (9), expected one list of whole numbers"),
        (np.zeros((3, 3), int), "holds values of type int64 (3x3), expected one list of whole numbers"),
        (np.array(3), "holds values of type int64 (a single number), expected"),
        (np.array([1, -2, 3]), "token 1 is -2, tokens are 0 to 2147483647"),
        (np.array([1, 2, 2**31]), "token 2 is 2147483648, tokens are 0 to 2147483647"),
        (np.array([1, 2]), "holds 2 tokens, a window of 2 and the one after it take 3"),
        (np.array([], int), "holds 0 tokens"),
        (np.array([{}, {}]), "cannot be read as .npy: Object arrays cannot be loaded"),
    ],
)
def test_bad_tokens(tmp_path: Path, array: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ProgramError) as failure:
        tokens(Files(tmp_path), "t.npy", seq=2)
    assert message in failure.value.text


def test_damaged_token_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", numbers=np.arange(9))
    with pytest.raises(ProgramError, match=r"has no array `tokens`, it has numbers"):
        tokens(Files(tmp_path), "t.npz", seq=2)
    np.savez(tmp_path / "t.npz", tokens=np.arange(900))
    np.save(tmp_path / "t.npy", np.arange(900))
    for name in ("t.npz", "t.npy"):
        whole = (tmp_path / name).read_bytes()
        for content in (whole[:1000], b"", b"no tokens"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ProgramError, match=rf"{name}: cannot be read as {name[1:]}"):
                tokens(Files(tmp_path), name, seq=2)
    with pytest.raises(ProgramError, match=r"t.bin: cannot be read as .bin: .*multiple of element size"):
        tokens(written(tmp_path, b"odd", "t.bin"), "t.bin", seq=2)
    with pytest.raises(ProgramError, match=r"t.txt: is not named .npy, .npz or .bin"):
        tokens(written(tmp_path, b"1 2 3", "t.txt"), "t.txt", seq=2)
    with pytest.raises(ProgramError, match="lies outside the data folder"):
        tokens(Files(tmp_path), "../t.npy", seq=2)
