"""Kernels on devices that take arrays of half precision as they are: libraries sum in f32 and round a result once.

All else computes on copies in f32 (passes/lowering/widen.py).
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.program import Buffer, Compute
from dlc.ir.tensor import NARROW

HALVES = "halves"
"""The attribute of calls whose kernel is one of them."""

KERNELS = frozenset(
    (
        *(("linear", stage, "") for stage in ("forward", "dx", "dw")),
        *(("matmul", stage, "") for stage in ("forward", "dx")),
        *(("conv", stage, "cudnn") for stage in ("forward", "dx")),
    )
)
"""(op, pass, algorithm) of calls that there is such a kernel for. cuDNN gives gradients of weights in half precision
alone, which would round what is summed over samples: they are computed of copies in f32."""

IN_F32 = ("dw",)
"""Passes whose results are gradients of weights, which are f32."""


def takes_halves(made: Compute, buffer: Callable[[str], Buffer]) -> bool:
    """Whether there is a kernel for all operands and results of a call as they are."""
    if made.kernel not in KERNELS or made.members:
        return False
    given, results = ([buffer(name).type.dtype for name in names] for names in (made.inputs, made.outputs))
    kinds = {*given, *(() if made.kernel[1] in IN_F32 else results)}
    return len(kinds) == 1 and kinds <= {*NARROW} and (made.kernel[1] not in IN_F32 or {*results} == {"f32"})
