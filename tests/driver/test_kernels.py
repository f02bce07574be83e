"""Which family of kernels a program gets, and what `dlc plan` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc import cli
from dlc.job import family_of

LENET = str(Path(__file__).parents[2] / "specs" / "lenet5.dlspec")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DLC_KERNELS", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("backends.numpy_mpi.kernels.native.find_spec", lambda name: None)


def test_auto_is_c_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLC_KERNELS")
    monkeypatch.setenv("CC", "cc")
    assert family_of("auto") == "c"
    assert family_of("numpy") == "numpy"


def test_the_environment_says_what_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_KERNELS", "numpy")
    assert family_of("auto") == "numpy"
    assert family_of("c") == "c"


@pytest.mark.usefixtures("no_compiler")
def test_auto_is_numpy_without_a_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    assert family_of("auto") == "numpy"
    assert cli.main(["plan", LENET]) == 0
    assert 'NumPy\'s: there is no C compiler here, `pip install "dlc[c]"` brings one' in capsys.readouterr().out


@pytest.mark.usefixtures("no_compiler")
def test_c_is_obeyed_without_a_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    """The program is compiled where it runs."""
    assert cli.main(["plan", LENET, "--kernels", "c"]) == 0
    assert "in C, compiled where the program runs" in capsys.readouterr().out


def test_kernels_that_no_device_computes_with_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Said of the option; what the environment says holds for all that dlc compiles, so it is not."""
    monkeypatch.setenv("DLC_KERNELS", "c")
    gpus = str(Path(__file__).parents[1] / "errors" / "W0505_gpus.dlspec")
    alone = tmp_path / "alone.dlspec"
    alone.write_text(Path(gpus).read_text(encoding="utf-8").replace("  kernels = c\n", ""), encoding="utf-8")
    for words, said in ((["--kernels", "c"], True), (["--kernels", "numpy"], False), ([], False)):
        assert cli.main(["compile", str(alone), "-o", str(tmp_path / "program"), *words]) == 0
        captured = capsys.readouterr()
        assert ("warning[W0505]: `kernels = c` changes nothing" in captured.out + captured.err) == said
    assert cli.main(["run", str(tmp_path / "program"), "--kernels", "c"]) == 2
    assert "a compiled program is run as it stands" in capsys.readouterr().err


def test_an_unknown_family_of_the_environment_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DLC_KERNELS", "fortran")
    assert cli.main(["plan", LENET]) == 2
    assert "`DLC_KERNELS=fortran`" in capsys.readouterr().err
