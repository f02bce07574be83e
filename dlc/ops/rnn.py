"""`rnn(hidden, …, nonlinearity = tanh | relu)`: h = tanh(x·W_ihᵀ + b_ih + h'·W_hhᵀ + b_hh), h' the state before.

J. L. Elman, "Finding Structure in Time", Cognitive Science 1990. Other arguments: `dlc.ops.recurrence`.
"""

from __future__ import annotations

from dlc.ops.operator import Parameter
from dlc.ops.recurrence import Cell, recurrent

RNN = recurrent(
    "rnn",
    Cell(gates=1, kept=0, work=1, depth=1, work_back=4, depth_back=1),
    Parameter("nonlinearity", "choice", default="tanh", choices=("tanh", "relu")),
)
