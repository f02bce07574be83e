"""`lars(momentum = 0.9, trust = 0.001, weight_decay = 0, eps = 1e-8)`: a rate for each weight tensor, by its norms.

λ = τ·‖w‖/(‖g‖ + β‖w‖ + ε) with the trust τ and the weight decay β, 1 where ‖w‖ or ‖g‖ is 0; then v ← μv + λ(g + βw);
w ← w − ηv. Norms are of whole tensors, of biases too. Y. You, I. Gitman, B. Ginsburg, *Large Batch Training of
Convolutional Networks*, 2017; the rate η multiplies the velocity as PyTorch's sgd does it, where theirs enters it,
which is the same while the rate is constant (cost-models.md §3).
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr
from dlc.ops.attributes import number
from dlc.ops.operator import Parameter
from dlc.ops.update_rule import WEIGHT_DECAY, rule


def _states(arguments: Mapping[str, Attr]) -> tuple[str, ...]:
    """`velocity` where there is momentum."""
    return ("velocity",) if number(arguments, "momentum") else ()


def _work(arguments: Mapping[str, Attr]) -> tuple[int, int]:
    """Two norms of 2 operations an element, the factor, then as `sgd`."""
    steps = 3 + 2 * len(_states(arguments))
    return 4 + steps, 4 + steps


LARS = rule(
    "lars",
    (
        Parameter("momentum", "number", default=0.9, minimum=0, below=1),
        Parameter("trust", "number", default=0.001, above=0),
        WEIGHT_DECAY,
        Parameter("eps", "number", default=1e-8, minimum=0),
    ),
    _states,
    _work,
)
