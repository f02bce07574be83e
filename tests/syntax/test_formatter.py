"""The house style is reached in one step, says the same, and is that of the samples."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from dlc.diagnostics import DiagnosticError
from dlc.syntax.formatter import format_source
from dlc.syntax.parser import parse

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").rglob("*.dlspec"))
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.dlspec"))

BLANKS = re.compile(r'"[^"\n]*"|#[^\n]*|[ \t]+')


def comments(text: str) -> list[str]:
    return [found.rstrip() for found in re.findall(r'"[^"\n]*"|(#[^\n]*)', text) if found]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_samples_are_in_house_style(spec: Path) -> None:
    text = spec.read_text(encoding="utf-8")
    assert format_source(text, spec.name) == text


@pytest.mark.parametrize("before", GOLDEN, ids=lambda path: path.stem)
def test_golden(before: Path) -> None:
    after = format_source(before.read_text(encoding="utf-8"), before.name)
    expected = before.with_suffix(".formatted")
    if os.environ.get("DLC_UPDATE_PAIRS"):
        expected.write_text(after, encoding="utf-8")
    assert after == expected.read_text(encoding="utf-8")


def respaced(text: str, seed: int) -> str:
    """The same text with other blanks, other blank lines and other line ends."""
    draw = random.Random(seed)

    def other(found: re.Match[str]) -> str:
        return draw.choice([" ", "  ", "\t", " " * 30]) if found[0].isspace() else found[0]

    lines = BLANKS.sub(other, text).split("\n")
    ends = (draw.choice(["\n", " \n", "\r\n", "\n\n", "\n \t\n\n"]) for _ in lines[:-1])
    return "".join(line + end for line, end in zip(lines, [*ends, ""], strict=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spec", [*SPECS, *GOLDEN], ids=lambda spec: spec.stem)
def test_formatting_keeps_meaning_and_comments_and_is_done_at_once(spec: Path, seed: int) -> None:
    text = respaced(spec.read_text(encoding="utf-8"), seed)
    after = format_source(text, spec.name)
    assert parse(after, spec.name) == parse(text, spec.name)
    assert comments(after) == comments(text)
    assert format_source(after, spec.name) == after


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_blanks_decide_nothing(spec: Path) -> None:
    """Whatever stood between the words of a line, the result is the same."""
    text = spec.read_text(encoding="utf-8")
    squeezed = "\n".join(BLANKS.sub(lambda f: " " if f[0].isspace() else f[0], line) for line in text.split("\n"))
    assert format_source(squeezed, spec.name) == text


def test_mistakes_are_reported_and_not_formatted() -> None:
    with pytest.raises(DiagnosticError):
        format_source("dlspec 1\nparam a = \n", "a.dlspec")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("dlspec 1", "dlspec 1\n"),
        ("\n\n\ndlspec   1\n\n\n\n", "dlspec 1\n"),
        ("dlspec 1 # v\n#a\n", "dlspec 1" + " " * 39 + "# v\n#a\n"),
        ("dlspec 1\ntrain a{}\n", "dlspec 1\ntrain a { }\n"),
        ("dlspec 1\ntrain a {\n\n\n}\n", "dlspec 1\ntrain a {\n}\n"),
        ("dlspec 1\nparam a=-1- -b*(-c)\n", "dlspec 1\nparam a = -1 - -b * (-c)\n"),
        ("dlspec 1\nparam a=[ 1,2 ] [ 0 ]\n", "dlspec 1\nparam a = [1, 2][0]\n"),
        ("dlspec 1\nparam a = 2*[1]\n", "dlspec 1\nparam a = 2 * [1]\n"),
        ("dlspec 1\nparam a = 4GiB\n", "dlspec 1\nparam a = 4 GiB\n"),
        (
            "dlspec 1\nplan a on b { pin x . * [ * ] . ** [ 0 .. 2 ] { c=1 } }",
            "dlspec 1\nplan a on b { pin x.*[*].**[0..2] { c = 1 } }\n",
        ),
    ],
)
def test_small_texts(before: str, after: str) -> None:
    assert format_source(before, "a") == after
