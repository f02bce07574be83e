"""Activations, arithmetic, and what happens along one axis."""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING

from dlc.frontends.onnx.cover import Cover
from dlc.frontends.onnx.flow import Flow, UncoveredError, combined
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.numbers import real
from dlc.frontends.onnx.translation import Translation

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array


ARITHMETIC = (7, 13, 14)
"""The versions of Add, Sub, Mul and Div; earlier ones broadcast otherwise."""

MASKED = -1e30
"""Scores below this have no weight after a softmax."""


def activation(op: str, *versions: int) -> Cover:
    """An op that has nothing to set."""

    def translate(node: OnnxNode, made: Translation) -> None:
        made.bind(node, made.value(node).apply(op))

    return Cover(translate, versions)


def leaky_relu(node: OnnxNode, made: Translation) -> None:
    """`alpha` is the slope below zero."""
    made.bind(node, made.value(node).apply("leaky_relu", slope=real(node, "alpha", 0.01)))


def elu(node: OnnxNode, made: Translation) -> None:
    """alpha·(eˣ − 1) below zero."""
    made.bind(node, made.value(node).apply("elu", alpha=real(node, "alpha", 1.0)))


def gelu(node: OnnxNode, made: Translation) -> None:
    """Exact, or by tanh."""
    made.bind(node, made.value(node).apply("gelu", approximate=node.get("approximate", "none")))


def swish(node: OnnxNode, made: Translation) -> None:
    """x·σ(alpha·x), which is silu for an alpha of 1."""
    alpha, x = real(node, "alpha", 1.0), made.value(node)
    if alpha == 1:
        made.bind(node, x.apply("silu"))
    else:
        made.bind(node, combined("*", x, combined("*", x, alpha).apply("sigmoid")))


def hard_swish(node: OnnxNode, made: Translation) -> None:
    """x·min(max(x + 3, 0), 6)/6."""
    made.bind(node, made.value(node).apply("hard_swish"))


def along_axis(op: str) -> Cover:
    """Softmax and its logarithm. Before opset 13 they join all axes from `axis` on (1 by default) to one row."""

    def translate(node: OnnxNode, made: Translation) -> None:
        x, joins = made.value(node), node.version < 13
        axis = node.get("axis", 1 if joins else -1)
        position = x.require_rows(axis) if joins else x.position(axis)
        if joins and any(extent > 1 for extent in x.type.shape[position + 1 :]):
            rows = made.sampled(x, (*x.type.shape[1:position], prod(x.type.shape[position:])))
            made.bind(node, made.sampled(rows.apply(op), x.extents))
        else:
            is_last = position == len(x.type.axes) - 1
            made.bind(node, x.apply(op, axis=None if is_last else x.type.names[position]))

    return Cover(translate, versions=(1, 11, 13), attributes=("axis",))


def dropout(node: OnnxNode, made: Translation) -> None:
    """Kept for training to come; in evaluation it does nothing, in both."""
    ratio = made.constant(node, 1)
    p = float(ratio) if ratio is not None else real(node, "ratio", 0.5)
    mode = made.constant(node, 2)
    if mode is not None and bool(mode):
        raise UncoveredError("its input `training_mode` is true")
    x = made.value(node)
    made.bind(node, x.apply("dropout", p=round(p, 7)) if p else x)


def identity(node: OnnxNode, made: Translation) -> None:
    """Another name for the same value."""
    made.bind(node, made.value(node))


def cast(node: OnnxNode, made: Translation) -> None:
    """To the type that a value has anyway."""
    types = made.model.types.get(node.inputs[0]), made.model.types.get(node.outputs[0])
    dtypes = [None if type_ is None else type_.dtype for type_ in types]
    if dtypes[0] != dtypes[1]:
        raise UncoveredError(f"it makes {dtypes[1] or 'another type'} of {dtypes[0]}")
    made.bind(node, made.value(node))


def add(node: OnnxNode, made: Translation) -> None:
    """A sum; one with a constant that is −∞ where a key comes after the query is a causal mask."""
    for mask, scores in ((0, 1), (1, 0)):
        constant, x = made.constant(node, mask), made.flows.get(node.input(scores))
        if constant is not None and x is not None and _has_scores(x) and _is_causal(constant):
            made.bind(node, x.apply("causal_mask"))
            return
    made.bind(node, made.arithmetic("+", node))


