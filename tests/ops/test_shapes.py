"""Shape rules on ordinary operands: types of results, saved values, weights and normalised attributes."""

import pytest

from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator

IMAGE = tensor("f32", batch=32, channel=6, height=28, width=28)
ROWS = tensor("f32", batch=32, feature=400)
HIDDEN = tensor("f32", batch=4, seq=16, width=24)
SCORES = tensor("f32", batch=4, heads=3, seq=16, key=16)
TOKENS = tensor("i32", batch=4, seq=16)

CASES = [
    ("linear", (ROWS,), {"features": 84}, "f32[batch = 32, feature = 84]"),
    ("linear", (HIDDEN,), {"features": 64}, "f32[batch = 4, seq = 16, width = 64]"),
    ("avgpool", (IMAGE,), {"window": 2}, "f32[batch = 32, channel = 6, height = 14, width = 14]"),
    (
        "maxpool",
        (IMAGE,),
        {"window": 3, "stride": 2, "pad": "same"},
        "f32[batch = 32, channel = 6, height = 14, width = 14]",
    ),
    ("maxpool", (IMAGE,), {"window": (5, 3)}, "f32[batch = 32, channel = 6, height = 5, width = 9]"),
    ("maxpool", (IMAGE,), {"window": (5, 3), "ceil": True}, "f32[batch = 32, channel = 6, height = 6, width = 10]"),
    ("global_avgpool", (IMAGE,), {}, "f32[batch = 32, channel = 6, height = 1, width = 1]"),
    ("relu", (IMAGE,), {}, str(IMAGE)),
    ("tanh", (ROWS,), {}, str(ROWS)),
    ("sigmoid", (HIDDEN,), {}, str(HIDDEN)),
    ("gelu", (HIDDEN,), {"approximate": "tanh"}, str(HIDDEN)),
    ("softmax", (SCORES,), {}, str(SCORES)),
    ("flatten", (IMAGE,), {}, "f32[batch = 32, feature = 4704]"),
    ("flatten", (ROWS,), {}, str(ROWS)),
    ("reshape", (ROWS,), {"shape": (16, 5, 5)}, "f32[batch = 32, channel = 16, height = 5, width = 5]"),
    ("reshape", (ROWS,), {"shape": (25, 16)}, "f32[batch = 32, seq = 25, width = 16]"),
    ("reshape", (IMAGE,), {"shape": 4704}, "f32[batch = 32, feature = 4704]"),
    ("dropout", (HIDDEN,), {"p": 0.1}, str(HIDDEN)),
    ("add", (IMAGE, IMAGE), {}, str(IMAGE)),
    ("add", (IMAGE, tensor("f32", channel=6)), {}, str(IMAGE)),
    ("sub", (tensor("f32", seq=16, width=24), HIDDEN), {}, str(HIDDEN)),
    ("div", (SCORES,), {"scalar": 8.0}, str(SCORES)),
    (
        "concat",
        (IMAGE, IMAGE, IMAGE.with_extent("channel", 3)),
        {},
        "f32[batch = 32, channel = 15, height = 28, width = 28]",
    ),
    ("concat", (ROWS,), {"axis": "feature"}, str(ROWS)),
    ("bn", (IMAGE,), {}, str(IMAGE)),
    ("bn", (ROWS,), {"group": 8}, str(ROWS)),
    ("embedding", (TOKENS,), {"vocab": 100, "width": 24}, str(HIDDEN)),
    ("position_embedding", (TOKENS,), {"width": 24}, str(HIDDEN)),
    ("layernorm", (HIDDEN,), {}, str(HIDDEN)),
    ("split_heads", (HIDDEN,), {"heads": 3}, "f32[batch = 4, heads = 3, seq = 16, width = 8]"),
    ("merge_heads", (tensor("f32", batch=4, heads=3, seq=16, width=8),), {}, str(HIDDEN)),
    ("transpose", (HIDDEN,), {}, "f32[batch = 4, width = 24, key = 16]"),
    ("transpose", (SCORES,), {}, "f32[batch = 4, heads = 3, key = 16, seq = 16]"),
    ("causal_mask", (SCORES,), {}, str(SCORES)),
    ("cross_entropy", (ROWS, tensor("i32", batch=32)), {}, "f32[]"),
    ("cross_entropy", (HIDDEN, tensor("i32", batch=4, seq=16)), {"smoothing": 0.1}, "f32[]"),
    ("accuracy", (ROWS, tensor("i32", batch=32)), {"top": 5}, "f32[]"),
    ("mse", (ROWS, ROWS), {}, "f32[]"),
    ("half_mse", (ROWS, ROWS), {}, "f32[]"),
    ("sum", (ROWS, ROWS, ROWS), {}, str(ROWS)),
]


