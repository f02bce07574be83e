"""`adam(beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0)` and `adamw`, as PyTorch's (cost-models.md §3).

m₁ ← β₁m₁ + (1 − β₁)g; m₂ ← β₂m₂ + (1 − β₂)g²; w ← w − η·m̂₁/(√m̂₂ + ε) with m̂ = m/(1 − βᵗ), t = 1 in the first step.
`adamw` subtracts ηλw from the weight where `adam` adds λw to the gradient.
"""

from __future__ import annotations

from dlc.ops.operator import Parameter
from dlc.ops.update_rule import WEIGHT_DECAY, Rule, rule


def _adam(name: str, weight_decay: Parameter) -> Rule:
    return rule(
        name,
        (
            Parameter("beta1", "number", default=0.9, minimum=0, below=1),
            Parameter("beta2", "number", default=0.999, minimum=0, below=1),
            Parameter("eps", "number", default=1e-8, minimum=0),
            weight_decay,
        ),
        states=lambda _: ("mean", "square_mean"),
        work=lambda _: (14, 9),
    )


ADAM = _adam("adam", WEIGHT_DECAY)
ADAMW = _adam("adamw", Parameter("weight_decay", "number", default=0.01, minimum=0))
