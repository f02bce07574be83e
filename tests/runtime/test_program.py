"""The command line of emitted programs, the result on the last line, and what the package needs."""

import ast
import json
import math
import sys
from pathlib import Path

import pytest

from backends.numpy_mpi.runtime.clock import Clock
from backends.numpy_mpi.runtime.program import Options, Result, parse
from backends.numpy_mpi.runtime.progress import Profile, Progress
from backends.numpy_mpi.runtime.world import Serial
from tests.runtime.conftest import PACKAGES, start


class ManualClock(Clock):
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


def test_options() -> None:
    assert parse("net", 2, "", []) == Options()
    options = parse(
        "net",
        2,
        "",
        ["--steps", "3", "--load", "a", "--save", "b", "--predict", "c", "--json", "--quiet", "--root", "d"],
    )
    assert options == Options(steps=3, load="a", save="b", predict="c", json=True, quiet=True, root="d")
    assert parse("net", 1, "", ["--epochs", "0", "--profile"]) == Options(epochs=0, profile=True)


@pytest.mark.parametrize(
    "arguments",
    [["--steps", "-1"], ["--steps", "1.5"], ["--epochs", "1", "--steps", "1"], ["--stall-seconds", "0"], ["x"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse("net", 1, "", arguments)
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse("lenet5", 2, "LeNet-5 on digits", ["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "mpiexec -n 2 python train.py" in text
    assert "LeNet-5 on digits" in text


@pytest.mark.mpi
def test_wrong_usage_is_printed_by_one_rank() -> None:
    run = start("job.py", 2, "2", "--nonsense")
    assert run.status == 2
    assert run.errors.count("unrecognized arguments") == 1


def test_result_in_json() -> None:
    result = Result(steps=2, loss=math.inf, metrics={"accuracy": 0.5}, step_seconds=0.25, profile={"forward": 0.125})
    assert json.loads(result.to_json()) == {
        "schema": 1,
        "steps": 2,
        "loss": None,
        "metrics": {"accuracy": 0.5},
        "step_seconds": 0.25,
        "profile": {"forward": 0.125},
    }


def test_progress_prints_an_epoch_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    progress = Progress(Serial(), clock, Options(), steps=4, steps_per_epoch=2)
    for step in range(4):
        clock.time += 0.25
        progress.step(step, 1.0)
        if step % 2:
            clock.time += 9.0
            progress.epoch(step // 2, 0.5, {"accuracy": 0.75})
    assert progress.step_seconds == 0.25
    assert capsys.readouterr().out.splitlines() == [
        "epoch   1  loss 0.5000  accuracy 0.7500  250.00 ms a step",
        "epoch   2  loss 0.5000  accuracy 0.7500  250.00 ms a step",
    ]


def test_progress_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_TERMINAL", "1")
    clock = ManualClock()
    progress = Progress(Serial(), clock, Options(), steps=100, steps_per_epoch=10)
    clock.time += 0.5
    progress.step(0, 2.0)
    assert capsys.readouterr().out == "\r\033[Kepoch 1  step 1/10  loss 2.0000  2.0 steps/s  0:50 left"


@pytest.mark.parametrize("options", [Options(quiet=True), Options(json=True)])
def test_progress_keeps_the_output_clean(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(Serial(), Clock(), options, steps=1, steps_per_epoch=1)
    progress.epoch(0, 0.5, {})
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_profile() -> None:
    clock = ManualClock()
    profile = Profile(clock)
    for forward in (1.0, 3.0, 2.0):
        clock.time += 50.0
        profile.start()
        clock.time += forward
        profile.lap("forward")
        clock.time += 0.5
        profile.lap("backward")
    assert profile.medians() == {"forward": 2.0, "backward": 0.5}


@pytest.mark.parametrize("path", sorted((PACKAGES / "runtime").glob("*.py")), ids=lambda path: path.name)
def test_the_package_stands_alone(path: Path) -> None:
    """It is copied into emitted folders: the standard library, NumPy and siblings; mpi4py in one module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [str(node.module)]
        else:
            assert not isinstance(node, ast.ImportFrom) or node.level == 1
            continue
        allowed = {*sys.stdlib_module_names, "numpy", *({"mpi4py"} if path.name == "mpi_world.py" else ())}
        assert {name.partition(".")[0] for name in names} <= allowed
