"""Ops that dlc has no operator for but that a few of its operators make."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from dlc.frontends.onnx.cover import Cover
from dlc.frontends.onnx.flow import Flow, UncoveredError, combined
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.numbers import real
from dlc.frontends.onnx.translation import Translation, replaced_batch


def clip(node: OnnxNode, made: Translation) -> None:
    """Between two bounds, of which one may be absent; that of 0 and 6 is relu6."""
    low, high = _bound(node, made, 1, "min"), _bound(node, made, 2, "max")
    if low is not None and high is not None and low > high:
        raise UncoveredError(f"its lower bound {low} is above the upper one {high}")
    made.bind(node, clipped(made.value(node), low, high))


def _bound(node: OnnxNode, made: Translation, index: int, attribute: str) -> float | None:
    """A bound, an attribute before opset 11; the largest numbers of f32 stand for none."""
    known = made.constant(node, index)
    value = float(known.reshape(())) if known is not None else node.get(attribute, None)
    return None if value is None or abs(value) > 3.4e38 else float(value)


def clipped(x: Flow, low: float | None, high: float | None) -> Flow:
    """low + relu(x − low) − relu(x − high), without the terms of absent bounds."""
    if low is None:
        return x if high is None else combined("-", x, _above(x, high))
    over = _above(x, low)
    raised = combined("+", over, low) if low else over
    return raised if high is None else combined("-", raised, _above(x, high))


def _above(x: Flow, bound: float) -> Flow:
    return (combined("-", x, bound) if bound else x).apply("relu")


def hard_sigmoid(node: OnnxNode, made: Translation) -> None:
    """alpha·x + beta, between 0 and 1."""
    line = combined("+", combined("*", made.value(node), real(node, "alpha", 0.2)), real(node, "beta", 0.5))
    made.bind(node, clipped(line, 0, 1))


def selu(node: OnnxNode, made: Translation) -> None:
    """gamma times an elu."""
    alpha, gamma = real(node, "alpha", 1.6732632), real(node, "gamma", 1.050701)
    made.bind(node, combined("*", made.value(node).apply("elu", alpha=alpha), gamma))


def celu(node: OnnxNode, made: Translation) -> None:
    """alpha·elu(x/alpha)."""
    alpha = real(node, "alpha", 1.0)
    x = made.value(node)
    made.bind(node, x.apply("elu") if alpha == 1 else combined("*", combined("/", x, alpha).apply("elu"), alpha))


def prelu(node: OnnxNode, made: Translation) -> None:
    """With one slope for all: a leaky relu, whose slope is not trained."""
    slope = made.constant(node, 1)
    assert slope is not None
    if slope.size > 1:
        raise UncoveredError(f"it has {slope.size} slopes, `leaky_relu` has one")
    made.bind(node, made.value(node).apply("leaky_relu", slope=float(slope.reshape(()))))


def negative(node: OnnxNode, made: Translation) -> None:
    """0 − x."""
    made.bind(node, combined("-", 0, made.value(node)))


def reciprocal(node: OnnxNode, made: Translation) -> None:
    """1/x."""
    made.bind(node, combined("/", 1, made.value(node)))


def power(node: OnnxNode, made: Translation) -> None:
    """Squares and cubes."""
    exponent, x = made.constant(node, 1), made.value(node)
    if exponent is None or exponent.size > 1 or float(exponent.reshape(())) not in (1, 2, 3):
        raise UncoveredError("its exponent is not 1, 2 or 3")
    flow = x
    for _ in range(1, int(exponent.reshape(()))):
        flow = combined("*", flow, x)
    made.bind(node, flow)


def reduced(*, to_sum: bool) -> Callable[[OnnxNode, Translation], None]:
    """The mean over any axes but the batch, as that of an image's pixels. The sum is the mean times their number."""

    def translate(node: OnnxNode, made: Translation) -> None:
        given = made.constant(node, 1)
        axes = tuple(node.get("axes", ())) if given is None else tuple(given.tolist())
        x, shape = made.value(node), made.model.types[node.outputs[0]].shape
        if not axes and node.get("noop_with_empty_axes", 0):
            made.bind(node, x)
            return
        over = sorted(map(x.position, axes or range(x.rank)))
        kept = [position for position in range(1, len(x.type.axes)) if position not in over]
        mean = _mean(made, x, kept, over)
        result = combined("*", mean, prod(x.type.shape[at] for at in over)) if to_sum else mean
        keeps = bool(node.get("keepdims", 1))
        gone = 0 if keeps or x.at is None else sum(axis % x.rank < x.at for axis in axes)
        at = None if x.at is None else x.at - gone
        sample = shape if at is None else (*shape[:at], *shape[at + 1 :])
        made.bind(node, replaced_batch(made.sampled(result, sample), at))

    return translate


