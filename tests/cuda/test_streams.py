"""Streams and events of emulated programs: what nothing puts in order is found, whatever the numbers come to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends.cupy_mpi.runtime import emulated
from backends.cupy_mpi.runtime.emulated_streams import RaceError
from backends.cupy_mpi.runtime.staging import AHEAD, Arriving, Numbers, Pinned, pointer
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.cuda.running import trained

SPECS = Path(__file__).parents[2] / "specs"
cuda = emulated.cuda


def pinned() -> Pinned:
    return Pinned(lambda size: np.frombuffer(cuda.alloc_pinned_memory(size), np.uint8, size))


def filled(value: float) -> emulated.ndarray:
    array = emulated.zeros(4, np.float64)
    array.fill(value)
    return array


class On:
    """A stream as the current one."""

    def __init__(self, stream: cuda.Stream) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        self.before = cuda.get_current_stream()
        self.stream.use()

    def __exit__(self, *_: object) -> None:
        self.before.use()


def test_what_another_stream_writes_is_read_behind_an_event() -> None:
    x, y, other = filled(1), filled(2), cuda.Stream(non_blocking=True)
    with On(other), pytest.raises(RaceError, match=r"reads 32 bytes that stream .* writes"):
        np.add(x, 1.0, out=y)
    other.wait_event(cuda.get_current_stream().record())
    with On(other):
        np.add(x, 1.0, out=y)
    with pytest.raises(RaceError, match=r"writes 32 bytes that stream .* reads"):
        x.fill(3)
    assert np.array_equal(x.get(), np.ones(4))  # two that read need no order


def test_parts_of_an_array_that_do_not_meet_need_no_order() -> None:
    x, other = filled(1), cuda.Stream(non_blocking=True)
    other.wait_event(cuda.get_current_stream().record())
    with On(other):
        x[:2].fill(5)
    x[2:].fill(6)
    with pytest.raises(RaceError):
        x[1:3].fill(7)


def test_what_the_processor_waits_for_is_over_for_all() -> None:
    x, other = filled(1), cuda.Stream(non_blocking=True)
    cuda.get_current_stream().synchronize()
    with On(other):
        x.fill(2)
    other.record().synchronize()
    assert np.array_equal(x.get(), np.full(4, 2.0))


def test_an_event_orders_what_was_before_it_alone() -> None:
    x, other, early = filled(1), cuda.Stream(non_blocking=True), cuda.get_current_stream().record()
    x.fill(2)
    other.wait_event(early)
    with On(other), pytest.raises(RaceError):
        x.fill(3)


def test_a_copy_to_the_processor_is_there_when_it_was_waited_for() -> None:
    x, room = filled(4), pinned().take(np.zeros(4))
    x.data.copy_to_host_async(pointer(room), room.nbytes)
    assert not np.array_equal(room, np.full(4, 4.0))
    event = cuda.get_current_stream().record()
    assert not event.done
    event.synchronize()
    assert np.array_equal(room, np.full(4, 4.0))


def test_memory_that_is_being_copied_may_not_change() -> None:
    x, room = filled(0), pinned().take(np.zeros(4))
    room[...] = 1
    x.data.copy_from_host_async(pointer(room), room.nbytes)
    room[...] = 2
    with pytest.raises(RaceError, match="still being copied"):
        cuda.get_current_stream().synchronize()


def test_samples_come_while_those_before_are_read() -> None:
    """Two places by turns: of what the processor writes nothing is lost, and it waits for nothing that is read."""
    x, out = filled(0), filled(0)
    arriving = Arriving(x, pinned(), lambda: emulated.empty(4, np.float64), cuda.Stream(non_blocking=True))
    for number in range(5):
        room = arriving.room()
        room[...] = number
        assert arriving.arrive(room, cuda.get_current_stream())
        np.add(out, x, out=out)
    assert np.array_equal(out.get(), np.full(4, 10.0))
    assert not arriving.arrive(np.zeros(4), cuda.get_current_stream())


def test_samples_wait_until_those_before_are_read() -> None:
    """The processor is ahead of the device: without an event the third ones would be written over the first."""
    x = filled(0)
    arriving = Arriving(x, pinned(), lambda: emulated.empty(4, np.float64), cuda.Stream(non_blocking=True))
    for _ in range(2):
        arriving.arrive(arriving.room(), cuda.get_current_stream())
    arriving._used = [None, None]
    with pytest.raises(RaceError):
        arriving.arrive(arriving.room(), cuda.get_current_stream())


def test_numbers_are_read_later_and_checked_in_order() -> None:
    checked: list[float] = []
    numbers, loss = Numbers(pinned()), emulated.zeros((), np.float64)
    given = []
    for step in range(AHEAD + 3):
        loss.fill(float(step))
        given.append(numbers.later(loss, checked.append, cuda.get_current_stream()))
    assert checked == [0, 1, 2]
    assert float(given[5]) == 5
    assert checked == [0, 1, 2, 3, 4, 5]
    assert float(given[1]) == 1
    numbers.settle()
    assert checked == list(range(AHEAD + 3))


def test_an_mpi_reads_what_was_waited_for() -> None:
    """It knows no streams: the device must be done with what is sent, and with what it is to write to."""
    x, y = filled(1), filled(2)
    with pytest.raises(RaceError, match="reads 32 bytes"):
        emulated.in_flight(x, None)
    with pytest.raises(RaceError, match="writes 32 bytes"):
        emulated.in_flight(None, y)
    cuda.get_current_stream().synchronize()
    emulated.in_flight(x, y)()


def test_what_an_mpi_has_is_left_alone_until_it_is_done() -> None:
    x, y = filled(1), filled(2)
    cuda.get_current_stream().synchronize()
    end = emulated.in_flight(x, y)
    np.add(x, 1.0, out=filled(0))
    for use in (lambda: x.fill(3), lambda: np.add(y, 1.0, out=filled(0)), lambda: y.fill(3)):
        with pytest.raises(RaceError):
            use()
    end()
    np.add(y, 1.0, out=x)


OVERLAPPED = """dlspec 1
network tiny {
  input image: f32[batch = 16, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3, pad = 1) -> relu
  f2     = c1 -> flatten -> linear(300) -> relu
  logits = f2 -> linear(10)
  output logits
}
cluster one {
  device gpu { kind = gpu, memory = 4 GiB, bandwidth = 4 TB/s, compute.f32 = 50 TFLOP/s, overlap = 1 }
  link pcie { latency = 5 us, bandwidth = 10 GB/s }
  topology { gpu[2] over pcie }
}
train tiny {
  data      = digits
  loss      = cross_entropy(logits, data.label)
  optimizer = sgd
  lr        = constant(0.1)
  epochs    = 1
}
plan tiny on one { strategy = data, allreduce = rabenseifner, overlap = yes }
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A program that sums gradients while the backward pass goes on, for both backends."""
    path = tmp_path_factory.mktemp("streams")
    (path / "tiny.dlspec").write_text(OVERLAPPED, encoding="utf-8")
    job = compile_spec(read(str(path / "tiny.dlspec")), Options(ranks=2, kernels="numpy"))
    for backend in ("numpy", "cupy"):
        write_folder(emit_files(job, backend), str(path / backend))
    assert "begin=True" in (path / "cupy" / "train.py").read_text(encoding="utf-8")
    return {backend: path / backend for backend in ("numpy", "cupy")}


def test_messages_on_a_stream_of_their_own_change_nothing(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of 1 KiB, several of which are on their way at a time."""
    file = folders["cupy"] / "runtime" / "staging.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("CHUNK = 4 * 2**20", "CHUNK = 2**10"), encoding="utf-8")
    try:
        assert trained(folders["cupy"], "--emulate").equals(trained(folders["numpy"]))
    finally:
        file.write_text(text, encoding="utf-8")


ORDERS = {
    "messages wait for what was computed": (
        "device",
        "RANK.messages.wait_event(cp.cuda.get_current_stream().record())",
    ),
    "what is computed waits for messages": (
        "device",
        "cp.cuda.get_current_stream().wait_event(RANK.messages.record())",
    ),
    "what is computed waits for samples": ("staging", "current.wait_event(self._copied[self._turn])"),
    "what is sent is there": ("staging", "self._ready.synchronize()"),
}


@pytest.mark.parametrize("order", ORDERS)
def test_each_event_is_needed(order: str, folders: dict[str, Path]) -> None:
    """Without one of them the program fails; but for what is sent too early, which is other numbers."""
    module, line = ORDERS[order]
    file = folders["cupy"] / "runtime" / f"{module}.py"
    text = file.read_text(encoding="utf-8")
    assert text.count(line) == 1
    file.write_text(text.replace(line, "pass"), encoding="utf-8")
    command = [sys.executable, "-I", str(folders["cupy"] / "train.py"), "--rehearse", "--steps", "3", "--emulate"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    finally:
        file.write_text(text, encoding="utf-8")
    assert ran.returncode == 1
    assert ("E0718" if "is sent" in order else "RaceError") in ran.stderr
