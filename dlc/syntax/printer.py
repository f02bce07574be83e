"""From the syntax tree back to text, in house style: what programs write, such as imported networks.

`parse(to_source(file))` is the same tree again. Comments are not part of a tree, but for those that head the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from dlc.syntax import ast
from dlc.syntax.formatter import format_source

LONGEST_LINE = 110
"""A chain that is longer has each of its links on a line of its own."""

_IF, _THEN, _CHAIN, _OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _NEGATION, _PRIMARY = range(11)
"""How tight expressions bind, loosest first, as the grammar has its rules."""

_LEVELS = {
    "then": _THEN,
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), _COMPARISON),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys("*/@", _PRODUCT),
}


def to_source(file: ast.File, heading: Iterable[str] = ()) -> str:
    """The text of a file; `heading` are lines of comment behind the first line."""
    lines = [f"dlspec {file.version}", *(f"# {line}".rstrip() for line in heading)]
    for before, item in pairwise((None, *file.items)):
        assert item is not None
        together = isinstance(item, ast.Import | ast.Param) and type(before) in (type(item), type(None))
        lines += [*([] if together else [""]), _item(item)]
    return format_source("\n".join(lines) + "\n", file.path)


# --- items ---


def _item(item: ast.Item) -> str:
    match item:
        case ast.Import(path=path):
            return f'import "{path}"'
        case ast.Param(name=name, default=default):
            return f"param {name} = {_text(default)}"
        case ast.Block(name=name, formals=formals, body=body):
            return _braces(f"block {name}({', '.join(map(_formal, formals))})", map(_statement, body))
        case ast.Network(name=name, body=body):
            return _braces(f"network {name}", map(_statement, body))
        case ast.Device() | ast.LinkItem():
            return _described(item)
        case ast.Cluster():
            return _cluster(item)
        case ast.Train(network=network, settings=settings):
            return _braces(f"train {network}", map(_setting, settings))
        case ast.Plan(network=network, cluster=cluster, rules=rules):
            return _braces(f"plan {network} on {cluster}", map(_rule, rules))


def _braces(head: str, lines: Iterable[str]) -> str:
    inner = "\n".join(lines)
    return f"{head} {{\n{inner}\n}}" if inner else f"{head} {{}}"


def _formal(formal: ast.Formal) -> str:
    return formal.name if formal.default is None else f"{formal.name} = {_text(formal.default)}"


def _described(item: ast.Device | ast.LinkItem) -> str:
    word = "device" if isinstance(item, ast.Device) else "link"
    return _braces(f"{word} {item.name}", map(_setting, item.settings))


def _cluster(cluster: ast.Cluster) -> str:
    topology = [_braces("topology", map(_group, cluster.topology))] if cluster.topology else []
    return _braces(
        f"cluster {cluster.name}", [*map(_described, cluster.devices), *map(_described, cluster.links), *topology]
    )


def _group(group: ast.Group) -> str:
    count = "" if group.count is None else f"[{_text(group.count)}]"
    over = "" if group.over is None else f" over {group.over}"
    head = f"{group.name}{count}{over}"
    return _braces(head, map(_group, group.children)) if group.children else head


def _setting(setting: ast.Setting) -> str:
    return f"{setting.key} = {_text(setting.value)}"


def _rule(rule: ast.PlanRule) -> str:
    match rule:
        case ast.Setting():
            return _setting(rule)
        case ast.Pin(selector=selector, settings=settings):
            return f"pin {_selector(selector)} {{ {', '.join(map(_setting, settings))} }}"
        case ast.Forbid(selector=selector, settings=settings):
            return f"forbid {_selector(selector)} {{ {', '.join(map(_setting, settings))} }}"
        case ast.Limit(subject=subject, comparison=comparison, bound=bound):
            return f"limit {subject} {comparison} {_text(bound, _SUM)}"
        case ast.MeshRule(axes=axes):
            return f"mesh {{ {'; '.join(map(_setting, axes))} }}"


def _selector(selector: ast.Selector) -> str:
    path = ".".join(segment.name + "".join(map(_indices, segment.indices)) for segment in selector.segments)
    return path if selector.where is None else f"{path} where {_text(selector.where, _OR)}"


def _indices(indices: ast.IndexSet) -> str:
    if indices.start is None or indices.stop is None:
        return "[*]"
    one = indices.stop == indices.start + 1
    return f"[{indices.start}]" if one else f"[{indices.start}..{indices.stop}]"


# --- statements ---


def _statement(statement: ast.Statement) -> str:
    match statement:
        case ast.Input(name=name, type=type_):
            return f"input {name}: {type_.dtype}[{', '.join(map(_axis, type_.axes))}]"
        case ast.Binding(targets=targets, value=value):
            return _long(f"{', '.join(name.text for name in targets)} = ", value)
        case ast.Output(names=names):
            return f"output {', '.join(name.text for name in names)}"
        case ast.Return(value=value):
            return _long("return ", value)


def _long(begin: str, value: ast.Expr) -> str:
    """A statement; a chain that does not fit a line is broken before its arrows."""
    line = begin + _text(value)
    if isinstance(value, ast.Chain) and len(line) > LONGEST_LINE:
        return "\n".join((begin + _head(value), *(f"-> {_link(link)}" for link in value.links)))
    return line


def _axis(axis: ast.AxisDeclaration) -> str:
    parts = [axis.name or "", "" if axis.extent is None else _text(axis.extent)]
    return " = ".join(filter(None, parts))


# --- expressions ---


def _text(expression: ast.Expr, level: int = _IF) -> str:
    """An expression, in parentheses where its place asks for one that binds tighter."""
    own, text = _spelt(expression)
    return text if own >= level else f"({text})"


def _spelt(expression: ast.Expr) -> tuple[int, str]:
    """How tight an expression binds, and its text."""
    match expression:
        case ast.If(condition=condition, then=then, otherwise=otherwise):
            return _IF, f"if {_text(condition, _OR)} then {_text(then)} else {_text(otherwise)}"
        case ast.Chain(links=links):
            return _CHAIN, " -> ".join((_head(expression), *map(_link, links)))
        case ast.Labelled(value=value, label=label):
            return _CHAIN, f"{_text(value, _OR)} as {label}"
        case ast.Binary(operator=operator, left=left, right=right):
            level = _LEVELS[operator]
            from_left = level + (level == _COMPARISON)  # comparisons do not chain
            return level, f"{_text(left, from_left)} {operator} {_text(right, level + 1)}"
        case ast.Unary(operator="not", operand=operand):
            return _NOT, f"not {_text(operand, _NOT)}"
        case ast.Unary(operator=operator, operand=operand):
            return _NEGATION, f"{operator}{_text(operand, _NEGATION)}"
    return _PRIMARY, _primary(expression)


def _primary(expression: ast.Expr) -> str:
    match expression:
        case ast.Name(text=text):
            return text
        case ast.Number(value=value):
            return str(value)
        case ast.Quantity(value=value, unit=unit):
            return f"{value} {unit}"
        case ast.Text(value=value):
            return f'"{value}"'
        case ast.Window(extents=extents):
            return "x".join(map(str, extents))
        case ast.ListOf(items=items):
            return f"[{', '.join(map(_text, items))}]"
        case ast.Call():
            return f"{expression.callee}({', '.join(map(_argument, expression.arguments))})"
        case ast.Attribute(value=value, name=name):
            return f"{_text(value, _PRIMARY)}.{name}"
        case ast.Index(value=value, index=index):
            return f"{_text(value, _PRIMARY)}[{_text(index)}]"
    raise ValueError(f"{expression!r} is no primary expression")


def _argument(argument: ast.Argument) -> str:
    return ("" if argument.name is None else f"{argument.name} = ") + _text(argument.value)


def _head(chain: ast.Chain) -> str:
    return _text(chain.head, _CHAIN if isinstance(chain.head, ast.Labelled) else _OR)


def _link(link: ast.Link) -> str:
    match link.stage:
        case ast.Repeat(count=count, variable=variable, body=body):
            counted = f"repeat {_text(count, _SUM)}" + ("" if variable is None else f" as {variable}")
            stage = f"{counted} {{ {' -> '.join(map(_link, body))} }}"
        case ast.Call(callee=callee, arguments=()):
            stage = callee
        case call:
            stage = _primary(call)
    return stage if link.label is None else f"{stage} as {link.label}"
