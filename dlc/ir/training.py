"""What the `train` block asks for, resolved: data, optimizer, rates, length, precision."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.diagnostics import Span

Argument = int | float | bool | str | tuple[int | float | str, ...] | None
Arguments = tuple[tuple[str, Argument], ...]
"""All arguments of a call by name, defaults filled in, in the order of its schema; quantities in SI units."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A call such as `sgd(momentum = 0.9)` or `digits(scale = 4)`, its arguments complete."""

    kind: str
    arguments: Arguments = ()
    span: Span | None = field(default=None, compare=False)

    def get(self, name: str) -> Argument:
        """The argument of that name; KeyError where the schema has none."""
        return dict(self.arguments)[name]


@dataclass(frozen=True, slots=True)
class Length:
    """A stretch of training: a count of `epochs` or of `steps`."""

    count: int
    unit: str


@dataclass(frozen=True, slots=True)
class RatePiece:
    """One piece of a learning-rate schedule; `over` is None for the last, unbounded one."""

    kind: str
    arguments: Arguments
    over: Length | None


@dataclass(frozen=True, slots=True)
class Precision:
    """`compute` is the element type of activations and gradients, `master` that of weights."""

    compute: str = "f32"
    master: str = "f32"
    loss_scale: str | float | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """The whole `train` block but loss and metrics, which are part of the Graph.

    `spans` holds where each setting stands, by key, so that later refusals can point at it.
    """

    network: str
    data: Choice
    optimizer: Choice
    rates: tuple[RatePiece, ...]
    length: Length
    clip: Choice | None = None
    init: Choice | None = None
    stop: Choice | None = None
    accumulate: int = 1
    seed: int = 0
    precision: Precision = Precision()
    checkpoint: Choice | None = None
    update: Choice = Choice("synchronous")
    compress: Choice = Choice("none")
    regularise: tuple[Choice, ...] = ()
    spans: tuple[tuple[str, Span], ...] = field(default=(), compare=False)

    def span(self, key: str) -> Span | None:
        """Where a setting stands; None where it is a default."""
        return dict(self.spans).get(key)
