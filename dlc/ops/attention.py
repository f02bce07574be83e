"""`attention(heads, causal = no, bias = yes)`: multi-head self-attention of a sequence (Vaswani et al., 2017).

q, k, v = x·W_inᵀ + b_in, cut into heads; p = softmax(q·kᵀ/√(width/heads));
y = (p·v, heads side by side)·W_outᵀ + b_out.
Weights and first values are those of PyTorch's MultiheadAttention.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ops.attributes import flag, integer
from dlc.ops.counting import lg, touched
from dlc.ops.indexing import Attributes, Indexing, Types, indexed
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, Gradient, Inferred, OperandError, Operator, Parameter, Shapes, Weight

WEIGHTS = ("in_proj_weight", "in_proj_bias", "out_proj_weight", "out_proj_bias")
BIASES = WEIGHTS[1::2]


def _infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
    """x [batch, seq, width] -> y of the same axes; E0301 for other axes, E0309 for heads that do not divide the width.

    The attribute `bias` becomes one for each bias. Saved are q, k and v side by side, the probabilities, and what the
    out projection reads.
    """
    (x,) = operands
    floating("attention", x)
    if len(x.axes) != 3 or not x.batched:
        raise OperandError("E0301", operand=0, op="attention", needed="batch, a sequence and features", found=x)
    heads, causal, (batch, seq, width) = integer(attrs, "heads"), flag(attrs, "causal"), x.axes
    bias = flag(attrs, BIASES[0] if BIASES[0] in attrs else "bias")
    if width.extent % heads:
        raise OperandError("E0309", argument="heads", heads=heads, width=width.extent)
    table = TensorType(x.dtype, (batch, Axis("heads", heads), Axis("query", seq.extent), Axis("key", seq.extent)))
    qkv = TensorType(x.dtype, (batch, seq, Axis(width.name, 3 * width.extent)))
    return Inferred(
        (x,),
        attrs=(("heads", heads), ("causal", causal), *((role, bias) for role in BIASES)),
        weights=tuple(w for w in _weights(x.dtype, width.extent) if bias or w.role not in BIASES),
        saved=(("qkv", qkv), ("probabilities", table), ("context", x)),
    )


def _weights(dtype: str, width: int) -> tuple[Weight, ...]:
    """The in projection is Glorot's over all three parts, the out projection U(±1/√width), biases zero."""

    def matrix(role: str, kind: str, out: int) -> Weight:
        return Weight(role, tensor(dtype, **{"out": out, "in": width}), Init(kind, fan_in=width, fan_out=out))

    def bias(role: str, out: int) -> Weight:
        return Weight(role, tensor(dtype, out=out), Init("constant"))

    return (
        matrix(WEIGHTS[0], "glorot", 3 * width),
        bias(WEIGHTS[1], 3 * width),
        matrix(WEIGHTS[2], "kaiming_uniform", width),
        bias(WEIGHTS[3], width),
    )


def heads_at_hand(shapes: Shapes) -> tuple[int, int]:
    """How many heads a part computes, and the width of all of them: by the saved probabilities and qkv before them."""
    types = (*shapes.outputs, *shapes.inputs)
    table = next(index for index, type_ in enumerate(types) if "heads" in type_.names)
    return types[table].extent("heads"), types[table - 1].shape[-1] // 3


def _cost(pass_: str, shapes: Shapes) -> Cost:
    """N·S rows: projections 4·width², scores and their use 2·S·width; softmax 5·S − 2 a head and query.

    The backward pass takes twice the multiply-adds. Depth adds up along the chain.
    """
    batch, seq, width = shapes.inputs[0].shape
    heads, inner = heads_at_hand(shapes)
    macs = batch * seq * (4 * width * inner + 2 * seq * inner)
    chain = 2 * lg(width) + lg(inner // heads) + lg(seq)
    if pass_ == "dx":
        softmax = batch * heads * seq * (4 * seq - 1)
        return Cost(2 * macs, 2 * macs + softmax, chain + lg(seq) + 3, touched(shapes))
    softmax = batch * heads * seq * (5 * seq - 2)
    return Cost(macs, macs + softmax, chain + 2 * lg(seq) + 3, touched(shapes))


def _indexing(types: Types, _attrs: Attributes) -> Indexing:
    """Samples, and whole heads: each reads all of x and adds its share of the out projection."""
    features = ("batch", "", "heads")
    along = {
        "y": ("batch", "", ""),
        "x": ("batch", "", ""),
        **dict(zip(WEIGHTS, (("heads", ""), ("heads",), ("", "heads"), ("",)), strict=True)),
        "qkv": features,
        "probabilities": ("batch", "heads", "", ""),
        "context": features,
    }
    return indexed(
        types,
        along,
        whole=("heads",),
        once=("out_proj_bias",),
        counts={"heads": "heads"},
        stacked=dict.fromkeys(("in_proj_weight", "in_proj_bias", "qkv"), ("heads", 3)),
    )


ATTENTION = Operator(
    "attention",
    _infer,
    _cost,
    parameters=(
        Parameter("heads", "int", required=True, minimum=1),
        Parameter("causal", "bool", default=False),
        Parameter("bias", "bool", default=True),
    ),
    weights=WEIGHTS,
    saved=("qkv", "probabilities", "context"),
    gradients=(
        Gradient(
            "dx",
            ("dy", "x", "in_proj_weight", "out_proj_weight", "qkv", "probabilities", "context"),
            ("x", *WEIGHTS),
        ),
    ),
    splits=("batch", "heads"),
    indexing=_indexing,
)
