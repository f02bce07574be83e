"""Long lists of cases: every run takes some of them, `pytest -m "slow or not slow"` all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first(count: int, cases: Iterable[Any]) -> list[Any]:
    """So many cases for every run, and the others for the slow suite; tuples are several arguments."""
    return [case if at < count else later(case) for at, case in enumerate(cases)]


def later(case: Any) -> Any:
    """A case of the slow suite."""
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
