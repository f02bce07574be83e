"""docs/plans.md shows programs as dlc writes them today; `python -m tests.docs.test_plans` writes its excerpts anew.

Each section has a plan block, which stands in the frame `resnet50.dlspec`, excerpts as in program.md, and says how many
lines train.py has.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from dlc import driver
from tests.slices import first

from .blocks import FRAMES, ROOT, blocks, complete
from .test_program import with_excerpts

DOCUMENT = ROOT / "docs" / "plans.md"
RANKS = 4
_LINES = re.compile(r"(train\.py\s+has )\d+( lines)")
FRAGMENTS = [complete(block) for block in blocks(DOCUMENT) if block.words == "resnet50"]


def sections(document: str) -> list[str]:
    """The beginning of the document, and each section with its heading."""
    return re.split(r"^(?=## )", document, flags=re.MULTILINE)


def rewritten(section: str, spec: str, folder: Path) -> str:
    """A section with its excerpts and its number of lines as of the program of this spec."""
    path = folder / "resnet50.dlspec"
    path.write_text(spec, encoding="utf-8")
    compiled = driver.compile_spec(driver.read(str(path)), driver.Options(ranks=RANKS, kernels="numpy"))
    text = driver.emit_files(compiled)["train.py"].decode()
    section = _LINES.sub(rf"\g<1>{len(text.splitlines())}\g<2>", section)
    return with_excerpts(section, {"train.py": text})


@pytest.mark.parametrize("number", first(2, range(len(FRAGMENTS))))
def test_excerpts_stand_in_the_programs(number: int, tmp_path: Path) -> None:
    section = sections(DOCUMENT.read_text(encoding="utf-8"))[number + 1]
    assert section == rewritten(section, FRAGMENTS[number], tmp_path)


def test_each_section_has_a_plan() -> None:
    assert len(FRAGMENTS) == len(sections(DOCUMENT.read_text(encoding="utf-8"))) - 1 == 6


def test_the_network_is_that_of_the_zoo() -> None:
    network = (ROOT / "specs" / "resnet50.dlspec").read_text(encoding="utf-8").partition("\ncluster ")[0]
    assert (FRAMES / "resnet50.dlspec").read_text(encoding="utf-8").startswith(network)


def test_resnet_50_is_short() -> None:
    first = sections(DOCUMENT.read_text(encoding="utf-8"))[1]
    found = re.search(r"train\.py\s+has (\d+) lines", first)
    assert found is not None
    assert int(found[1]) <= 620


if __name__ == "__main__":
    head, *others = sections(DOCUMENT.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        written = [rewritten(each, spec, Path(folder)) for each, spec in zip(others, FRAGMENTS, strict=True)]
    DOCUMENT.write_text("".join([head, *written]), encoding="utf-8")
