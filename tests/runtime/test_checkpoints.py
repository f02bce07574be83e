"""What checkpoints are made of: generations on the disk, requests by signals, and when training stops."""

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.runtime import generations as disk
from backends.numpy_mpi.runtime.generations import Generation, Writing, generations, prune
from backends.numpy_mpi.runtime.position import Position
from backends.numpy_mpi.runtime.requests import CHECKPOINT, END, Requests, listen_to
from backends.numpy_mpi.runtime.stop import Below, Patience, numbers_of, restore

TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "conv.weight@velocity": np.linspace(0, 1, 7).reshape(7, 1).T,
    "bn.count": np.array(3.5),
    "empty": np.zeros((0, 4), np.float32),
}


def write(folder: Path, step: int, factor: float = 1.0) -> str:
    writing = Writing(folder, step)
    for name, array in TENSORS.items():
        writing.add(name, array * np.asarray(factor, array.dtype))
    failure = writing.finish({"step": step})
    if not failure:
        prune(folder, step)
    return failure


def test_a_generation_holds_what_was_written(tmp_path: Path) -> None:
    assert write(tmp_path / "made", 7) == ""
    (generation,) = generations(tmp_path / "made")
    assert generation.step == 7
    assert generation.fault() == ""
    assert generation.manifest["step"] == 7
    for name, array in TENSORS.items():
        found = generation.read(name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert generation.manifest["tensors"]["conv.weight"]["file"] == "weights.npz"
    assert generation.manifest["tensors"]["conv.weight@velocity"]["file"] == "state.npz"


def test_equal_tensors_make_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, 1)
    for file in ("weights.npz", "state.npz", "manifest.json"):
        one, other = (tmp_path / name / Generation.name_of(1) / file for name in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_two_generations_are_kept_and_later_ones_are_of_a_past_that_was_given_up(tmp_path: Path) -> None:
    for step in (1, 2, 3, 9):
        write(tmp_path, step)
    assert [generation.step for generation in generations(tmp_path)] == [9, 3]
    (tmp_path / "notes.txt").touch()
    (tmp_path / "step-of-another-kind").mkdir()
    write(tmp_path, 5)
    assert [generation.step for generation in generations(tmp_path)] == [5, 3]
    assert (tmp_path / "notes.txt").exists()


def test_a_step_that_is_there_is_written_anew(tmp_path: Path) -> None:
    write(tmp_path, 4)
    (tmp_path / Generation.name_of(4) / "state.npz").unlink()
    assert generations(tmp_path)[0].fault()
    assert write(tmp_path, 4, 2.0) == ""
    (generation,) = generations(tmp_path)
    assert not generation.fault()
    np.testing.assert_array_equal(generation.read("conv.weight"), 2 * TENSORS["conv.weight"])
    assert os.listdir(tmp_path) == [Generation.name_of(4)]


@pytest.mark.parametrize("call", ["fsync", "rename", "chmod"])
def test_a_write_that_fails_says_why_and_leaves_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write(tmp_path, 1)

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(disk.os, call, fails)
        assert write(tmp_path, 2) == "No space left on device"
    assert os.listdir(tmp_path) == [Generation.name_of(1)]
    assert not generations(tmp_path)[0].fault()


class _Killed(BaseException):
    pass


def test_a_crash_between_any_two_calls_leaves_a_whole_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the disk is the last one in turn; what a dead process leaves behind stays there."""
    calls = ("mkdtemp", "fsync", "rename", "rmtree")
    for last in range(1000):
        folder = tmp_path / f"{last}"
        write(folder, 1)
        write(folder, 2)
        left = iter(range(last + 1))

        def stops(original: object, left: object = left) -> object:
            def call(*words: object, **more: object) -> object:
                if next(left, None) is None:  # type: ignore[call-overload]
                    raise _Killed
                return original(*words, **more)  # type: ignore[operator]

            return call

        with monkeypatch.context() as crash:
            modules = {"mkdtemp": disk.tempfile, "rmtree": disk.shutil}
            for name in calls:
                module = modules.get(name, disk.os)
                crash.setattr(module, name, stops(getattr(module, name)))
            try:
                write(folder, 3)
                ended = True
            except _Killed:
                ended = False
        found = generations(folder)
        assert found
        assert not found[0].fault(), last
        assert found[0].step in (2, 3)
        assert write(folder, found[0].step + 1) == ""
        assert not [name for name in os.listdir(folder) if name.startswith(".")]
        if ended:
            assert last > 8
            return
    pytest.fail("writing never ends")


@pytest.mark.parametrize("change", [{"schema": 2}, {"step": 8}, {"digest": "0"}])
def test_a_manifest_that_was_changed_is_found(tmp_path: Path, change: dict[str, object]) -> None:
    write(tmp_path, 7)
    path = tmp_path / Generation.name_of(7) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "checksum of manifest.json" in generations(tmp_path)[0].fault()


def test_other_tensors_in_sound_files_are_found(tmp_path: Path) -> None:
    write(tmp_path, 7)
    path = tmp_path / Generation.name_of(7) / "weights.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["conv.weight"][0, 0, 0] += 1
    np.savez(path, **arrays)
    assert generations(tmp_path)[0].fault() == "`conv.weight` in weights.npz: its checksum is another one"
    arrays["conv.weight"] = arrays["conv.weight"].astype(np.float64)
    del arrays["bn.count"]
    np.savez(path, **arrays)
    fault = generations(tmp_path)[0].fault()
    assert "`conv.weight` in weights.npz: its shape or type is another one" in fault
    assert "`bn.count` in weights.npz: " in fault


# --- stop ------------------------------------------------------------------------------------------------------------


def test_below() -> None:
    stop = Below(0.5)
    for step, loss in enumerate((0.9, 0.5, None)):
        stop.heed(step + 1, loss)
        assert not stop.reached
    stop.heed(4, 0.49)
    assert stop.reached


def test_patience_counts_from_the_lowest_loss() -> None:
    stop = Patience(3)
    losses = (2.0, 1.0, 1.5, 1.0, 0.9, 0.95, 0.9)
    for step, loss in enumerate(losses):
        stop.heed(step + 1, loss)
        assert not stop.reached
    stop.heed(8, None)
    assert not stop.reached  # nothing new was learnt of the loss
    stop.heed(9, 0.9)
    assert stop.reached


def test_a_stop_goes_on_from_its_numbers_and_not_from_those_of_another_setting() -> None:
    stop, again = Patience(10), Patience(10)
    for step, loss in ((1, 0.1), (2, 0.3), (5, 0.2)):
        stop.heed(step, loss)
    restore(again, json.loads(json.dumps(numbers_of(stop))))
    assert again == stop
    below = Below(0.5)
    restore(below, numbers_of(stop))
    assert below == Below(0.5)
    assert numbers_of(None) == {}
    longer = Patience(2)
    restore(longer, numbers_of(stop))
    assert longer.reached  # as the setting is now


# --- requests --------------------------------------------------------------------------------------------------------


def test_requests_count_only_while_they_are_heeded() -> None:
    position = Position.shared()
    requests = Requests(position)
    requests.checkpoint()
    assert not requests.end()
    assert position.asked() == 0
    position.heed(True)
    requests.checkpoint()
    assert position.asked() == CHECKPOINT
    assert position.asked() == 0
    assert requests.end()
    requests.checkpoint()
    assert position.asked() == END


def test_who_insists_is_not_asked_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("backends.numpy_mpi.runtime.requests.time.monotonic", lambda: now)
    position = Position()
    position.heed(True)
    requests = Requests(position)
    assert requests.end()
    now += 0.5
    assert requests.end()  # a launcher handed the same signal on
    now += 1
    assert not requests.end()


def test_signals_are_handled_while_they_are_heeded() -> None:
    position, before = Position(), signal.getsignal(signal.SIGTERM)
    listen_to(position)
    assert signal.getsignal(signal.SIGTERM) is before
    position.heed(True)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert position.asked() == CHECKPOINT
        signal.raise_signal(signal.SIGTERM)
        assert position.asked() == END
    finally:
        position.heed(False)
    assert signal.getsignal(signal.SIGTERM) is before
