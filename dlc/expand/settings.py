"""Settings and arguments with fixed names: what each key takes, and reading a block's settings by that schema.

A block such as `device` or `train` knows a list of `Field`s. `Reader` binds what is written to them: it refuses unknown
and repeated keys, values of another kind, numbers out of range, and quantities of the wrong dimension, each with the
message of the reader's family. Quantities become SI units: bytes, bytes per second, FLOP per second, seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from posixpath import normpath
from typing import Literal

from dlc.diagnostics import Diagnostics, Label, Message, Span, similar
from dlc.expand.evaluate import UNKNOWN, Entity, Evaluator, Scope, described
from dlc.ir.training import Argument, Arguments, Choice
from dlc.messages.e02_names import WORD_READ_AS
from dlc.ops.operator import Parameter
from dlc.syntax import ast
from dlc.units import KIND_WORDS, in_si

Kind = Literal[
    "count", "number", "flag", "word", "name", "path", "list", "window", "length", "size", "rate", "compute", "time"
]
"""How a value is read. `word` is one of the choices, `name` any bare word or text, `window` extents such as `4x4`,
`length` a count of epochs or steps (kept as `(5, "epochs")`), `list` a list of numbers and words,
`path` a quoted path inside the root folder; `size`, `rate`,
`compute` (FLOP/s) and `time` are quantities.
"""

EXAMPLES: Mapping[str, str] = {
    "size": "4 GiB",
    "rate": "10 GB/s",
    "compute": "50 GFLOP/s",
    "time": "2 us",
    "length": "5 epochs",
}
"""The kinds that are quantities, each with an example."""

WORDS: Mapping[str, str] = {
    **{str(kind): words for kind, words in KIND_WORDS.items()},
    "count": "a whole number",
    "number": "a number",
    "flag": "`yes` or `no`",
    "name": "a name",
    "path": "a quoted path",
    "list": "a list",
    "window": "extents such as `4x4`",
    "length": "a length such as `5 epochs` or `2000 steps`",
}
"""How messages call each kind."""


def listed(words: Iterable[str]) -> str:
    """`a`, `b`, `c`."""
    return ", ".join(f"`{word}`" for word in words)


def similar_help(name: str, candidates: Iterable[str], what: str) -> tuple[str, ...]:
    """The helps of a message about an unknown name: the nearest one, and all."""
    known = tuple(candidates)
    near = name.lower() if name.lower() in known else similar(name, known)
    helps: tuple[str, ...] = (f"there is {what} with a similar name: `{near}`",) if near else ()
    return (*helps, f"known names: {listed(known)}") if known else helps


@dataclass(frozen=True, slots=True)
class Field:
    """One key: what it takes, and what it is where it is not given.

    `choices` are the words that it takes, besides values of its kind (a `word` takes nothing else). `minimum` and
    `maximum` are included in the range, `above` and `below` are not.
    """

    key: str
    kind: Kind
    default: Argument = None
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def expected(self) -> str:
        """What it takes, in words: a whole number or `auto`."""
        if self.kind == "word":
            return f"one of {listed(self.choices)}"
        return " or ".join((WORDS[self.kind], *(f"`{choice}`" for choice in self.choices)))

    @property
    def allowed(self) -> str:
        """Its range in words: `at least 0 and below 1`."""
        bounds = (("at least", self.minimum), ("above", self.above), ("at most", self.maximum), ("below", self.below))
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range."""
        return not (
            (self.minimum is not None and value < self.minimum)
            or (self.above is not None and value <= self.above)
            or (self.maximum is not None and value > self.maximum)
            or (self.below is not None and value >= self.below)
        )


def field_of(parameter: Parameter) -> Field:
    """The field for an argument that an operator, a schedule or a data set declares."""
    default = parameter.default
    assert default is None or isinstance(default, int | float | str | tuple)
    return Field(
        parameter.name,
        _KINDS[parameter.kind],
        tuple(item for item in default if isinstance(item, str)) if isinstance(default, tuple) else default,
        parameter.required,
        parameter.choices,
        minimum=parameter.minimum,
        above=parameter.above,
        below=parameter.below,
    )


