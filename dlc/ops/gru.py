"""`gru(hidden, …)`: h = n + z·(h' - n), h' the state before.

r, z = σ(x·W_ihᵀ + b_ih + h'·W_hhᵀ + b_hh) and n = tanh(x·W_inᵀ + b_in + r·(h'·W_hnᵀ + b_hn)), in the order r, z, n. The
reset gate r is applied to the product, as in PyTorch and cuDNN, not to the state. K. Cho et al., EMNLP 2014. Arguments:
`dlc.ops.recurrence`.
"""

from __future__ import annotations

from dlc.ops.recurrence import Cell, recurrent

GRU = recurrent("gru", Cell(gates=3, kept=1, work=8, depth=7, work_back=17, depth_back=2))
"""Three activations, then r·(…), a sum, and three operations for h; kept is h'·W_hnᵀ + b_hn."""
