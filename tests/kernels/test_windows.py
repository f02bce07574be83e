"""Windows, strides, pads and dilations: extents and messages."""

from __future__ import annotations

import pytest

from dlc.ir.graph import Attr
from dlc.ops.operator import OperandError
from dlc.ops.windows import windows


@pytest.mark.parametrize(
    ("args", "pad"),
    [
        ({"window": 3, "pad": "same"}, ((1, 1), (1, 1))),
        ({"window": (2, 5), "pad": "same"}, ((0, 1), (2, 2))),
        ({"window": 3, "pad": "same", "dilation": 2}, ((2, 2), (2, 2))),
        ({"window": 4, "pad": "same", "dilation": 3}, ((4, 5), (4, 5))),
        ({"window": 3, "pad": "same", "stride": 2}, ((1, 1), (1, 1))),
        ({"window": 3, "pad": "valid"}, ((0, 0), (0, 0))),
        ({"window": 3, "pad": 2}, ((2, 2), (2, 2))),
        ({"window": 3, "pad": (1, 2)}, ((1, 1), (2, 2))),
        ({"window": 3, "pad": ((1, 2), (3, 4))}, ((1, 2), (3, 4))),
    ],
)
def test_pads(args: dict[str, Attr], pad: object) -> None:
    assert windows(args, 2).pad == pad


@pytest.mark.parametrize(
    ("args", "extents", "expected"),
    [
        ({"window": 5}, (32, 32), (6, 6)),
        ({"window": 5, "stride": 1}, (32, 32), (28, 28)),
        ({"window": 3, "stride": 2, "pad": "same"}, (112, 111), (56, 56)),
        ({"window": 2, "ceil": True}, (5, 6), (3, 3)),
        ({"window": 2}, (5, 6), (2, 3)),
        ({"window": 3, "stride": 2, "ceil": True, "pad": 1}, (6, 7), (4, 4)),
        ({"window": 2, "stride": 3, "ceil": True, "pad": 1}, (4, 5), (2, 2)),  # a third window would start in the pad
        ({"window": 3, "stride": 1, "dilation": 2}, (5, 9), (1, 5)),
        ({"window": 3, "stride": 2, "pad": 1}, (9,), (5,)),
        ({"window": (3, 2, 1), "stride": 1, "pad": (1, 0, 0)}, (4, 4, 4), (4, 3, 4)),
    ],
)
def test_extents(args: dict[str, Attr], extents: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert windows(args, len(extents)).output(extents) == expected


def test_a_window_that_does_not_fit() -> None:
    with pytest.raises(OperandError) as caught:
        windows({"window": 5, "stride": 1}, 2).output((4, 4))
    error = caught.value
    assert (error.code, error.values, error.argument) == ("E0302", {"window": "5x5", "input": "4x4"}, "window")
    assert error.notes == ()


def test_notes_say_how_pads_and_dilation_count() -> None:
    with pytest.raises(OperandError) as caught:
        windows({"window": 3, "stride": 1, "dilation": 3, "pad": 1}, 2).output((4, 9))
    assert caught.value.values == {"window": "3x3", "input": "4x9"}
    assert caught.value.notes == (
        "with dilation 3x3 the 3x3 window covers 7x7",
        "with its pads the input is 6x11",
    )


@pytest.mark.parametrize(("axes", "needed"), [(1, "1 spatial axis"), (2, "2 spatial axes")])
@pytest.mark.parametrize("name", ["window", "stride", "pad", "dilation"])
def test_the_number_of_extents(name: str, axes: int, needed: str) -> None:
    with pytest.raises(OperandError) as caught:
        windows({"window": 3, name: (3, 3, 3)}, axes)
    assert caught.value.code == "E0310"
    assert caught.value.values == {"argument_name": name, "given": 3, "needed": needed}
