"""check and fmt: the commands that read one file and know nothing of plans."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SPECS, Dlc


@pytest.mark.parametrize("name", ["lenet5", "gpt2", "resnet50"])
def test_samples_have_no_mistakes(dlc: Dlc, name: str) -> None:
    said = dlc("check", SPECS / f"{name}.dlspec")
    assert said.status == 0, said.err
    assert "no mistakes" in said.out


def test_mistake_with_file_line_and_column(dlc: Dlc, wrong: Path) -> None:
    said = dlc("check", wrong)
    assert said.status == 1
    assert f"{wrong}:9:21" in said.err
    assert "`convv` is not defined" in said.err
    assert "with a similar name: `conv`" in said.err
    assert said.out == ""


def test_mistake_in_json(dlc: Dlc, wrong: Path) -> None:
    said = dlc("check", wrong, "--json")
    assert said.status == 1
    assert said.err == ""
    assert said.document["ok"] is False
    found = [d for d in said.document["diagnostics"] if d["severity"] == "error"]
    assert [d["code"] for d in found] == ["E0201"]
    assert found[0]["span"] == {"file": str(wrong), "line": 9, "column": 21, "end_line": 9, "end_column": 26}
    assert found[0]["helps"]


def test_parameters_are_overridden(dlc: Dlc, lenet5: Path) -> None:
    assert dlc("check", lenet5, "-P", "batch=64").status == 0
    said = dlc("check", lenet5, "-P", "batc=64")
    assert said.status == 1
    assert "`batch`" in said.err


def test_missing_file(dlc: Dlc) -> None:
    said = dlc("check", "nowhere/none.dlspec", "--json")
    assert said.status == 1
    assert "nowhere/none.dlspec" in said.document["diagnostics"][0]["message"]


HEAVY = ("numpy", "networkx", "mpi4py", "jinja2", "rich", "scipy", "passes", "backends")


def test_check_imports_nothing_heavy(lenet5: Path) -> None:
    program = (
        "import sys; from dlc.cli import main; status = main(['check', sys.argv[1]]);"
        f"print([name for name in {HEAVY} if name in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program, lenet5], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of a child is asked of wait4")
def test_check_starts_quickly(lenet5: Path) -> None:
    """Processor time, so that a busy machine does not count, in units of Python's own start."""

    def processor_seconds(*words: str) -> float:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    bare = min(processor_seconds("-c", "pass") for _ in range(5))
    check = min(processor_seconds("-m", "dlc", "check", str(lenet5)) for _ in range(5))
    assert check < 60 * bare, f"dlc check takes {check:.2f} s of processor time, python -c pass {bare:.3f} s"


# --- fmt ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def crooked(tmp_path: Path, lenet5: Path) -> Path:
    file = tmp_path / "crooked.dlspec"
    file.write_text(lenet5.read_text(encoding="utf-8").replace(" = ", "="), encoding="utf-8")
    return file


def test_fmt_writes_the_house_style_once(dlc: Dlc, crooked: Path, lenet5: Path) -> None:
    said = dlc("fmt", crooked)
    assert (said.status, said.out) == (0, f"formatted {crooked}\n")
    assert crooked.read_text(encoding="utf-8") == lenet5.read_text(encoding="utf-8")
    said = dlc("fmt", crooked)
    assert (said.status, said.out) == (0, "1 file in house style\n")


def test_fmt_check_writes_nothing(dlc: Dlc, crooked: Path, lenet5: Path) -> None:
    before = crooked.read_bytes()
    said = dlc("fmt", "--check", crooked, lenet5, "--json")
    assert said.status == 1
    assert said.document["changed"] == [str(crooked)]
    assert said.document["written"] is False
    assert crooked.read_bytes() == before


def test_fmt_keeps_links_and_permissions(dlc: Dlc, crooked: Path, tmp_path: Path) -> None:
    crooked.chmod(0o640)
    link = tmp_path / "link.dlspec"
    link.symlink_to(crooked)
    assert dlc("fmt", link).status == 0
    assert link.is_symlink()
    assert crooked.stat().st_mode & 0o777 == 0o640
    assert " = " in crooked.read_text(encoding="utf-8")


def test_fmt_goes_on_after_a_mistake(dlc: Dlc, crooked: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.dlspec"
    broken.write_text("dlspec 1\nnetwork {", encoding="utf-8")
    said = dlc("fmt", broken, crooked)
    assert said.status == 1
    assert f"{broken}:2:" in said.err
    assert said.out == f"formatted {crooked}\n"
    assert broken.read_text(encoding="utf-8") == "dlspec 1\nnetwork {"


def test_samples_are_in_house_style(dlc: Dlc) -> None:
    assert dlc("fmt", "--check", *sorted(SPECS.rglob("*.dlspec"))).status == 0
