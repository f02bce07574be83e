"""From bytes to text that the grammar can read: files, characters, quotes, brackets and the version line.

What the grammar cannot say, or would say badly, is checked here before it reads a word.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dlc.diagnostics import SHOWN_AT_MOST, Diagnostic, DiagnosticError, Span, similar
from dlc.messages import e01_syntax as e01

VERSIONS = (1,)
MAX_BYTES = 2**20
MAX_WORDS = 2**16
MAX_NESTING = 100

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")
_NOT_PLAIN = re.compile(r'"[^"\n]*"|#[^\n]*|"|[^\x00-\x7f]+')
_BRACKETS = re.compile(r'"[^"\n]*"|#[^\n]*|[()\[\]{}]')
_WORDS = re.compile(r'"[^"\n]*"|#[^\n]*|[A-Za-z0-9_]+|[^\sA-Za-z0-9_]')
_INDENT = re.compile(r"[ \t]{0,200}")
_HEADER = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*(?:#[^\n]*)?")
_VERSION = re.compile(r"dlspec[ \t]+([0-9]+)(?![A-Za-z0-9_.])")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|.?")

_OPENS = {")": "(", "]": "[", "}": "{"}

_PLAIN_FORMS = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2192": "->",
    "\u2013": "-",
    "\u2014": "-",
    "\u2212": "-",
    "\u00d7": "x",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2260": "!=",
    "\u00b5": "u",
    "\u03bc": "u",
    "\u2026": "..",
}
"""What editors and word processors make of plain signs."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a file as the parser reads it, and where its lines start."""

    path: str
    content: str
    line_starts: tuple[int, ...]

    @classmethod
    def of(cls, content: str, path: str) -> Text:
        """The text without its byte-order mark."""
        content = content.removeprefix("\ufeff")
        return cls(path, content, (0, *(newline.end() for newline in re.finditer("\n", content))))

    def span(self, start: int, end: int) -> Span:
        """The span of the characters from `start` to `end`, the end exclusive."""
        return Span(self.path, *self._place(start), *self._place(end))

    def line_start(self, offset: int) -> int:
        """Where the offset's line begins."""
        return self.line_starts[bisect_right(self.line_starts, offset) - 1]

    def indent(self, offset: int) -> int:
        """How many blanks stand at the beginning of the offset's line."""
        return self._blanks(self.line_start(offset))

    def begins_line(self, offset: int) -> bool:
        """Whether nothing but blanks stands before the offset on its line."""
        start = self.line_start(offset)
        return start + self._blanks(start) == offset

    def _blanks(self, start: int) -> int:
        blanks = _INDENT.match(self.content, start)
        assert blanks is not None
        return len(blanks[0])

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1


