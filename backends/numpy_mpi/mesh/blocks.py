"""Functions for blocks that are alike: their statements are the same but for where their arrays lie, and for values.

Statements are a tree by the blocks that they belong to. From the innermost blocks outwards, those with the same
statements become one function; whatever instances differ in, arrays of other blocks and values, are its parameters. A
function that does not make the text shorter is none: its statements stand where it would be called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backends.numpy_mpi.mesh.bodies import lines
from backends.numpy_mpi.mesh.parameters import Parameters
from backends.numpy_mpi.mesh.statements import Expression, Key, Ref, Statement, Token, Value, Words
from backends.numpy_mpi.mesh.tree import Path, dotted

GAP = 2
"""So many statements of others between those of a block count as the block's."""

MOST, MOST_OF_TABLES = 12, 24
"""So many parameters a function may have beside namespaces, and one that makes rows of a table."""

TABLE = "arrays"
"""The kind of trees whose statements are rows of a table."""

SPACES = ("a", "w", "g", "s")
RUNTIME = ("at", "place", "training")
OVERHEAD = 4
"""Lines that a function has beside its statements."""


@dataclass(slots=True, eq=False)
class Node:
    """A block's statements in one segment, and its blocks'; `call` is set once it is known to have a function.

    `mode` is that of all its statements, which then have none themselves.
    """

    path: Path
    kind: str
    items: list[Statement | Node]
    number: int = 0
    body: list[Statement] = field(default_factory=list)
    call: Statement | None = None
    mode: str = ""

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
    """One function for several instances of a block: its body is written for the block at `path`.

    `defaults` are what parameters are in most of its calls, which do not say it.
    """

    name: str
    path: Path
    parameters: tuple[str, ...]
    defaults: Mapping[str, str]
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
    """Finds the functions of several trees.

    `titles` has by block what it is called in the spec; no function is named like those that the text imports.
    """

    roots: Sequence[Node]
    titles: Mapping[Path, str]
    imported: Collection[str] = ()
    functions: list[Function] = field(default_factory=list)
    _bodies: dict[tuple[str, Path], list[Statement]] = field(default_factory=dict)  # by function and block

    def __post_init__(self) -> None:
        nodes = [node for root in self.roots for node in root.nodes()]
        for number, node in enumerate(nodes):
            node.number = number
        levels: dict[int, list[Node]] = {}
        for node in nodes:
            levels.setdefault(node.height, []).append(node)
        refused: set[int] = set()
        while True:
            firsts = self._fold([levels[height] for height in sorted(levels)], refused)
            useless = self._useless(firsts)
            if not useless:
                return
            refused |= useless

    def _fold(self, levels: Sequence[Sequence[Node]], refused: set[int]) -> dict[str, int]:
        """Functions but those whose first instance is refused: function -> number of its first instance.

        Levels are nodes by how deep blocks lie in them, the innermost first.
        """
        self.functions, self._bodies, firsts = [], {}, {}
        for level in levels:
            for node in level:
                node.body, node.call, node.mode = list(_flat(node)), None, ""
                modes = {statement.mode for statement in node.body}
                if node.path and len(modes) == 1:
                    (node.mode,) = modes
                    node.body = [replace(statement, mode="") for statement in node.body]
            alike: dict[object, list[Node]] = {}
            for node in level:
                if node.path and not _repeats(node) and len(node.body) > 1:
                    alike.setdefault(tuple(_shape(statement, node.path) for statement in node.body), []).append(node)
            for group in alike.values():
                if group[0].number not in refused:
                    function = self._function(group)
                    if function is not None:
                        self.functions.append(function)
                        firsts[function.name] = group[0].number
        self._leave_out()
        return firsts

    def _leave_out(self) -> None:
        """Calls do not say what is the default."""
        defaults = {function.name: function.defaults for function in self.functions}
        for root in self.roots:
            root.body = [_short(statement, defaults) for statement in root.body]
        self.functions = [
            replace(function, body=tuple(_short(statement, defaults) for statement in function.body))
            for function in self.functions
        ]

    def _useless(self, firsts: Mapping[str, int]) -> set[int]:
        """Functions that do not make the text shorter: all of no use at all, else the first that is none.

        The statements of a block are longer where they stand in the function of another, whose paths are longer.
        """
        bodies = [(root.path, root.body) for root in self.roots]
        bodies += [(function.path, list(function.body)) for function in self.functions]
        saved, calls = Counter[str](), Counter[str]()
        for block, body in bodies:
            for statement in body:
                if statement.calls:
                    calls[statement.calls] += 1
                    inline = self._bodies[statement.calls, _place(statement)]
                    saved[statement.calls] += _length(inline, block) - _length([statement], block)
        useless = [f for f in self.functions if saved[f.name] <= _length(f.body, f.path) + OVERHEAD]
        never = {firsts[function.name] for function in useless if calls[function.name] <= 1}
        return never or {firsts[function.name] for function in useless[:1]}

    def _function(self, group: Sequence[Node]) -> Function | None:
        """What nodes with the same statements have in common, with the call that stands for each."""
        first = group[0]
        found = Parameters([node.path for node in group])
        body = tuple(found.unified([node.body[at] for node in group]) for at in range(len(first.body)))
        if len(found.names) > (MOST_OF_TABLES if first.kind == TABLE else MOST):
            return None
        tokens = [token for statement in body for token in statement.tokens()]
        spaces = [s for s in SPACES if any(isinstance(token, Ref) and token.space == s for token in tokens)]
        told = [n for n in RUNTIME if any(isinstance(token, str) and re.search(rf"\b{n}\b", token) for token in tokens)]
        told += ["training"] if any(each.mode for each in body) and "training" not in told else []
        name, is_table = self._name(group), first.kind == TABLE
        for at, node in enumerate(group):
            arguments: list[Expression] = [*((Ref(space, node.path),) for space in spaces), *((each,) for each in told)]
            arguments += [(token,) for token in found.arrays(at)]
            head = (Key(node.path), f": {name}") if is_table else (name,)
            node.call = Statement(head, tuple(arguments), found.values(at), tail="," if is_table else "", calls=name)
            self._bodies.setdefault((name, node.path), node.body)
        parameters = (*spaces, *told, *found.signature())
        places = tuple(node.path for node in group)
        return Function(name, first.path, parameters, found.defaults(), body, places, first.kind)

    def _name(self, group: Sequence[Node]) -> str:
        """By what the block is called in the spec or its address, and by the pass; numbered where that is taken."""
        titles = dict.fromkeys(self.titles.get(node.path) or _last(node.path) for node in group)
        plain = f"{next(iter(titles))}_{group[0].kind}"
        name, number = plain, 2
        while name in self.imported or any(function.name == name for function in self.functions):
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
            yield replace(item.call, mode=item.mode)
        else:
            yield from (replace(each, mode=each.mode or item.mode) for each in item.body)


