"""What stands for CUDA's capture: what is launched meanwhile is the graph's; what no graph can have is an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.runtime import emulated
from backends.cupy_mpi.runtime.emulated_graphs import CaptureError
from backends.cupy_mpi.runtime.emulated_streams import RaceError
from dlc.driver import emit_files
from dlc.folders import write_folder
from tests.cuda.running import trained
from tests.cuda.zoo import Case, compiled

cuda = emulated.cuda


def filled(value: float) -> emulated.ndarray:
    array = emulated.zeros(4, np.float64)
    array.fill(value)
    return array


@contextmanager
def on(stream: Any) -> Iterator[None]:
    before = cuda.get_current_stream()
    stream.use()
    try:
        yield
    finally:
        before.use()


@contextmanager
def capturing() -> Iterator[list[Any]]:
    """What is captured, in a list of one graph."""
    stream, made = cuda.get_current_stream(), list[Any]()
    stream.begin_capture()
    try:
        yield made
    finally:
        made.append(stream.end_capture())


def test_what_is_captured_is_done_by_the_graph() -> None:
    x, y = filled(1), filled(0)
    with capturing() as made:
        np.add(x, y, out=y)
        x[:2] = 5.0
        np.copyto(y[2:], x[2:])
    assert np.array_equal(x.get(), np.ones(4))
    assert np.array_equal(y.get(), np.zeros(4))
    for _ in range(2):
        made[0].launch(cuda.get_current_stream())
    assert np.array_equal(x.get(), [5, 5, 1, 1])
    assert np.array_equal(y.get(), [6, 6, 1, 1])


NOT_IN_GRAPHS: dict[str, Callable[[emulated.ndarray], Any]] = {
    "an array is read": lambda x: x.get(),
    "a number is read": lambda x: float(x[0]),
    "an array is written": lambda x: x.set(np.zeros(4)),
    "memory is taken": lambda x: x + 1.0,
    "zeros are taken": lambda _: emulated.zeros(4, np.float64),
    "the stream is waited for": lambda _: cuda.get_current_stream().synchronize(),
    "an event is waited for": lambda _: cuda.get_current_stream().record().synchronize(),
    "an event is asked for": lambda _: cuda.get_current_stream().record().done,
    "something is copied": lambda x: x.data.copy_to_host_async(bytearray(32).__len__(), 0),
    "another stream was not captured": lambda _: cuda.get_current_stream().wait_event(cuda.Stream().record()),
    "it captures already": lambda _: cuda.get_current_stream().begin_capture(),
}


@pytest.mark.parametrize("what", NOT_IN_GRAPHS)
def test_what_needs_the_processor_is_in_no_graph(what: str) -> None:
    x = filled(1)
    with capturing(), pytest.raises(CaptureError):
        NOT_IN_GRAPHS[what](x)


def test_another_stream_is_a_part_of_it_from_an_event_to_an_event() -> None:
    x, y, own, other = filled(1), filled(0), cuda.get_current_stream(), cuda.Stream(non_blocking=True)
    with capturing() as made:
        np.multiply(x, 2.0, out=x)
        other.wait_event(own.record())
        with on(other):
            np.add(x, y, out=y)
        own.wait_event(other.record())
        np.multiply(y, 10.0, out=y)
    for _ in range(2):
        made[0].launch(own)
    assert np.array_equal(y.get(), np.full(4, (20 + 4) * 10.0))


def test_a_stream_that_is_not_waited_for_is_an_error() -> None:
    x, own, other = filled(1), cuda.get_current_stream(), cuda.Stream(non_blocking=True)
    own.begin_capture()
    other.wait_event(own.record())
    with on(other):
        x.fill(3)
    with pytest.raises(CaptureError, match="not waited for"):
        own.end_capture()


def test_the_order_within_a_graph_is_looked_at_too() -> None:
    """Where nothing orders two of its streams, launching it is a race."""
    x, own, other = filled(1), cuda.get_current_stream(), cuda.Stream(non_blocking=True)
    with capturing() as made:
        other.wait_event(own.record())
        with on(other):
            x.fill(3)
        x.fill(2)
        own.wait_event(other.record())
    with pytest.raises(RaceError):
        made[0].launch(own)


COUNTING = """
import atexit
from runtime.graphs import Aside, Graphs
parts, play = [], Graphs._play

def counted(graphs, recording, calls):
    parts.append([isinstance(part, Aside) for part in recording.parts])
    play(graphs, recording, calls)

Graphs._play = counted
atexit.register(lambda: print(f"recorded {len(parts)} {max(map(sum, parts))}", file=sys.stderr))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network of which parts of images are on two ranks: halos, sums and the rest between them."""
    path, made = tmp_path_factory.mktemp("across"), compiled(Case("lenet5", "f32", 2, "spatial"))
    for backend in ("numpy", "cupy"):
        write_folder(emit_files(made, backend), str(path / backend))
    return {backend: path / backend for backend in ("numpy", "cupy")}


def test_steps_with_messages_are_graphs(folders: dict[str, Path]) -> None:
    """And come to the same bits as call by call: from the fourth step on no function of theirs is called."""
    assert trained(folders["cupy"], "--emulate", steps=9).equals(trained(folders["numpy"], steps=9))
    done = changed(folders["cupy"], "train.py", "\ndef main(", f"{COUNTING}\ndef main(")
    assert done.returncode == 0, done.stderr
    words = done.stderr.splitlines()[-1].split()
    assert words[:2] == ["recorded", str(2 * 2 * (9 - 3))]  # training and update, on two ranks
    text = (folders["cupy"] / "train.py").read_text(encoding="utf-8")
    assert int(words[2]) >= 1 + text.count("place.halo(") + text.count("place.allreduce(g.bucket")


@pytest.mark.parametrize("kind", ["halo", "fill", "allreduce"])
def test_a_message_inside_a_graph_is_an_error(kind: str, folders: dict[str, Path]) -> None:
    """Were it not known for one from the runs before, it would be found while the graph is made."""
    file = folders["cupy"] / "runtime" / "graphs.py"
    text = file.read_text(encoding="utf-8")
    assert text.count("self._crossed = True") == 1
    file.write_text(text.replace("self._crossed = True", "pass"), encoding="utf-8")
    try:
        done = changed(folders["cupy"], "runtime/graphs.py", '"fill"))', f'"fill")) - {{"{kind}"}}')
    finally:
        file.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert "CaptureError: while a graph is captured, the processor" in done.stderr


def changed(folder: Path, name: str, before: str, after: str) -> subprocess.CompletedProcess[str]:
    """Some steps of a program of which a file is another one."""
    file = folder / name
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, after), encoding="utf-8")
    command = [sys.executable, "-I", str(folder / "train.py"), "--rehearse", "--steps", "9", "--emulate"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    finally:
        file.write_text(text, encoding="utf-8")
