"""Iteration spaces of what works on images: convolutions, pools and norms of channels (`dlc.ops.indexing`)."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.tensor import TensorType
from dlc.ops.attributes import integer
from dlc.ops.indexing import Along, Attributes, Halo, Indexing, Types, indexed
from dlc.ops.windows import WINDOW_AXES, windows

BY_ROWS = ("conv", "depthwise_conv", "maxpool", "avgpool")
"""Ops whose kernels compute some rows of their results as they compute all."""

SPATIAL = ("depth", "height", "width", "length")


def image_axes(x: TensorType) -> Along:
    """What [batch, channel, …] runs along, by position: the axes behind the channels under their names if these
    are those of images; of more than three only the last ones; of [batch, features] the second axis is `feature`."""
    if len(x.axes) == 2:
        return ("batch", "feature")
    names = x.names[2:]
    if not set(names) <= set(SPATIAL):
        windowed = WINDOW_AXES[min(len(names), len(WINDOW_AXES))]
        names = ("",) * (len(names) - len(windowed)) + windowed
    return ("batch", "channel", *names)


def window_halos(types: Types, attrs: Attributes) -> dict[str, Halo]:
    """What the windows over x read: row a of the result those from a·stride - pad on."""
    names = image_axes(types["x"])[2:]
    slide = windows(attrs, len(names))
    along = zip(names, slide.reach, slide.stride, slide.pad, strict=True)
    found = {name: Halo(before, reach - 1 - before, stride) for name, reach, stride, (before, _) in along}
    as_long = (x == y for x, y in zip(types["x"].shape[2:], types["y"].shape[2:], strict=True))
    alike = {name for name, same in zip(names, as_long, strict=True) if same and found[name] == Halo(0, 0)}
    return {name: halo for name, halo in found.items() if name not in alike}


def convolution(types: Types, attrs: Attributes) -> Indexing:
    """Of a convolution: by output channels, by input channels (`reduce`), by samples and rows of y.

    With groups the channels of x and y are split alike, into parts that hold whole groups.
    """
    return filtered(types, attrs, ("channel", "reduce"), window_halos(types, attrs))


def filtered(
    types: Types, attrs: Attributes, weight: Along, halos: Mapping[str, Halo], *, stretched: Along = (), out: Along = ()
) -> Indexing:
    """The same for a weight whose first two axes run along `weight`, `halos` given.

    Along the axes in `stretched` y is a multiple of x; those in `out` cannot be split.
    """
    y = tuple("" if axis in out else axis for axis in image_axes(types["x"]))
    groups, taps = integer(attrs, "groups"), ("",) * (len(y) - 2)
    if groups == 1:
        x, leading, whole = (y[0], "reduce", *y[2:]), weight, stretched
    else:
        x, leading, whole = y, ("channel", ""), ("channel", *stretched)
    return indexed(
        types,
        {"y": y, "x": x, "weight": (*leading, *taps), "bias": ("channel",)},
        whole=whole,
        limits={"channel": groups} if groups > 1 else None,
        halos=halos,
        once=("bias",),
        counts={"groups": "channel"} if groups > 1 else None,
    )


def pooling(types: Types, attrs: Attributes) -> Indexing:
    """Of a pool: samples, channels and rows of y."""
    names = image_axes(types["x"])
    return indexed(types, {"y": names, "x": names, "indices": names}, halos=window_halos(types, attrs))


def channelwise(types: Types, _attrs: Attributes) -> Indexing:
    """Of an op on each channel's image as a whole: samples and channels."""
    batch, channel, *spatial = image_axes(types["x"])
    return indexed(types, dict.fromkeys(types, (batch, channel, *("",) * len(spatial))))
