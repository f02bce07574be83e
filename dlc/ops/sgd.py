"""`sgd(momentum = 0, nesterov = no, weight_decay = 0)`, as PyTorch's (cost-models.md §3).

g ← g + λw; v ← μv + g; w ← w − ηv, or with Nesterov's momentum w ← w − η(g + μv). Without momentum w ← w − ηg.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ops.attributes import flag, number
from dlc.ops.operator import Parameter
from dlc.ops.update_rule import WEIGHT_DECAY, rule


def _states(arguments: Mapping[str, Attr]) -> tuple[str, ...]:
    """`velocity` where there is momentum."""
    return ("velocity",) if number(arguments, "momentum") else ()


def _work(arguments: Mapping[str, Attr]) -> tuple[int, int]:
    steps = 2 + 2 * len(_states(arguments)) + 2 * flag(arguments, "nesterov")
    return steps, steps


SGD = rule(
    "sgd",
    (
        Parameter("momentum", "number", default=0.0, minimum=0, below=1),
        Parameter("nesterov", "bool", default=False),
        WEIGHT_DECAY,
    ),
    _states,
    _work,
)