_KINDS: Mapping[str, Kind] = {
    "int": "count",
    "number": "number",
    "bool": "flag",
    "choice": "word",
    "length": "length",
    "text": "path",
    "list": "list",
}


@dataclass(frozen=True, slots=True)
class Wording:
    """The messages of one family for what can be wrong with a setting, whatever the block."""

    unknown: Message
    missing: Message
    twice: Message
    kind: Message
    choice: Message
    range: Message
    outside: Message | None = None  # for paths


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads settings and arguments in one scope; what is wrong goes to `diagnostics`, and the result is then None."""

    scope: Scope
    diagnostics: Diagnostics
    wording: Wording

    def taken(self, expr: ast.Expr) -> ast.Expr | None:
        """The expression itself, or the branch that an `if` takes; None where its condition is refused."""
        return self._evaluator.branch(expr)

    def evaluate(self, expr: ast.Expr) -> Entity:
        """What an expression stands for where bare words stand for themselves; UNKNOWN where it is refused."""
        return self._evaluator.evaluate(expr)

    @property
    def _evaluator(self) -> Evaluator:
        return Evaluator(Scope(self.scope.where, {}, self.scope, words=True), self.diagnostics.add)

    def collect(self, settings: Iterable[ast.Setting], keys: Sequence[str], where: str) -> dict[str, ast.Setting]:
        """Key -> its setting; keys that `where` does not know, and repetitions, are refused and left out."""
        found: dict[str, ast.Setting] = {}
        for setting in settings:
            if setting.key not in keys:
                self._unknown(where, "setting", setting.key, setting.key_span, keys)
            elif setting.key in found:
                self._twice(where, setting.key, setting.key_span, found[setting.key].key_span)
            else:
                found[setting.key] = setting
        return found

    def fill(
        self, fields: Sequence[Field], given: Mapping[str, ast.Expr], where: str, span: Span, what: str = "setting"
    ) -> Arguments | None:
        """All fields with their values, defaults filled in; None where one is missing or refused."""
        values: list[tuple[str, Argument]] = []
        refused = False
        for field in fields:
            value = self.read(field, given[field.key]) if field.key in given else field.default
            if field.key not in given and field.required:
                notes = (f"it is called as {_signature(where, fields)}",) if what == "argument" else ()
                self.diagnostics.add(self.wording.missing.at(span, where=where, what=what, key=field.key, notes=notes))
            refused |= value is None and (field.key in given or field.required)
            values.append((field.key, value))
        return None if refused else tuple(values)

    def choice(self, what: str, expr: ast.Expr, schemas: Mapping[str, Sequence[Field]]) -> Choice | None:
        """A bare name or a call of one of the schemas, such as `sgd(momentum = 0.9)`; `what` says `an optimizer`."""
        call = self.call(what, expr, schemas)
        if call is None:
            return None
        name, given, span = call
        arguments = self.fill(schemas[name], given, f"`{name}`", span, "argument")
        return None if arguments is None else Choice(name, arguments, span)

    def call(
        self, what: str, expr: ast.Expr, schemas: Mapping[str, Sequence[Field]]
    ) -> tuple[str, dict[str, ast.Expr], Span] | None:
        """The name of a choice, its arguments by name, not yet read, and its span."""
        taken = self.taken(expr)
        if taken is None:
            return None
        if not isinstance(taken, ast.Name | ast.Call):
            known = (f"known names: {listed(schemas)}",)
            if isinstance(taken, ast.Text) and taken.value in schemas:
                known = (f"words stand without quotes: `{taken.value}`",)
            found = described(self.evaluate(taken)) if isinstance(taken, ast.Number | ast.Text | ast.ListOf) else "this"
            self.diagnostics.add(self.wording.choice.at(taken.span, found=found, what=what, helps=known))
            return None
        name, name_span = (taken.text, taken.span) if isinstance(taken, ast.Name) else (taken.callee, taken.callee_span)
        if name not in schemas:
            helps = similar_help(name, schemas, what)
            self.diagnostics.add(self.wording.choice.at(name_span, found=f"`{name}`", what=what, helps=helps))
            return None
        if isinstance(taken, ast.Name):
            self._warn_of_parameter(taken, what)
        arguments = taken.arguments if isinstance(taken, ast.Call) else ()
        given = self._bind(name, arguments, [field.key for field in schemas[name]])
        return None if given is None else (name, given, taken.span)

    def read(self, field: Field, expr: ast.Expr) -> Argument:
        """One value; None where it is refused."""
        taken = self.taken(expr)
        if taken is None:
            return None
        if isinstance(taken, ast.Name) and (taken.text in field.choices or field.kind == "name"):
            self._warn_of_parameter(taken, f"a value of `{field.key}`")
            return taken.text
        if field.kind == "path" and isinstance(taken, ast.Attribute):
            self._refuse_kind(field, ast.Name(_dotted(taken), taken.span), taken.span)
            return None
        value = self.evaluate(taken)
        return None if value is UNKNOWN else self.convert(field, value, taken.span)

    def convert(self, field: Field, value: Entity, span: Span) -> Argument:
        """A value that was evaluated elsewhere, by the field's kind and range; None where it is refused."""
        if isinstance(value, str) and field.kind == "name":
            return value
        if isinstance(value, ast.Name) and (value.text in field.choices or field.kind == "name"):
            return value.text
        if isinstance(value, ast.Name) and field.kind == "word":
            helps = similar_help(value.text, field.choices, "a word")
            what = f"a value of `{field.key}`"
            self.diagnostics.add(self.wording.choice.at(span, found=f"`{value.text}`", what=what, helps=helps))
            return None
        found = _CONVERSIONS[field.kind](field, value)
        if found is None:
            self._refuse_kind(field, value, span)
        elif not all(isfinite(number) and field.holds(number) for number in _numbers(found)):
            allowed = field.allowed or "finite"
            self.diagnostics.add(self.wording.range.at(span, key=field.key, allowed=allowed, found=shown(value)))
        elif field.kind == "path" and self.wording.outside is not None and leaves_root(str(found)):
            self.diagnostics.add(self.wording.outside.at(span, path=found, helps=("write a path inside that folder",)))
        else:
            return found
        return None

    def _warn_of_parameter(self, word: ast.Name, kind: str) -> None:
        """Say which meaning a bare word has where a parameter bears the same name (W0201)."""
        if self.scope.find(word.text) is not None:
            self.diagnostics.add(WORD_READ_AS.at(word.span, name=word.text, kind=kind))

    def _bind(self, name: str, arguments: Iterable[ast.Argument], keys: Sequence[str]) -> dict[str, ast.Expr] | None:
        """Arguments by name: positional ones in the order of `keys`."""
        found: dict[str, ast.Argument] = {}
        refused, position = False, 0
        for argument in arguments:
            key = argument.name
            if key is None:
                position += 1
                key = keys[position - 1] if position <= len(keys) else f"{position}"
            if key not in keys:
                self._unknown(f"`{name}`", "argument", key, argument.span, keys)
            elif key in found:
                self._twice(f"`{name}`", key, argument.span, found[key].span)
            else:
                found[key] = argument
                continue
            refused = True
        return None if refused else {key: argument.value for key, argument in found.items()}

    def _unknown(self, where: str, what: str, key: str, span: Span, keys: Sequence[str]) -> None:
        shown_key = key if key.isdigit() else f"`{key}`"
        helps = similar_help(key, keys, "one") or (f"{where} takes no {what}s",)
        self.diagnostics.add(self.wording.unknown.at(span, where=where, what=what, key=shown_key, helps=helps))

    def _twice(self, where: str, key: str, span: Span, first: Span) -> None:
        message = self.wording.twice.at(span, secondary=(Label(first, "first here"),), where=where, key=key)
        self.diagnostics.add(message)

    def _refuse_kind(self, field: Field, value: Entity, span: Span) -> None:
        helps: tuple[str, ...] = ()
        found = f"{described(value)} is not"
        if isinstance(value, ast.Quantity):
            found = f"`{shown(value)}` is {KIND_WORDS[in_si(value.value, value.unit).kind]}"
        elif field.kind in EXAMPLES and isinstance(value, int | float) and not isinstance(value, bool):
            found = f"`{shown(value)}` has no unit"
            helps = (f"write it with its unit, such as `{EXAMPLES[field.kind]}`",)
        elif isinstance(value, str) and value in field.choices:
            helps = (f"words stand without quotes: `{value}`",)
        elif isinstance(value, ast.Name) and field.kind == "path":
            helps = (f'a path stands in quotes: `"{value.text}"`',)
        message = self.wording.kind.at(span, key=field.key, expected=field.expected, found=found, helps=helps)
        self.diagnostics.add(message)


