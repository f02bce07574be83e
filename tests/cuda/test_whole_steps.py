"""A step of training on one rank as one graph: what is read of it, and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from tests.cuda.calling import needs_compiler
from tests.cuda.running import trained

SPECS = Path(__file__).parents[2] / "specs"

COUNTING = """
import atexit
from runtime import device
launches = []
launch = device.Launched.launch
device.Launched.launch = lambda made: (launches.append(len(made.graph.operations)), launch(made))
some = filter(None, launches)
atexit.register(lambda: print(f"graphs {len(launches) - launches.count(0)} of {sorted(set(some))}", file=sys.stderr))

"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network with dropout and rates that change, on one rank, for both backends."""
    path = tmp_path_factory.mktemp("whole")
    job = compile_spec(read(str(SPECS / "mlp.dlspec")), Options(ranks=1, kernels="numpy"))
    for backend in ("numpy", "cupy"):
        write_folder(emit_files(job, backend), str(path / backend))
    return {backend: path / backend for backend in ("numpy", "cupy")}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "train.py"), "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_losses_that_are_read_later_are_the_same(folders: dict[str, Path]) -> None:
    assert trained(folders["cupy"], "--emulate", steps=12).equals(trained(folders["numpy"], steps=12))


def test_a_loss_that_is_not_finite_is_said_for_its_step(folders: dict[str, Path], tmp_path: Path) -> None:
    """Though the steps behind it were begun already; and nothing is written of what they made."""
    found = {}
    for backend, emulate in (("numpy", ()), ("cupy", ("--emulate",))):
        train = folders[backend] / "train.py"
        text = train.read_text(encoding="utf-8")
        broken = text.replace(
            '"""The rate at the step', 'return 1e30 if number == 2 else 0.1\n    """The rate at the step'
        )
        train.write_text(broken, encoding="utf-8")
        try:
            ran = run(folders[backend], "--steps", "9", "--save", str(tmp_path / backend), *emulate)
        finally:
            train.write_text(text, encoding="utf-8")
        assert ran.returncode == 1
        found[backend] = next(line for line in ran.stderr.splitlines() if line.startswith("error"))
        assert not (tmp_path / backend).exists()
    assert "E0718" in found["numpy"]
    assert found["cupy"] == found["numpy"]


@needs_compiler
def test_forward_backward_and_update_are_one_graph(folders: dict[str, Path]) -> None:
    """All that is launched in a step, in every step from the fourth on; before the copy of samples there is nothing."""
    train = folders["cupy"] / "train.py"
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("\ndef main(", f"{COUNTING}\ndef main("), encoding="utf-8")
    try:
        ran = run(folders["cupy"], "--steps", "12", "--emulate", "cuda")
    finally:
        train.write_text(text, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    launches = text[text.index("def forward") : text.index("def load_inputs")].count("_forward(")
    said = ran.stderr.splitlines()[-1]
    assert said.startswith("graphs 9 of [")
    assert int(said.partition("[")[2].rstrip("]")) > 2 * launches
