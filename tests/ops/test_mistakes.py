"""Shape rules on operands that do not fit: each mistake has its code, and its sentence can be written."""

import pytest

import dlc.messages.e03_shapes as e03
from dlc.ir.tensor import TensorType, tensor
from dlc.ops.operator import OperandError

IMAGE = tensor("f32", batch=32, channel=6, height=4, width=4)
ROWS = tensor("f32", batch=32, feature=400)
HIDDEN = tensor("f32", batch=4, seq=16, width=24)
SCORES = tensor("f32", batch=4, heads=3, seq=16, key=16)
TOKENS = tensor("i32", batch=4, seq=16)
LABELS = tensor("i32", batch=32)
NUMBERS = tensor("f32", batch=32)
SEQUENCE = tensor("f32", batch=32, channel=6, width=100)
SCALAR = TensorType("f32", ())

MESSAGES = {message.code: message for message in e03.MESSAGES}

MISTAKES = [
    ("maxpool", (IMAGE,), {"window": 5}, "a 5x5 window does not fit an input of 4x4"),
    ("avgpool", (IMAGE,), {"window": (2, 5)}, "a 2x5 window does not fit an input of 4x4"),
    ("conv", (IMAGE,), {"filters": 4, "window": 3, "groups": 4}, "6 channels do not divide into 4 groups"),
    ("maxpool", (IMAGE,), {"window": 2, "pad": 2}, "a pad of 2 is more than half of a 2x2 window"),
    ("avgpool", (IMAGE,), {"window": 3, "pad": (0, 2)}, "a pad of 2 is more than half of a 3x3 window"),
    ("maxpool", (IMAGE,), {"window": (3, 3, 3)}, "`window` has 3 extents, the input has 2 spatial axes"),
    ("maxpool", (SEQUENCE,), {"window": (1, 3)}, "`window` has 2 extents, the input has 1 spatial axis"),
    ("maxpool", (SEQUENCE,), {"window": 101}, "a 101 window does not fit an input of 100"),
    ("maxpool", (IMAGE,), {"window": 3, "stride": (1, 1, 1)}, "`stride` has 3 extents, the input has 2 spatial axes"),
    (
        "maxpool",
        (ROWS,),
        {"window": 2},
        f"`maxpool` needs batch, channel and one to three axes more, it is given {ROWS}",
    ),
    (
        "avgpool",
        (tensor("f32", batch=4, channel=2, a=3, b=3, c=3, d=3),),
        {"window": 2},
        "`avgpool` needs batch, channel and one to three axes more, it is given"
        " f32[batch = 4, channel = 2, a = 3, b = 3, c = 3, d = 3]",
    ),
    (
        "global_avgpool",
        (ROWS,),
        {},
        f"`global_avgpool` needs batch, channel and one to three axes more, it is given {ROWS}",
    ),
    ("bn", (NUMBERS,), {}, f"`bn` needs the batch and an axis of channels, it is given {NUMBERS}"),
    (
        "groupnorm",
        (NUMBERS,),
        {"groups": 1},
        f"`groupnorm` needs the batch and an axis of channels, it is given {NUMBERS}",
    ),
    ("groupnorm", (IMAGE,), {"groups": 4}, "6 channels do not divide into 4 groups"),
    ("lrn", (SCALAR,), {}, f"`lrn` needs the batch and an axis of channels, it is given {SCALAR}"),
    ("rmsnorm", (NUMBERS,), {}, f"`rmsnorm` needs an axis besides the batch, it is given {NUMBERS}"),
    ("attention", (ROWS,), {"heads": 4}, f"`attention` needs batch, a sequence and features, it is given {ROWS}"),
    ("attention", (HIDDEN,), {"heads": 5}, "5 heads do not divide a width of 24"),
    ("bn", (ROWS,), {"group": 1}, "`bn` has a single value for each channel in a group of 1"),
    ("bn", (ROWS,), {"group": 31}, "`bn` has a single value for each channel in a group of 1"),
    ("linear", (NUMBERS,), {"features": 3}, "`linear` needs an axis besides the batch, it is given f32[batch = 32]"),
    ("linear", (SCALAR,), {"features": 3}, "`linear` needs an axis besides the batch, it is given f32[]"),
    ("linear", (TOKENS,), {"features": 3}, f"`linear` needs floating-point numbers, it is given {TOKENS}"),
    ("relu", (TOKENS,), {}, f"`relu` needs floating-point numbers, it is given {TOKENS}"),
    (
        "maxpool",
        (IMAGE.with_dtype("u8"),),
        {"window": 2},
        f"`maxpool` needs floating-point numbers, it is given {IMAGE.with_dtype('u8')}",
    ),
    ("flatten", (NUMBERS,), {}, "`flatten` needs an axis besides the batch, it is given f32[batch = 32]"),
    ("reshape", (ROWS,), {"shape": (16, 5, 6)}, "[16, 5, 6] holds 480 numbers, a sample of the operand has 400"),
    (
        "reshape",
        (ROWS,),
        {"shape": (2, 2, 2, 5, 10)},
        "`reshape` needs `axes = [NAME, …]` where its shape has more than four numbers, it is given 5",
    ),
    (
        "reshape",
        (ROWS,),
        {"shape": (20, 20), "axes": ("row",)},
        "`reshape` needs 2 names, one for each number of its shape, it is given 1",
    ),
    ("reshape", (ROWS,), {"shape": (20, 20), "axes": ("seq", "batch")}, "`reshape` cannot work along `batch`"),
    (
        "reshape",
        (ROWS,),
        {"shape": (20, 20), "axes": ("row", "row")},
        "the result of `reshape` would have two axes named `row`",
    ),
    ("add", (IMAGE, IMAGE.with_extent("channel", 3)), {}, "`+` needs equal shapes"),
    ("add", (IMAGE.with_extent("channel", 1), IMAGE.with_extent("height", 5)), {}, "`+` needs equal shapes"),
    ("mul", (IMAGE, ROWS), {}, "`*` needs equal shapes"),
    ("sub", (HIDDEN, tensor("f32", width=24, seq=16)), {}, "`-` needs equal shapes"),
    ("add", (IMAGE, IMAGE.with_dtype("f64")), {}, f"`+` needs f32 here too, it is given {IMAGE.with_dtype('f64')}"),
    ("div", (IMAGE,), {}, "`/` takes two values, it is given 1"),
    ("div", (IMAGE, IMAGE), {"scalar": 2.0}, "`/` takes one value beside a number, it is given 2"),
    ("concat", (), {}, "`concat` takes one value or more, it is given 0"),
    ("concat", (IMAGE, IMAGE.with_extent("height", 3)), {}, "`concat` needs equal shapes"),
    ("concat", (IMAGE, ROWS), {}, "`concat` needs equal shapes"),
    ("concat", (ROWS, ROWS), {}, f"there is no axis `channel` in {ROWS}"),
    ("concat", (ROWS, ROWS), {"axis": "batch"}, "`concat` cannot work along `batch`"),
    ("softmax", (ROWS,), {"axis": "batch"}, "`softmax` cannot work along `batch`"),
    ("softmax", (ROWS,), {"axis": "features"}, f"there is no axis `features` in {ROWS}"),
    ("softmax", (NUMBERS,), {}, "`softmax` needs an axis besides the batch, it is given f32[batch = 32]"),
    ("layernorm", (NUMBERS,), {}, "`layernorm` needs an axis besides the batch, it is given f32[batch = 32]"),
    ("embedding", (HIDDEN,), {"vocab": 9, "width": 3}, f"`embedding` needs integers, it is given {HIDDEN}"),
    (
        "embedding",
        (tensor("i32", batch=2, width=3),),
        {"vocab": 9, "width": 3},
        "the result of `embedding` would have two axes named `width`",
    ),
    ("split_heads", (HIDDEN,), {"heads": 5}, "5 heads do not divide a width of 24"),
    ("split_heads", (ROWS,), {"heads": 4}, f"`split_heads` needs batch, a sequence and features, it is given {ROWS}"),
    ("merge_heads", (HIDDEN,), {}, f"`merge_heads` needs batch, heads, a sequence and features, it is given {HIDDEN}"),
    ("transpose", (ROWS,), {}, f"`transpose` needs two axes besides the batch, it is given {ROWS}"),
    ("matmul", (HIDDEN, HIDDEN), {}, "`@` cannot contract width = 24 with seq = 16"),
    (
        "matmul",
        (tensor("f32", batch=4, seq=16, width=16), HIDDEN.with_extent("batch", 5)),
        {},
        "`@` needs equal shapes",
    ),
    ("matmul", (ROWS, HIDDEN), {}, f"`@` needs two axes besides the batch, it is given {ROWS}"),
    (
        "matmul",
        (HIDDEN, tensor("f32", batch=4, width=24, seq=16)),
        {},
        "the result of `@` would have two axes named `seq`",
    ),
    ("causal_mask", (HIDDEN,), {}, f"`causal_mask` needs as many keys as queries, it is given {HIDDEN}"),
    ("causal_mask", (ROWS,), {}, f"`causal_mask` needs axes of queries and keys, it is given {ROWS}"),
    (
        "cross_entropy",
        (ROWS, LABELS.with_extent("batch", 31)),
        {},
        "`cross_entropy` needs labels of i32[batch = 32], they are i32[batch = 31]",
    ),
    ("cross_entropy", (ROWS, ROWS), {}, f"`cross_entropy` needs integers, it is given {ROWS}"),
    (
        "cross_entropy",
        (HIDDEN, tensor("i32", batch=4)),
        {},
        "`cross_entropy` needs labels of i32[batch = 4, seq = 16], they are i32[batch = 4]",
    ),
    ("accuracy", (ROWS, LABELS), {"top": 400}, "the top 400 of 400 classes is every class"),
    ("mse", (ROWS, IMAGE), {}, "`mse` needs equal shapes"),
    ("half_mse", (ROWS, LABELS), {}, f"`half_mse` needs floating-point numbers, it is given {LABELS}"),
]