def _dotted(expression: ast.Expr) -> str:
    """`alice.txt`, which is an attribute where it stands without quotes."""
    match expression:
        case ast.Name(text):
            return text
        case ast.Attribute(value, name):
            return f"{_dotted(value)}.{name}"
    return "…"


def _signature(name: str, fields: Iterable[Field]) -> str:
    """How a choice is written: `text(file, seq, test = …)`; `name` stands in backticks."""
    written = ", ".join(field.key if field.required else f"{field.key} = …" for field in fields)
    return f"`{name.strip('`')}({written})`"


def leaves_root(path: str) -> bool:
    """Whether a path leads out of the folder that it is relative to, going by its text alone."""
    return path.startswith(("/", "\\", "~")) or ":" in path or normpath(path).split("/")[0] == ".."


def shown(value: Entity) -> str:
    """A value as it may stand in a file."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.15g}"
        case ast.Quantity(number, unit):
            return f"{shown(number)} {unit}"
        case ast.Window(extents):
            return "x".join(map(str, extents))
        case ast.Name(text):
            return text
        case tuple():
            return f"[{', '.join(map(shown, value))}]"
    return str(value)


def _numbers(argument: Argument) -> tuple[int | float, ...]:
    """The numbers of an argument, which its field's range bounds."""
    items = argument if isinstance(argument, tuple) else (argument,)
    return tuple(item for item in items if isinstance(item, int | float) and not isinstance(item, bool))


