"""The specs as files: sound, formatted, listed in docs/zoo.md with their counts, and programs are made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.driver import Options, check_file, compile_spec, emit_files, read
from dlc.inspect.network import op_rows
from dlc.syntax.formatter import format_source

ROOT = Path(__file__).parents[2]
SPECS = {path.stem: path for path in sorted((ROOT / "specs").glob("*.dlspec"))}
AHEAD = ("gpt2", "gpt2_xl", "gpt_96", "resnet50")
"""Their plans, precisions and sizes are ahead of what programs honour: the large GPTs fit no device."""

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| [")
]


@pytest.mark.parametrize("path", SPECS.values(), ids=SPECS)
def test_is_sound(path: Path) -> None:
    assert check_file(str(path))[0] == ()


@pytest.mark.parametrize("path", sorted((ROOT / "specs").rglob("*.dlspec")), ids=lambda path: path.stem)
def test_is_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format_source(text, str(path)) == text


def test_all_are_listed() -> None:
    assert [row[0] for row in ROWS] == [f"[{name}](../specs/{name}.dlspec)" for name in SPECS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].partition("]")[0][1:])
def test_counts_are_as_listed(row: list[str]) -> None:
    (job,) = read(str(SPECS[row[0].partition("]")[0][1:]])).spec.jobs
    macs = sum(each.macs for each in op_rows(job.graph))
    assert (row[2], row[3]) == (f"{job.graph.parameters:,}", f"{macs:,}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SPECS if name not in AHEAD])
def test_compiles_at_full_size(name: str) -> None:
    compiled = compile_spec(read(str(SPECS[name])), Options())
    assert "train.py" in emit_files(compiled)
