"""The house style: one spelling of blanks, indentation and columns for every file.

The formatter keeps tokens, line breaks, comments and single blank lines, and decides all other blanks from them alone.
So it never changes what a file says, and formatting twice is formatting once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lark import Token

from dlc.syntax.build import split_quantity
from dlc.syntax.columns import Row, align
from dlc.syntax.grammar import load_grammar
from dlc.syntax.lexer import ENDS_A_STATEMENT
from dlc.syntax.parser import parse
from dlc.syntax.source import Text

INDENT = 2
COMMENT_COLUMN = 47

_TIGHT_BEFORE = frozenset({")", "]", ",", ";", ".", "..", ":"})
_TIGHT_AFTER = frozenset({"(", "[", ".", ".."})
_INDEXED = frozenset({"RPAR", "RSQB", "DOUBLE_STAR"})


def format_source(text: str, path: str) -> str:
    """The text in house style. Raises DiagnosticError where it does not parse."""
    parse(text, path)
    content = Text.of(text, path).content
    tokens = load_grammar().parse_interactive(content, start="file").exhaust_lexer()
    lines = _lines(content, tokens)
    _Indenter().indent(lines)
    for table in (*_statements(lines), *_runs(lines)):
        align(table)
    return "".join(f"{line.text}\n" for line in lines)


@dataclass(slots=True)
class _Line:
    """A line: its tokens, how many blanks stand before each, and its comment.

    `starts` is set where a statement, setting, rule or item begins with the line.
    """

    tokens: list[Token]
    comment: str = ""
    after_blank: bool = False
    starts: bool = False
    gaps: list[int] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return [_spelling(token) for token in self.tokens]

    @property
    def is_whole(self) -> bool:
        """Whether each bracket that opens on the line closes on it."""
        depth = 0
        for token in self.tokens:
            depth += _opens(token) - _closes(token)
            if depth < 0:
                return False
        return depth == 0

    @property
    def text(self) -> str:
        """The line as it is written, with the empty line before it where there is one."""
        code = "".join(" " * gap + word for gap, word in zip(self.gaps, self.words, strict=False))
        if not self.tokens:
            code = " " * self.gaps[0]
        elif self.comment:
            code = code.ljust(COMMENT_COLUMN - 2) + "  "
        return "\n" * self.after_blank + code + self.comment


# --- lines ---


def _lines(content: str, tokens: Sequence[Token]) -> list[_Line]:
    """The lines as the author broke them; blank lines at the ends of the file and of blocks are left out."""
    lines = list(_broken(content, tokens))
    for line, following in pairwise(lines):
        opened = bool(line.tokens) and line.tokens[-1] == "{"
        closes = bool(following.tokens) and following.tokens[0] == "}"
        following.after_blank &= not opened and not closes
    lines[0].after_blank = False
    return lines


def _broken(content: str, tokens: Sequence[Token]) -> Iterator[_Line]:
    line = _Line([], starts=True)
    end, separated = 0, True
    for token in tokens:
        if token.type == "_NL":
            separated = True
            continue
        begin = token.start_pos or 0
        *pieces, _ = content[end:begin].split("\n")
        if pieces or not end:
            line.comment = pieces[0].strip() if pieces else ""
            if line.tokens or line.comment:
                yield line
            comments, blank = _comments(pieces[1:])
            yield from comments
            line = _Line([], after_blank=blank, starts=separated)
        line.tokens.append(token)
        line.gaps.append(0)
        end, separated = token.end_pos or 0, False
    first, *pieces = content[end:].split("\n")
    line.comment = first.strip()
    yield line
    yield from _comments(pieces)[0]


def _comments(pieces: Sequence[str]) -> tuple[list[_Line], bool]:
    """The lines without code, and whether a blank line ends them."""
    lines, blank = [], False
    for piece in pieces:
        comment = piece.strip()
        if comment:
            lines.append(_Line([], comment, after_blank=blank))
        blank = not comment
    return lines, blank


# --- blanks within a line ---


def _spelling(token: Token) -> str:
    return " ".join(split_quantity(token)) if token.type == "QUANTITY" else str(token)


def _opens(token: Token) -> bool:
    return token.type in ("LPAR", "LSQB", "LBRACE")


def _closes(token: Token) -> bool:
    return token.type in ("RPAR", "RSQB", "RBRACE")


def _gaps(tokens: Sequence[Token], before: Token | None) -> Iterator[int]:
    """One blank before each token, or none; `before` is the last token of the line before."""
    sign = wildcard = False
    for token in tokens:
        kind = before.type if before else ""
        tight = sign or token in _TIGHT_BEFORE or before in _TIGHT_AFTER
        if token in ("(", "["):
            tight |= kind == "NAME" or (token == "[" and (wildcard or kind in _INDEXED))
        yield 0 if tight else 1
        sign = token == "-" and kind not in ENDS_A_STATEMENT
        wildcard = token == "*" and kind in ("DOT", "PIN", "FORBID")
        before = token


# --- indentation ---


@dataclass(slots=True)
class _Statement:
    """What the lines that go on with a statement are indented by."""

    indent: int
    depth: int
    value: int
    arrow: int | None = None
    assigned: bool = False

    @property
    def first_arrow(self) -> int:
        return self.value if self.arrow is None else self.arrow


@dataclass(frozen=True, slots=True)
class _Open:
    """A bracket that is open: the indentation of what stands in it, and of the line that closes it."""

    bracket: str
    inner: int
    outer: int
    statement: _Statement


class _Indenter:
    """Walks through the lines and decides how many blanks stand before each token."""

    def __init__(self) -> None:
        self.open: list[_Open] = []
        self.statement = _Statement(0, 0, 2 * INDENT)
        self.before: Token | None = None

    def indent(self, lines: Sequence[_Line]) -> None:
        """Fill in the gaps of each line; a comment of its own stands above the line that it precedes."""
        waiting: list[_Line] = []
        for line in lines:
            if not line.tokens:
                waiting.append(line)
                continue
            column = self._begin(line)
            above = self.open[-1].inner if self.open and _closes(line.tokens[0]) else column
            for comment in waiting:
                comment.gaps = [above]
            waiting = []
            line.gaps = [column, *list(_gaps(line.tokens, self.before))[1:]]
            self._walk(line)
        for comment in waiting:
            comment.gaps = [0]

    def _begin(self, line: _Line) -> int:
        """The column of a line's first token."""
        first = line.tokens[0]
        inside = self.open[-1] if self.open else None
        if inside is not None and self.before is not None and inside.bracket == "{":
            line.starts |= self.before in ("{", ",", ";")
        line.starts &= not _closes(first)
        if _closes(first) and inside is not None:
            return inside.outer
        if line.starts:
            column = inside.inner if inside else 0
            self.statement = _Statement(column, len(self.open), column + 2 * INDENT)
            return column
        if inside is not None and len(self.open) > self.statement.depth:
            return inside.inner
        return self.statement.first_arrow if first == "->" else self.statement.value

    def _walk(self, line: _Line) -> None:
        """Note the brackets and the columns that later lines refer to."""
        column = 0
        for place, token in enumerate(line.tokens):
            column += line.gaps[place]
            statement = self.statement
            if _opens(token):
                self._enter(line, place, column)
            elif _closes(token):
                self.statement = self.open.pop().statement
            elif len(self.open) == statement.depth:
                self._note(token, place if line.starts else -1, column)
            column += len(_spelling(token))
            self.before = token

    def _note(self, token: Token, place: int, column: int) -> None:
        statement = self.statement
        if token == "=" and not statement.assigned:
            statement.value, statement.assigned = column + 2, True
        elif token == "->" and statement.arrow is None:
            statement.arrow = column
        elif place == 1 and self.before is not None and self.before.type != "NAME":
            statement.value = column

    def _enter(self, line: _Line, place: int, column: int) -> None:
        token, statement = line.tokens[place], self.statement
        hangs = place + 1 == len(line.tokens)
        base = line.gaps[0] if line.tokens[0] == "->" or token != "{" else statement.indent
        if token == "{" or hangs:
            self.open.append(_Open(str(token), base + INDENT, base, statement))
        else:
            self.open.append(_Open(str(token), column + 1, column, statement))
        if token == "{":
            self.statement = _Statement(base + INDENT, len(self.open), base + 3 * INDENT)


