"""What ranks choose together of what each of them times: all take the same, without a folder that they share, and a run
that goes on from a checkpoint does so too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels.choices import Choices
from backends.cupy_mpi.kernels.cudnn import Cudnn
from backends.cupy_mpi.runtime.agreement import Agreement, found_in
from backends.cupy_mpi.runtime.graphs import WARM, Call, Graphs
from backends.numpy_mpi.runtime.thread_world import run_threads
from backends.numpy_mpi.runtime.world import World
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.cuda.calling import needs_compiler
from tests.cuda.front_end import FrontEnd
from tests.cuda.test_cudnn import call, passes
from tests.cuda.test_graphs import Captured, moment
from tests.cuda.test_streams import OVERLAPPED

FIRST, SECOND = "eng1_k2=2", "eng0_k2=0"
"""Plans in full precision, in the order of cuDNN's heuristics."""


def rank(
    world: World, milliseconds: dict[str, float], kept: dict[str, str], folder: Path | None = None
) -> tuple[list[str], Agreement]:
    """Plans that a rank's calls took: before ranks agree, behind that, and when they are asked to again."""
    agreement = Agreement()
    agreement.begin(world, kept)
    module = FrontEnd({name: {"ms": time} for name, time in milliseconds.items()})
    library = Cudnn(module.cupy(), module, choices=Choices(folder, "H200", agreement))
    (key, arrays, *_, told), *_ = passes((2, 3, 7, 6), "NHWC", filters=5, window=3, bias=False)
    taken = list[str]()
    for _ in range(3):
        call(key, arrays, told, library, np.float32)
        taken.append(module.ran[-1])
        agreement.agree(world)
    return taken, agreement


def ranks(times: list[dict[str, float]], kept: dict[str, str]) -> list[tuple[list[str], Agreement]]:
    return run_threads(lambda world: rank(world, times[world.rank], kept if world.rank == 0 else {}), len(times))


SLOW_FIRST, FAST_FIRST = {FIRST: 0.5, SECOND: 0.4}, {FIRST: 0.1, SECOND: 0.4}


@needs_compiler
def test_the_lowest_rank_that_asks_decides_for_all() -> None:
    """And until then all take the first plan that can be had, which no times decide."""
    found = ranks([SLOW_FIRST, FAST_FIRST, FAST_FIRST], {})
    assert [taken for taken, _ in found] == [[FIRST, SECOND, SECOND]] * 3
    found = ranks([FAST_FIRST, SLOW_FIRST], {})
    assert [taken for taken, _ in found] == [[FIRST, FIRST, FIRST]] * 2
    assert len({json.dumps(agreement.known) for _, agreement in found}) == 1


@needs_compiler
def test_what_a_checkpoint_has_is_taken_from_the_first_step_on() -> None:
    _, agreement = ranks([SLOW_FIRST, SLOW_FIRST], {})[0]
    again = ranks([FAST_FIRST, FAST_FIRST], agreement.known)
    assert [taken for taken, _ in again] == [[SECOND] * 3] * 2


@needs_compiler
def test_what_ranks_decided_is_kept_in_the_folders_of_all(tmp_path: Path) -> None:
    times = [SLOW_FIRST, FAST_FIRST]
    found = run_threads(lambda world: rank(world, times[world.rank], {}, tmp_path / str(world.rank)), 2)
    for number in range(2):
        assert found_in(tmp_path / str(number)) == found[number][1].known
        (file,) = (tmp_path / str(number)).iterdir()
        assert json.loads(file.read_text(encoding="utf-8"))["milliseconds"] == times[number]


@needs_compiler
def test_a_rank_that_is_alone_decides_at_once() -> None:
    ((taken, agreement),) = ranks([SLOW_FIRST], {})
    assert taken == [SECOND] * 3
    assert list(agreement.known.values()) == [SECOND]


def test_what_is_in_folders_is_known_to_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest rank's counts; a checkpoint counts more; what is no choice is passed over."""
    for number, chosen in enumerate("ab"):
        folder = tmp_path / str(number)
        Choices(folder, "H200").keep("q", chosen, {})
        Choices(folder, "H200").keep(f"only {number}", chosen, {})
        (folder / "broken.json").write_text("{", encoding="utf-8")
    assert found_in(tmp_path / "0") == {"H200: q": "a", "H200: only 0": "a"}
    folders = iter([tmp_path / "0", tmp_path / "1", tmp_path / "0", tmp_path / "1"])
    monkeypatch.setattr("backends.cupy_mpi.runtime.agreement.found_in", lambda _: found_in(next(folders)))

    def known(world: World, kept: dict[str, str]) -> dict[str, str]:
        agreement = Agreement()
        agreement.begin(world, kept)
        return agreement.known

    everywhere = {"H200: q": "a", "H200: only 0": "a", "H200: only 1": "b"}
    assert run_threads(lambda world: known(world, {}), 2) == [everywhere] * 2
    assert run_threads(lambda world: known(world, {"H200: q": "c"}), 2) == [everywhere | {"H200: q": "c"}] * 2


def test_graphs_of_what_was_chosen_before_are_forgotten() -> None:
    graphs, calls = Graphs(Captured()), list[int]()
    step: Any = SimpleNamespace(arrays=object())

    def function(_arrays: object, _at: Any, _place: object) -> None:
        calls.append(1)

    for number in range(2 * WARM + 8):
        if number == WARM + 4:
            before = len(calls)
            graphs.forget()
        graphs.run([Call(function, (step.arrays,), moment(number, 0.5), None)])
    assert before == WARM + 2
    assert len(calls) == before + WARM + 1


CHOSEN = """
from runtime import device
begin = device.begin_choices

def chosen(world, kept):
    begin(world, kept)
    print("rank", world.rank, "knows", sorted(device.choices().items()), file=sys.stderr)
    device.RANK.agreement.ask("H200: q", f"of rank {world.rank}")

device.begin_choices = chosen
"""


def test_checkpoints_have_what_was_chosen(tmp_path: Path) -> None:
    """Ranks agree behind their first step; a run that goes on knows it on all ranks, before its first one."""
    (tmp_path / "tiny.dlspec").write_text(OVERLAPPED, encoding="utf-8")
    job = compile_spec(read(str(tmp_path / "tiny.dlspec")), Options(ranks=2, kernels="numpy"))
    write_folder(emit_files(job, "cupy"), str(tmp_path / "program"))
    train = tmp_path / "program" / "train.py"
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("\ndef main(", f"{CHOSEN}\ndef main("), encoding="utf-8")
    said = []
    for more in (("--steps", "2"), ("--steps", "3", "--resume")):
        command = [sys.executable, "-I", str(train), "--rehearse", "--emulate", "--checkpoint", str(tmp_path / "kept")]
        ran = subprocess.run([*command, *more], capture_output=True, text=True, timeout=90, check=True)
        said.append(sorted(line for line in ran.stderr.splitlines() if " knows " in line))
    assert said[0] == ["rank 0 knows []", "rank 1 knows []"]
    assert said[1] == [f"rank {number} knows [('H200: q', 'of rank 0')]" for number in range(2)]