def divide(node: OnnxNode, made: Translation) -> None:
    """A quotient; the one by √2 before an error function begins what gelu was before ONNX had it."""
    nodes = _gelu(node, made)
    if nodes:
        made.taken.update(inner.outputs[0] for inner in nodes[:-1])
        made.bind(nodes[-1], made.value(node).apply("gelu"))
    else:
        made.bind(node, made.arithmetic("/", node))


def _gelu(node: OnnxNode, made: Translation) -> tuple[OnnxNode, ...]:
    """The nodes of x·(1 + erf(x/√2))·0.5, as PyTorch writes it, after the first; empty where they are others."""
    x, nodes, last = node.input(0), list[OnnxNode](), node
    for op, number in (("Erf", None), ("Add", 1.0), ("Mul", None), ("Mul", 0.5)):
        found = made.only_reader(last, op)
        if found is None or (number is not None and number not in map(_number, _constants(found, made))):
            return ()
        last = found
        nodes.append(found)
    root = [abs(number - sqrt(2)) < 1e-6 for number in map(_number, _constants(node, made)) if number is not None]
    return tuple(nodes) if root == [True] and x in nodes[2].inputs and x in made.flows else ()


def _constants(node: OnnxNode, made: Translation) -> list[Array]:
    return [constant for index in (0, 1) if (constant := made.constant(node, index)) is not None]


def _number(constant: Array) -> float | None:
    return float(constant.reshape(())) if constant.size == 1 else None


def arithmetic(sign: str) -> Cover:
    """Two values, or one and a constant."""

    def translate(node: OnnxNode, made: Translation) -> None:
        made.bind(node, made.arithmetic(sign, node))

    return Cover(translate, versions=ARITHMETIC, weights=(0, 1))


def _has_scores(x: Flow) -> bool:
    """Whether the last two axes are a sample's own."""
    return x.at in (0, None) and len(x.sample) > 1


def _is_causal(constant: Array) -> bool:
    """Whether a matrix is zero on and below its diagonal and as good as −∞ above it."""
    import numpy as np

    rows, columns = constant.shape[-2:] if constant.ndim > 1 else (0, 0)
    if rows < 2 or rows != columns or constant.size != rows * columns:
        return False
    matrix = constant.reshape(rows, columns)
    above = np.triu(np.ones(matrix.shape, bool), 1)
    return bool((matrix[~above] == 0).all() and (matrix[above] < MASKED).all())


def total(node: OnnxNode, made: Translation) -> None:
    """The sum of any number of values."""
    made.bind(node, _sum(node, made))


def mean(node: OnnxNode, made: Translation) -> None:
    """Their sum divided by their number."""
    made.bind(node, combined("/", _sum(node, made), len(node.inputs)) if len(node.inputs) > 1 else made.value(node))


def _sum(node: OnnxNode, made: Translation) -> Flow:
    flow = made.value(node)
    for index in range(1, len(node.inputs)):
        flow = made.met("+", flow, made.value(node, index))
    return flow


TABLE = {
    "Relu": activation("relu", 6, 13, 14),
    "LeakyRelu": Cover(leaky_relu, versions=(6, 16), attributes=("alpha",)),
    "Elu": Cover(elu, versions=(6, 22), attributes=("alpha",)),
    "Gelu": Cover(gelu, versions=(20,), attributes=("approximate",)),
    "Sigmoid": activation("sigmoid", 6, 13),
    "Tanh": activation("tanh", 6, 13),
    "HardSwish": activation("hard_swish", 14, 22),
    "Swish": Cover(swish, versions=(24,), attributes=("alpha",)),
    "Softmax": along_axis("softmax"),
    "LogSoftmax": along_axis("log_softmax"),
    "Dropout": Cover(dropout, versions=(7, 10, 12, 13, 22), attributes=("ratio", "seed"), constants=(1, 2)),
    "Identity": Cover(identity, versions=(1, 13, 14, 16, 19, 21, 23, 24, 25)),
    "Cast": Cover(cast, versions=(6, 9, 13, 19, 21, 23, 24, 25, 28), attributes=("to", "saturate", "round_mode")),
    "Add": Cover(add, versions=ARITHMETIC, weights=(0, 1)),
    "Sub": arithmetic("-"),
    "Mul": arithmetic("*"),
    "Div": Cover(divide, versions=ARITHMETIC, weights=(0, 1)),
    "Sum": Cover(total, versions=(6, 8, 13)),
    "Mean": Cover(mean, versions=(6, 8, 13)),
}
