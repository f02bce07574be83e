"""Weights are whole or absent, whatever happens while they are written, and wrong ones are named."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.files import (
    load_arrays,
    load_npz,
    load_weights,
    require_place,
    save_arrays,
    save_npz,
    save_weights,
)
from backends.numpy_mpi.runtime.thread_world import run_threads
from backends.numpy_mpi.runtime.world import Serial, World
from tests.runtime.conftest import PACKAGES

WEIGHTS = {"c1.conv.weight": np.arange(6.0).reshape(2, 3), "c1.conv.bias": np.ones(2, np.float32)}


def test_round_trip(tmp_path: Path) -> None:
    save_npz(tmp_path / "w.npz", WEIGHTS)
    loaded = load_npz(tmp_path / "w.npz")
    assert list(loaded) == list(WEIGHTS)
    assert all(np.array_equal(loaded[name], WEIGHTS[name]) for name in WEIGHTS)
    assert os.listdir(tmp_path) == ["w.npz"]


def test_weights_on_all_ranks(tmp_path: Path) -> None:
    def main(world: World) -> bool:
        weights = {name: array * (world.rank + 1) for name, array in WEIGHTS.items()}
        save_weights(world, tmp_path / "w.npz", weights)
        load_weights(world, tmp_path / "w.npz", weights)
        return all(np.array_equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)

    assert run_threads(main, 3) == [True] * 3


def test_weights_of_another_type_are_cast(tmp_path: Path) -> None:
    save_npz(tmp_path / "w.npz", WEIGHTS)
    weights = {name: np.zeros(array.shape, np.float32) for name, array in WEIGHTS.items()}
    load_weights(Serial(), tmp_path / "w.npz", weights)
    assert weights["c1.conv.weight"].tolist() == WEIGHTS["c1.conv.weight"].tolist()


def test_weights_of_another_network(tmp_path: Path) -> None:
    save_npz(tmp_path / "w.npz", {"a": np.zeros(3), "b": np.zeros((2, 2)), "d": np.array(["text"])})
    weights = {"a": np.full(3, 7.0), "b": np.zeros((2, 3)), "c": np.zeros(1), "d": np.zeros(1)}

    def main(world: World) -> tuple[str, ...]:
        with pytest.raises(ProgramError, match="are not those of this network") as failure:
            load_weights(world, tmp_path / "w.npz", weights)
        return failure.value.notes

    notes = ("missing: `c`", "`b` is (2, 2), expected (2, 3)", "`d` holds <U4")
    assert run_threads(main, 2) == [notes, notes]
    assert weights["a"].tolist() == [7, 7, 7]
    with pytest.raises(ProgramError) as failure:
        load_weights(Serial(), tmp_path / "w.npz", {"a": np.zeros(3)})
    assert failure.value.notes == ("not in this network: `b`, `d`",)


def test_round_trip_as_safetensors(tmp_path: Path) -> None:
    """What is written is what the package itself reads, and the other way round."""
    path = tmp_path / "w.safetensors"
    weights = WEIGHTS | {"scalar": np.float64(3.5), "turned": np.arange(6.0).reshape(2, 3).T}
    save_arrays(path, weights)
    numpy = pytest.importorskip("safetensors.numpy")
    for loaded in (load_arrays(path), numpy.load_file(path)):
        assert sorted(loaded) == sorted(weights)
        assert all(np.array_equal(loaded[name], weights[name]) for name in weights)
        assert all(loaded[name].dtype == weights[name].dtype for name in weights)
    assert os.listdir(tmp_path) == ["w.safetensors"]


def safetensors(header: str, data: bytes) -> bytes:
    """A file by hand: https://github.com/huggingface/safetensors#format."""
    return len(header).to_bytes(8, "little") + header.encode() + data


