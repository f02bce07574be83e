"""Whatever stands in a file: it parses, or messages say where it does not."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from dlc.diagnostics import Diagnostic, DiagnosticError, render_all
from dlc.syntax import ast
from dlc.syntax.formatter import format_source
from dlc.syntax.parser import parse

ROOT = Path(__file__).parents[2]
SAMPLES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "specs").rglob("*.dlspec"))]
WORDS = re.compile(r'"[^"\n]*"|#[^\n]*|[A-Za-z0-9_.]+|->|[ \t]+|.|\n')
STRANGE = [
    *'()[]{}=,;:.*@<>-+/"#\n\r\t\0$é→',
    "->",
    "**",
    "..",
    "if",
    "then",
    "else",
    "as",
    "repeat",
    "3x3",
    "4 GG",
    "1e999",
]


def mutated(draw: random.Random) -> str:
    """A sample with one to four of its words left out, doubled, swapped or replaced."""
    words = WORDS.findall(draw.choice(SAMPLES))
    for _ in range(draw.randint(1, 4)):
        place, other = draw.randrange(len(words)), draw.randrange(len(words))
        match draw.randrange(5):
            case 0:
                del words[place]
            case 1:
                words.insert(place, draw.choice(STRANGE))
            case 2:
                words[place] = draw.choice(STRANGE)
            case 3:
                words[place], words[other] = words[other], words[place]
            case _:
                words[place:place] = words[other : other + draw.randrange(20)]
    return "".join(words)


def read(text: str) -> ast.File | tuple[Diagnostic, ...]:
    try:
        return parse(text, "a.dlspec")
    except DiagnosticError as error:
        return error.diagnostics


def check_messages(text: str, messages: tuple[Diagnostic, ...]) -> None:
    """Each is a message about syntax and points into the text; none is said twice."""
    lines = text.split("\n")
    assert messages
    assert len(set(messages)) == len(messages)
    assert render_all(messages, {"a.dlspec": text}).startswith("error[E01")
    for message in messages:
        assert message.primary is not None
        span = message.primary.span
        assert 1 <= span.line <= len(lines)
        assert 1 <= span.column <= len(lines[span.line - 1]) + 1


@pytest.mark.parametrize("seed", range(10))
def test_mutated_samples_parse_or_tell_where_they_do_not(seed: int) -> None:
    draw = random.Random(seed)
    parsed = 0
    for text in (mutated(draw) for _ in range(50)):
        found = read(text)
        if isinstance(found, tuple):
            check_messages(text, found)
            continue
        parsed += 1
        after = format_source(text, "a.dlspec")
        assert read(after) == found
        assert format_source(after, "a.dlspec") == after
    assert 0 < parsed < 50


@pytest.mark.parametrize("seed", range(5))
def test_noise(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(40):
        text = "dlspec 1\n" + "".join(draw.choices([*STRANGE, "network", "n", "1", " "], k=draw.randrange(1, 60)))
        found = read(text)
        if isinstance(found, tuple):
            check_messages(text, found)


@pytest.mark.parametrize("cut", range(0, 1600, 97))
@pytest.mark.parametrize("sample", range(len(SAMPLES)))
def test_cut_samples(sample: int, cut: int) -> None:
    text = SAMPLES[sample][:cut]
    found = read(text)
    if isinstance(found, tuple):
        check_messages(text, found)
