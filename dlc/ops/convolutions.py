"""What the convolutions share: their parameters, attributes and weights."""

from __future__ import annotations

from dlc.ir.graph import Attrs, Init
from dlc.ir.tensor import TensorType, tensor
from dlc.ops.operator import OperandError, Parameter, Weight
from dlc.ops.windows import WINDOW_AXES, Windows

FILTERS = Parameter("filters", "int", required=True, minimum=1)
WINDOW = (
    Parameter("window", "window", required=True, minimum=1),
    Parameter("stride", "window", default=1, minimum=1),
    Parameter("pad", "pad", default=0, minimum=0),
)
DILATION = Parameter("dilation", "window", default=1, minimum=1)
GROUPS = Parameter("groups", "int", default=1, minimum=1)
BIAS = Parameter("bias", "bool", default=True)


def check_groups(groups: int, channels: int, filters: int) -> None:
    """Refuse channels or filters that do not divide by the groups (E0312)."""
    for argument, what, count in (("groups", "channels", channels), ("filters", "filters", filters)):
        if count % groups:
            raise OperandError("E0312", argument=argument, count=count, what=what, groups=groups)


def window_attrs(slide: Windows) -> Attrs:
    """Window, stride, pad and dilation, an entry for each axis."""
    return (
        ("window", slide.window),
        ("stride", slide.stride),
        ("pad", slide.pad),
        ("dilation", slide.dilation),
    )


def filter_weights(
    dtype: str, out: int, into: int, slide: Windows, *, fan: tuple[int, int], bias: int
) -> tuple[Weight, ...]:
    """A weight [out, in, window] and, if not 0, so many biases.

    `fan` is what one result reads and what reads one element, in channels; both start as PyTorch's, U(±1/√fan_in).
    """
    fan_in, fan_out = (channels * slide.taps for channels in fan)
    init = Init("kaiming_uniform", fan_in=fan_in, fan_out=fan_out)
    weight = Weight("weight", window_weight(dtype, {"out": out, "in": into}, slide), init)
    return (weight, Weight("bias", tensor(dtype, channel=bias), init)) if bias else (weight,)


def window_weight(dtype: str, leading: dict[str, int], slide: Windows) -> TensorType:
    """A weight with an entry for each element of a window, behind leading axes."""
    return tensor(dtype, **leading, **dict(zip(WINDOW_AXES[len(slide.window)], slide.window, strict=True)))
