"""What a command answers, as text for people or as one JSON document for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TextIO

from dlc.diagnostics import COLOURED, PLAIN, Diagnostic, Label, Sources, Span, Style, render_all

SCHEMA = 1


class Status(IntEnum):
    """Exit statuses, as language.md lists them, and EX_TEMPFAIL of a run that SIGTERM has ended behind a checkpoint.

    The last two are what shells say of SIGINT and SIGPIPE.
    """

    DONE = 0
    MISTAKES = 1
    USAGE = 2
    INFEASIBLE = 3
    INTERNAL = 4
    SUSPENDED = 75
    INTERRUPTED = 130
    BROKEN_PIPE = 141


INFEASIBLE_CODES = frozenset({"E0509"})
"""Errors that say that no plan keeps the limits, though the input has no mistake in it."""


class UsageError(Exception):
    """The command line cannot be meant as it stands: exit status 2, with this sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a command. A `document` of None: the command has printed all there is to say."""

    text: str = ""
    document: Mapping[str, object] | None = None
    status: int = Status.DONE
    diagnostics: tuple[Diagnostic, ...] = ()
    sources: Sources = field(default_factory=dict)


def refusal(diagnostics: tuple[Diagnostic, ...], sources: Sources) -> Answer:
    """The answer to an input with errors: status 3 where all of them say that nothing fits, else 1."""
    codes = {diagnostic.code for diagnostic in diagnostics if diagnostic.is_error}
    status = Status.INFEASIBLE if codes and codes <= INFEASIBLE_CODES else Status.MISTAKES
    return Answer("", {}, status, diagnostics, sources)


def show(answer: Answer, *, as_json: bool) -> None:
    """Text: messages to the standard error, the rest to the standard output. JSON: one document to the latter."""
    if as_json:
        if answer.document is not None:
            messages = [diagnostic_document(diagnostic) for diagnostic in answer.diagnostics]
            print_json({**answer.document, "diagnostics": messages})
        return
    if answer.diagnostics:
        style = style_of(sys.stderr)
        print(render_all(answer.diagnostics, answer.sources, style), file=sys.stderr)
        print(f"\n{tally(answer.diagnostics)}", file=sys.stderr)
    if answer.text:
        print(answer.text)


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document with its schema's number, a row of a table on each line; numbers that JSON lacks (inf, nan) are
    refused."""
    print(_in_lines({"schema": SCHEMA, **document}, json.JSONEncoder(allow_nan=False), TABLES))


TABLES = 2
"""Levels of a document of which each item is on a line of its own: its entries, and their rows."""


def _in_lines(value: object, encoder: json.JSONEncoder, levels: int, margin: str = "\n") -> str:
    """`json.dumps` with an indentation is many times as slow as without one."""
    if not levels or not isinstance(value, Mapping | list | tuple) or not value:
        return encoder.encode(value)
    inner = f"{margin}  "
    if isinstance(value, Mapping):
        items = [f"{encoder.encode(key)}: {_in_lines(of, encoder, levels - 1, inner)}" for key, of in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{margin}}}"
    items = [_in_lines(of, encoder, levels - 1, inner) for of in value]
    return f"[{inner}{f',{inner}'.join(items)}{margin}]"


def style_of(stream: TextIO) -> Style:
    """Colours on a terminal that has them, unless NO_COLOR is set (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return PLAIN if plain else COLOURED


def tally(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`."""
    kinds = [diagnostic.is_error for diagnostic in diagnostics]
    errors, warnings = kinds.count(True), kinds.count(False)
    return ", ".join(plural(n, word) for n, word in ((errors, "error"), (warnings, "warning")) if n)


def plural(number: int, word: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def diagnostic_document(diagnostic: Diagnostic) -> dict[str, object]:
    """One message as JSON; `span` is null where a message is not about a place."""
    return {
        "code": diagnostic.code,
        "severity": "error" if diagnostic.is_error else "warning",
        "message": diagnostic.message,
        **_label(diagnostic.primary),
        "secondary": [_label(label) for label in diagnostic.secondary],
        "notes": list(diagnostic.notes),
        "helps": list(diagnostic.helps),
        "chain": [{"what": frame.what, "span": _span(frame.span)} for frame in diagnostic.chain],
    }


def _label(label: Label | None) -> dict[str, object]:
    return {"span": None if label is None else _span(label.span), "label": "" if label is None else label.text}


def _span(span: Span) -> dict[str, object]:
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }
