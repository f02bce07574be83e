"""How the documents write what takes arguments: `sgd(momentum = 0, nesterov = no, weight_decay = 0)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlc.expand import clusters, pins, rates, requests, training
from dlc.expand.settings import Field
from dlc.ops import LAYERS, LOSSES, METRICS, SIGNS
from dlc.ops.operator import Operator, Parameter

SIGN_OF = {name: sign for sign, name in SIGNS.items()}


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
    operands = list(op.operands) if op.role in ("loss", "metric") else ["a", "b", "…"] if op.variadic else []
    return call(op.name, [*operands, *map(argument, op.parameters)])


def operators() -> Iterator[tuple[Operator, str]]:
    """All that networks and train blocks call."""
    for op in (*LAYERS, *LOSSES, *METRICS):
        yield op, operator_signature(op)


def choices(schemas: Mapping[str, Sequence[Field]]) -> Iterator[str]:
    """Each choice with its arguments."""
    for name, fields in schemas.items():
        yield call(name, list(map(argument, fields)))


def all_choices() -> Iterator[str]:
    """Everything that is called in train and plan blocks and in links."""
    for _, schemas in training.CHOICES.values():
        yield from choices(schemas)
    for schemas in (rates.PIECES, requests.STRATEGIES, pins.ALGORITHMS, pins.PARTITIONS, clusters.SHAPES):
        yield from choices(schemas)


def all_settings() -> Iterator[str]:
    """The settings of devices, links and plans that are plain values, and the counts of train blocks."""
    for fields in (clusters.DEVICE, clusters.LINK, requests.SETTINGS, training.COUNTS):
        for field in fields:
            yield field.key