def _quantity(field: Field, value: Entity) -> Argument:
    if not isinstance(value, ast.Quantity):
        return None
    try:
        found = in_si(value.value, value.unit)
    except OverflowError:
        return float("inf")
    if found.kind != field.kind:
        return None
    return found.value if field.kind == "size" else float(found.value)


def _length(_field: Field, value: Entity) -> Argument:
    if not isinstance(value, ast.Quantity) or not isinstance(value.value, int):
        return None
    return {"epoch": (value.value, "epochs"), "step": (value.value, "steps")}.get(in_si(1, value.unit).base)


def _count(_field: Field, value: Entity) -> Argument:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(_field: Field, value: Entity) -> Argument:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _flag(_field: Field, value: Entity) -> Argument:
    return value if isinstance(value, bool) else None


def _path(_field: Field, value: Entity) -> Argument:
    return value if isinstance(value, str) else None


def _window(_field: Field, value: Entity) -> Argument:
    if isinstance(value, ast.Window):
        return value.extents
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else None


def _list(field: Field, value: Entity) -> Argument:
    """Words that are among the choices where there are any, and numbers."""
    items = tuple(item.text if isinstance(item, ast.Name) else item for item in _items(value))
    known = all(not isinstance(item, str) or item in field.choices for item in items) if field.choices else True
    plain = tuple(item for item in items if isinstance(item, int | float | str))
    return plain if isinstance(value, tuple) and known and len(plain) == len(items) else None


def _items(value: Entity) -> tuple[Entity, ...]:
    return value if isinstance(value, tuple) else ()


def _word(_field: Field, _value: Entity) -> Argument:
    return None


_CONVERSIONS: Mapping[Kind, Callable[[Field, Entity], Argument]] = {
    "count": _count,
    "number": _number,
    "flag": _flag,
    "word": _word,
    "name": _word,
    "path": _path,
    "list": _list,
    "window": _window,
    "length": _length,
    "size": _quantity,
    "rate": _quantity,
    "compute": _quantity,
    "time": _quantity,
}
"""Kind -> how a value becomes an argument; None where it is of another kind."""
