"""`adagrad(eps = 1e-10, weight_decay = 0)`, as PyTorch's: A ← A + g²; w ← w − ηg/(√A + ε) (cost-models.md §3)."""

from __future__ import annotations

from dlc.ops.operator import Parameter
from dlc.ops.update_rule import WEIGHT_DECAY, rule

ADAGRAD = rule(
    "adagrad",
    (Parameter("eps", "number", default=1e-10, minimum=0), WEIGHT_DECAY),
    states=lambda _: ("square_sum",),
    work=lambda _: (7, 6),
)
