"""Statements of train.py before they are text: what they name is known, so that those of alike blocks can be one.

A statement reads the same in every instance of a block where its arrays are at the same place of the instance. What
differs, arrays of others and numbers, becomes a parameter of the block's function.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from backends.numpy_mpi.mesh.tree import Path, dotted
from backends.numpy_mpi.text import WIDTH, call, comment, literal


@dataclass(frozen=True, slots=True)
class Ref:
    """An array, or without a name the namespace of a block; `role` says what it is to the statement: `x`, `dy`."""

    space: str
    path: Path
    name: str = ""
    role: str = "x"

    def inside(self, block: Path) -> bool:
        """Whether it lies in a block."""
        return self.path[: len(block)] == block

    def text(self, block: Path) -> str:
        """How it is called in a block that it lies in: `a.main.relu`."""
        within = dotted(self.path[len(block) :], self.name)
        if not within:
            return self.space
        return f"{self.space}{within}" if within.startswith("[") else f"{self.space}.{within}"


@dataclass(frozen=True, slots=True)
class Value:
    """What instances may differ in: a literal, a kernel; `title` is what a parameter for it would be called.

    Only values of one `kind` stand for each other.
    """

    text: str
    title: str
    kind: str = ""


TRAINING, INFERENCE = "training", "inference"
"""The modes of statements that only one of both has."""

NUMBER, KERNEL = "number", "kernel"
"""Kinds of values: whatever numbers count, equal ones are one parameter; kernels of one op and pass are alike."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a row of a table is called, or calls another row: by namespace, unless that is understood.

    It is that of arrays called `also`, too.
    """

    path: Path
    name: str = ""
    space: str = ""
    also: tuple[str, ...] = ()

    def inside(self, block: Path) -> bool:
        """Whether it lies in a block."""
        return self.path[: len(block)] == block

    def text(self, block: Path) -> str:
        """As it stands in the table of a block, or of any other."""
        within = dotted(self.path[len(block) :] if self.inside(block) else self.path, self.name)
        return literal(" ".join((f"{self.space}.{within}" if self.space else within, *self.also)))


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter in a string."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """A string with numbers that instances may differ in."""

    pieces: tuple[str | Value | Name, ...]

    @property
    def text(self) -> str:
        """The literal."""
        formatted = any(isinstance(piece, Name) for piece in self.pieces)
        inner = "".join(
            f"{{{piece.text}}}" if isinstance(piece, Name) else piece if isinstance(piece, str) else piece.text
            for piece in self.pieces
        )
        return f"{'f' if formatted else ''}{literal(inner)}"


Token = str | Ref | Value | Key | Words
Expression = tuple[Token, ...]


Keywords = tuple[tuple[str, Token], ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """What a statement is repeated for: `for weight, gradient in each` over these arguments."""

    head: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A call, or without arguments what its head says; `tail` ends it, `note` is a comment behind it.

    `keywords` are arguments that instances may have or not; `options` are further ones in a dictionary of that name.
    `calls` names the function of a block that it calls, `loop` stands before it.
    Rows of numbered blocks that are the same but for their `numbers` are one. `mode` says when it is made, "" always.
    """

    head: Expression
    arguments: tuple[Expression, ...] | None = None
    keywords: Keywords = ()
    options: str = ""
    tail: str = ""
    note: str = ""
    calls: str = ""
    loop: Loop | None = None
    numbers: tuple[int, ...] = ()
    mode: str = ""

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Its head and its arguments, but for keywords."""
        return (self.head, *(self.arguments or ()))

    def tokens(self) -> Iterator[Token]:
        """All that it consists of."""
        for expression in self.expressions:
            yield from expression
        yield from (token for _, token in self.keywords)

    def lines(self, block: Path, indent: int = 4) -> list[str]:
        """As text in a block's function."""
        head = written(self.head, block)
        if self.loop:
            inner = replace(self, loop=None).lines(block, indent + 4)
            return [*call(self.loop.head, self.loop.arguments, indent, ":").split("\n"), *inner]
        if self.arguments is None:
            lines = [f"{' ' * indent}{head}{self.tail}"]
        else:
            arguments = [written(each, block) for each in self.arguments]
            arguments += [f"{name}={written((token,), block)}" for name, token in self.keywords]
            arguments += [f"**{self.options}"] if self.options else []
            lines = call(head, arguments, indent, self.tail).split("\n")
        if self.note and len(lines[-1]) + 4 + len(self.note) <= WIDTH:
            lines[-1] += f"  # {self.note}"
        elif self.note:
            lines.insert(0, comment(self.note, indent))
        return lines


def written(expression: Expression, block: Path) -> str:
    """An expression as text."""
    return "".join(_written(token, block) for token in expression)


def _written(token: Token, block: Path) -> str:
    match token:
        case str():
            return token
        case Value() | Words():
            return token.text
    return token.text(block)


def listed(expressions: Iterable[Expression]) -> Expression:
    """Expressions one behind the other with commas between them."""
    found: list[Token] = []
    for expression in expressions:
        found += [*([", "] if found else []), *expression]
    return tuple(found)
