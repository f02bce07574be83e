"""Operators as `dlc explain NAME` shows them: how they are called, what their arguments take, what they own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from dlc.expand.fields import Field
from dlc.expand.values import needed
from dlc.inspect.tables import table
from dlc.ops import LAYERS, LOSSES, METRICS, OPTIMIZERS, SIGNS
from dlc.ops.operator import Operator, Parameter

SIGN_OF = {name: sign for sign, name in SIGNS.items()}


def shown_operators() -> Iterator[Operator]:
    """All that networks and train blocks call by name."""
    yield from (*LAYERS, *LOSSES, *METRICS)
    yield from (rule.operator for rule in OPTIMIZERS)


def value(default: Any) -> str:
    """A default as it is written in a spec; an ellipsis where its absence means something of its own."""
    if default is None:
        return "…"
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return f"[{', '.join(map(value, default))}]"
    return f"{default:g}".replace("e-0", "e-") if isinstance(default, int | float) else str(default)


def argument(field: Field | Parameter) -> str:
    """`window`, or `stride = 1`."""
    name = field.key if isinstance(field, Field) else field.name
    if field.required:
        return name
    like = field.like if isinstance(field, Parameter) else None
    return f"{name} = {like or value(field.default)}"


def call(name: str, arguments: Sequence[str]) -> str:
    """`relu`, `dropout(p)`."""
    return f"{name}({', '.join(arguments)})" if arguments else name


def operator_signature(op: Operator) -> str:
    """Arithmetic as `a + b`; a loss or metric with its operands, a layer without the value that arrives."""
    if op.name in SIGN_OF:
        return f"a {SIGN_OF[op.name]} b"
    operands = list(op.operands) if op.role in ("loss", "metric") else []
    if op.role == "operator" and op.variadic:
        operands = ["a", "b", "…"]
    return call(op.name, [*operands, *map(argument, op.parameters)])


def about(op: Operator) -> str:
    """What an operator is: the first paragraph of its file, without the call that it begins with."""
    paragraph = " ".join((_file_doc(op) or "").partition("\n\n")[0].split())
    paragraph = re.sub(r" \(cost-models\.md[^)]*\)", "", paragraph)
    return re.sub(rf"^`(?:{op.name}\b|[+*/-]|a @)[^`]*`: ", "", paragraph)


def _file_doc(op: Operator) -> str | None:
    """The docstring of the file that declares an operator, by itself or in a rule."""
    name = op.name.upper()
    files = [module for path, module in sorted(sys.modules.items()) if path.startswith("dlc.ops.")]
    own = [module for module in files if module.__name__ == f"dlc.ops.{op.name}"]
    return next((module.__doc__ for module in own + files if hasattr(module, name)), None)


def _arguments(op: Operator) -> list[tuple[str, str, str | None]]:
    """Name, what it takes, and its default (None: it has none) of each argument that is written."""
    written = () if op.name in SIGN_OF else op.parameters
    return [(p.name, needed(p), None if p.required else argument(p).partition("= ")[2]) for p in written]


def operator_text(op: Operator) -> str:
    """The call, a line on what it is, its arguments, weights and algorithms."""
    parts = [operator_signature(op), about(op)]
    rows = [(name, takes, default or "required") for name, takes, default in _arguments(op)]
    if rows:
        parts.append(table(("argument", "takes", "default"), rows))
    owned = [
        ("weights", ", ".join((*op.weights, *op.statistics)) or ("as its arguments say" if op.weights_by else "")),
        ("algorithms", ", ".join(algorithm.name for algorithm in op.algorithms)),
    ]
    parts.append("\n".join(f"{what}: {names}" for what, names in owned if names))
    return "\n\n".join(part for part in parts if part)


def operator_document(op: Operator) -> dict[str, object]:
    """The same for programs."""
    return {
        "operator": op.name,
        "role": op.role,
        "call": operator_signature(op),
        "about": about(op),
        "arguments": [{"name": name, "takes": takes, "default": default} for name, takes, default in _arguments(op)],
        "weights": [*op.weights, *op.statistics],
        "algorithms": [algorithm.name for algorithm in op.algorithms],
    }


def operators_text() -> str:
    """A row for each operator: its role and how it is called."""
    return table(("kind", "call"), [(_role(op), operator_signature(op)) for op in shown_operators()])


def operators_document() -> dict[str, object]:
    """The same for programs."""
    return {"operators": [operator_document(op) for op in shown_operators()]}


def _role(op: Operator) -> str:
    return "layer" if op.role == "operator" else op.role
