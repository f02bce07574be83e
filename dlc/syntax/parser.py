"""From text to the syntax tree, or to messages with file, line and column."""

from __future__ import annotations

import re

from lark import Lark, UnexpectedInput, UnexpectedToken

from dlc.diagnostics import SHOWN_AT_MOST, Diagnostic, DiagnosticError
from dlc.messages import e01_syntax as e01
from dlc.syntax import ast
from dlc.syntax.build import Node, build_file
from dlc.syntax.grammar import load_grammar
from dlc.syntax.mistakes import ITEMS, explain
from dlc.syntax.source import Text, check_source, unclosed_brackets

_ITEM_WORDS = "|".join(ITEMS)
_ITEM = re.compile(rf"^(?:(?:{_ITEM_WORDS})(?![A-Za-z0-9_])|[a-z]+[ \t]+[A-Za-z0-9_]+[ \t]+{{)", re.MULTILINE)
"""Where an item begins, or something that was meant as one."""


def parse(text: str, path: str) -> ast.File:
    """The syntax tree of a .dlspec text; `path` is the file's name in spans and messages.

    Raises DiagnosticError with messages of the family E01. Where the text leaves the grammar, reading goes on at the
    next item, so that the messages tell of more than the first mistake.
    """
    source = Text.of(text, path)
    check_source(source)
    return build_file(parse_tree(source), path)


def parse_tree(source: Text) -> Node:
    """What the grammar makes of a text that `check_source` let pass."""
    grammar = load_grammar()
    try:
        return grammar.parse(source.content, start="file")
    except UnexpectedInput as error:
        raise DiagnosticError(_mistakes(error, source, grammar)) from None


def _mistakes(error: UnexpectedInput, source: Text, grammar: Lark) -> list[Diagnostic]:
    """The first mistake, and the first one in each item that can still be read on its own."""
    unclosed = unclosed_brackets(source)
    mistakes = [explain(error, source, grammar, unclosed)]
    begin = 0
    while len(mistakes) < SHOWN_AT_MOST:
        offset = _offset(error, source) + (mistakes[-1].code == e01.NOT_AN_ITEM.code)
        following = _ITEM.search(source.content, max(begin + 1, offset))
        if following is None:
            break
        begin = following.start()
        try:
            grammar.parse(_from(source, begin), start="items")
            break
        except UnexpectedInput as next_error:
            error = next_error
            mistakes.append(explain(error, source, grammar, [offset for offset in unclosed if offset >= begin]))
    return mistakes


def _from(source: Text, begin: int) -> str:
    """The text from a line on, with blank lines of the same lengths before it, so that places stay what they are."""
    before = source.content[:begin].split("\n")
    return "\n".join(" " * len(line) for line in before) + source.content[begin:]


def _offset(error: UnexpectedInput, source: Text) -> int:
    """Where the error lies; lark places the end of the text at its last token."""
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    return len(source.content) if at_end else error.pos_in_stream or 0
