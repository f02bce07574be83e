"""Convolution and pooling."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from dlc.frontends.onnx.cover import Cover
from dlc.frontends.onnx.flow import Flow, UncoveredError
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.translation import Translation
from dlc.ir.graph import Attr

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array

Pads = tuple[tuple[int, int], ...]

WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


def conv(node: OnnxNode, made: Translation) -> None:
    """Weight [K, C/groups, window] and bias [K], as dlc has them; with a group for each channel a depthwise one."""
    x, weight = made.value(node), made.constant(node, 1)
    assert weight is not None
    window, groups = tuple(weight.shape[2:]), node.get("group", 1)
    filters = weight.shape[0]
    is_depthwise = groups == x.type.shape[1] > 1
    args: dict[str, Attr] = (
        {"multiplier": filters // groups} if is_depthwise else {"filters": filters, "groups": groups}
    )
    y = x.apply(
        "depthwise_conv" if is_depthwise else "conv",
        {"weight": weight, "bias": made.constant(node, 2)},
        **args,
        window=window,
        **_slide(node, window, x.type.shape[2:]),
        dilation=_unless_one(_dilation(node, len(window))),
        bias=bool(node.input(2)),
    )
    made.bind(node, y)


def conv_transpose(node: OnnxNode, made: Translation) -> None:
    """Weight [C, K/groups, window] and bias [K], as dlc has them."""
    x, weight = made.value(node), made.constant(node, 1)
    assert weight is not None
    window, groups = tuple(weight.shape[2:]), node.get("group", 1)
    stride, dilation = _stride(node, len(window)), _dilation(node, len(window))
    pads, output_pad = _transposed_pads(node, window, x.type.shape[2:])
    y = x.apply(
        "conv_transpose",
        {"weight": weight, "bias": made.constant(node, 2)},
        filters=weight.shape[1] * groups,
        window=window,
        stride=_unless_one(stride),
        pad=_written(pads),
        output_pad=_even(output_pad) if any(output_pad) else None,
        dilation=_unless_one(dilation),
        groups=groups,
        bias=bool(node.input(2)),
    )
    made.bind(node, y)


def _transposed_pads(node: OnnxNode, window: tuple[int, ...], extents: tuple[int, ...]) -> tuple[Pads, tuple[int, ...]]:
    """Pads and output pads; what `output_shape` and SAME leave over is taken off both ends, the odd one off the end for
    SAME_UPPER and off the beginning otherwise. Where the result would be too small for them, it grows at its end."""
    axes, mode = len(window), node.get("auto_pad", "NOTSET")
    behind = tuple(node.get("output_padding", (0,) * axes))
    steps, apart = _stride(node, axes), _dilation(node, axes)
    wanted = tuple(node.get("output_shape", ()))[-axes:]
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(extent * step for extent, step in zip(extents, steps, strict=True))
    if not wanted:
        return _pads(node, window, extents), behind
    pads, grown = [], []
    for index, extent in enumerate(extents):
        reach = (window[index] - 1) * apart[index] + 1
        over = (extent - 1) * steps[index] + reach + behind[index] - wanted[index]
        less, more = max(0, over) // 2, max(0, over) - max(0, over) // 2
        pads.append((less, more) if mode == "SAME_UPPER" else (more, less))
        grown.append(behind[index] + max(0, -over))
    return tuple(pads), tuple(grown)


def max_pool(node: OnnxNode, made: Translation) -> None:
    """Pads never win, in both."""
    made.bind(node, _pool("maxpool", node, made))


def average_pool(node: OnnxNode, made: Translation) -> None:
    """ONNX leaves pads out of the mean unless it is told to count them; dlc counts them unless it is told not to.

    Pads that count and are wider than dlc's pools take become zeros of an op of their own.
    """
    x, window = made.value(node), tuple(node.get("kernel_shape", ()))
    pads, counts = _pads(node, window, x.type.shape[2:]), bool(node.get("count_include_pad", 0))
    if counts and not node.get("ceil_mode", 0) and _is_wide(pads, window):
        stride = _stride(node, len(window))
        padded = x.apply("pad", amount=pads, axis=x.type.names[2:])
        made.bind(node, padded.apply("avgpool", window=window, stride=None if stride == window else _even(stride)))
    else:
        made.bind(node, _pool("avgpool", node, made, count_pad=counts or not any(map(any, pads))))


def _is_wide(pads: Pads, window: tuple[int, ...]) -> bool:
    """Whether a pad is more than half of the window."""
    return any(2 * max(pad) > extent for pad, extent in zip(pads, window, strict=True))


def _pool(op: str, node: OnnxNode, made: Translation, **args: bool) -> Flow:
    x = made.value(node)
    window = tuple(node.get("kernel_shape", ()))
    if any(step > 1 for step in _dilation(node, len(window))):
        raise UncoveredError(f"`{op}` has no dilation")
    slide = _slide(node, window, x.type.shape[2:], stride_by_default=window)
    return x.apply(op, window=window, **slide, ceil=bool(node.get("ceil_mode", 0)), **args)


def global_pool(op: str) -> Cover:
    """A pool over all axes behind the channels."""

    def translate(node: OnnxNode, made: Translation) -> None:
        made.bind(node, made.value(node).apply(op))

    return Cover(translate, versions=(1, 22), by_sample=True)


def resize(node: OnnxNode, made: Translation) -> None:
    """By whole factors along the axes behind the channels, where the ways of counting positions agree with dlc's."""
    x, mode = made.value(node), node.get("mode", "nearest")
    shape = made.model.types[node.outputs[0]].shape
    factors = [Fraction(after, before) for after, before in zip(shape, x.type.shape, strict=True)]
    whole = all(factor.denominator == 1 for factor in factors) and factors[:2] == [1, 1]
    if not whole or not _are_whole(made.constant(node, 1 if node.op == "Upsample" or node.version < 11 else 2)):
        sizes = " to ".join(str(list(extents)) for extents in (x.type.shape, shape))
        raise UncoveredError(f"it goes from {sizes}, not by whole factors behind the channels")
    old = node.op == "Upsample" or node.version < 11
    position = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    rounded = "floor" if old else node.get("nearest_mode", "round_prefer_floor")
    if (mode, position) not in _LINEAR and (mode, position, rounded) not in _NEAREST:
        raise UncoveredError(f"it is {mode}, its positions {position}, rounded by {rounded}")
    factor = _even(tuple(int(factor) for factor in factors[2:]))
    made.bind(node, x.apply("upsample", factor=factor, mode="linear" if mode == "linear" else "nearest"))