def read_source(path: str) -> str:
    """The text of a .dlspec file, without a byte-order mark.

    Raises DiagnosticError where the file is missing, unreadable, not a regular file, over 1 MiB or not UTF-8.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DiagnosticError([e01.UNREADABLE.at(None, path=shown(path), reason="it is not a regular file")])
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DiagnosticError([e01.UNREADABLE.at(None, path=shown(path), reason=reason.lower())]) from None
    if len(data) > MAX_BYTES:
        raise DiagnosticError([_too_large(path)])
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DiagnosticError([_not_utf8(data, error.start, path)]) from None


def check_source(text: Text) -> None:
    """Raise DiagnosticError for what no grammar needs to see.

    That is: a text over 1 MiB or 65,536 words and signs (the parser reads about as many in a second), control
    characters, characters outside ASCII that stand outside quotes and comments, quotes that do not end, brackets
    nested too deep, and a first line other than `dlspec 1`.
    """
    if len(text.content) > MAX_BYTES:
        raise DiagnosticError([_too_large(text.path)])
    if len(text.content) > MAX_WORDS and _count_words(text) > MAX_WORDS:
        raise DiagnosticError([_too_large(text.path, f"{MAX_WORDS:,} words and signs")])
    mistakes = tuple(islice(_bad_characters(text), SHOWN_AT_MOST))
    if mistakes:
        raise DiagnosticError(sorted(mistakes, key=lambda mistake: mistake.primary.span))  # type: ignore[union-attr]
    _check_version(text)
    _check_nesting(text)


def open_brackets(text: Text, end: int) -> list[int]:
    """The offsets of the brackets that are open at an offset, outermost first."""
    stack: list[int] = []
    for found in _BRACKETS.finditer(text.content, 0, end):
        if found[0] in "([{":
            stack.append(found.start())
        elif found[0] in _OPENS and stack and text.content[stack[-1]] == _OPENS[found[0]]:
            stack.pop()
    return stack


def unclosed_brackets(text: Text) -> list[int]:
    """The offsets of the opening brackets that have no partner, in text order.

    A `}` that begins its line belongs to the innermost `{` whose line has the same indentation, if there is one; else
    a closing bracket belongs to the innermost bracket of its form.
    """
    stack: list[int] = []
    unclosed: list[int] = []
    for found in _BRACKETS.finditer(text.content):
        if found[0] in "([{":
            stack.append(found.start())
        elif found[0] in _OPENS:
            partner = _partner(text, stack, found.start())
            if partner is not None:
                unclosed.extend(stack[partner + 1 :])
                del stack[partner:]
    return sorted(unclosed + stack)


def _partner(text: Text, stack: list[int], closing: int) -> int | None:
    """The place in the stack of the bracket that a closing bracket belongs to."""
    form = _OPENS[text.content[closing]]
    partners = [place for place in range(len(stack) - 1, -1, -1) if text.content[stack[place]] == form]
    if partners and form == "{" and text.begins_line(closing):
        indent = text.indent(closing)
        aligned = [place for place in partners if text.indent(stack[place]) == indent]
        partners = aligned or partners
    return partners[0] if partners else None


def _bad_characters(text: Text) -> Iterator[Diagnostic]:
    for found in _CONTROL.finditer(text.content):
        name = "carriage return (without a newline)" if found[0] == "\r" else f"U+{ord(found[0]):04X}"
        yield e01.CONTROL_CHARACTER.at(text.span(*found.span()), name=name)
    for found in _NOT_PLAIN.finditer(text.content):
        if found[0] == '"':
            end = text.content.find("\n", found.start())
            yield e01.UNTERMINATED_TEXT.at(text.span(found.start(), end if end >= 0 else len(text.content)))
        elif not found[0].isascii() and found[0][0] not in '"#' and not _CONTROL.match(found[0]):
            yield _foreign(text, found.start())


def _foreign(text: Text, offset: int) -> Diagnostic:
    from unicodedata import name

    character = text.content[offset]
    plain = _PLAIN_FORMS.get(character)
    known = f"U+{ord(character):04X} {name(character, '')}".rstrip()
    helps = [f"write `{plain}`"] if plain else []
    seen = character if character.isprintable() else character.encode("unicode_escape").decode()
    return e01.FOREIGN_CHARACTER.at(text.span(offset, offset + 1), character=seen, name=known, helps=helps)


def _check_version(text: Text) -> None:
    header = _HEADER.match(text.content)
    assert header is not None
    start = header.end()
    found = _VERSION.match(text.content, start)
    if found is None:
        word = _WORD.match(text.content, start)
        end = word.end() if word else start
        helps = [f"write `dlspec {VERSIONS[-1]}` as the first line"]
        if similar(text.content[start:end], ["dlspec"]):
            helps = [f"the line reads `dlspec {VERSIONS[-1]}`"]
        raise DiagnosticError([e01.NO_VERSION.at(text.span(start, end), helps=helps)])
    if found[1].lstrip("0") not in {str(version) for version in VERSIONS}:
        known = ", ".join(f"`{version}`" for version in VERSIONS)
        where = text.span(*found.span(1))
        raise DiagnosticError([e01.UNKNOWN_VERSION.at(where, version=shown(found[1]), helps=[f"known is {known}"])])


def _check_nesting(text: Text) -> None:
    depth = 0
    for found in _BRACKETS.finditer(text.content):
        depth += (found[0] in "([{") - (found[0] in ")]}")
        if depth > MAX_NESTING:
            where = text.span(*found.span())
            raise DiagnosticError([e01.TOO_DEEP.at(where, what="brackets", limit=MAX_NESTING)])


def _count_words(text: Text) -> int:
    return sum(not found[0].startswith("#") for found in _WORDS.finditer(text.content))


def _too_large(path: str, limit: str = "1 MiB") -> Diagnostic:
    return e01.FILE_TOO_LARGE.at(None, path=shown(path), limit=limit)


def _not_utf8(data: bytes, offset: int, path: str) -> Diagnostic:
    line_start = data.rfind(b"\n", 0, offset) + 1
    line, column = data.count(b"\n", 0, offset) + 1, len(data[line_start:offset].decode("utf-8")) + 1
    return e01.NOT_UTF8.at(Span(path, line, column, line, column + 1), byte=data[offset])


def shown(name: str, length: int = 200) -> str:
    """A name from outside as messages may show it: without control characters, and short."""
    short = name if len(name) <= length else f"{name[: length - 3]}..."
    return "".join(c if c.isprintable() else "\ufffd" for c in short)