# --- columns ---


def _statements(lines: Sequence[_Line]) -> Iterator[list[Row]]:
    """The tables within a statement: lines that begin with `->`, below the first arrow of the line before them."""
    code = [line for line in lines if line.tokens]
    table: list[Row] = []
    for line in code:
        if line.starts or not line.is_whole:
            yield table
            table = []
        points = _points(line, "=")
        arrows = [place for place, (form, _) in enumerate(points) if form == "->"]
        if line.is_whole and arrows and (line.starts or (table and line.tokens[0] == "->")):
            table.append(Row(line.gaps, line.words, points[arrows[0] + 1 :]))
    if len(table) > 1:
        yield table


def _runs(lines: Sequence[_Line]) -> Iterator[list[Row]]:
    """The tables of neighbouring one-line statements of the same form; blank lines part them."""
    run: list[Row] = []
    last: tuple[str, int] | None = None
    code = [*_parted(lines), (True, _Line([], starts=True))]
    for (parted, line), (_, following) in pairwise(code):
        ends = following.starts or _closes(following.tokens[0])
        form = _form(line) if line.starts and ends and line.is_whole else ""
        if parted or not form or (form, line.gaps[0]) != last:
            yield run
            run = []
        last = form, line.gaps[0]
        if form:
            run.append(Row(line.gaps, line.words, _points(line, form)))
    yield run


def _parted(lines: Sequence[_Line]) -> Iterator[tuple[bool, _Line]]:
    """The lines with code, each with whether a blank line stands above it or above its comments."""
    parted = False
    for line in lines:
        parted |= line.after_blank
        if line.tokens:
            yield parted, line
            parted = False


def _form(line: _Line) -> str:
    """What kind of statement a line is, as far as tables go; empty where it is in none."""
    first = line.tokens[0].type
    if first in ("PIN", "FORBID"):
        return "pin"
    if first in ("LIMIT", "LINK", "DEVICE"):
        return first.lower()
    return "=" if any(form == "=" for form, _ in _points(line, "=")) else ""


def _points(line: _Line, form: str) -> list[tuple[str, int]]:
    """The words of a line that begin a column, by the form of the statement."""
    points = [("selector", 1)] if form == "pin" else []
    depth = braces = 0
    repeats = assigned = False
    for place, token in enumerate(line.tokens):
        repeats = (repeats or token.type == "REPEAT") and token != "{"
        if token == "{" and not braces:
            points.append(("{", place))
        elif form in ("link", "device") and depth == 1 and line.tokens[place - 1] == ",":
            points.append((",", place))
        elif form == "limit" and token.type == "COMPARISON":
            points.append(("<=", place))
        elif form == "=" and not braces:
            if token == "=" and not depth and not assigned:
                assigned = True
                points.append(("=", place))
            elif token == "->" or (token.type == "AS" and not repeats):
                points.append((str(token), place))
        depth += _opens(token) - _closes(token)
        braces += (token == "{") - (token == "}")
    return points