_CENTRED = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
_LINEAR = {("linear", position) for position in _CENTRED}
_NEAREST = {
    ("nearest", "asymmetric", "floor"),
    *(("nearest", position, mode) for position in _CENTRED for mode in ("round_prefer_floor", "round_prefer_ceil")),
}


def _are_whole(scales: Array | None) -> bool:
    """Whether the factors are whole themselves, where they are given: 2.3 may lead to whole extents too."""
    return scales is None or bool((scales == scales.round()).all())


# --- windows -----------------------------------------------------------------------------------------------------


def _slide(
    node: OnnxNode, window: tuple[int, ...], extents: tuple[int, ...], stride_by_default: tuple[int, ...] = ()
) -> dict[str, tuple[int, ...] | Pads | int | str | None]:
    """`stride` and `pad`; None where they are what dlc takes by default, `stride_by_default` or 1."""
    stride = _stride(node, len(window))
    default = stride_by_default or (1,) * len(window)
    return {"stride": None if stride == default else _even(stride), "pad": _written(_pads(node, window, extents))}


def _stride(node: OnnxNode, axes: int) -> tuple[int, ...]:
    return tuple(node.get("strides", (1,) * axes))


def _dilation(node: OnnxNode, axes: int) -> tuple[int, ...]:
    return tuple(node.get("dilations", (1,) * axes))


def _unless_one(extents: tuple[int, ...]) -> tuple[int, ...] | int | None:
    return None if all(extent == 1 for extent in extents) else _even(extents)


def _even(extents: tuple[int, ...]) -> tuple[int, ...] | int:
    """One number where all are the same."""
    return extents[0] if len(set(extents)) == 1 else extents


def _pads(node: OnnxNode, window: tuple[int, ...], extents: tuple[int, ...]) -> Pads:
    """(before, after) of each axis. SAME_UPPER and SAME_LOWER pad to ⌈extent / stride⌉ windows, an odd one after or
    before."""
    axes = len(extents)
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = tuple(node.get("pads", (0,) * (2 * axes)))
        return tuple(zip(pads[:axes], pads[axes:], strict=True))
    if mode == "VALID":
        return ((0, 0),) * axes
    found = []
    for extent, size, step, apart in zip(extents, window, _stride(node, axes), _dilation(node, axes), strict=True):
        total = max(0, (-(-extent // step) - 1) * step + (size - 1) * apart + 1 - extent)
        less, more = total // 2, total - total // 2
        found.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return tuple(found)


def _written(pads: Pads) -> tuple[int, ...] | Pads | int | None:
    """A number, one number an axis, or pairs; None where there are none."""
    if not any(map(any, pads)):
        return None
    if all(before == after for before, after in pads):
        return _even(tuple(before for before, _ in pads))
    return pads


TABLE = {
    "Conv": Cover(conv, versions=(1, 11, 22), attributes=(*WINDOW, "group"), constants=(1, 2), by_sample=True),
    "MaxPool": Cover(
        max_pool, versions=(1, 8, 10, 11, 12, 22), attributes=(*WINDOW, "ceil_mode", "storage_order"), by_sample=True
    ),
    "AveragePool": Cover(
        average_pool,
        versions=(1, 7, 10, 11, 19, 22),
        attributes=(*WINDOW, "ceil_mode", "count_include_pad"),
        by_sample=True,
    ),
    "ConvTranspose": Cover(
        conv_transpose,
        versions=(1, 11, 22),
        attributes=(*WINDOW, "group", "output_padding", "output_shape"),
        constants=(1, 2),
        by_sample=True,
    ),
    "Resize": Cover(
        resize,
        versions=(10, 11, 13, 18, 19),
        attributes=("axes", "coordinate_transformation_mode", "keep_aspect_ratio_policy", "mode", "nearest_mode"),
        constants=(1, 2, 3),
        by_sample=True,
    ),
    "Upsample": Cover(resize, versions=(7, 9), attributes=("mode", "scales"), constants=(1,), by_sample=True),
    "GlobalAveragePool": global_pool("global_avgpool"),
    "GlobalMaxPool": global_pool("global_maxpool"),
}
