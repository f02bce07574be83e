"""How messages go: what ranks choose by what they know of themselves, and that programs compute the same with each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from dlc.launch import find_mpiexec, mpi_flags
from tests.cuda.test_streams import OVERLAPPED
from tests.cuda.zoo import Case, compiled

RANKS = 3
CHOOSING = """
import sys
sys.path.insert(0, sys.argv[1])
from runtime.failures import ProgramError
from runtime.transport import Own, choose
for ranks in eval(sys.argv[2]):
    try:
        print(choose([Own(*each) for each in ranks]).about)
    except ProgramError as error:
        print(error.text)
"""
FINE, WITHOUT, PLAIN = "", "has a CuPy without NCCL", "has an MPI that takes no pointers"
CHOICES = {
    "NCCL where each has a GPU": (
        [("a 0", FINE, PLAIN, ""), ("a 1", FINE, PLAIN, ""), ("b 0", FINE, PLAIN, "")],
        "messages go by NCCL, which adds sums in an order of its own",
    ),
    "MPI where some share one": (
        [("a 0", FINE, FINE, ""), ("a 1", FINE, FINE, ""), ("a 0", FINE, FINE, "")],
        "messages go by MPI, on the device's memory: ranks 0 and 2 share a GPU, which NCCL refuses",
    ),
    "staged where nothing else is": (
        [("a 0", FINE, PLAIN, ""), ("a 1", WITHOUT, PLAIN, "")],
        "messages go through pinned memory: rank 1 has a CuPy without NCCL; rank 0 has an MPI that takes no pointers",
    ),
    "what is asked for": (
        [("a 0", FINE, FINE, "staged"), ("a 1", FINE, FINE, "staged")],
        "messages go through pinned memory: DLC_TRANSPORT says so",
    ),
    "not what cannot be": (
        [("a 0", FINE, PLAIN, "nccl"), ("a 0", FINE, PLAIN, "nccl")],
        "DLC_TRANSPORT is `nccl`, and that cannot be: ranks 0 and 1 share a GPU, which NCCL refuses",
    ),
    "not what is none": ([("a 0", FINE, FINE, "pigeons")] * 2, "DLC_TRANSPORT is `pigeons`"),
    "the same on all": (
        [("a 0", FINE, FINE, "mpi"), ("a 1", FINE, FINE, "staged")],
        "DLC_TRANSPORT is not the same on all ranks: mpi, staged",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program on three ranks."""
    path = tmp_path_factory.mktemp("transport")
    (path / "tiny.dlspec").write_text(OVERLAPPED.replace("gpu[2]", f"gpu[{RANKS}]"), encoding="utf-8")
    job = compile_spec(read(str(path / "tiny.dlspec")), Options(ranks=RANKS, kernels="numpy"))
    write_folder(emit_files(job, "cupy"), str(path / "program"))
    return path / "program"


