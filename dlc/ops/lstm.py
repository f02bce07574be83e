"""`lstm(hidden, …)`: c = f·c' + i·g and h = o·tanh c, where c' and h' are cell and state before.

i, f, o are sigmoids and g is the tanh of x·W_ihᵀ + b_ih + h'·W_hhᵀ + b_hh, whose rows lie in the order i, f, g, o.
S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 1997; the forget gate: F. Gers et al., 2000.
Arguments: `dlc.ops.recurrence`.
"""

from __future__ import annotations

from dlc.ops.recurrence import Cell, recurrent

LSTM = recurrent("lstm", Cell(gates=4, kept=1, work=9, depth=5, work_back=24, depth_back=3))
"""Four activations, then i·g, f·c', their sum, tanh c and o·tanh c; kept is c."""
