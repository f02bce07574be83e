"""Convolutions in C: which function of kernels.c a call is for, and what it is told.

Functions are made for their shapes; samples, rows and the pads above and below come at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .conv_matrices import Conv
from .dispatch import Binding
from .layout import Array
from .native import Numbers


class Shape(NamedTuple):
    """What a function was made for, (rows, columns) each; `sides` are the pads left and right."""

    layout: str
    channels: int
    filters: int
    width: int
    window: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    sides: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    bias: bool = False
    relu: bool = False


class Function(NamedTuple):
    """Its name, and for how many samples and rows its scratch elements are enough."""

    name: str
    samples: int
    rows: int
    scratch: int


Functions = Mapping[Shape, Function]

IMAGES = {"forward": 0, "dx": 2, "dw": 1}
"""Which array x, or its gradient, is; the next table: which the weights, or their gradient."""

WEIGHTS = {"forward": 1, "dx": 1, "dw": 2}


def bound(stage: str, functions: Functions, relu: bool = False, packed: bool = False) -> Binding:
    """The binding of a pass: `forward` has x, weight, [bias] -> y; `dx` dy, weight -> dx; `dw` dy, x -> dweight,
    [dbias]. With `relu` dx has what a ReLU gave as a third operand, with `packed` what was packed comes first."""
    further = int(relu and stage == "dx")

    def binding(*given: Array, **attrs: Any) -> Numbers | None:
        arrays = given[int(packed) :]
        conv = Conv.told(**attrs)
        if len(conv.window) != 2 or conv.layout == "NCHW":
            return None
        x, weight = arrays[IMAGES[stage] + further], arrays[WEIGHTS[stage]]
        n, rows, width, channels = (
            x.shape[conv.layout.index(axis)] for axis in "NHWC"
        )  # with blocks the shape is NCHW
        filters, group_channels = weight.shape[:2]
        groups = 1 if conv.groups == 1 else channels // group_channels
        (top, bottom), sides = conv.pad
        found = functions.get(
            Shape(
                conv.layout,
                channels,
                filters,
                width,
                conv.window,
                conv.stride,
                sides,
                conv.dilation,
                groups,
                conv.bias,
                relu,
            )
        )
        if found is None or n > found.samples or rows > found.rows:
            return None
        count = 3 + (conv.bias and stage != "dx") + further + packed
        return Numbers((n, rows, top, bottom), found.scratch, count, found.name)

    return binding


def packing(stage: str, functions: Functions) -> Binding:
    """The binding of what packs for a pass: weight, [bias] -> packed. It is told the width of x."""

    def binding(*arrays: Array, width: int, **attrs: Any) -> Numbers | None:
        conv, weight = Conv.told(**attrs), arrays[0]
        filters, channels = weight.shape[:2]
        made_for = (conv.window, conv.stride, conv.pad[1], conv.dilation, conv.groups, conv.bias)
        found = functions.get(Shape(conv.layout, channels * conv.groups, filters, width, *made_for))
        return None if found is None else Numbers((), 0, 2 + (conv.bias and stage == "forward"), found.name)

    return binding
