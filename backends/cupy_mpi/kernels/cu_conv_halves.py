"""Convolutions of half precision by cuDNN; where there is none, the program's own tiles on copies in f32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .cu_conv_cudnn import asked
from .cu_conv_implicit import conv_implicit_gemm_dx, conv_implicit_gemm_forward
from .cu_halves import narrowed, widened
from .launch import Array, Held, Steps, of_halves


@of_halves
def conv_cudnn_halves_forward(*arrays: Array, **attrs: Any) -> Steps | None:
    """x, weight, [bias], then y and the workspace."""
    *operands, workspace = arrays
    return asked("forward", operands, workspace, _copied(conv_implicit_gemm_forward, operands, attrs), attrs)


@of_halves
def conv_cudnn_halves_dx(*arrays: Array, **attrs: Any) -> Steps | None:
    """dy, weight, then dx and the workspace."""
    *operands, workspace = arrays
    otherwise = _copied(conv_implicit_gemm_dx, operands, attrs)
    return asked("dx", operands, workspace, otherwise, {**attrs, "bias": False})


def _copied(binding: Callable[..., Steps | None], operands: Sequence[Array], attrs: dict[str, Any]) -> Steps | None:
    """The steps of a binding on copies of its operands, of which the last is its result."""
    wide = [Held(each.size, each.shape) for each in operands]
    steps = binding(*wide, **attrs)
    if steps is None:
        return None
    casts = (step for each, copy in zip(operands[:-1], wide[:-1], strict=True) for step in widened(each, copy))
    return (*casts, *steps, *narrowed(wide[-1], operands[-1]))
