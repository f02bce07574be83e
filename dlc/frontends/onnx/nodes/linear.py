"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.frontends.onnx.flow import Flow, UncoveredError, combined, joined
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.nodes.numbers import real
from dlc.frontends.onnx.translation import Cover, Translation

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array


def gemm(node: OnnxNode, made: Translation) -> None:
    """alpha·A'·B' + beta·C, with B a weight: alpha and beta are multiplied into the weights."""
    weight, c = made.constant(node, 1), made.constant(node, 2)
    assert weight is not None
    rows = weight if node.get("transB", 0) else weight.T
    x = made.value(node)
    if node.get("transA", 0):
        if made.batched:
            raise UncoveredError("attribute `transA` is 1: it moves the batch")
        x = x.apply("transpose")
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    bias = _bias(c, rows.shape[0], beta)
    weights = {"weight": _scaled(rows, alpha), "bias": bias}
    y = x.apply("linear", weights, features=rows.shape[0], bias=bias is not None)
    if node.input(2) and bias is None:
        y = combined("+", y, _added(node, made, y, beta))
    made.bind(node, y)


def _bias(c: Array | None, features: int, beta: float) -> Array | None:
    """C as a bias, where it is the same for all rows."""
    import numpy as np

    if c is None or c.size not in (1, features) or (c.ndim and c.shape[-1] != c.size):
        return None
    return np.broadcast_to(_scaled(c.reshape(-1), beta), (features,))


def _scaled(array: Array, factor: float) -> Array:
    return array if factor == 1 else array * array.dtype.type(factor)


def _added(node: OnnxNode, made: Translation, y: Flow, beta: float) -> Flow | float:
    """C as a value of its own: a matrix, or computed."""
    if made.constant(node, 2) is None:
        c = made.renamed(made.value(node, 2), y.type.names[1:])
        return c if beta == 1 else combined("*", c, beta)
    c_ = made.parameter(node, 2, y.type.axes[1:])
    if isinstance(c_, float) or beta == 1:
        return c_ * beta if isinstance(c_, float) else c_
    return combined("*", c_, beta)


def matmul(node: OnnxNode, made: Translation) -> None:
    """By a constant matrix on the right: a linear map. Of two values: `@`."""
    right = made.constant(node, 1)
    if right is not None and right.ndim == 2:
        x = made.value(node)
        made.bind(node, x.apply("linear", {"weight": right.T}, features=right.shape[1], bias=False))
        return
    if right is not None or made.constant(node, 0) is not None:
        raise UncoveredError("a constant that is no matrix on its right side is multiplied")
    made.bind(node, _product(made, made.value(node), made.value(node, 1)))


def _product(made: Translation, a: Flow, b: Flow) -> Flow:
    """Matrices of two values, under names that tell rows, contracted axis and columns apart."""
    ranks = [len(flow.type.axes) - 1 for flow in (a, b)]
    if min(ranks) < 2:
        raise UncoveredError("one of its operands is a vector")
    if made.batched and ranks[0] != ranks[1]:
        raise UncoveredError("the batch of one value would meet another axis")
    leading = tuple(f"axis_{place}" for place in range(max(ranks) - 2, 0, -1))
    left = made.renamed(a, (*leading[len(leading) - ranks[0] + 2 :], "seq", "width"))
    right = made.renamed(b, (*leading[len(leading) - ranks[1] + 2 :], "width", "key"))
    return joined_matrices(left, right)


def joined_matrices(left: Flow, right: Flow) -> Flow:
    """`left @ right`."""
    return joined("matmul", left, right)


TABLE = {
    "Gemm": Cover(gemm, versions=(7, 9, 11, 13), attributes=("alpha", "beta", "transA", "transB"), constants=(1,)),
    "MatMul": Cover(matmul, versions=(1, 9, 13)),
}
