"""The order of definitions that may stand in any order: what each one reads comes before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from dlc.diagnostics import Diagnostic, Span
from dlc.messages import e02_names as messages
from dlc.syntax import ast


def names_in(expression: ast.Expr) -> Iterator[str]:
    """All bare words of an expression without chains, in no particular order. A loop: expressions may be deep."""
    stack: list[ast.Expr] = [expression]
    while stack:
        match stack.pop():
            case ast.Name(text):
                yield text
            case ast.ListOf(items):
                stack.extend(items)
            case ast.Call(arguments=arguments):
                stack.extend(argument.value for argument in arguments)
            case ast.Attribute(value):
                stack.append(value)
            case ast.Index(value, index):
                stack += (value, index)
            case ast.Unary(operand=operand):
                stack.append(operand)
            case ast.Binary(left=left, right=right):
                stack += (left, right)
            case ast.If(condition, then, otherwise):
                stack += (condition, then, otherwise)


def in_order(reads: Mapping[str, Iterable[str]], on_circle: Callable[[list[str]], None]) -> list[str]:
    """The keys of `reads`, each after those that it reads, else in the order given.

    A circle is handed to `on_circle` once; its members are left out, and so is what reads them.
    """
    done: dict[str, bool] = {}  # False: something that it reads is part of a circle
    order: list[str] = []
    for root in reads:
        path: list[tuple[str, Iterator[str]]] = [] if root in done else [(root, iter(reads[root]))]
        on_path = {root}
        sound = {root: True}
        while path:
            name, rest = path[-1]
            following = next((other for other in rest if other in reads), None)
            if following is None:
                path.pop()
                on_path.discard(name)
                done[name] = sound[name]
                if sound[name]:
                    order.append(name)
                elif path:
                    sound[path[-1][0]] = False
            elif following in on_path:
                sound[name] = False
                circle = [step for step, _ in path]
                on_circle(circle[circle.index(following) :])
            elif following in done:
                sound[name] = sound[name] and done[following]
            else:
                path.append((following, iter(reads[following])))
                on_path.add(following)
                sound[following] = True
    return order


def circle_message(circle: list[str], span: Span) -> Diagnostic:
    """E0203; a long circle is shown shortened."""
    shown = [*circle[:4], "…", circle[-1]] if len(circle) > 6 else circle
    path = " -> ".join(step if step == "…" else f"`{step}`" for step in [*shown, circle[0]])
    return messages.CYCLE.at(span, name=circle[0], path=path)
