"""Reading the settings of a block, and arguments with fixed names, by what each key takes (`fields.py`).

A block such as `device` or `train` knows a list of `Field`s. `Reader` binds what is written to them: it refuses unknown
and repeated keys, values of another kind, numbers out of range, and quantities of the wrong dimension, each with the
message of the reader's family.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from posixpath import normpath

from dlc.diagnostics import Diagnostics, Label, Message, Span, similar
from dlc.expand.evaluate import UNKNOWN, Entity, Evaluator, Scope, described
from dlc.expand.fields import CONVERSIONS, EXAMPLES, Field, listed, numbers
from dlc.ir.training import Argument, Arguments, Choice
from dlc.messages.e02_names import WORD_READ_AS
from dlc.syntax import ast
from dlc.units import KIND_WORDS, in_si


def similar_help(name: str, candidates: Iterable[str], what: str) -> tuple[str, ...]:
    """The helps of a message about an unknown name: the nearest one, and all."""
    known = tuple(candidates)
    near = name.lower() if name.lower() in known else similar(name, known)
    helps: tuple[str, ...] = (f"there is {what} with a similar name: `{near}`",) if near else ()
    return (*helps, f"known names: {listed(known)}") if known else helps


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
        found = CONVERSIONS[field.kind](field, value)
        if found is None:
            self._refuse_kind(field, value, span)
        elif not all(isfinite(number) and field.holds(number) for number in numbers(found)):
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
