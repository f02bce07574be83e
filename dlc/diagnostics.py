"""Messages to the user: where a fault lies, what it is, and the way out.

A user's mistake is a `Diagnostic` value, collected in `Diagnostics` and shown together per stage; an exception of
another kind is a defect of dlc. The messages themselves stand in `dlc.messages`, one file per code family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

SHOWN_AT_MOST = 20
CLIPPED_TO = 240
"""So many characters of a source line are shown; lines of machine-made files can be a megabyte long."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of source text; lines and columns count from 1, the end column is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def place(self) -> str:
        """`file:line`, as reasons in plans and emitted comments cite it."""
        return f"{self.file}:{self.line}"

    def to(self, end: Span) -> Span:
        """The stretch from the start of this span to the end of another."""
        return Span(self.file, self.line, self.column, end.end_line, end.end_column)


@dataclass(frozen=True, slots=True)
class Label:
    """A span with a few words beside its marks."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One step of the chain that led to expanded code: `stage1[0]`, block `bottleneck`."""

    what: str
    span: Span


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message. `primary` is marked with ^^^, `secondary` labels with ---."""

    code: str
    message: str
    primary: Label | None = None
    secondary: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()
    chain: tuple[Frame, ...] = ()

    @property
    def is_error(self) -> bool:
        """Codes that begin with E are errors, with W warnings."""
        return self.code.startswith("E")

    def within(self, chain: Iterable[Frame]) -> Diagnostic:
        """The same message, with the chain of expansions that led to it."""
        return replace(self, chain=(*chain, *self.chain))


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of message: its code, its sentence with `{fields}`, and the text of `dlc explain CODE`."""

    code: str
    sentence: str
    explanation: str

    def at(
        self,
        span: Span | None,
        label: str = "",
        *,
        secondary: Iterable[Label] = (),
        notes: Iterable[str] = (),
        helps: Iterable[str] = (),
        **values: object,
    ) -> Diagnostic:
        """This message about one place; `values` fill the fields of the sentence."""
        primary = None if span is None else Label(span, label)
        sentence = self.sentence.format(**values)
        return Diagnostic(self.code, sentence, primary, tuple(secondary), tuple(notes), tuple(helps))