def test_types_of_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "w.safetensors"
    half = np.array([1.5, -2.0], "<f2").tobytes()
    brain = bytes.fromhex("803f 00c0")  # 1.0 and -2.0: the upper halves of f32
    header = (
        '{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]}}'
    )
    path.write_bytes(safetensors(header, half + brain))
    loaded = load_arrays(path)
    assert loaded["a"].tolist() == [1.5, -2.0]
    assert loaded["b"].tolist() == [[1.0], [-2.0]]
    path.write_bytes(safetensors('{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}', b"\1"))
    with pytest.raises(ProgramError, match="`a` holds BOOL, which cannot be read here"):
        load_arrays(path)


def test_damaged_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "w.safetensors"
    save_arrays(path, WEIGHTS)
    whole = path.read_bytes()
    for content in (b"", whole[:5], whole[:40], whole[:-1], whole + b"more", b"\xff" * 100, None):
        path.write_bytes(content) if content is not None else path.unlink()
        with pytest.raises(
            ProgramError, match=r"w.safetensors` cannot be read as weights: (it is damaged|No such file)"
        ):
            load_arrays(path)


def test_safetensors_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    path = str(tmp_path / "w.safetensors")
    for action in (require_place, load_arrays, lambda path: save_arrays(path, WEIGHTS)):
        with pytest.raises(ProgramError, match="needs the package `safetensors`, which is not installed") as failure:
            action(path)
        assert failure.value.help == "`pip install safetensors` installs it; a name that ends in .npz needs nothing"
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    require_place(str(tmp_path / "new.npz"))
    with pytest.raises(ProgramError, match="it is a folder"):
        require_place(str(tmp_path))
    with pytest.raises(ProgramError, match=r"cannot be written: there is no folder `.*nowhere`"):
        require_place(str(tmp_path / "nowhere" / "w.npz"))


def test_nothing_is_left_of_a_file_that_could_not_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_npz(tmp_path / "w.npz", WEIGHTS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_files_that_are_no_weights(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ProgramError, match=r"w.npz` cannot be read as weights"):
        load_npz(tmp_path / "w.npz")


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    save_npz(tmp_path / "w.npz", {"a": np.zeros(100)})
    whole = (tmp_path / "w.npz").read_bytes()
    start = whole.index(b"\x93NUMPY")
    for place in range(start + 128, start + 900, 97):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        (tmp_path / "w.npz").write_bytes(damaged)
        with pytest.raises(ProgramError, match="cannot be read as weights"):
            load_npz(tmp_path / "w.npz")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    def main(world: World) -> str:
        with pytest.raises(ProgramError) as failure:
            save_weights(world, tmp_path / "missing" / "w.npz", WEIGHTS)
        return failure.value.text

    texts = run_threads(main, 2)
    assert texts[0] == texts[1] == f"`{tmp_path}/missing/w.npz` cannot be written: No such file or directory"


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from runtime.files import save_npz
from runtime.failures import ProgramError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    save_npz(sys.argv[2], {"a": np.ones(100_000)})
except ProgramError as error:
    print(error.text)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    save_npz(tmp_path / "w.npz", WEIGHTS)
    command = [sys.executable, "-c", FULL_DISK, str(PACKAGES), str(tmp_path / "w.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"`{tmp_path}/w.npz` cannot be written: File too large\n"
    assert os.listdir(tmp_path) == ["w.npz"]
    assert np.array_equal(load_npz(tmp_path / "w.npz")["c1.conv.bias"], WEIGHTS["c1.conv.bias"])
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


REWRITE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from runtime.files import save_npz
number = 0
while True:
    save_npz(sys.argv[2], {"a": np.full(200_000, float(number))})
    number += 1
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    """Whenever the writer is killed, the file is whole."""
    target = tmp_path / "w.npz"
    for delay in (0.0, 0.003, 0.007, 0.011, 0.019):
        writer = subprocess.Popen([sys.executable, "-c", REWRITE, str(PACKAGES), str(target)])
        deadline = time.monotonic() + 30
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
        values = load_npz(target)["a"]
        assert len(values) == 200_000
        assert (values == values[0]).all()
        target.unlink()
