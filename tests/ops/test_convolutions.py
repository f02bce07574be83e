"""Convolutions and pools over one to three axes: types of results, weights, normalised attributes, mistakes, costs."""

from __future__ import annotations

from itertools import product

import pytest

from dlc.ir.tensor import TensorType, tensor
from dlc.messages.e03_shapes import MESSAGES
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS, OperandError
from tests.kernels.calling import Op

LINE = tensor("f32", batch=8, channel=6, length=20)
IMAGE = tensor("f32", batch=8, channel=6, height=12, width=10)
VOLUME = tensor("f32", batch=8, channel=6, depth=4, height=6, width=5)
OTHER_NAMES = tensor("f32", batch=8, plane=6, row=12, column=10)
INTEGERS = tensor("i32", batch=8, channel=6, length=20)
SENTENCES = {message.code: message for message in MESSAGES}

RESULTS = [
    ("conv", LINE, {"filters": 4, "window": 3, "pad": "same"}, (8, 4, 20)),
    ("conv", VOLUME, {"filters": 4, "window": (2, 3, 3), "stride": 2}, (8, 4, 2, 2, 2)),
    ("conv", OTHER_NAMES, {"filters": 4, "window": 3}, (8, 4, 10, 8)),
    ("maxpool", LINE, {"window": 3, "ceil": True}, (8, 6, 7)),
    ("avgpool", VOLUME, {"window": 2}, (8, 6, 2, 3, 2)),
    ("global_avgpool", LINE, {}, (8, 6, 1)),
    ("global_maxpool", VOLUME, {}, (8, 6, 1, 1, 1)),
    ("depthwise_conv", IMAGE, {"window": 3, "stride": 2, "pad": 1, "multiplier": 3}, (8, 18, 6, 5)),
    ("conv_transpose", IMAGE, {"filters": 4, "window": 3, "stride": 2, "pad": 1, "output_pad": 1}, (8, 4, 24, 20)),
    ("conv_transpose", IMAGE, {"filters": 4, "window": 4, "pad": "same"}, (8, 4, 12, 10)),
    ("conv_transpose", LINE, {"filters": 4, "window": 2, "dilation": 3, "output_pad": 2}, (8, 4, 25)),
    ("local_conv", IMAGE, {"filters": 4, "window": 3, "stride": 3}, (8, 4, 4, 3)),
    ("upsample", IMAGE, {"factor": (2, 3)}, (8, 6, 24, 30)),
    ("upsample", VOLUME, {"factor": 2, "mode": "linear"}, (8, 6, 8, 12, 10)),
]

WEIGHTS = [
    ("conv", LINE, {"filters": 4, "window": 3, "groups": 2}, "f32[out = 4, in = 3, length = 3]", (4,), 9),
    (
        "conv",
        VOLUME,
        {"filters": 4, "window": (1, 2, 3)},
        "f32[out = 4, in = 6, depth = 1, height = 2, width = 3]",
        (4,),
        36,
    ),
    (
        "depthwise_conv",
        IMAGE,
        {"window": 3, "multiplier": 2},
        "f32[out = 12, in = 1, height = 3, width = 3]",
        (12,),
        9,
    ),
    (
        "conv_transpose",
        IMAGE,
        {"filters": 4, "window": 3, "groups": 2},
        "f32[out = 6, in = 2, height = 3, width = 3]",
        (4,),
        18,
    ),
    (
        "local_conv",
        IMAGE,
        {"filters": 4, "window": 5, "stride": 5},
        "f32[out_height = 2, out_width = 2, out = 4, in = 6, height = 5, width = 5]",
        (4, 2, 2),
        150,
    ),
]

MISTAKES = [
    ("conv_transpose", IMAGE, {"filters": 5, "window": 3, "groups": 2}, "5 filters do not divide into 2 groups"),
    (
        "conv_transpose",
        IMAGE,
        {"filters": 4, "window": 3, "stride": 2, "output_pad": 2},
        "an `output_pad` of 2 is neither below the stride of 2 nor below the dilation of 1",
    ),
    (
        "conv_transpose",
        tensor("f32", batch=2, channel=3, height=1, width=9),
        {"filters": 4, "window": 3, "pad": 2},
        "the pads of `conv_transpose` leave nothing of a result of 3x11",
    ),
    ("depthwise_conv", LINE, {"window": 21}, "a 21 window does not fit an input of 20"),
    ("local_conv", VOLUME, {"filters": 2, "window": 7}, "a 7x7x7 window does not fit an input of 4x6x5"),
    ("upsample", LINE, {"factor": (2, 3)}, "`factor` has 2 extents, the input has 1 spatial axis"),
    (
        "upsample",
        tensor("f32", batch=4, feature=3),
        {"factor": 2},
        "`upsample` needs batch, channel and one to three axes more, it is given f32[batch = 4, feature = 3]",
    ),
    ("global_maxpool", INTEGERS, {}, f"`global_maxpool` needs floating-point numbers, it is given {INTEGERS}"),
]