def errors_first(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Errors before warnings, both from the top of a file to its end; files in the order of their first message."""
    found = tuple(diagnostics)
    files = {d.primary.span.file: None for d in found if d.primary is not None}
    order = {file: place for place, file in enumerate(files)}

    def place(diagnostic: Diagnostic) -> tuple[bool, int, int, int]:
        if diagnostic.primary is None:
            return (not diagnostic.is_error, -1, 0, 0)
        span = diagnostic.primary.span
        return (not diagnostic.is_error, order[span.file], span.line, span.column)

    return tuple(sorted(found, key=place))


class DiagnosticError(Exception):
    """Raised to end a stage whose input has errors; carries all of that stage's messages."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = errors_first(diagnostics)
        super().__init__("; ".join(f"{d.code} {d.message}" for d in self.diagnostics))


@dataclass(slots=True)
class Diagnostics:
    """Collects the messages of one stage, so that a user sees all of them at once."""

    items: list[Diagnostic] = field(default_factory=list)
    _kept: set[Diagnostic] = field(default_factory=set, repr=False)

    def add(self, diagnostic: Diagnostic) -> None:
        """Keep a message once, however often its code was expanded."""
        if diagnostic not in self._kept:
            self._kept.add(diagnostic)
            self.items.append(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Keep several messages."""
        for diagnostic in diagnostics:
            self.add(diagnostic)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The errors, in the order they were found."""
        return tuple(d for d in self.items if d.is_error)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The warnings, in the order they were found."""
        return tuple(d for d in self.items if not d.is_error)

    def raise_errors(self) -> None:
        """End the stage if it found errors."""
        if self.errors:
            raise DiagnosticError(self.items)


Sources = Mapping[str, str]
"""File name as shown in spans -> the file's text."""


@dataclass(frozen=True, slots=True)
class Style:
    """How parts of a message are coloured; the plain style leaves them as they are."""

    error: str = ""
    warning: str = ""
    mark: str = ""
    bold: str = ""
    end: str = ""


PLAIN = Style()
COLOURED = Style(error="\x1b[1;31m", warning="\x1b[1;33m", mark="\x1b[1;34m", bold="\x1b[1m", end="\x1b[0m")


def render(diagnostic: Diagnostic, sources: Sources, style: Style = PLAIN) -> str:
    """One message as text: sentence, source lines with marks, notes, helps and the chain of expansions."""
    kind, colour = ("error", style.error) if diagnostic.is_error else ("warning", style.warning)
    lines = [f"{colour}{kind}[{diagnostic.code}]{style.end}{style.bold}: {diagnostic.message}{style.end}"]
    labels = [(label, "-") for label in diagnostic.secondary]
    if diagnostic.primary is not None:
        labels.insert(0, (diagnostic.primary, "^"))
    gutter = max((len(str(label.span.line)) for label, _ in labels), default=1)
    if labels:
        lines.append(f"{' ' * gutter}{style.mark}-->{style.end} {labels[0][0].span}")
        lines.extend(_marked_lines(labels, sources, gutter, style))
    for word, texts in (("note", diagnostic.notes), ("help", diagnostic.helps)):
        lines.extend(f"{' ' * gutter} = {style.bold}{word}{style.end}: {text}" for text in texts)
    if diagnostic.chain:
        steps = ", ".join(f"{frame.what} (line {frame.span.line})" for frame in diagnostic.chain)
        lines.append(f"{' ' * gutter} = while expanding {steps}")
    return "\n".join(lines)


def _marked_lines(labels: list[tuple[Label, str]], sources: Sources, gutter: int, style: Style) -> Iterator[str]:
    """The source lines that labels point at, in order, each once, with the marks of its labels underneath."""
    bar = f"{' ' * gutter} {style.mark}|{style.end}"
    file, shown = labels[0][0].span.file, (0, "")
    yield bar
    for label, mark in sorted(labels, key=lambda item: (item[0].span.file != file, item[0].span)):
        span = label.span
        if span.file != file:
            file, shown = span.file, (0, "")
            yield f"{' ' * gutter}{style.mark}:::{style.end} {span}"
        text, skipped, end = _shown_text(span, sources)
        if (span.line, text) != shown:  # of a long line, labels far apart show different parts
            yield f"{style.mark}{span.line:>{gutter}} |{style.end} {text}"
        shown = (span.line, text)
        width = max(1, min(end - skipped, len(text) + 1) - (span.column - skipped))
        margin = "".join("\t" if c == "\t" else " " for c in text[: span.column - skipped - 1])
        yield f"{bar} {margin}{style.mark}{mark * width}{style.end} {label.text}".rstrip()


def _shown_text(span: Span, sources: Sources) -> tuple[str, int, int]:
    """The line that a span begins in, as shown; how many characters are left out before it; where its marks end."""
    lines = sources.get(span.file, "").split("\n")
    text = lines[span.line - 1].rstrip("\r") if span.line <= len(lines) else ""
    end = span.end_column if span.end_line == span.line else len(text) + 1
    text, skipped = _clipped(text, span.column)
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in text), skipped, end


def _clipped(text: str, column: int) -> tuple[str, int]:
    """The part of a long line around a column, and how many characters are left out before it."""
    skipped = max(0, column - CLIPPED_TO // 2) if len(text) > CLIPPED_TO else 0
    part = text[skipped : skipped + CLIPPED_TO]
    start, end = "..." if skipped else "", "..." if len(part) < len(text) - skipped else ""
    return start + part[len(start) : len(part) - len(end)] + end, skipped


def render_all(diagnostics: Iterable[Diagnostic], sources: Sources, style: Style = PLAIN) -> str:
    """Errors, then warnings; at most twenty messages are shown, the rest are counted."""
    kept = errors_first(diagnostics)
    texts = [render(d, sources, style) for d in kept[:SHOWN_AT_MOST]]
    if len(kept) > SHOWN_AT_MOST:
        texts.append(f"... and {len(kept) - SHOWN_AT_MOST} more")
    return "\n\n".join(texts)


def similar(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate nearest to a misspelt name, else one that differs in case only; None where none is near."""
    from difflib import get_close_matches

    known = sorted(set(candidates))
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    alike = (candidate for candidate in known if candidate.lower() == name.lower() and candidate != name)
    return near[0] if near else next(alike, None)
