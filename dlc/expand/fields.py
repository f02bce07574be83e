"""What a setting's key takes: the kinds of values, their ranges, and how what is written becomes one.

Quantities become SI units: bytes, bytes per second, FLOP per second, seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dlc.expand.evaluate import Entity
from dlc.ir.training import Argument
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


def numbers(argument: Argument) -> tuple[int | float, ...]:
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


CONVERSIONS: Mapping[Kind, Callable[[Field, Entity], Argument]] = {
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
