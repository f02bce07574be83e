"""How the operators of dlc are said in ONNX, a function for each, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlc.frontends.onnx.counterparts_attention import affine, attention, causal_mask, merge_heads, split_heads
from dlc.frontends.onnx.counterparts_recurrent import recurrent
from dlc.frontends.onnx.exporting import Counterpart, Export, NoCounterpartError
from dlc.ir.graph import Node
from dlc.ir.tensor import TensorType

RMS_NORM_OPSET = 23
"""The opset in which RMSNormalization came."""


def _attrs(node: Node) -> dict[str, Any]:
    return dict(node.attrs)


# --- windows -----------------------------------------------------------------------------------------------------


def _slide(node: Node) -> dict[str, Any]:
    """Window, stride and pads: ONNX has all pads before, then all after."""
    attrs = _attrs(node)
    pads = [pad[side] for side in (0, 1) for pad in attrs["pad"]]
    return {"kernel_shape": attrs["window"], "strides": attrs["stride"], "pads": pads}


def conv(made: Export, node: Node) -> None:
    """A depthwise one has a group for each channel."""
    known, attrs = made.roles(node), _attrs(node)
    groups = made.type(node).shape[1] if node.op == "depthwise_conv" else attrs["groups"]
    inputs = [known[role] for role in ("x", "weight", "bias") if role in known]
    made.add("Conv", inputs, known["y"], **_slide(node), dilations=attrs["dilation"], group=groups)


def conv_transpose(made: Export, node: Node) -> None:
    """The weight has the same order."""
    known, attrs = made.roles(node), _attrs(node)
    inputs = [known[role] for role in ("x", "weight", "bias") if role in known]
    more = {"dilations": attrs["dilation"], "group": attrs["groups"], "output_padding": attrs["output_pad"]}
    made.add("ConvTranspose", inputs, known["y"], **_slide(node), **more)


def local_conv(_made: Export, _node: Node) -> None:
    """ONNX shares the weights of a convolution."""
    raise NoCounterpartError("ONNX has no convolution whose weights are not shared")


def maxpool(made: Export, node: Node) -> None:
    """Its second result, where the largest elements stood, is for the backward pass."""
    known = made.roles(node)
    made.add("MaxPool", [known["x"]], known["y"], **_slide(node), ceil_mode=int(_attrs(node)["ceil"]))


def avgpool(made: Export, node: Node) -> None:
    """ONNX leaves pads out of the mean unless it is told to count them."""
    known, attrs = made.roles(node), _attrs(node)
    counted = {"ceil_mode": int(attrs["ceil"]), "count_include_pad": int(attrs["count_pad"])}
    made.add("AveragePool", [known["x"]], known["y"], **_slide(node), **counted)


def upsample(made: Export, node: Node) -> None:
    """Nearest by whole factors, or linear between the middles of elements."""
    known, attrs = made.roles(node), _attrs(node)
    scales = made.constant(f"{node.address}.scales", [1, 1, *attrs["factor"]], "float32")
    nearest = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
    linear = {"coordinate_transformation_mode": "half_pixel", "mode": "linear"}
    made.add("Resize", [known["x"], "", scales], known["y"], **(linear if attrs["mode"] == "linear" else nearest))


# --- one to one ----------------------------------------------------------------------------------------------------


def same(op: str, *attributes: str) -> Counterpart:
    """An op with one operand and one result; attributes `NAME` or `NAME=ONNX's`."""

    def add(made: Export, node: Node) -> None:
        known, attrs = made.roles(node), _attrs(node)
        pairs = (attribute.partition("=") for attribute in attributes)
        given = {theirs or ours: attrs[ours] for ours, _, theirs in pairs}
        made.add(op, [known["x"]], known["y"], **given)

    return add


def silu(made: Export, node: Node) -> None:
    """x·σ(x)."""
    known = made.roles(node)
    sigmoid = made.add("Sigmoid", [known["x"]], f"{node.address}.sigmoid")
    made.add("Mul", [known["x"], sigmoid], known["y"])


def dropout(made: Export, node: Node) -> None:
    """In inference it does nothing; its rate is kept."""
    known = made.roles(node)
    ratio = made.number(f"{node.address}.ratio", _attrs(node)["p"])
    made.add("Dropout", [known["x"], ratio], known["y"])


# --- norms ---------------------------------------------------------------------------------------------------------


def bn(made: Export, node: Node) -> None:
    """By running averages. ONNX's momentum is the share of the old average."""
    known, attrs = made.roles(node), _attrs(node)
    inputs = [known[role] for role in ("x", "scale", "shift", "mean", "variance")]
    made.add("BatchNormalization", inputs, known["y"], epsilon=attrs["eps"], momentum=1 - attrs["momentum"])


