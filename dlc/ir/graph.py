"""The Graph: what is computed, typed, addressed and, after `differentiate`, with its gradients. No decisions in it.

Values are named; a node's first output bears the node's address, further ones `ADDRESS.role` (`s2.maxpool.indices`),
weights `ADDRESS.weight`, gradients `VALUE@grad`. Nodes stand in topological order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from dlc.diagnostics import Span
from dlc.ir.tensor import TensorType

Attr = int | float | bool | str | tuple[int, ...] | tuple[tuple[int, ...], ...] | tuple[str, ...]
"""A normalised attribute: windows and strides are one int a spatial axis, pads one (before, after) pair each."""

Attrs = tuple[tuple[str, Attr], ...]
"""Attributes in the order of the operator's schema."""

Kind = Literal[
    "input",  # fed by the data set: a network input
    "field",  # fed by the data set: a label
    "weight",  # trained
    "statistic",  # kept between steps but not trained: running averages of batch norm
    "state",  # of the optimizer: momentum, Adam's moments
    "activation",  # of the forward pass
    "saved",  # a by-product that the backward pass needs: argmax indices, masks
    "gradient",
    "constant",  # filled once, by its initialiser
]

Stage = Literal["network", "loss", "training"]
"""`network`: as written. `loss`: with loss and metrics. `training`: with backward pass and updates."""

Pass = Literal[
    "forward", "loss", "metric", "dx", "dw", "dt", "sum", "statistics", "unscale", "regularise", "clip",
    "update",
]  # fmt: skip
"""What a node is for; `dx`, `dw` and `dt` are gradients by data, by weights and by a loss's target, `sum` adds
gradients at a fan-out, `statistics` sums what running averages are made of. `unscale`, `regularise`, `clip` and
`update` work in place, in this order: they have no outputs."""


@dataclass(frozen=True, slots=True)
class Init:
    """How a weight starts: `kind` as the train block names it, `fan_in` and `fan_out` in connections.

    Kinds: `kaiming_uniform` (PyTorch's default for conv and linear: U(±1/√fan_in)), `he` (normal, √(2/fan_in)),
    `glorot` (uniform, √(6/(fan_in+fan_out))), `constant` (value), `normal` (std = value), `norms` (the norms of the
    rows of its op's direction, which comes before it).
    """

    kind: str
    fan_in: int = 0
    fan_out: int = 0
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor of the graph. `owner` is the address of the op that a weight, statistic or state belongs to."""

    name: str
    type: TensorType
    kind: Kind
    init: Init | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. A backward node keeps its forward node's op and attrs; its address ends in `@dx`, `@dw`, …

    `inputs` and `outputs` are value names in the order that the operator declares (see `dlc.ops.operator`).
    """

    address: str
    op: str
    stage: Pass
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Attrs = ()
    span: Span | None = field(default=None, compare=False)

    def attr(self, name: str) -> Attr:
        """The attribute of that name; KeyError where there is none."""
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"{self.address} has no attribute {name}")

    def has(self, name: str) -> bool:
        """Whether it has an attribute of that name."""
        return any(key == name for key, _ in self.attrs)

    @property
    def base(self) -> str:
        """The address of the forward op that this node belongs to: `c1.conv` of `c1.conv@dw`."""
        return self.address.partition("@")[0]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order over named values.

    `inputs` and `fields` are fed by the data set, `outputs` are what `--predict` writes, `loss` is the scalar that is
    minimised, `metrics` maps a metric's printed name to its value (a sum over samples, divided when shown).
    """

    name: str
    stage: Stage
    nodes: tuple[Node, ...]
    values: tuple[Value, ...]
    inputs: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()  # (name in the spec, value)
    loss: str | None = None
    metrics: tuple[tuple[str, str], ...] = ()
    batch: int = 1
    blocks: tuple[tuple[str, str], ...] = field(default=(), compare=False)  # (address, block of the spec)
    _values: dict[str, Value] = field(init=False, repr=False, compare=False)
    _producers: dict[str, Node] = field(init=False, repr=False, compare=False)
    _nodes: dict[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", {value.name: value for value in self.values})
        object.__setattr__(self, "_producers", {out: node for node in self.nodes for out in node.outputs})
        object.__setattr__(self, "_nodes", {node.address: node for node in self.nodes})

    def value(self, name: str) -> Value:
        """The value of that name; KeyError where there is none."""
        return self._values[name]

    def type(self, name: str) -> TensorType:
        """The type of the value of that name."""
        return self._values[name].type

    def has_value(self, name: str) -> bool:
        """Whether a value of that name exists."""
        return name in self._values

    def node(self, address: str) -> Node:
        """The node at that address; KeyError where there is none."""
        return self._nodes[address]

    def producer(self, value: str) -> Node | None:
        """The node that computes a value; None for inputs, weights and the like."""
        return self._producers.get(value)

    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """Value -> the nodes that read it, in order."""
        found: dict[str, list[Node]] = {value.name: [] for value in self.values}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def of_kind(self, *kinds: Kind) -> tuple[Value, ...]:
        """The values of these kinds, in order."""
        return tuple(value for value in self.values if value.kind in kinds)

    @property
    def forward(self) -> Iterator[Node]:
        """The nodes of the network itself."""
        return (node for node in self.nodes if node.stage == "forward")

    @property
    def parameters(self) -> int:
        """How many trained numbers it has; a tied weight counts once."""
        return sum(value.type.elements for value in self.of_kind("weight"))

    def with_(self, **changes: object) -> Graph:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
