from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dlc.cli import main

SPECS = Path(__file__).resolve().parents[2] / "specs"


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        document = json.loads(self.out)
        assert document["schema"] == 1
        return document


Dlc = Callable[..., Said]


@pytest.fixture
def dlc(capsys: pytest.CaptureFixture[str]) -> Dlc:
    """`dlc("check", file)` runs the command in this process."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Said(int(status), *capsys.readouterr())

    return run


@pytest.fixture
def lenet5() -> Path:
    return SPECS / "lenet5.dlspec"


@pytest.fixture
def wrong(tmp_path: Path, lenet5: Path) -> Path:
    """LeNet-5 with one mistake, in line 9."""
    file = tmp_path / "wrong.dlspec"
    file.write_text(lenet5.read_text(encoding="utf-8").replace("conv(16, 5x5)", "convv(16, 5x5)"))
    return file