def _mean(made: Translation, x: Flow, kept: list[int], over: list[int]) -> Flow:
    """[batch, kept, over] -> [batch, kept, 1]."""
    order = tuple(x.type.names[position] for position in (*kept, *over))
    turned = x if order == x.type.names[1:] else x.apply("transpose", order=order)
    extents = tuple(prod(x.type.shape[at] for at in positions) for positions in (kept, over))
    return made.sampled(turned, extents).apply("global_avgpool")


def instance_norm(node: OnnxNode, made: Translation) -> None:
    """A group norm with a group for each channel."""
    x = made.value(node)
    weights = {"scale": made.constant(node, 1), "shift": made.constant(node, 2)}
    made.bind(node, x.apply("groupnorm", weights, groups=x.type.shape[1], eps=real(node, "epsilon", 1e-5)))


def depth_to_space(node: OnnxNode, made: Translation) -> None:
    """Channels as blocks of pixels. DCR has the block before the channels that are left, CRD behind them."""
    x, size = made.value(node), node.get("blocksize", 1)
    channels, height, width = x.extents
    left, crd = channels // size**2, node.get("mode", "DCR") == "CRD"
    split = (left, size, size, height, width) if crd else (size, size, left, height, width)
    order = (0, 3, 1, 4, 2) if crd else (2, 3, 0, 4, 1)
    made.bind(node, _regrouped(made, x, split, order, (left, height * size, width * size)))


def space_to_depth(node: OnnxNode, made: Translation) -> None:
    """Blocks of pixels as channels, the block before the channels, or with CRD behind them."""
    x, size = made.value(node), node.get("blocksize", 1)
    channels, height, width = x.extents
    split = (channels, height // size, size, width // size, size)
    order = (0, 2, 4, 1, 3) if node.get("mode", "DCR") == "CRD" else (2, 4, 0, 1, 3)
    made.bind(node, _regrouped(made, x, split, order, (channels * size**2, height // size, width // size)))


def _regrouped(
    made: Translation, x: Flow, split: tuple[int, ...], order: tuple[int, ...], result: tuple[int, ...]
) -> Flow:
    parts = made.sampled(x, split)
    names = parts.type.names[1:]
    return made.sampled(parts.apply("transpose", order=tuple(names[index] for index in order)), result)


_REDUCED = ("axes", "keepdims", "noop_with_empty_axes")

TABLE = {
    "Clip": Cover(clip, versions=(6, 11, 12, 13), attributes=("min", "max"), constants=(1, 2)),
    "HardSigmoid": Cover(hard_sigmoid, versions=(6, 22), attributes=("alpha", "beta")),
    "Selu": Cover(selu, versions=(6, 22), attributes=("alpha", "gamma")),
    "Celu": Cover(celu, versions=(12, 28), attributes=("alpha",)),
    "PRelu": Cover(prelu, versions=(6, 7, 9, 16), constants=(1,)),
    "Neg": Cover(negative, versions=(6, 13)),
    "Reciprocal": Cover(reciprocal, versions=(6, 13)),
    "Pow": Cover(power, versions=(7, 12, 13, 15), constants=(1,)),
    "ReduceMean": Cover(reduced(to_sum=False), versions=(1, 11, 13, 18), attributes=_REDUCED, constants=(1,)),
    "ReduceSum": Cover(reduced(to_sum=True), versions=(1, 11, 13), attributes=_REDUCED, constants=(1,)),
    "InstanceNormalization": Cover(
        instance_norm, versions=(6, 22), attributes=("epsilon",), constants=(1, 2), by_sample=True
    ),
    "DepthToSpace": Cover(depth_to_space, versions=(1, 11, 13, 28), attributes=("blocksize", "mode"), by_sample=True),
    "SpaceToDepth": Cover(space_to_depth, versions=(1, 13, 28), attributes=("blocksize", "mode"), by_sample=True),
}