def test_all_ranks_choose_the_same_and_say_why(folder: Path) -> None:
    given = repr([ranks for ranks, _ in CHOICES.values()])
    command = [sys.executable, "-c", CHOOSING, str(folder), given]
    environment = {**os.environ, "DLC_EMULATE": "numpy"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert ran.stdout.splitlines() == [said for _, said in CHOICES.values()]


def ran(
    folder: Path, transport: str, *arguments: str, ranks: int = RANKS, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Some steps under mpiexec, on arrays that stand for those of a GPU."""
    mpiexec = find_mpiexec()
    if mpiexec is None:
        pytest.skip("there is no mpiexec")
    program = [sys.executable, "-I", str(folder / "train.py"), "--emulate", "--steps", "7", *arguments]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "DLC_TRANSPORT": transport, **settings}
    flags, needed = mpi_flags(mpiexec)
    environment |= needed
    command = [mpiexec, *flags, "-n", str(ranks), *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, env=environment)


def test_programs_compute_the_same_by_nccl(folder: Path, tmp_path: Path) -> None:
    """But for the order of sums: three ranks make two of them."""
    weights = {}
    for transport in ("staged", "nccl"):
        file = tmp_path / f"{transport}.npz"
        done = ran(folder, transport, "--save", str(file))
        assert done.returncode == 0, done.stderr
        assert f"{'by NCCL' if transport == 'nccl' else 'through pinned memory'}" in done.stdout
        assert done.stdout.count("messages go") == 1
        weights[transport] = dict(np.load(file))
    for name, right in weights["staged"].items():
        np.testing.assert_allclose(weights["nccl"][name], right, rtol=0, atol=1e-5 * np.abs(right).max())
    assert any(not np.array_equal(weights["nccl"][name], right) for name, right in weights["staged"].items())


@pytest.mark.parametrize(("plan", "parts"), [("model", "3"), ("pipeline", "")])
def test_by_nccl_messages_are_in_graphs(plan: str, parts: str, tmp_path: Path) -> None:
    """But those from stage to stage. Two ranks add in any order to the same bits; tensors of parts are saved whole."""
    made, weights = compiled(Case("lenet5", "f32", 2, plan)), {}
    write_folder(emit_files(made, "cupy"), str(tmp_path / "program"))
    train = tmp_path / "program" / "train.py"
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("\ndef main(", f"{COUNTING}\ndef main("), encoding="utf-8")
    for transport in ("staged", "nccl"):
        file = tmp_path / f"{transport}.npz"
        done = ran(train.parent, transport, "--save", str(file), ranks=2)
        assert done.returncode == 0, done.stderr
        weights[transport] = dict(np.load(file))
    assert all(np.array_equal(weights["nccl"][name], right) for name, right in weights["staged"].items())
    assert f"parts of a step {parts}" in done.stderr


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of two stages."""
    path = tmp_path_factory.mktemp("pipeline") / "program"
    write_folder(emit_files(compiled(Case("lenet5", "f32", 2, "pipeline")), "cupy"), str(path))
    return path


@pytest.mark.parametrize("ranks", [2, 3])
def test_by_pointers_programs_compute_the_same(ranks: int, folder: Path, pipeline: Path, tmp_path: Path) -> None:
    """To the bit, with an MPI that is said to take them: sums while the backward pass goes on, and stages."""
    weights = {}
    for transport in ("staged", "mpi"):
        file = tmp_path / f"{transport}.npz"
        given = {"DLC_EMULATE_MPI": "device"} if transport == "mpi" else {}
        done = ran(folder if ranks == 3 else pipeline, transport, "--save", str(file), ranks=ranks, **given)
        assert done.returncode == 0, done.stderr
        weights[transport] = dict(np.load(file))
    assert "by MPI, on the device's memory" in done.stdout
    assert all(np.array_equal(weights["mpi"][name], right) for name, right in weights["staged"].items())


FORGOTTEN = {
    "what is sent is there": ("staging", "self._ready.synchronize()", "pass"),
    "messages wait for what was computed": (
        "device",
        "RANK.messages.wait_event(cp.cuda.get_current_stream().record())",
        "pass",
    ),
    "what comes is waited for": ("traffic", "if not running.done and", "if False and"),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_an_mpi_that_is_not_waited_for_is_found(what: str, pipeline: Path) -> None:
    module, before, after = FORGOTTEN[what]
    file = pipeline / "runtime" / f"{module}.py"
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, after), encoding="utf-8")
    try:
        done = ran(pipeline, "mpi", ranks=2, DLC_EMULATE_MPI="device")
    finally:
        file.write_text(text, encoding="utf-8")
    assert done.returncode
    assert "RaceError" in done.stderr


COUNTING = """
import atexit
from runtime.graphs import Graphs
parts, play = [], Graphs._play
Graphs._play = lambda graphs, recording, calls: (parts.append(len(recording.parts)), play(graphs, recording, calls))
atexit.register(lambda: print("parts of a step", max(parts), file=sys.stderr))
"""


def test_an_mpi_that_takes_no_pointers_is_refused(folder: Path) -> None:
    """The one of the tests' wheels takes none."""
    done = ran(folder, "mpi")
    assert done.returncode
    assert "an MPI that takes no pointers to a device's memory" in done.stderr
    assert "Traceback" not in done.stderr


FAILING = """
class OutOfMemoryError(MemoryError):
    pass

def forward(a, w, g, s, at, place, training=True):
    raise OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 0 bytes).")

def forward_that_was("""


def test_a_gpu_without_memory_is_no_traceback(folder: Path) -> None:
    file = folder / "train.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("\ndef forward(", FAILING, 1), encoding="utf-8")
    try:
        done = ran(folder, "staged")
    finally:
        file.write_text(text, encoding="utf-8")
    assert done.returncode
    assert "error: the GPU has too little memory: Out of memory allocating 1,024 bytes" in done.stderr
    assert "note: train.py, line" in done.stderr
    assert "Traceback" not in done.stderr
