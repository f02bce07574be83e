"""Convolutions by cuDNN; where there is none, by the program's own tiles of products (conv_implicit.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .cu_conv_implicit import conv_implicit_gemm_dw, conv_implicit_gemm_dx, conv_implicit_gemm_forward
from .cu_conv_parts import conv_bias_gradient, optional_bias
from .cudnn import Convolution, Problem
from .launch import Array, ByLibrary, Steps, each


def conv_cudnn_forward(*arrays: Array, **attrs: Any) -> Steps | None:
    """x, weight, [bias], then the workspace -> y."""
    return _forward(arrays, attrs)


def conv_relu_cudnn_forward(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """x, weight, [bias] -> y = max(conv(x), 0), which cuDNN computes in one where there is a bias."""
    own = conv_implicit_gemm_forward(*arrays[:-1], bias=bias, **attrs)
    y = arrays[-2]
    above = each(y.size, y, kernel="conv_relu_cudnn_forward")
    if not bias:
        found = _forward(arrays, attrs)
        return None if found is None else (*found, *above)
    otherwise = None if own is None else (*own, *above)
    return asked("forward", arrays[:-1], arrays[-1], otherwise, {**attrs, "bias": True}, relu=True)


def conv_cudnn_dx(*arrays: Array, **attrs: Any) -> Steps | None:
    """dy, weight, then the workspace -> dx."""
    *operands, workspace = arrays
    return asked("dx", operands, workspace, conv_implicit_gemm_dx(*operands, **attrs), {**attrs, "bias": False})


def conv_cudnn_dw(*arrays: Array, bias: bool = False, **attrs: Any) -> Steps | None:
    """dy, x, then the workspace -> dweight, [dbias], which a kernel of the program adds up."""
    dy, x, dweight, *rest = arrays
    added, (workspace,) = optional_bias(rest, bias), rest
    found = asked("dw", (dy, x, dweight), workspace, conv_implicit_gemm_dw(dy, x, dweight, **attrs), attrs)
    return None if found is None else (*found, *conv_bias_gradient(dy, added, attrs.get("layout", "NCHW")))


def _forward(arrays: Sequence[Array], attrs: dict[str, Any]) -> Steps | None:
    *operands, workspace = arrays
    return asked("forward", operands, workspace, conv_implicit_gemm_forward(*operands, **attrs), attrs)


def asked(
    stage: str,
    operands: Sequence[Array],
    workspace: Array,
    otherwise: Steps | None,
    attrs: dict[str, Any],
    relu: bool = False,
) -> Steps | None:
    """What cuDNN is asked for, and what is done without it; no elements of anything are for NumPy."""
    if not all(operand.size for operand in operands):
        return otherwise
    problem = _problem(stage, operands, relu=relu, **attrs)
    return (ByLibrary(Convolution(problem, tuple(operands), workspace), otherwise),)


def _problem(
    stage: str,
    operands: Sequence[Array],
    *,
    window: Sequence[int],
    stride: Sequence[int] = (),
    pad: Sequence[Sequence[int]] = (),
    dilation: Sequence[int] = (),
    bias: bool = False,
    relu: bool = False,
    layout: str = "NCHW",
    **_: object,
) -> Problem:
    """As the NumPy kernels are told; a sequence is an image of height 1."""
    x, weight, y = {
        "forward": (operands[0], operands[1], operands[-1]),
        "dx": (operands[2], operands[1], operands[0]),
        "dw": (operands[1], operands[2], operands[0]),
    }[stage]
    last = x.ndim == 4 and layout == "NHWC"
    ones = (1,) * len(window)

    def two(one: int, numbers: Sequence[int]) -> tuple[int, ...]:
        return (one,) * (len(window) == 1) + tuple(map(int, numbers))

    return Problem(
        stage,
        x.dtype.name,
        _extents(x, last),
        _extents(weight, False),
        _extents(y, last),
        last,
        two(0, [first for first, _ in pad] or [0] * len(window)),
        two(0, [end for _, end in pad] or [0] * len(window)),
        two(1, stride or ones),
        two(1, dilation or ones),
        bias,
        relu,
    )


def _extents(array: Array, last: bool) -> tuple[int, ...]:
    """[n, c, …], with a height of 1 where there is none."""
    shape = tuple(map(int, array.shape))
    if last:
        return (shape[0], shape[-1], *shape[1:-1])
    return (*shape[:2], *((1,) if len(shape) == 3 else ()), *shape[2:])
