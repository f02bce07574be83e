"""Functions for blocks that are alike: their statements are the same but for where their arrays lie, and for values.

Statements are a tree by the blocks that they belong to. From the innermost blocks outwards, those with the same
statements become one function; whatever instances differ in, arrays of other blocks and values, are its parameters. A
function that does not make the text shorter is none: its statements stand where it would be called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backends.numpy_mpi.mesh.statements import NUMBER, Expression, Key, Name, Ref, Statement, Token, Value, Words
from backends.numpy_mpi.mesh.tree import Path, dotted

GAP = 2
"""So many statements of others between those of a block count as the block's."""

MOST, MOST_OF_TABLES = 12, 24
"""So many parameters a function may have beside namespaces, and one that makes rows of a table."""

TABLE = "arrays"
"""The kind of trees whose statements are rows of a table."""

SPACES = ("a", "w", "g", "s")
RUNTIME = ("at", "place")
OVERHEAD = 4
"""Lines that a function has beside its statements."""


@dataclass(slots=True, eq=False)
class Node:
    """A block's statements in one segment, and its blocks'; `function` is set once it is known to be called."""

    path: Path
    kind: str
    items: list[Statement | Node]
    number: int = 0
    body: list[Statement] = field(default_factory=list)
    call: Statement | None = None

    @property
    def height(self) -> int:
        """How deep blocks lie in it."""
        return 1 + max((item.height for item in self.items if isinstance(item, Node)), default=0)

    def nodes(self) -> Iterator[Node]:
        """It and all blocks in it, outermost first."""
        yield self
        for item in self.items:
            if isinstance(item, Node):
                yield from item.nodes()


@dataclass(frozen=True, slots=True)
class Function:
    """One function for several instances of a block: its body is written for the block at `path`."""

    name: str
    path: Path
    parameters: tuple[str, ...]
    body: tuple[Statement, ...]
    instances: tuple[Path, ...]
    kind: str


def tree(path: Path, kind: str, located: Sequence[tuple[Path, Statement]]) -> Node:
    """The statements of a segment by block."""
    items: list[Statement | Node] = []
    at = 0
    while at < len(located):
        step = _step(path, located[at][0])
        if step is None:
            items.append(located[at][1])
            at += 1
            continue
        end = _end(path, step, located, at)
        items.append(tree((*path, step), kind, located[at:end]))
        at = end
    return Node(path, kind, items)


def _step(path: Path, of: Path) -> str | int | None:
    """The next step from a block towards one that lies in it; None for itself and for any other."""
    return of[len(path)] if len(of) > len(path) and of[: len(path)] == path else None


def _end(path: Path, step: str | int, located: Sequence[tuple[Path, Statement]], start: int) -> int:
    """Where the statements of a block end: some of others may stand between them."""
    end = at = start + 1
    while at < len(located) and at - end <= GAP:
        at += 1
        if _step(path, located[at - 1][0]) == step:
            end = at
    return end


@dataclass(slots=True)
class Folding:
    """Finds the functions of several trees. `titles` has by block what it is called in the spec."""

    roots: Sequence[Node]
    titles: Mapping[Path, str]
    functions: list[Function] = field(default_factory=list)

    def __post_init__(self) -> None:
        nodes = [node for root in self.roots for node in root.nodes()]
        for number, node in enumerate(nodes):
            node.number = number
        refused: set[int] = set()
        while True:
            firsts = self._fold(nodes, refused)
            useless = self._useless(firsts)
            if not useless:
                return
            refused |= useless

    def _fold(self, nodes: Sequence[Node], refused: set[int]) -> dict[str, int]:
        """Functions but those whose first instance is refused: function -> number of its first instance."""
        self.functions, firsts = [], {}
        for height in range(1, 1 + max(node.height for node in nodes)):
            level = [node for node in nodes if node.height == height]
            for node in level:
                node.body, node.call = list(_flat(node)), None
            alike: dict[object, list[Node]] = {}
            for node in level:
                if node.path and not _repeats(node) and len(node.body) > 1:
                    alike.setdefault(tuple(_shape(statement, node.path) for statement in node.body), []).append(node)
            for group in alike.values():
                several = len({node.path for node in group}) > 1
                if several and group[0].number not in refused:
                    function = self._function(group)
                    if function is not None:
                        self.functions.append(function)
                        firsts[function.name] = group[0].number
        return firsts

    def _useless(self, firsts: Mapping[str, int]) -> set[int]:
        """The functions that make the text no shorter: those that are called once, else the first that is none."""
        calls = Counter[str]()
        known = {function.name: function for function in self.functions}
        bodies = [root.body for root in self.roots] + [list(function.body) for function in self.functions]
        lengths: dict[str, int] = {}
        for statement in (statement for body in bodies for statement in body):
            if statement.calls:
                calls[statement.calls] += 1
                lengths[statement.calls] = len(statement.lines(()))
        once = {firsts[name] for name in known if calls[name] <= 1}
        if once:
            return once
        for name, function in known.items():
            length = sum(len(statement.lines(function.path)) for statement in function.body)
            if calls[name] * (length - lengths[name]) <= length + OVERHEAD:
                return {firsts[name]}
        return set()

    def _function(self, group: Sequence[Node]) -> Function | None:
        """What nodes with the same statements have in common, with the call that stands for each."""
        first = group[0]
        parameters = _Parameters([node.path for node in group])
        body = tuple(parameters.unified([node.body[at] for node in group]) for at in range(len(first.body)))
        if len(parameters.names) > (MOST_OF_TABLES if first.kind == TABLE else MOST):
            return None
        text = [token for statement in body for expression in statement.expressions for token in expression]
        spaces = [s for s in SPACES if any(isinstance(token, Ref) and token.space == s for token in text)]
        told = [n for n in RUNTIME if any(isinstance(token, str) and re.search(rf"\b{n}\b", token) for token in text)]
        name = self._name(group)
        for at, node in enumerate(group):
            arguments: list[Expression] = [(Ref(space, node.path),) for space in spaces]
            arguments += [(each,) for each in told]
            arguments += [_argument(title, vector[at]) for vector, title in parameters.ordered]
            row = (Key(node.path), f": {name}") if first.kind == TABLE else (name,)
            node.call = Statement(row, tuple(arguments), "," if first.kind == TABLE else "", calls=name)
        names = tuple(title for _, title in parameters.ordered)
        return Function(
            name, first.path, (*spaces, *told, *names), body, tuple(node.path for node in group), first.kind
        )

    def _name(self, group: Sequence[Node]) -> str:
        """By what the block is called in the spec, else in its address, and by the pass."""
        titles = dict.fromkeys(self.titles.get(node.path) or _last(node.path) for node in group)
        plain = f"{next(iter(titles))}_{group[0].kind}"
        name, number = plain, 2
        while any(function.name == name for function in self.functions):
            name, number = f"{plain}_{number}", number + 1
        return name