def layernorm(made: Export, node: Node) -> None:
    """Over the last axis."""
    known = made.roles(node)
    inputs = [known[role] for role in ("x", "scale", "shift")]
    made.add("LayerNormalization", inputs, known["y"], axis=-1, epsilon=_attrs(node)["eps"])


def rmsnorm(made: Export, node: Node) -> None:
    """Over the last axis, in a newer opset."""
    known = made.roles(node)
    made.opset = max(made.opset, RMS_NORM_OPSET)
    made.add("RMSNormalization", [known["x"], known["scale"]], known["y"], axis=-1, epsilon=_attrs(node)["eps"])


def groupnorm(made: Export, node: Node) -> None:
    """A scale and a shift for each channel."""
    known, attrs = made.roles(node), _attrs(node)
    inputs = [known[role] for role in ("x", "scale", "shift")]
    made.add("GroupNormalization", inputs, known["y"], num_groups=attrs["groups"], epsilon=attrs["eps"])


def lrn(made: Export, node: Node) -> None:
    """The windows agree where they are symmetric."""
    known, attrs = made.roles(node), _attrs(node)
    if attrs["size"] % 2 == 0:
        raise NoCounterpartError(f"its window of {attrs['size']} channels lies otherwise in ONNX: an odd one agrees")
    settings = {"alpha": attrs["alpha"], "beta": attrs["beta"], "bias": attrs["k"]}
    made.add("LRN", [known["x"]], known["y"], size=attrs["size"], **settings)


def weight_norm(made: Export, node: Node) -> None:
    """The weight that direction and magnitude make, as it stands."""
    import numpy as np

    direction, magnitude = (made.weights[name] for name in node.inputs)
    norms = np.linalg.norm(direction.reshape(len(direction), -1), axis=1).reshape(magnitude.shape)
    made.initialisers[node.outputs[0]] = (direction * (magnitude / norms)).astype(direction.dtype)


# --- weights -------------------------------------------------------------------------------------------------------


def linear(made: Export, node: Node) -> None:
    """x·Wᵀ + b: of rows by Gemm, of more axes by a product with the transposed weight."""
    known, attrs = made.roles(node), _attrs(node)
    turned = bool(attrs.get("transposed", False))
    if len(made.type(node).axes) == 2:
        inputs = [known[role] for role in ("x", "weight", "bias") if role in known]
        made.add("Gemm", inputs, known["y"], transB=int(not turned))
        return
    weight = known["weight"] if turned else made.add("Transpose", [known["weight"]], f"{node.address}.turned")
    affine(made, node, [known["x"], weight], known.get("bias"), known["y"])


def embedding(made: Export, node: Node) -> None:
    """Rows of the table."""
    known = made.roles(node)
    made.add("Gather", [known["weight"], known["x"]], known["y"], axis=0)


def position_embedding(made: Export, node: Node) -> None:
    """The table for every sequence: as many as the operand has."""
    known = made.roles(node)
    shape = made.add("Shape", [known["x"]], f"{node.address}.sequences", start=0, end=-1)
    ones = made.constant(f"{node.address}.ones", [1, 1])
    target = made.add("Concat", [shape, ones], f"{node.address}.shape", axis=0)
    made.add("Expand", [known["weight"], target], known["y"])


def parameter(made: Export, node: Node) -> None:
    """The weight itself is the value."""
    made.names[node.outputs[0]] = made.roles(node)["weight"]


# --- arithmetic ----------------------------------------------------------------------------------------------------


def arithmetic(op: str) -> Counterpart:
    """Of two values, which ONNX aligns from the last axis, or of a value and a number."""

    def add(made: Export, node: Node) -> None:
        known, attrs = made.roles(node), _attrs(node)
        if "scalar" in attrs:
            number = made.number(f"{node.address}.scalar", attrs["scalar"])
            made.add(op, [number, known["a"]] if attrs["scalar_first"] else [known["a"], number], known["y"])
        else:
            made.add(op, _aligned(made, node, known, behind=0), known["y"])

    return add


def matmul(made: Export, node: Node) -> None:
    """The axes before the last two are aligned."""
    known = made.roles(node)
    made.add("MatMul", _aligned(made, node, known, behind=2), known["y"])


def _aligned(made: Export, node: Node, known: Mapping[str, str], behind: int) -> list[str]:
    """Both operands, the one with fewer axes with axes of one element in the places of those that it lacks.

    The attribute `axes` says at which positions its axes stand, but for the last `behind`.
    """
    operands = [known["a"], known["b"]]
    axes = _attrs(node).get("axes")
    if axes is None:
        return operands
    ranks = [len(made.type(node, index).axes) - behind for index in (0, 1)]
    missing = [position for position in range(max(ranks)) if position not in axes]
    first = min(axes, default=max(ranks))
    inner = [position for position in missing if position > first]  # those in front are ONNX's own doing
    narrow = ranks.index(min(ranks))
    if inner:
        places = made.constant(f"{node.address}.axes", [position - first for position in inner])
        operands[narrow] = made.add("Unsqueeze", [operands[narrow], places], f"{node.address}.aligned")
    return operands


