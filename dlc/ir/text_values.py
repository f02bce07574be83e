"""Values of the textual IR on one line: how they are written and, by a scanner over one line's tokens, read.

| value | written |
|---|---|
| text | `c1.conv` where it is a word, else as in JSON: `"winograd(2)"` |
| number | as Python's repr, so floats keep every bit |
| none, yes, no | `none`, `true`, `false` |
| list | `[5, 5]` |
| pairs, keys are texts | `{filters = 6, window = [5, 5]}` |
| type | `f32[batch = 32, channel = 3]` |
| record | `figure(1e-05, source = measured)`: what has no default first, then what differs from it |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dlc.diagnostics import Span
from dlc.ir.graph import Init
from dlc.ir.mesh import Mesh
from dlc.ir.plan import Alternative, Bounds, Figure, PassPlan, Prediction, Reason, Stage
from dlc.ir.program import Compute
from dlc.ir.request import Split
from dlc.ir.tensor import DTYPE_BYTES, Axis, TensorType

RECORDS: dict[str, type[Any]] = {
    "init": Init,
    "figure": Figure,
    "pass": PassPlan,
    "reason": Reason,
    "split": Split,
    "stage": Stage,
    "mesh": Mesh,
    "prediction": Prediction,
    "bounds": Bounds,
    "alternative": Alternative,
    "span": Span,
    "compute": Compute,
}
"""Dataclasses that are written inside a line, by their word."""

WORDS: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
}
"""Words that are no texts."""

_WORD = r"[A-Za-z_][A-Za-z0-9_.@]*(?:\[[0-9]+\][A-Za-z0-9_.@]*)*"
_TOKEN = re.compile(
    r"\s*(?:"
    r'(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?(?![A-Za-z0-9_.]))"
    rf"|(?P<word>-inf|{_WORD})"
    r"|(?P<sign>[\[\](){},:=])"
    r")"
)


class TextError(ValueError):
    """Text that is no IR: `line` counts from 1."""

    def __init__(self, line: int, fault: str) -> None:
        super().__init__(f"line {line}: {fault}")
        self.line, self.fault = line, fault


def written_fields(type_: type[Any], spans: bool = True) -> tuple[Field[Any], ...]:
    """The fields of a dataclass that text holds: all that are given to its constructor, spans only if asked for."""
    return tuple(f for f in fields(type_) if f.init and (spans or f.name != "span"))


def is_default(field: Field[Any], value: object) -> bool:
    """Whether a field has its default, to the very type and sign: neither 0 nor -0.0 is 0.0."""
    return field.default is not MISSING and value == field.default and repr(value) == repr(field.default)


def write(value: object, spans: bool = True) -> str:
    """A value on one line."""
    match value:
        case str():
            return value if re.fullmatch(_WORD, value) and value not in WORDS else json.dumps(value)
        case None | bool():
            return "none" if value is None else str(value).lower()
        case int() | float():
            return repr(value)
        case TensorType(dtype=dtype, axes=axes):
            return f"{dtype}[{', '.join(f'{write(axis.name)} = {axis.extent}' for axis in axes)}]"
        case tuple() if is_pairs(value):
            return f"{{{', '.join(f'{write(key)} = {write(item, spans)}' for key, item in value)}}}"
        case tuple():
            return f"[{', '.join(write(item, spans) for item in value)}]"
    return _write_record(value, spans)


def is_pairs(value: tuple[object, ...]) -> bool:
    """Whether a tuple is written in braces: pairs whose first is a text, at least one."""
    return bool(value) and all(
        isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in value
    )


def _write_record(value: object, spans: bool) -> str:
    word = next((word for word, type_ in RECORDS.items() if type(value) is type_), None)
    if word is None:
        raise ValueError(f"the textual IR has no form for {value!r}")
    parts = list[str]()
    for field in written_fields(type(value), spans):
        held = getattr(value, field.name)
        if field.default is MISSING:
            parts.append(write(held, spans))
        elif not is_default(field, held):
            parts.append(f"{field.name} = {write(held, spans)}")
    return f"{word}({', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its kind: text, number, word, sign, or end; `tight` where no space stands before it."""

    kind: str
    text: str
    tight: bool = False


END = Token("end", "the end of the line")


def tokens(line: str, number: int) -> Iterator[Token]:
    """The tokens of one line; TextError where there is none."""
    at, line = 0, line.rstrip()
    while at < len(line):
        found = _TOKEN.match(line, at)
        if found is None:
            raise TextError(number, f"{line[at:].strip()[:20]!r} is neither a word, a number, a text nor a sign")
        kind = found.lastgroup or ""
        yield Token(kind, found[kind], found.start(kind) == at)
        at = found.end()


