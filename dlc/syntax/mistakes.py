"""From lark's errors to messages: what was expected, in words that a reader of the language knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from dlc.diagnostics import Diagnostic, Label, Span, similar
from dlc.messages import e01_syntax as e01
from dlc.syntax.source import Text, open_brackets, shown

ITEMS = ("import", "param", "block", "network", "device", "link", "cluster", "train", "plan")
RESERVED = ("if", "then", "else", "and", "or", "not", "as", "where")

BEGINNINGS = ("input", "output", "return", "device", "link", "topology", "pin", "forbid", "limit", "mesh")

_VALUE = {"NAME", "INT", "FLOAT", "QUANTITY", "STRING", "WINDOW", "LPAR", "LSQB", "MINUS", "NOT", "IF"}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "AT", "COMPARISON", "AND", "OR", "DOT", "LPAR", "LSQB", "AS"}
_WORDS = {
    "NAME": "a name",
    "INT": "a whole number",
    "STRING": "a text in quotes",
    "COMPARISON": "a comparison such as `<=`",
    "_NL": "a new line",
    "$END": "the end of the file",
}
_SIGNS = {"PLUS", "MINUS", "STAR", "SLASH", "AT", "COMPARISON"}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CLOSES = {closing: opening for opening, closing in _CLOSING.items()}
_BEFORE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|,)[ \t]*\Z")
_HELPS = {
    "//": "a comment begins with `#`",
    "=>": "an arrow is `->`",
    "'": "texts stand in double quotes",
    "&": "conditions are joined with `and`",
    "|": "conditions are joined with `or`",
    "%": "a share is a number from 0 to 1: half is `0.5`",
    "!": "conditions are negated with `not`, and unequal is `!=`",
}


def explain(error: UnexpectedInput, text: Text, grammar: Lark, unclosed: Sequence[int]) -> Diagnostic:
    """The message for the first place where a text leaves the grammar.

    `unclosed` are the offsets of the brackets without a partner, as far as they are read by the same parse.
    """
    found = _Found.of(error, text)
    assert error.interactive_parser is not None
    accepted = set(error.interactive_parser.accepts())  # type: ignore[no-untyped-call]
    unclosed = [offset for offset in unclosed if offset < found.start]
    if unclosed and found.leaves_brackets_open:
        return _unclosed(text, unclosed[-1], found)
    if "NETWORK" in accepted and found.is_word:
        return _not_an_item(found)
    expected = listed(_expected(accepted, grammar))
    if found.word in RESERVED and "NAME" in accepted:
        helps = [f"the reserved words are {', '.join(f'`{word}`' for word in RESERVED)}"]
        if found.word in ("if", "not"):
            helps = [f"an operand that begins with `{found.word}` stands in parentheses"]
        return e01.RESERVED_WORD.at(found.span, expected=expected, word=found.word, helps=helps)
    return e01.UNEXPECTED.at(
        found.span,
        expected=expected,
        found=found.name,
        secondary=_opening(text, found),
        helps=_helps(found, accepted),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What stands where the grammar expected something else; `kind` is its terminal, empty where it is of none."""

    text: Text
    start: int
    word: str
    kind: str

    @classmethod
    def of(cls, error: UnexpectedInput, text: Text) -> _Found:
        if isinstance(error, UnexpectedToken):
            token = cast(Token, error.token)
            if token.type == "$END":
                return cls(text, len(text.content.rstrip()), "", "$END")
            return cls(text, token.start_pos or 0, "" if token.type == "_NL" else str(token), token.type)
        assert isinstance(error, UnexpectedCharacters)
        start = error.pos_in_stream or 0
        return cls(text, start, text.content[start], "")

    @property
    def span(self) -> Span:
        return self.text.span(self.start, self.start + len(self.word))

    @property
    def name(self) -> str:
        """How the message calls it."""
        return f"`{shown(self.word, 40)}`" if self.word else _WORDS[self.kind]

    @property
    def is_word(self) -> bool:
        return self.word[:1].isalpha() or self.word[:1] == "_"

    @property
    def closes(self) -> bool:
        return self.word in _CLOSES

    @property
    def before(self) -> str:
        """The word or comma right before it on its line, empty where there is none."""
        text = self.text
        found = _BEFORE.search(text.content, max(text.line_start(self.start), self.start - 80), self.start)
        return found[1] if found else ""

    @property
    def item_start(self) -> Span | None:
        """The word right before it, where that begins a line and an item."""
        if self.before not in ITEMS or not self.before_begins_line:
            return None
        return self.text.span(self._line_begins, self._line_begins + len(self.before))

    @property
    def before_begins_line(self) -> bool:
        """Whether the word right before it is the first of its line."""
        between = self.text.content[self._line_begins : self.start]
        return between.rstrip(" \t") == self.before

    @property
    def _line_begins(self) -> int:
        """Where the first word of its line begins."""
        return self.text.line_start(self.start) + self.text.indent(self.start)

    @property
    def leaves_brackets_open(self) -> bool:
        """Whether it shows that the brackets open before it are not going to be closed."""
        begins_line = self.text.begins_line(self.start)
        return self.kind == "$END" or self.closes or begins_line or self.item_start is not None


