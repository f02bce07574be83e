"""The excerpts of docs/program.md stand in the program that dlc writes for LeNet-5 today, with kernels in C.

`<!-- excerpt: FILE | A | B | C | D -->` is followed by the lines of FILE from the first one that begins with A to the
next that begins with B, then from C to D; an ellipsis stands between. `python -m tests.docs.test_program` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from dlc import driver

from .blocks import ROOT

DOCUMENT = ROOT / "docs" / "program.md"
_EXCERPT = re.compile(r"<!-- excerpt: (\S+) \| (.*?) -->\n(?:```python\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


def emitted() -> dict[str, str]:
    """The texts of the folder, by file name; call it in the repository's root, by which comments name the spec."""
    compiled = driver.compile_spec(driver.read("specs/lenet5.dlspec"), driver.Options(kernels="c"))
    files = driver.emit_files(compiled)
    return {name: content.decode() for name, content in files.items() if not name.endswith(".npz")}


def excerpt(text: str, marks: Sequence[str]) -> str:
    """The pieces between pairs of marks, with an ellipsis between pieces that do not touch; an odd mark is a line."""
    lines, start = text.splitlines(), 0
    pieces = list[str]()
    for first, last in zip(marks[::2], [*marks[1::2], marks[-1]], strict=False):
        begin = _find(lines, first, start)
        end = _find(lines, last, begin if first == last else begin + 1)
        if pieces and begin > start:
            pieces.append(" " * (len(lines[begin]) - len(lines[begin].lstrip())) + "…")
        pieces.extend(lines[begin : end + 1])
        start = end + 1
    return "\n".join(pieces)


def _find(lines: Sequence[str], mark: str, start: int) -> int:
    for number in range(start, len(lines)):
        if lines[number].strip().startswith(mark):
            return number
    raise ValueError(f"no line behind line {start} begins with `{mark}`")


def with_excerpts(document: str, files: dict[str, str]) -> str:
    """The document with its excerpts written anew."""

    def written(match: re.Match[str]) -> str:
        name, marks = match[1], match[2].split(" | ")
        text = excerpt(files[name], marks)
        return f"<!-- excerpt: {name} | {match[2]} -->\n```python\n{text}\n```\n"

    return _EXCERPT.sub(written, document)


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return emitted()


def test_excerpts_stand_in_the_program(files: dict[str, str]) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert len(_EXCERPT.findall(document)) >= 8
    assert document == with_excerpts(document, files)


def test_the_folder_holds_what_the_table_says(files: dict[str, str]) -> None:
    table = DOCUMENT.read_text(encoding="utf-8").partition("| in the folder |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([^`/]+)/?`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))) == {
        name.partition("/")[0] for name in files
    }


def test_options_are_those_of_the_program(files: dict[str, str]) -> None:
    table = DOCUMENT.read_text(encoding="utf-8").partition("## Options")[2].partition("\n## ")[0]
    declared = re.findall(r'"(--[a-z-]+)"', files["runtime/program.py"])
    rows = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`(--[a-z-]+)", " ".join(rows))) == sorted(declared)


LAYOUT = "(NCHW|NHWC|CHWN)"


def test_comments_are_written_like_that(files: dict[str, str]) -> None:
    table = DOCUMENT.read_text(encoding="utf-8").partition("| comment |")[2].partition("\n\n")[0]
    comments = [comment for comment in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE) if "…" not in comment]
    assert len(comments) >= 4
    for comment in comments:
        assert re.search(f"# {re.sub(LAYOUT, LAYOUT, re.escape(comment))}\n", files["train.py"]), comment


if __name__ == "__main__":
    DOCUMENT.write_text(with_excerpts(DOCUMENT.read_text(encoding="utf-8"), emitted()), encoding="utf-8")
