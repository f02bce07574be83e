"""How long what was given to a device took, by its own events; on the processor by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Stop = Callable[[], float]
"""Waits for what was given to the device since; its seconds."""


def by_clock() -> Stop:
    """Where the processor computes."""
    begin = time.perf_counter()
    return lambda: time.perf_counter() - begin


def by_cupy(cp: Any) -> Stop:
    """On CuPy's current stream."""
    begin, end = cp.cuda.Event(), cp.cuda.Event()
    cp.cuda.get_current_stream().synchronize()
    begin.record()

    def stop() -> float:
        end.record()
        end.synchronize()
        return float(cp.cuda.get_elapsed_time(begin, end)) / 1e3

    return stop


def by_torch(torch: Any) -> Stop:
    """On PyTorch's current stream."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()

    def stop() -> float:
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return stop