class Scanner:
    """Reads the tokens of one line in order."""

    def __init__(self, line: str, number: int) -> None:
        self.number = number
        self._tokens = list(tokens(line, number))
        self._at = 0

    @property
    def next(self) -> Token:
        """The token at hand."""
        return self._tokens[self._at] if self._at < len(self._tokens) else END

    def fail(self, expected: str) -> TextError:
        """The error that something else was expected here."""
        return TextError(self.number, f"expected {expected}, found {self.next.text}")

    def take(self) -> Token:
        """The token at hand, and on to the next."""
        token = self.next
        self._at += 1
        return token

    def accept(self, text: str) -> bool:
        """Go over a sign or word if it is at hand."""
        if self.next.text != text or self.next.kind not in ("sign", "word"):
            return False
        self._at += 1
        return True

    def expect(self, text: str) -> None:
        """Go over a sign or word; TextError where something else stands."""
        if not self.accept(text):
            raise self.fail(f"`{text}`")

    def key(self) -> str:
        """A word before `=`, which is gone over too."""
        if self.next.kind not in ("word", "text"):
            raise self.fail("a name")
        name = self._text(self.take())
        self.expect("=")
        return name

    def value(self) -> Any:
        """One value."""
        token = self.take()
        if token.kind == "number":
            return float(token.text) if re.search(r"[.e]", token.text) else int(token.text)
        if token.kind == "text":
            return self._text(token)
        if token.kind == "word":
            return self._word(token)
        if token.text == "[":
            return tuple(self._items("]"))
        if token.text == "{":
            return tuple(self._pairs("}"))
        self._at -= 1
        raise self.fail("a value")

    def _word(self, token: Token) -> Any:
        if self.next.tight and self.next.text == "(":
            return self._record(token)
        if self.next.tight and self.next.text == "[":
            if token.text not in DTYPE_BYTES:
                raise TextError(self.number, f"`{token.text}` is no element type, there are {', '.join(DTYPE_BYTES)}")
            self.take()
            return TensorType(token.text, tuple(self._axis(*pair) for pair in self._pairs("]")))
        return WORDS.get(token.text, token.text)

    def _axis(self, name: str, extent: object) -> Axis:
        if isinstance(extent, int) and fits(extent, int):
            return Axis(name, extent)
        raise TextError(self.number, f"the extent of `{name}` cannot be {write(extent)}")

    def _record(self, token: Token) -> Any:
        type_ = RECORDS.get(token.text)
        if type_ is None:
            raise TextError(self.number, f"`{token.text}` is no record, there are {', '.join(RECORDS)}")
        self.take()
        given: dict[str, Any] = {}
        for field in written_fields(type_):
            if field.default is MISSING:
                given[field.name] = self.value()
                if self.next.text != ")":
                    self.expect(",")
        while not self.accept(")"):
            key = self.key()
            if key in given:
                raise TextError(self.number, f"`{key}` is given twice")
            given[key] = self.value()
            if self.next.text != ")":
                self.expect(",")
        return build(type_, given, self.number)

    def _items(self, end: str) -> Iterator[Any]:
        while not self.accept(end):
            yield self.value()
            if self.next.text != end:
                self.expect(",")

    def _pairs(self, end: str) -> Iterator[tuple[str, Any]]:
        while not self.accept(end):
            yield self.key(), self.value()
            if self.next.text != end:
                self.expect(",")

    def _text(self, token: Token) -> str:
        if token.kind == "word":
            return token.text
        try:
            found = json.loads(token.text)
        except ValueError as fault:
            raise TextError(self.number, f"{token.text} is no text: {fault}") from None
        return str(found)


def build(type_: type[Any], given: dict[str, Any], line: int) -> Any:
    """A dataclass from its fields; TextError for a field that is unknown, missing or of another type."""
    hints = _hints(type_)  # type: ignore[arg-type]  # mypy takes the class for an instance, which may not be hashable
    known = {field.name: field for field in written_fields(type_)}
    for name, value in given.items():
        if name not in known:
            raise TextError(line, f"{type_.__name__} has no `{name}`, it has {', '.join(known)}")
        if not fits(value, hints[name]):
            raise TextError(line, f"`{name}` of {type_.__name__} cannot be {write(value)}")
    missing = [name for name, field in known.items() if name not in given and field.default is MISSING]
    if missing:
        raise TextError(line, f"{type_.__name__} lacks {', '.join(missing)}")
    return type_(**given)


@cache
def _hints(type_: type[Any]) -> dict[str, Any]:
    return get_type_hints(type_)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type: classes, literals, unions and tuples of them."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