def _last(path: Path) -> str:
    return next(step for step in reversed(path) if isinstance(step, str))


def _flat(node: Node) -> Iterator[Statement]:
    """The statements of a block, with calls for the blocks in it that have a function."""
    for item in node.items:
        if isinstance(item, Statement):
            yield item
        elif item.call is not None:
            yield item.call
        else:
            yield from item.body


def _repeats(node: Node) -> bool:
    """Whether it is nothing but a row of numbered blocks."""
    return any(isinstance(item, Node) and isinstance(item.path[-1], int) for item in node.items) and all(
        isinstance(item, Statement) or len(item.path) == len(node.path) + 1 for item in node.items
    )


def _shape(statement: Statement, block: Path) -> object:
    """What statements of alike blocks agree in."""
    return tuple(tuple(_mark(token, block) for token in expression) for expression in statement.expressions)


def _mark(token: Token, block: Path) -> object:
    match token:
        case Ref() if token.inside(block):
            return (token.space, token.path[len(block) :], token.name)
        case Key() if token.inside(block):
            return (token.space, token.path[len(block) :], token.name)
        case Ref() | Key():
            return "another's"
        case Words(pieces=pieces):
            return tuple(piece if isinstance(piece, str) else "number" for piece in pieces)
        case Value(title=title, kind=kind):
            return (title, kind)
    return token


def _argument(title: str, token: Token) -> Expression:
    """What a call passes: values by name, so that in calls of calls they are called the same."""
    if isinstance(token, Value):
        return f"{title}=", replace(token, title=title.rstrip("0123456789"))
    return (token,)


@dataclass(slots=True)
class _Parameters:
    """The parameters of a function for blocks at these paths: what each stands for in every instance -> its name."""

    paths: Sequence[Path]
    names: dict[tuple[Token, ...], str] = field(default_factory=dict)

    @property
    def ordered(self) -> list[tuple[tuple[Token, ...], str]]:
        """Arrays first, then values, which calls name."""
        return sorted(self.names.items(), key=lambda item: isinstance(item[0][0], Value))

    def unified(self, alike: Sequence[Statement]) -> Statement:
        """One statement for those of all instances."""
        first = alike[0]
        rows = zip(*(statement.expressions for statement in alike), strict=True)
        found = [tuple(self._token(tokens) for tokens in zip(*row, strict=True)) for row in rows]
        arguments = None if first.arguments is None else tuple(found[1:])
        notes = {statement.note for statement in alike}
        return replace(first, head=found[0], arguments=arguments, note=first.note if len(notes) == 1 else "")

    def _token(self, tokens: tuple[Token, ...]) -> Token:
        first = tokens[0]
        match first:
            case str():
                return first
            case Ref() | Key() if first.inside(self.paths[0]):
                return first
            case Words():
                pieces = zip(*(token.pieces for token in tokens if isinstance(token, Words)), strict=True)
                found = [self._token(row) for row in pieces]
                named = zip(found, first.pieces, strict=True)
                return Words(tuple(Name(new) if isinstance(new, str) and new != old else old for new, old in named))
            case Value() if len({token.text for token in tokens if isinstance(token, Value)}) == 1:
                return first
        return self._named(first, tuple(_plain(token) for token in tokens))

    def _named(self, first: Ref | Key | Value, vector: tuple[Token, ...]) -> str:
        """The name of the parameter for what differs so."""
        if vector not in self.names:
            plain = first.title if isinstance(first, Value) else first.role if isinstance(first, Ref) else "of"
            name, number = plain, 2
            while name in self.names.values():
                name, number = f"{plain}{number}", number + 1
            self.names[vector] = name
        return self.names[vector]


def _title(value: Value) -> str:
    """What keeps values apart that are the same in all instances: numbers, whatever they count, are one."""
    return "" if value.kind == NUMBER else value.title


def _plain(token: Token) -> Token:
    """A token without what it is called."""
    match token:
        case Ref():
            return replace(token, role="x")
        case Value():
            return replace(token, kind=token.kind if token.kind == NUMBER else "", title=_title(token))
    return token


def described(function: Function) -> str:
    """Where a function is used: `stem.conv_bn`, `stage1[0].main.reduce` and 51 others."""
    places = list(dict.fromkeys(dotted(path) for path in function.instances))
    more = len(places) - 2
    named = ", ".join(f"`{place}`" for place in places[: 2 if more > 1 else 3])
    return f"{named} and {more} others" if more > 1 else named
