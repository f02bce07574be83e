"""How the documents write what takes arguments: `sgd(momentum = 0, nesterov = no, weight_decay = 0)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dlc.expand import clusters, pins, rates, requests, training
from dlc.expand.fields import Field
from dlc.inspect.operators import argument, call, operator_signature
from dlc.ops import LAYERS, LOSSES, METRICS
from dlc.ops.operator import Operator


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
