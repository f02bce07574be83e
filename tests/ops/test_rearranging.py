"""Shape rules of activations, broadcasting, products of matrices and what moves elements: results and mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from dlc.ir.tensor import TensorType, tensor
from dlc.messages import MESSAGES
from dlc.ops.operator import OperandError
from tests.ops.conftest import Infer

IMAGE = tensor("f32", batch=8, channel=6, height=10, width=12)
LINE = tensor("f32", batch=8, channel=6, length=10)
HIDDEN = tensor("f32", batch=8, seq=5, width=4)
PLACES = tensor("f32", seq=5, width=4)

RESULTS: list[tuple[str, tuple[TensorType, ...], dict[str, Any], str]] = [
    *((name, (PLACES,), {}, str(PLACES)) for name in ("leaky_relu", "elu", "silu", "hard_swish", "log_softmax")),
    ("add", (IMAGE, tensor("f32", channel=6)), {}, str(IMAGE)),
    ("add", (tensor("f32", batch=8, channel=6, height=1, width=1), IMAGE), {}, str(IMAGE)),
    ("mul", (IMAGE.with_extent("height", 1), IMAGE.with_extent("channel", 1)), {}, str(IMAGE)),
    ("matmul", (HIDDEN, tensor("f32", width=4, out=3)), {}, "f32[batch = 8, seq = 5, out = 3]"),
    ("matmul", (tensor("f32", row=2, seq=5), HIDDEN), {}, "f32[batch = 8, row = 2, width = 4]"),
    ("matmul", (PLACES, tensor("f32", width=4, key=5)), {}, "f32[seq = 5, key = 5]"),
    ("transpose", (PLACES,), {}, "f32[width = 4, key = 5]"),
    (
        "transpose",
        (IMAGE,),
        {"order": ("height", "width", "channel")},
        "f32[batch = 8, height = 10, width = 12, channel = 6]",
    ),
    ("transpose", (HIDDEN,), {"order": ("batch", "width", "seq")}, "f32[batch = 8, width = 4, seq = 5]"),
    ("transpose", (PLACES,), {"order": ("width", "seq")}, "f32[width = 4, seq = 5]"),
    ("flatten", (PLACES,), {}, "f32[feature = 20]"),
    ("reshape", (PLACES,), {"shape": (20,)}, "f32[feature = 20]"),
    ("reshape", (LINE,), {"shape": (3, 5, 2, 2)}, "f32[batch = 8, channel = 3, depth = 5, height = 2, width = 2]"),
    ("reshape", (LINE,), {"shape": (2, 30), "axes": ("group", "length")}, "f32[batch = 8, group = 2, length = 30]"),
    ("slice", (HIDDEN,), {"axis": "seq", "start": -2}, "f32[batch = 8, seq = 2, width = 4]"),
    ("slice", (HIDDEN,), {"axis": "seq", "start": 1, "stop": -1}, "f32[batch = 8, seq = 3, width = 4]"),
    ("slice", (IMAGE,), {"axis": "width", "step": 5}, "f32[batch = 8, channel = 6, height = 10, width = 3]"),
    ("slice", (IMAGE,), {"axis": "width", "step": -5}, "f32[batch = 8, channel = 6, height = 10, width = 3]"),
    ("slice", (tensor("i32", batch=8, seq=5),), {"axis": "seq", "stop": -1}, "i32[batch = 8, seq = 4]"),
    ("split", (IMAGE,), {"n": 1}, str(IMAGE)),
    ("pad", (LINE,), {"amount": 2}, "f32[batch = 8, channel = 6, length = 14]"),
    ("pad", (IMAGE,), {"amount": ((1, 1), (2, 2))}, "f32[batch = 8, channel = 6, height = 12, width = 16]"),
    ("pad", (HIDDEN,), {"amount": (3, 0), "axis": ("seq",)}, "f32[batch = 8, seq = 8, width = 4]"),
    (
        "pad",
        (IMAGE,),
        {"amount": ((0, 1), (2, 0)), "axis": ("width", "channel")},
        "f32[batch = 8, channel = 8, height = 10, width = 13]",
    ),
]


@pytest.mark.parametrize(("name", "operands", "given", "result"), RESULTS)
def test_result(infer: Infer, name: str, operands: tuple[TensorType, ...], given: dict[str, Any], result: str) -> None:
    inferred = infer(name, *operands, **given)
    assert [str(type_) for type_ in inferred.results] == [result]
    assert infer(name, *operands, **dict(inferred.attrs)) == inferred


def test_parts(infer: Infer) -> None:
    equal, given = infer("split", IMAGE, n=3), infer("split", HIDDEN, n=(1, 3), axis="width")
    assert [result.extent("channel") for result in equal.results] == [2, 2, 2]
    assert [result.extent("width") for result in given.results] == [1, 3]
    assert infer("split", IMAGE, **dict(equal.attrs)) == equal
    assert dict(equal.attrs) == {"n": (2, 2, 2), "axis": 1}


def test_attributes_are_normalised(infer: Infer) -> None:
    assert dict(infer("slice", HIDDEN, axis="seq", start=-4, stop=-1, step=2).attrs) == {
        "axis": 1,
        "start": 1,
        "stop": 4,
        "step": 2,
    }
    assert dict(infer("slice", HIDDEN, axis="seq", step=-1).attrs) == {"axis": 1, "start": 4, "step": -1}
    assert dict(infer("pad", IMAGE, amount=1).attrs)["amount"] == ((1, 1), (1, 1))
    assert dict(infer("pad", IMAGE, amount=(0, 2), axis="channel").attrs)["axis"] == (1,)
    assert infer("transpose", HIDDEN, order=("width", "seq")).attrs == (("order", (0, 2, 1)),)
    assert infer("transpose", HIDDEN).attrs == ()
    assert infer("matmul", HIDDEN, tensor("f32", width=4, out=3)).attrs == (("axes", ()),)
    assert infer("add", IMAGE, tensor("f32", batch=8, width=12)).attrs == (("axes", (0, 3)),)


MISTAKES: list[tuple[str, tuple[TensorType, ...], dict[str, Any], str]] = [
    ("add", (IMAGE, LINE), {}, "`+` needs equal shapes"),
    (
        "matmul",
        (tensor("f32", batch=8, heads=2, seq=5, width=4), tensor("f32", batch=8, group=3, width=4, key=2)),
        {},
        "`@` needs equal shapes",
    ),
    (
        "matmul",
        (tensor("f32", seq=5, batch=8), HIDDEN),
        {},
        "`@` needs two axes besides the batch, it is given f32[seq = 5, batch = 8]",
    ),
    (
        "transpose",
        (IMAGE,),
        {"order": ("width", "height")},
        "`order` names each axis behind the batch once: channel, height, width",
    ),
    ("transpose", (HIDDEN,), {"order": ("seq", "seq")}, "the result of `transpose` would have two axes named `seq`"),
    ("transpose", (HIDDEN,), {"order": ("seq", "batch")}, "`transpose` cannot work along `batch`"),
    ("transpose", (HIDDEN,), {"order": ("seq", "widht")}, f"there is no axis `widht` in {HIDDEN}"),
    ("slice", (HIDDEN,), {"axis": "batch"}, "`slice` cannot work along `batch`"),
    ("slice", (HIDDEN,), {"axis": "seq", "start": 6}, "`slice` needs elements of seq = 5 to take, `start` is 6"),
    ("slice", (HIDDEN,), {"axis": "seq", "stop": -6}, "`slice` needs elements of seq = 5 to take, `stop` is -6"),
    ("slice", (HIDDEN,), {"axis": "seq", "step": 0}, "`slice` needs elements of seq = 5 to take, the step is 0"),
    (
        "slice",
        (HIDDEN,),
        {"axis": "seq", "start": 3, "stop": 2},
        "`slice` needs elements of seq = 5 to take, from 3 to 2 by 1 there are none",
    ),
    ("split", (IMAGE,), {"n": 4}, "`split` needs parts that add up to channel = 6, 4 equal ones do not"),
    ("split", (IMAGE,), {"n": (2, 3)}, "`split` needs parts that add up to channel = 6, these add up to 5"),
    ("split", (IMAGE,), {"n": 2, "axis": "batch"}, "`split` cannot work along `batch`"),
    ("split", (HIDDEN,), {"n": 2}, f"there is no axis `channel` in {HIDDEN}"),
    (
        "pad",
        (HIDDEN,),
        {"amount": 1},
        f"`pad` needs `axis = …`, or the axes batch, channel and those to pad, it is given {HIDDEN}",
    ),
    (
        "pad",
        (IMAGE,),
        {"amount": (1, 2)},
        "`pad` needs a number, or a pair for each of 2 axes, it is given 1 pair",
    ),
    ("pad", (LINE,), {"amount": ((1, 2), (0, 0))}, "`pad` needs one pair, it is given 2 pairs"),
    ("pad", (LINE,), {"amount": ((1, 2, 3),)}, "`pad` needs one pair, it is given a list of 3 numbers"),
    (
        "pad",
        (LINE,),
        {"amount": 1, "axis": ("length", "length")},
        "the result of `pad` would have two axes named `length`",
    ),
    (
        "pad",
        (LINE,),
        {"amount": 10, "mode": "reflect"},
        "`pad` needs less than 10 elements to mirror along length = 10, it is given 10",
    ),
    *(
        (
            name,
            (tensor("i32", batch=8, seq=5),),
            given,
            f"`{name}` needs floating-point numbers, it is given i32[batch = 8, seq = 5]",
        )
        for name, given in (
            ("silu", {}),
            ("pad", {"amount": 1}),
        )
    ),
]


@pytest.mark.parametrize(("name", "operands", "given", "sentence"), MISTAKES)
def test_mistake(
    infer: Infer, name: str, operands: tuple[TensorType, ...], given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(OperandError) as caught:
        infer(name, *operands, **given)
    error = caught.value
    assert MESSAGES[error.code].sentence.format(**error.values) == sentence
    assert error.argument is None or error.argument in ("axis", *given)
