"""The fenced blocks of the documents: specs, and commands with what they print.

The words behind ``` say what a block is:

* `dlspec`: a complete file without mistakes; `dlspec NAME.dlspec` also saves it for the commands that follow
  (a name that begins with `mistaken` may have mistakes: the command shows them);
* `dlspec FRAME`: a fragment that stands in the place of `# the fragment` in `frames/FRAME.dlspec`; lines of the frame
  that set what the fragment sets give way;
* `sh runs`: commands behind `$`, each followed by what it prints: standard output, then standard error. An ellipsis on
  a line of its own stands for any lines, elsewhere for any text; runs of blanks count as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md")))
FRAMES = Path(__file__).parent / "frames"
PLACE = "  # the fragment\n"

_FENCE = re.compile(r"^```(\S+) *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"^ *(\w+(?:\.\w+)*) *=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: `language` and `words` stand behind the opening fence."""

    document: Path
    line: int
    language: str
    words: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line and what the document says that it prints."""

    line: str
    expected: str


def blocks(document: Path) -> Iterator[Block]:
    """All fenced blocks that name a language, in order."""
    text = document.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        language, words, body = match.groups()
        yield Block(document, text.count("\n", 0, match.start()) + 1, language, words.strip(), body)


def all_blocks(language: str) -> list[Block]:
    """The blocks of one language in all documents."""
    return [block for document in DOCUMENTS for block in blocks(document) if block.language == language]


def complete(block: Block) -> str:
    """The spec that a block stands for: itself, or its fragment in its frame."""
    if not block.words or block.words.endswith(".dlspec"):
        return block.text
    frame = (FRAMES / f"{block.words}.dlspec").read_text(encoding="utf-8")
    assert PLACE in frame
    before, after = frame.split(PLACE)
    written = set(_KEY.findall(block.text))
    kept = [line for line in after.splitlines(keepends=True) if not written & set(_KEY.findall(line))]
    return before + block.text + "".join(kept)


def commands(block: Block) -> Iterator[Command]:
    """The commands of a `sh runs` block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        yield Command(line, expected)


def agrees(expected: str, printed: str) -> bool:
    """Whether what was printed is what the document says, ellipses and runs of blanks aside."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == "…" else re.escape(_even(line)).replace("…", "[^\n]*") + r"\n"
        for line in expected.strip("\n").split("\n")
    )
    text = "".join(f"{_even(line)}\n" for line in printed.strip("\n").split("\n"))
    return re.fullmatch(pattern, text) is not None


def _even(line: str) -> str:
    return re.sub(" +", " ", line).rstrip()
