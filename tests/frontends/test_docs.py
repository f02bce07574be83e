"""docs/onnx.md names every op that is imported, with its versions, and what has no counterpart."""

from __future__ import annotations

import re
from pathlib import Path

from dlc.frontends.onnx.coverage import TABLE
from dlc.frontends.onnx.exporting import OPSET
from dlc.ops import LAYERS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.partition("| ONNX |")[2].split("\n\n")[0].splitlines()[2:]
]


def test_the_table_lists_what_is_covered_and_from_which_opset() -> None:
    listed: dict[str, int] = {}
    for ops, opsets, *_ in ROWS:
        names, numbers = re.findall(r"`(\w+)`", ops), [int(number) for number in opsets.split(", ")]
        listed |= dict(zip(names, numbers if len(numbers) == len(names) else numbers * len(names), strict=True))
    assert listed == {op: min(cover.versions) for op, cover in TABLE.items()}


def test_the_operators_of_the_table_exist() -> None:
    signs = {"@", "+", "+ - * /", "- / *"}
    named = {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])}
    assert named - signs <= {op.name for op in LAYERS}


def test_the_opset_of_exported_models_is_told() -> None:
    assert f"in opset {OPSET} " in TEXT
