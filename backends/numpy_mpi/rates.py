"""Learning rates in emitted programs: the formulas of `dlc.ops.schedules` as they stand, joined piece by piece."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from backends.numpy_mpi.text import literal
from dlc.ir.training import Length, RatePiece, Training
from dlc.ops.schedules import LAST, Schedule, schedule


def rates_module(training: Training) -> str:
    """rates.py: the source of each formula that the schedule uses."""
    kinds = dict.fromkeys(piece.kind for piece in training.rates)
    sources = [inspect.getsource(_schedule(kind).formula).rstrip() for kind in kinds]
    needed = [name for name in ("cos", "pi", "pow") if any(f"{name}" in source.split('"""')[2] for source in sources)]
    imports = ["", f"from math import {', '.join(needed)}"] if needed else []
    head = '"""Learning-rate schedules: the rate at the 0-based step s of a piece, lengths in steps."""'
    return "\n".join([head, *imports, "", "", "\n\n\n".join(sources), ""])


def rates_function(pieces: tuple[RatePiece, ...]) -> str:
    """The body of `learning_rate(number, epoch)`: each piece in turn until it has lasted its `over`."""
    return "\n".join(f"    {line}" for line in _lines(pieces))


def _lines(pieces: tuple[RatePiece, ...]) -> Iterator[str]:
    for place, piece in enumerate(pieces):
        if place == len(pieces) - 1 or piece.over is None:
            yield f"return {_call(piece, 'number', place)}"
            return
        over = _length(piece.over)
        yield f"if number < {over}:"
        yield f"    return {_call(piece, 'number', place)}"
        yield f"number, last = number - {over}, {_call(piece, over, place)}"


def _call(piece: RatePiece, at: str, place: int) -> str:
    """`cosine(number, last, to=0.0, over=85 * epoch)`."""
    given = dict(piece.arguments)
    arguments = [at]
    for parameter in _schedule(piece.kind).parameters:
        value = given.get(parameter.name, parameter.default)
        if parameter.name == "over":
            arguments.append(f"over={_length(piece.over)}")
        elif parameter.kind == "length" and isinstance(value, tuple):
            count, unit = value
            arguments.append(f"{parameter.name}={_length(Length(int(str(count)), str(unit)))}")
        elif value is None and parameter.name == LAST.name:
            arguments.append(f"{parameter.name}={'last' if place else 0.0}")
        else:
            arguments.append(f"{parameter.name}={literal(value)}")
    return f"{piece.kind}({', '.join(arguments)})"


def _length(length: Length | None) -> str:
    if length is None:
        return "None"
    return f"{length.count} * epoch" if length.unit.startswith("epoch") else str(length.count)


def _schedule(kind: str) -> Schedule:
    found = schedule(kind)
    if found is None:
        raise ValueError(f"{kind} is no schedule")
    return found