@pytest.mark.parametrize(("name", "operands", "given", "sentence"), MISTAKES)
def test_mistake(infer, name, operands, given, sentence) -> None:
    with pytest.raises(OperandError) as caught:
        infer(name, *operands, **given)
    error = caught.value
    assert MESSAGES[error.code].at(None, **error.values).message == sentence
    assert error.operand is None or error.operand < len(operands)


def test_unequal_shapes_say_what_differs(infer) -> None:
    with pytest.raises(OperandError) as caught:
        infer("add", IMAGE, IMAGE.with_extent("channel", 3))
    assert caught.value.notes == (
        f"the left operand is {IMAGE}",
        f"the right operand is {IMAGE.with_extent('channel', 3)}",
        "`channel` is 6 on the left, 3 on the right",
    )


def test_a_misspelt_axis_has_a_neighbour(infer) -> None:
    with pytest.raises(OperandError) as caught:
        infer("softmax", ROWS, axis="features")
    assert caught.value.helps == ("there is an axis with a similar name: `feature`",)
    assert caught.value.argument == "axis"


def test_arguments_of_another_kind_are_a_programming_error(infer) -> None:
    with pytest.raises(TypeError, match="features is an integer"):
        infer("linear", ROWS, features="84")
    with pytest.raises(TypeError, match="p is a number"):
        infer("dropout", ROWS, p=True)
    with pytest.raises(TypeError, match="bias is yes or no"):
        infer("linear", ROWS, features=84, bias=1)
    with pytest.raises(TypeError, match="shape is a list of integers"):
        infer("reshape", ROWS, shape=(4, "x"))