# --- shapes --------------------------------------------------------------------------------------------------------


def reshape(made: Export, node: Node) -> None:
    """A zero keeps the batch, however large it is."""
    known, result = made.roles(node), made.graph.type(node.outputs[0])
    shape = made.constant(f"{node.address}.shape", _open(result))
    made.add("Reshape", [known["x"], shape], known["y"])


def _open(type_: TensorType) -> list[int]:
    return [0 if axis.name == "batch" else axis.extent for axis in type_.axes]


def transpose(made: Export, node: Node) -> None:
    """The last two axes, or the order that is given."""
    known, rank = made.roles(node), len(made.type(node).axes)
    order = _attrs(node).get("order", (*range(rank - 2), rank - 1, rank - 2))
    made.add("Transpose", [known["x"]], known["y"], perm=list(order))


def concat(made: Export, node: Node) -> None:
    """Any number of operands."""
    known = made.roles(node)
    operands = [known[f"x{index}"] for index in range(len(node.inputs))]
    made.add("Concat", operands, known["y"], axis=_attrs(node)["axis"])


def split(made: Export, node: Node) -> None:
    """Parts of the extents that are given."""
    known, attrs = made.roles(node), _attrs(node)
    parts = made.constant(f"{node.address}.parts", attrs["n"])
    results = [known[f"y{index}"] for index in range(len(node.outputs))]
    made.add("Split", [known["x"], parts], *results, axis=attrs["axis"])


def slice_(made: Export, node: Node) -> None:
    """One axis; a stop that is left away is beyond the end, on either side."""
    known, attrs = made.roles(node), _attrs(node)
    beyond = 2**31 if attrs["step"] > 0 else -(2**31)
    bounds = {
        "starts": attrs["start"],
        "ends": attrs.get("stop", beyond),
        "axes": attrs["axis"],
        "steps": attrs["step"],
    }
    inputs = [made.constant(f"{node.address}.{name}", [value]) for name, value in bounds.items()]
    made.add("Slice", [known["x"], *inputs], known["y"])


def pad(made: Export, node: Node) -> None:
    """Only the axes that are named."""
    known, attrs = made.roles(node), _attrs(node)
    amounts = [pair[side] for side in (0, 1) for pair in attrs["amount"]]
    inputs = [
        made.constant(f"{node.address}.pads", amounts),
        made.number(f"{node.address}.value", attrs["value"]),
        made.constant(f"{node.address}.axes", attrs["axis"]),
    ]
    made.add("Pad", [known["x"], *inputs], known["y"], mode=attrs["mode"])


COUNTERPARTS: Mapping[str, Counterpart] = {
    "conv": conv,
    "depthwise_conv": conv,
    "conv_transpose": conv_transpose,
    "local_conv": local_conv,
    "maxpool": maxpool,
    "avgpool": avgpool,
    "global_avgpool": same("GlobalAveragePool"),
    "global_maxpool": same("GlobalMaxPool"),
    "upsample": upsample,
    "relu": same("Relu"),
    "leaky_relu": same("LeakyRelu", "slope=alpha"),
    "elu": same("Elu", "alpha"),
    "gelu": same("Gelu", "approximate"),
    "silu": silu,
    "hard_swish": same("HardSwish"),
    "sigmoid": same("Sigmoid"),
    "tanh": same("Tanh"),
    "softmax": same("Softmax", "axis"),
    "log_softmax": same("LogSoftmax", "axis"),
    "dropout": dropout,
    "bn": bn,
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
    "groupnorm": groupnorm,
    "lrn": lrn,
    "weight_norm": weight_norm,
    "linear": linear,
    "embedding": embedding,
    "position_embedding": position_embedding,
    "parameter": parameter,
    "add": arithmetic("Add"),
    "sub": arithmetic("Sub"),
    "mul": arithmetic("Mul"),
    "div": arithmetic("Div"),
    "matmul": matmul,
    "flatten": reshape,
    "reshape": reshape,
    "transpose": transpose,
    "concat": concat,
    "split": split,
    "slice": slice_,
    "pad": pad,
    "split_heads": split_heads,
    "merge_heads": merge_heads,
    "causal_mask": causal_mask,
    "attention": attention,
    "rnn": recurrent,
    "lstm": recurrent,
    "gru": recurrent,
}
