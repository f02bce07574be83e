"""Steps of long short-term memory."""

from __future__ import annotations

from functools import partial

from .cu_recurrence import Cell, backward, forward

LSTM = Cell("lstm_forward_cell", "lstm_dx_cell", gates=4)

lstm_forward = partial(forward, LSTM)
lstm_dx = partial(backward, LSTM)
