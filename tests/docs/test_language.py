"""docs/language.md names every operator, choice, setting and unit as the code declares it, and says what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backends.numpy_mpi.kernels import KERNELS
from backends.numpy_mpi.refuse import refusals
from dlc import driver
from dlc.data_sets import DATA_SETS, LOADABLE
from dlc.ops import LAYERS
from dlc.units import UNITS

from .blocks import ROOT, Block, complete
from .signatures import all_choices, all_settings, operators

DOCUMENT = ROOT / "docs" / "language.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
REFERENCE = re.sub(r"^```.*?^```$", "", TEXT.partition("\n# Reference\n")[2], flags=re.MULTILINE | re.DOTALL)
CODE = set(re.findall(r"`([^`]+)`", REFERENCE))


def test_operators_are_written_as_declared() -> None:
    assert {signature for _, signature in operators()} - CODE == set()


def test_choices_settings_and_units_are_written_as_declared() -> None:
    assert {*all_choices(), *all_settings(), *UNITS} - CODE == set()


def test_daggers_mark_what_is_not_emitted() -> None:
    marked = {re.match(r"[a-z_]+", code).group() for code in re.findall(r"`([a-z_]{3,}[^`]*)` †", REFERENCE)}  # type: ignore[union-attr]
    kinds = {op for op, _, _ in KERNELS}
    layers = {op.name for op in LAYERS if op.name not in kinds and not op.view and op.name not in SIGNED}
    assert marked == layers | {data.name for data in DATA_SETS if data.name not in LOADABLE}
    assert set(re.findall(r"`a (.) b` †", REFERENCE)) == {sign for op, sign in SIGNED.items() if op not in kinds}


SIGNED = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@"}


def _rows() -> list[tuple[str, str, bool]]:
    """(frame, setting, whether it is honoured) of the table at the end."""
    found = []
    for row in REFERENCE.partition("## What programs honour today")[2].split("\n"):
        if match := re.fullmatch(r"\| (plan|train|device) \|([^|]*)\|([^|]*)\|", row):
            frame, honoured, refused = match.groups()
            found += [(frame, setting, True) for setting in re.findall(r"`([^`]+)`", honoured)]
            found += [(frame, setting, False) for setting in re.findall(r"`([^`]+)`", refused)]
    return found


@pytest.mark.parametrize(("frame", "setting", "honoured"), _rows())
def test_settings_are_honoured_or_refused_as_the_table_says(
    frame: str, setting: str, honoured: bool, tmp_path: Path
) -> None:
    path = tmp_path / "example.dlspec"
    path.write_text(complete(Block(DOCUMENT, 0, "dlspec", frame, setting + "\n")), encoding="utf-8")
    source = driver.read(str(path))
    job, context = driver.context_of(source, driver.Options())
    refused = refusals(job.graph, context.training, context.request, context.cluster)
    assert {diagnostic.code for diagnostic in refused} == (set() if honoured else {"E0701"})


def test_the_table_covers_what_can_be_set() -> None:
    assert {frame for frame, _, _ in _rows()} == {"plan", "train", "device"}
