"""Learning-rate schedules: the rate at the 0-based step s, and how pieces follow each other.

`a then b` runs b from the step at which a has lasted its `over`; b counts its own steps from 0. A piece that starts
from the last rate (cosine, polynomial) starts from the rate that the piece before it has reached after its `over`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, pow

from dlc.ir.training import RatePiece
from dlc.ops.operator import Parameter

LAST = Parameter("rate", "number", minimum=0)
"""The rate that a piece starts from; where it is not given, the last rate of the piece before it."""


def constant(s: float, rate: float, over: int | None = None) -> float:
    """The rate, always."""
    return rate


def step(s: float, rate: float, every: int, factor: float, over: int | None = None) -> float:
    """rate·factor^⌊s/every⌋, PyTorch's StepLR."""
    return rate * pow(factor, s // every)


def exponential(s: float, rate: float, every: int, factor: float, over: int | None = None) -> float:
    """rate·factor^(s/every), without steps: with `every = 1 steps` PyTorch's ExponentialLR."""
    return rate * pow(factor, s / every)


def cosine(s: float, rate: float, to: float, over: int) -> float:
    """to + (rate − to)·(1 + cos(πs/over))/2 (Loshchilov and Hutter, 2017); `to` from s = over on."""
    return to + (rate - to) * (1 + cos(pi * min(s, over) / over)) / 2


def polynomial(s: float, rate: float, to: float, over: int, power: float) -> float:
    """to + (rate − to)·(1 − s/over)^power; `to` from s = over on."""
    return to + (rate - to) * pow(1 - min(s, over) / over, power)


def warmup(s: float, to: float, over: int) -> float:
    """to·(s + 1)/over (Goyal et al., 2017); `to` from s = over − 1 on."""
    return to * min(s + 1, over) / over


@dataclass(frozen=True, slots=True)
class Schedule:
    """A kind of piece: its arguments, and its formula, which takes s and the arguments by name, lengths in steps."""

    name: str
    parameters: tuple[Parameter, ...]
    formula: Callable[..., float]

    @property
    def starts_from_last(self) -> bool:
        """Whether it takes the rate of the piece before it where its own `rate` is not given."""
        return LAST in self.parameters


_RATE = Parameter("rate", "number", required=True, minimum=0)
_OVER = Parameter("over", "length", required=True, minimum=1)
_FOREVER = Parameter("over", "length", minimum=1)
_EVERY = Parameter("every", "length", required=True, minimum=1)
_FACTOR = Parameter("factor", "number", default=0.1, minimum=0)
_DOWN_TO = Parameter("to", "number", default=0.0, minimum=0)

SCHEDULES = (
    Schedule("constant", (_RATE, _FOREVER), constant),
    Schedule("step", (_RATE, _EVERY, _FACTOR, _FOREVER), step),
    Schedule("exponential", (_RATE, _EVERY, _FACTOR, _FOREVER), exponential),
    Schedule("cosine", (_DOWN_TO, _OVER, LAST), cosine),
    Schedule("polynomial", (_DOWN_TO, _OVER, Parameter("power", "number", default=1.0, minimum=0), LAST), polynomial),
    Schedule("warmup", (Parameter("to", "number", required=True, minimum=0), _OVER), warmup),
)
_BY_NAME = {schedule.name: schedule for schedule in SCHEDULES}


def schedule(name: str) -> Schedule | None:
    """The schedule of that name, or None."""
    return _BY_NAME.get(name)


def rate_at(pieces: tuple[RatePiece, ...], at: int, steps_per_epoch: int) -> float:
    """The rate at the 0-based step `at` under joined pieces; the last piece goes on past its `over`."""
    last = 0.0
    for piece in pieces[:-1]:
        over = _over(piece, steps_per_epoch)
        if at < over:
            return _evaluate(piece, at, last, steps_per_epoch)
        last = _evaluate(piece, over, last, steps_per_epoch)
        at -= over
    return _evaluate(pieces[-1], at, last, steps_per_epoch)


def in_steps(length: object, steps_per_epoch: int) -> int:
    """`(5, "epochs")` as a count of steps."""
    match length:
        case (int(count), "epochs" | "epoch"):
            return count * steps_per_epoch
        case (int(count), "steps" | "step"):
            return count
    raise ValueError(f"{length!r} is no length of training")


def _over(piece: RatePiece, steps_per_epoch: int) -> int:
    if piece.over is None:
        raise ValueError(f"{piece.kind} has no end, and a schedule follows it")
    return in_steps((piece.over.count, piece.over.unit), steps_per_epoch)


def _evaluate(piece: RatePiece, s: int, last: float, steps_per_epoch: int) -> float:
    """One piece at its own step s, given the rate that the piece before it has reached."""
    given = dict(piece.arguments)
    values: dict[str, object] = {}
    for parameter in _BY_NAME[piece.kind].parameters:
        value = given.get(parameter.name, parameter.default)
        if parameter.name == "over" and piece.over is not None:
            values["over"] = _over(piece, steps_per_epoch)
        elif parameter.kind == "length":
            values[parameter.name] = None if value is None else in_steps(value, steps_per_epoch)
        else:
            values[parameter.name] = last if parameter is LAST and value is None else value
    return _BY_NAME[piece.kind].formula(s, **values)
