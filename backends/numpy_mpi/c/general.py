"""The functions of C that serve any shape, by (op, pass, algorithm)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backends.numpy_mpi.c import (
    arithmetic,
    attention,
    bn,
    bn_fused,
    chains,
    convert,
    dropout,
    elementwise,
    embedding,
    gradients,
    linear,
    losses,
    lrn,
    norms,
    pool,
    recurrence,
    shapes,
    softmax,
    update,
)
from backends.numpy_mpi.c.source import CFunction
from backends.numpy_mpi.c.target import Target

GENERAL: Mapping[tuple[str, str, str], Callable[[Target, str], CFunction]] = {
    **arithmetic.FUNCTIONS,
    **attention.FUNCTIONS,
    **bn.FUNCTIONS,
    **bn_fused.FUNCTIONS,
    **chains.FUNCTIONS,
    **convert.FUNCTIONS,
    **dropout.FUNCTIONS,
    **elementwise.FUNCTIONS,
    **embedding.FUNCTIONS,
    **gradients.FUNCTIONS,
    **linear.FUNCTIONS,
    **losses.FUNCTIONS,
    **lrn.FUNCTIONS,
    **norms.FUNCTIONS,
    **pool.FUNCTIONS,
    **recurrence.FUNCTIONS,
    **shapes.FUNCTIONS,
    **softmax.FUNCTIONS,
    **update.FUNCTIONS,
}
"""(op, pass, algorithm) as in `kernels.KERNELS`, or a variant of one that its binding chooses -> what writes the
function for a target and element type."""