@pytest.mark.parametrize(("name", "operands", "given", "result"), CASES)
def test_result(infer, name, operands, given, result) -> None:
    inferred = infer(name, *operands, **given)
    assert [str(type_) for type_ in inferred.results] == [result]


@pytest.mark.parametrize(("name", "operands", "given", "result"), CASES)
def test_normalised_attributes_infer_the_same(infer, name, operands, given, result) -> None:
    """A pass may infer a node again from its own attributes."""
    inferred = infer(name, *operands, **given)
    assert infer(name, *operands, **dict(inferred.attrs)) == inferred


@pytest.mark.parametrize(("name", "operands", "given", "result"), CASES)
def test_roles_are_those_declared(infer, name, operands, given, result) -> None:
    inferred, op = infer(name, *operands, **given), operator(name)
    assert tuple(role for role, _ in inferred.saved) == op.saved
    trained = tuple(weight.role for weight in inferred.weights if weight.trained)
    assert trained == op.weights
    assert tuple(weight.role for weight in inferred.weights if not weight.trained) == op.statistics
    assert len(inferred.results) == len(op.results)


def test_attention_scores(infer) -> None:
    q = tensor("f32", batch=4, heads=3, seq=16, width=8)
    (kt,) = infer("transpose", q).results
    assert infer("matmul", q, kt).results == (SCORES,)
    assert infer("matmul", SCORES, q).results == (q,)


def test_saved_values(infer) -> None:
    pooled = infer("maxpool", IMAGE, window=2)
    assert pooled.saved == (("indices", pooled.results[0].with_dtype("i32")),)
    assert infer("dropout", ROWS, p=0.5).saved == (("mask", ROWS.with_dtype("u8")),)
    assert infer("cross_entropy", ROWS, tensor("i32", batch=32)).saved == (("probabilities", ROWS),)
    assert dict(infer("layernorm", HIDDEN).saved)["rstd"] == tensor("f32", batch=4, seq=16)


@pytest.mark.parametrize(("group", "groups", "size"), [("batch", 1, 32), (8, 4, 8), (12, 3, 12), (64, 1, 32)])
def test_groups_of_batch_norm(infer, group, groups, size) -> None:
    inferred = infer("bn", IMAGE, group=group)
    assert dict(inferred.attrs)["group"] == size
    assert dict(inferred.saved)["batch_mean"] == tensor("f32", group=groups, channel=6)


def test_attributes_are_normalised(infer) -> None:
    assert dict(infer("maxpool", IMAGE, window=3, pad="same").attrs) == {
        "window": (3, 3),
        "stride": (3, 3),
        "pad": ((1, 1), (1, 1)),
        "ceil": False,
    }
    assert dict(infer("avgpool", IMAGE, window=(2, 4)).attrs)["count_pad"] is True
    assert infer("softmax", IMAGE, axis="channel").attrs == (("axis", 1),)
    assert infer("softmax", IMAGE).attrs == (("axis", 3),)
    assert infer("concat", IMAGE, IMAGE, axis="height").attrs == (("axis", 2),)
    assert infer("div", SCORES, scalar=8).attrs == (("scalar", 8.0), ("scalar_first", False))
    assert infer("sub", SCORES, scalar=1, scalar_first=True).attrs == (("scalar", 1.0), ("scalar_first", True))


def test_weights_of_linear(infer) -> None:
    weight, bias = infer("linear", ROWS, features=84).weights
    assert (weight.type.shape, bias.type.shape) == ((84, 400), (84,))
    assert (weight.init.kind, weight.init.fan_in, weight.init.fan_out) == ("kaiming_uniform", 400, 84)
    assert bias.init.fan_in == 400
    assert [w.role for w in infer("linear", ROWS, features=84, bias=False).weights] == ["weight"]


