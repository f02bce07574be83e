"""Bounds that had to be wide for some numbers still find faults: of 1e-5 of each result, 1e-3 beside a large mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.cuda import calling, test_bn, test_chains, test_elementwise, test_pool
from tests.cuda.calling import needs_compiler

pytestmark = needs_compiler


def activations(size: int) -> None:
    """Alone as in the test of them all: what gelu gives of one number is what rounding leaves of its terms."""
    test_elementwise.test_activations("gelu", {"approximate": "none"}, "f32", size)


CHECKS: dict[str, tuple[float, Callable[[], None]]] = {
    "one number": (1e-5, lambda: activations(1)),
    "many": (1e-5, lambda: activations(257)),
    "a chain": (1e-5, lambda: test_chains.test_it(("add_sigmoid", "forward", ""), "f32")),
    "whole images": (1e-5, lambda: test_pool.test_whole_images((2, 3, (4, 5)), "NCHW", "f32")),
    "a large mean": (1e-3, lambda: test_bn.test_many_parts_and_a_large_mean("NCHW")),
}
"""(fault, what compares a kernel with its twin)."""


@pytest.mark.parametrize("name", CHECKS)
def test_a_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, check = CHECKS[name]
    known = calling.kernel

    def faulty(*key: str) -> Callable[..., None]:
        twin = known(*key)

        def wrong(*arrays: Any, **told: Any) -> None:
            before = [array.copy() for array in arrays]
            twin(*arrays, **told)
            for array, old in zip(arrays, before, strict=True):
                if array.dtype.kind == "f" and not np.array_equal(array, old, equal_nan=True):
                    array *= 1 + fault

        return wrong

    check()
    monkeypatch.setattr(calling, "kernel", faulty)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check()
