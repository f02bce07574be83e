"""`rmsprop(alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0)`, as PyTorch's (cost-models.md §3).

A ← αA + (1 − α)g²; w ← w − ηg/(√A + ε); with momentum v ← μv + g/(√A + ε); w ← w − ηv.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ops.attributes import number
from dlc.ops.operator import Parameter
from dlc.ops.update_rule import WEIGHT_DECAY, rule


def _states(arguments: Mapping[str, Attr]) -> tuple[str, ...]:
    """`square_average`, and `velocity` where there is momentum."""
    return ("square_average", "velocity") if number(arguments, "momentum") else ("square_average",)


def _work(arguments: Mapping[str, Attr]) -> tuple[int, int]:
    momentum = 2 * (len(_states(arguments)) - 1)
    return 9 + momentum, 8 + momentum


RMSPROP = rule(
    "rmsprop",
    (
        Parameter("alpha", "number", default=0.99, minimum=0, below=1),
        Parameter("eps", "number", default=1e-8, minimum=0),
        WEIGHT_DECAY,
        Parameter("momentum", "number", default=0.0, minimum=0, below=1),
    ),
    _states,
    _work,
)
