"""The editor's grammar knows the words and units of the language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlc.syntax.grammar import GRAMMAR_FILE
from dlc.units import UNITS

EDITOR = json.loads(GRAMMAR_FILE.with_name("dlspec.tmLanguage.json").read_text(encoding="utf-8"))
WORDS = sorted(set(re.findall(r'"([a-z]+)"', re.sub(r"//.*", "", GRAMMAR_FILE.read_text(encoding="utf-8")))))


def patterns(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "match" in node:
            yield node["match"]
        for child in node.values():
            yield from patterns(child)
    elif isinstance(node, list):
        for child in node:
            yield from patterns(child)


def test_patterns_compile_and_includes_exist() -> None:
    assert all(re.compile(pattern) for pattern in patterns(EDITOR))
    assert [entry["include"][1:] for entry in EDITOR["patterns"]] == list(EDITOR["repository"])


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_coloured(word: str) -> None:
    found = [re.search(pattern, f"{word} 1" if word == "dlspec" else f"{word} name") for pattern in patterns(EDITOR)]
    assert word in [match.group(1) for match in found if match and match.re.groups]


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_is_coloured(unit: str) -> None:
    (pattern,) = (pattern for pattern in patterns(EDITOR) if "FLOP" in pattern)
    match = re.match(pattern, f"12.5 {unit}")
    assert match is not None
    assert (match[1], match[2]) == ("12.5", unit)


def test_version_notes_know_the_bounds() -> None:
    notes = Path(GRAMMAR_FILE.with_name("VERSIONS.md")).read_text(encoding="utf-8")
    assert "65,536 words" in notes
    assert "100 deep" in notes
