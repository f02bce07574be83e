"""Steps of gated recurrent units."""

from __future__ import annotations

from functools import partial

from .cu_recurrence import Cell, backward, forward

GRU = Cell("gru_forward_cell", "gru_dx_cell", gates=3, adds=False, before_is_state=True)

gru_forward = partial(forward, GRU)
gru_dx = partial(backward, GRU)