def test_tied_weight_is_not_owned(infer) -> None:
    inferred = infer("linear", HIDDEN, features=100, bias=False, tied="wte.embedding.weight")
    assert inferred.weights == ()
    assert inferred.tied == (("weight", "wte.embedding.weight"),)
    assert [type_.shape for type_ in inferred.tied_types] == [(100, 24)]
    turned = infer("linear", HIDDEN, features=100, tied="decode.linear.weight", transposed=True)
    assert [type_.shape for type_ in turned.tied_types] == [(24, 100)]
    assert turned.results == inferred.results


def test_norms_start_as_the_identity(infer) -> None:
    values = {weight.role: weight.init.value for weight in infer("bn", IMAGE).weights}
    assert values == {"scale": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0}
    assert [weight.init.value for weight in infer("layernorm", HIDDEN).weights] == [1.0, 0.0]
    (table,) = infer("embedding", TOKENS, vocab=100, width=24).weights
    assert (table.init.kind, table.init.value, table.type.shape) == ("normal", 1.0, (100, 24))


def _parameters(inferred) -> int:
    return sum(weight.type.elements for weight in inferred.weights if weight.trained)


def test_lenet5_has_61706_parameters(infer) -> None:
    chain = [
        ("conv", {"filters": 6, "window": 5}), ("tanh", {}), ("avgpool", {"window": 2}),
        ("conv", {"filters": 16, "window": 5}), ("tanh", {}), ("avgpool", {"window": 2}),
        ("conv", {"filters": 120, "window": 5}), ("tanh", {}), ("flatten", {}),
        ("linear", {"features": 84}), ("tanh", {}), ("linear", {"features": 10}),
    ]  # fmt: skip
    x, parameters = tensor("f32", batch=32, channel=1, height=32, width=32), 0
    for name, given in chain:
        inferred = infer(name, x, **given)
        (x,), parameters = inferred.results, parameters + _parameters(inferred)
    assert str(x) == "f32[batch = 32, feature = 10]"
    assert parameters == 61_706


def test_resnet50_has_25557032_parameters(infer) -> None:
    total = 0

    def conv_bn(x: TensorType, filters: int, window: int, stride: int = 1) -> TensorType:
        nonlocal total
        for name, given in (
            ("conv", {"filters": filters, "window": window, "stride": stride, "pad": "same", "bias": False}),
            ("bn", {"group": 32}),
        ):
            inferred = infer(name, x, **given)
            (x,), total = inferred.results, total + _parameters(inferred)
        return x

    x = conv_bn(tensor("f32", batch=64, channel=3, height=224, width=224), 64, 7, 2)
    (x,) = infer("maxpool", x, window=3, stride=2, pad="same").results
    for mid, depth, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(depth):
            stride = first if i == 0 else 1
            main = conv_bn(conv_bn(conv_bn(x, mid, 1), mid, 3, stride), 4 * mid, 1)
            skip = x if x.extent("channel") == 4 * mid else conv_bn(x, 4 * mid, 1, stride)
            (x,) = infer("add", main, skip).results
    (x,) = infer("flatten", *infer("global_avgpool", x).results).results
    assert str(x) == "f32[batch = 64, feature = 2048]"
    assert total + _parameters(infer("linear", x, features=1000)) == 25_557_032


def test_gpt2_has_124439808_parameters(infer) -> None:
    text, hidden = tensor("i32", batch=2, seq=1024), tensor("f32", batch=2, seq=1024, width=768)
    inner = hidden.with_extent("width", 3072)
    tables = _parameters(infer("embedding", text, vocab=50257, width=768))
    tables += _parameters(infer("position_embedding", text, width=768))
    norm = _parameters(infer("layernorm", hidden))
    attention = 4 * _parameters(infer("linear", hidden, features=768))
    mlp = _parameters(infer("linear", hidden, features=3072)) + _parameters(infer("linear", inner, features=768))
    head = _parameters(infer("linear", hidden, features=50257, bias=False, tied="wte.embedding.weight"))
    assert tables + 12 * (2 * norm + attention + mlp) + norm + head == 124_439_808
