"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.frontends.onnx.cover import Cover
from dlc.frontends.onnx.flow import Flow, UncoveredError, combined
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.numbers import real
from dlc.frontends.onnx.translation import Translation, replaced_batch, require_aligned

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array


def gemm(node: OnnxNode, made: Translation) -> None:
    """alpha·A'·B' + beta·C, with B a weight: alpha and beta are multiplied into the weights."""
    weight, c = made.constant(node, 1), made.constant(node, 2)
    assert weight is not None
    rows = weight if node.get("transB", 0) else weight.T
    x = made.value(node)
    if node.get("transA", 0):
        x = _swapped(x)
    x.require_rows(-1)
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    bias = _bias(c, rows.shape[0], beta)
    y = linear(made, x, _scaled(rows, alpha), bias)
    if node.input(2) and bias is None:
        y = combined("+", y, _added(node, made, y, beta))
    made.bind(node, y)


def linear(made: Translation, x: Flow, weight: Array, bias: Array | None) -> Flow:
    """A linear map; one with the weight of an op before it borrows that."""
    owner = made.owner(weight)
    weights = {"weight": None if owner else weight, "bias": bias}
    return x.apply("linear", weights, features=weight.shape[0], bias=bias is not None, tied=owner)


def _swapped(x: Flow) -> Flow:
    """A matrix of the model with its two axes the other way round."""
    return x.apply("transpose") if x.at is None else replaced_batch(x, 1 - x.at)


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
    if made.constant(node, 2) is not None:
        c = made.parameter(node, 2, y)
    else:
        require_aligned(y, value := made.value(node, 2))
        c = made.renamed(value, y.type.names[len(y.type.axes) - len(value.sample) :])
    if isinstance(c, float):
        return c * beta
    return c if beta == 1 else combined("*", c, beta)


def matmul(node: OnnxNode, made: Translation) -> None:
    """By a constant matrix on the right: a linear map, with the bias that is added to it alone. Of two values: `@`."""
    right = made.constant(node, 1)
    if right is not None and right.ndim == 2:
        x = made.value(node)
        x.require_rows(-1)
        last, bias = _biased(node, made, right.shape[1])
        made.bind(last, linear(made, x, right.T, bias))
        return
    if right is not None or made.constant(node, 0) is not None:
        raise UncoveredError("a constant that is no matrix on its right side is multiplied")
    made.bind(node, _product(made, made.value(node), made.value(node, 1)))


def _biased(node: OnnxNode, made: Translation, features: int) -> tuple[OnnxNode, Array | None]:
    """The sum that alone reads a product and adds a bias to it, and the bias; else the product itself."""
    added = made.only_reader(node, "Add")
    for index in (0, 1) if added is not None else ():
        assert added is not None
        bias = made.constant(added, index)
        if bias is not None and bias.shape[-1:] == (features,) and bias.size == features:
            return added, bias.reshape(-1)
    return node, None


def _product(made: Translation, a: Flow, b: Flow) -> Flow:
    """Matrices of two values; a vector is a matrix of one row on the left, of one column on the right."""
    ranks = [flow.rank for flow in (a, b)]
    if 1 in ranks and (a.at, b.at) != (None, None):
        raise UncoveredError("one of its operands is a vector")
    left = made.sampled(a, (1, *a.extents)) if ranks[0] == 1 else a
    right = made.sampled(b, (*b.extents, 1)) if ranks[1] == 1 else b
    require_aligned(left, right)
    if left.at is not None and left.rank - left.at < 3:
        raise UncoveredError("it works along the batch")
    y = combined("@", left, made.renamed(right, _names_beside(left, right)))
    kept = [extent for index, extent in enumerate(y.extents) if not _is_added(index - len(y.extents), ranks)]
    return made.sampled(y, tuple(kept)) if 1 in ranks else y


def _names_beside(left: Flow, right: Flow) -> tuple[str, ...]:
    """The names of the right matrices' axes, so that those before the last two are the left's, and the result has each
    name once."""
    names = list(right.type.names[1:])
    leading = left.type.names[1:-2]
    shared = min(len(leading), len(names) - 2)
    names[len(names) - 2 - shared : -2] = leading[len(leading) - shared :]
    taken = {*left.type.names[:-1], *names[:-1]}
    names[-1] = next(name for name in (names[-1], "key", "feature", "column") if name not in taken)
    return tuple(names)


def _is_added(axis: int, ranks: list[int]) -> bool:
    """Whether an axis of the product, counted from the end, is one that a vector was given."""
    return (axis == -2 and ranks[0] == 1) or (axis == -1 and ranks[1] == 1)


TABLE = {
    "Gemm": Cover(
        gemm, versions=(7, 9, 11, 13), attributes=("alpha", "beta", "transA", "transB"), constants=(1,), weights=(2,)
    ),
    "MatMul": Cover(matmul, versions=(1, 9, 13), weights=(1,)),
}