def _repeats(node: Node) -> bool:
    """Whether it is nothing but a row of numbered blocks."""
    return any(isinstance(item, Node) and isinstance(item.path[-1], int) for item in node.items) and all(
        isinstance(item, Statement) or len(item.path) == len(node.path) + 1 for item in node.items
    )


def _place(call: Statement) -> Path:
    """The block that a call is for."""
    return next(token.path for token in call.tokens() if isinstance(token, Ref | Key) and not token.name)


def _length(body: Sequence[Statement], block: Path) -> int:
    """Lines."""
    return len(lines(body, block))


def _short(statement: Statement, defaults: Mapping[str, Mapping[str, str]]) -> Statement:
    """A call without what it would say in any case."""
    usual = defaults.get(statement.calls, {})
    kept = [(name, token) for name, token in statement.keywords if usual.get(name) != _text(token)]
    return replace(statement, keywords=tuple(kept))


def _text(token: Token) -> str:
    return token if isinstance(token, str) else token.text if isinstance(token, Value) else ""


def _shape(statement: Statement, block: Path) -> object:
    """What statements of alike blocks agree in."""
    marks = (tuple(_mark(token, block) for token in expression) for expression in statement.expressions)
    return (statement.mode, *marks)


def _mark(token: Token, block: Path) -> object:
    match token:
        case Ref() if token.inside(block):
            return (token.space, token.path[len(block) :], token.name)
        case Key() if token.inside(block):
            return (token.space, token.path[len(block) :], token.name)
        case Ref() | Key():
            return "another's"
        case Words():
            return "words"
        case Value(title=title, kind=kind):
            return (title, kind)
    return token


def described(function: Function) -> str:
    """Where a function is used: `stem.conv_bn`, `stage1[0].main.reduce` and 51 others."""
    places = list(dict.fromkeys(dotted(path) for path in function.instances))
    more = len(places) - 2
    named = ", ".join(f"`{place}`" for place in places[: 2 if more > 1 else 3])
    return f"{named} and {more} others" if more > 1 else named