@pytest.mark.parametrize(("name", "x", "given", "shape"), RESULTS)
def test_results(infer, name, x, given, shape) -> None:
    inferred = infer(name, x, **given)
    assert inferred.results[0].shape == shape
    assert inferred.results[0].names == x.names
    assert infer(name, x, **dict(inferred.attrs)) == inferred, "a pass may infer a node from its own attributes"


@pytest.mark.parametrize(("name", "x", "given", "weight", "bias", "fan_in"), WEIGHTS)
def test_weights(infer, name, x, given, weight, bias, fan_in) -> None:
    first, second = infer(name, x, **given).weights
    assert (str(first.type), second.type.shape) == (weight, bias)
    assert {w.init.kind for w in (first, second)} == {"kaiming_uniform"}
    assert (first.init.fan_in, second.init.fan_in) == (fan_in, fan_in)
    assert [w.role for w in infer(name, x, **given, bias=False).weights] == ["weight"]


@pytest.mark.parametrize(("name", "x", "given", "sentence"), MISTAKES)
def test_mistakes(infer, name, x, given, sentence) -> None:
    with pytest.raises(OperandError) as caught:
        infer(name, x, **given)
    assert SENTENCES[caught.value.code].at(None, **caught.value.values).message == sentence


@pytest.mark.parametrize(
    ("x", "legal"),
    [
        (LINE, {"direct", "im2col", "fft", "fft_tiled"}),
        (IMAGE, {"direct", "im2col", "fft", "fft_tiled", "winograd(2)", "winograd(4)"}),
        (VOLUME, {"direct", "im2col"}),
    ],
)
def test_algorithms_by_axes(x: TensorType, legal: set[str]) -> None:
    conv = operator("conv")
    ops = [Op(conv, (x,), {"filters": 4, "window": 3}, algorithm=a.name) for a in conv.algorithms]
    for stage in ("forward", "dx", "dw"):
        assert {op.algorithm for op in ops if op.excluded(stage) is None} == legal


def test_a_volume_is_ruled_out_in_words() -> None:
    op = Op(operator("conv"), (VOLUME,), {"filters": 4, "window": 3}, algorithm="fft")
    assert op.excluded("dx") == "it has no kernel for windows over three axes"
    op = Op(operator("conv"), (LINE,), {"filters": 4, "window": 3}, algorithm="winograd(2)")
    assert op.excluded("dx") == "the window is 3"


@pytest.mark.parametrize("x", [LINE, IMAGE, VOLUME])
def test_a_transposed_convolution_costs_what_its_convolution_does(x: TensorType) -> None:
    """That of the result's type, with the passes the other way round."""
    given = {"filters": 4, "window": 3, "stride": 2, "groups": 2}
    for algorithm, layout in product(("direct", "im2col"), LAYOUTS):
        op = Op(operator("conv_transpose"), (x,), given, layout, algorithm)
        conv = Op(operator("conv"), op.inferred.results, {**given, "filters": 6, "bias": False}, layout, algorithm)
        for stage, other in (("forward", "dx"), ("dx", "forward"), ("dw", "dw")):
            assert op.workspaces(stage) == conv.workspaces(other)
            costs = op.operator.cost(stage, op.shapes(stage)), conv.operator.cost(other, conv.shapes(other))
            assert [(cost.macs, cost.depth) for cost in costs] == [(costs[0].macs, costs[0].depth)] * 2


def test_depthwise_convolution_costs_what_a_grouped_one_does() -> None:
    op = Op(operator("depthwise_conv"), (IMAGE,), {"window": 3, "multiplier": 2})
    conv = Op(operator("conv"), (IMAGE,), {"window": 3, "filters": 12, "groups": 6})
    for stage in ("forward", "dx", "dw"):
        assert op.operator.cost(stage, op.shapes(stage)) == conv.operator.cost(stage, conv.shapes(stage))
