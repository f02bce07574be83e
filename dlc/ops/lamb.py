"""`lamb(beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0)`: Adam with a rate for each weight tensor.

m₁, m₂ and m̂ as `adam` has them; u = m̂₁/(√m̂₂ + ε) + λw; w ← w − η·‖w‖/‖u‖·u, the ratio 1 where either norm is 0. Norms
are of whole tensors, of biases too. Y. You et al., *Large Batch Optimization for Deep Learning: Training BERT in 76
minutes*, ICLR 2020, Algorithm 2 with φ(z) = z.
"""

from __future__ import annotations

from dlc.ops.operator import Parameter
from dlc.ops.update_rule import WEIGHT_DECAY, rule

LAMB = rule(
    "lamb",
    (
        Parameter("beta1", "number", default=0.9, minimum=0, below=1),
        Parameter("beta2", "number", default=0.999, minimum=0, below=1),
        Parameter("eps", "number", default=1e-6, minimum=0),
        WEIGHT_DECAY,
    ),
    states=lambda _: ("mean", "square_mean"),
    work=lambda _: (23, 18),  # Adam's 14, its direction's 5 a second time, two norms of 2
)