def _expected(accepted: set[str], grammar: Lark) -> list[str]:
    """A short list, in words: operators are left out where a statement could simply end."""
    left = set(accepted)
    words = []
    if "NETWORK" in left:
        return ["an item"] + (["the end of the file"] if "$END" in left else [])
    if left >= {"NAME", "INT", "STRING", "LPAR"}:
        words.append("a value")
        left -= _VALUE
    elif {"PLUS", "COMPARISON"} <= left:
        left -= _OPERATORS
        if "_ARROW" in left:
            left.discard("THEN")
        if "COMMA" in left:
            left.discard("_ARROW")
    if "_NL" in left:
        left -= {"RBRACE", "SEMICOLON", "$END"}
        if "_ARROW" in left:
            left -= {"AS", "THEN", "LPAR"}
    rest = [_word(name, grammar) for name in left]
    return words + sorted(rest, key=lambda word: (word == _WORDS["_NL"], "`" in word, not word[1:2].isalpha(), word))


def _word(terminal: str, grammar: Lark) -> str:
    return _WORDS.get(terminal) or f"`{grammar.get_terminal(terminal).pattern.value}`"


def _unclosed(text: Text, opening: int, found: _Found) -> Diagnostic:
    bracket = text.content[opening]
    place = Label(found.item_start or found.span, f"`{_CLOSING[bracket]}` is missing before this")
    return e01.UNCLOSED.at(text.span(opening, opening + 1), bracket=bracket, secondary=[place])


def _opening(text: Text, found: _Found) -> Iterator[Label]:
    """Where a closing bracket is of the wrong form: the bracket that it cannot close."""
    opening = open_brackets(text, found.start)
    if found.closes and opening and text.content[opening[-1]] != _CLOSES[found.word]:
        yield Label(text.span(opening[-1], opening[-1] + 1), "opened here")


def _not_an_item(found: _Found) -> Diagnostic:
    near = similar(found.word, ITEMS)
    helps = [f"there is an item with a similar name: `{near}`"] if near else []
    notes = [f"items begin with {listed([f'`{item}`' for item in ITEMS])}"]
    return e01.NOT_AN_ITEM.at(found.span, word=shown(found.word, 40), notes=notes, helps=helps)


def _helps(found: _Found, accepted: set[str]) -> Iterator[str]:
    written = found.text.content[found.start : found.start + 2]
    if written in _HELPS or found.word in _HELPS:
        yield _HELPS.get(written) or _HELPS[found.word]
    if found.kind == "_NL" and "LBRACE" in accepted:
        yield "`{` stands on the same line as what it belongs to"
    if found.word == "=" and written != "=>" and "THEN" in accepted:
        yield "`==` compares"
    if found.closes and found.before == ",":
        yield "no comma stands before a closing bracket"
    if found.word == ":" and "EQUAL" in accepted:
        yield "a name and what it stands for are joined with `=`"
    if found.word == "," and accepted & {"RPAR"} and "COMMA" not in accepted:
        yield "a window is written `3x3`, a list `[3, 3]`"
    if found.closes and not open_brackets(found.text, found.start):
        yield "no bracket is open here"
    if found.kind in _SIGNS and "_ARROW" in accepted and written != "//":
        yield "a chain that is an operand stands in parentheses: `x + (x -> relu)`"
    before = found.before if found.before_begins_line else ""
    for word, candidates in ((found.word, _keywords(accepted)), (before, BEGINNINGS)):
        near = similar(word, candidates) if word and word not in candidates else None
        if near:
            yield f"there is a word with a similar name: `{near}`"


def _keywords(accepted: set[str]) -> list[str]:
    """The words of the language that could stand here; a terminal for a word is named after it."""
    words = {*ITEMS, *BEGINNINGS, *RESERVED, "on", "over", "repeat"}
    return sorted(words & {name.lower() for name in accepted})


def listed(words: list[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
