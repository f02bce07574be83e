"""Single convolutions that another algorithm than direct sums computes fastest, and what the planner makes of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends.numpy_mpi.timing import Case, time_kernels
from dlc import driver
from dlc.cluster.detect import machine
from dlc.cost.profile import Sample
from dlc.driver import Options
from dlc.ir.program import Compute
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS, Shapes
from dlc.tuning import Measured
from dlc.validation import chosen


@dataclass(frozen=True, slots=True)
class Won:
    """A convolution, with the seconds of each algorithm in its best layout, and what the planner chooses by what."""

    algorithm: str
    kernels: str
    shape: str
    seconds: dict[str, float]
    planned: dict[str, str]

    @property
    def fastest(self) -> str:
        """The algorithm that takes least."""
        return min(self.seconds, key=lambda name: self.seconds[name])


AXES = ("batch", "channel", "height", "width")

CASES = (
    ("im2col", "numpy", (64, 1, 28, 28), (16, 5, 5)),
    ("im2col", "c", (16, 512, 7, 7), (2048, 1, 1)),
    ("winograd", "c", (4, 128, 56, 56), (128, 3, 3)),
    ("winograd", "numpy", (4, 128, 56, 56), (128, 3, 3)),
    ("fft", "numpy", (2, 16, 128, 128), (16, 31, 31)),
    ("fft", "numpy", (2, 48, 64, 64), (48, 15, 15)),
)
"""(algorithm that is to win, kernels, x, filters and window); results are as large as x."""

ONE = """\
dlspec 1
network one {{
  input x: f32[batch = {n}, channel = {channels}, height = {height}, width = {width}]
  y = x -> conv({filters}, {rows}x{columns}, pad = {pad}, bias = no) as c -> global_avgpool -> flatten -> linear(10)
  output y
}}
train one {{
  data = synthetic(samples = {n}, classes = 10)
  loss = cross_entropy(y, data.label)
  optimizer = sgd()
  lr = constant(0.001)
  epochs = 1
}}
"""


def cases(profile: str) -> Iterator[Won]:
    """Convolutions for which another algorithm than direct is fastest, forward, each algorithm in its best layout."""
    for algorithm, kernels, x, (filters, *window) in CASES:
        timed = list(time_kernels(_ways_of(kernels, x, filters, window), rounds=5, seconds=10.0))
        best: dict[str, float] = {}
        for timing in timed:
            name = timing.case.algorithm
            best[name] = min(timing.seconds, best.get(name, timing.seconds))
        ordered = dict(sorted(best.items(), key=lambda pair: pair[1]))
        samples = tuple(
            Sample(
                t.case.op, t.case.stage, t.case.algorithm, t.case.layout, t.case.shapes, t.seconds, t.spread, kernels
            )
            for t in timed
        )
        planned = {"formulas": _planned(kernels, x, filters, window)}
        if profile:
            planned["profile"] = _planned(kernels, x, filters, window, profile=profile)
        planned["measurements"] = _planned(kernels, x, filters, window, samples=samples)
        shape = f"{'x'.join(map(str, x))}, {filters} of {'x'.join(map(str, window))}"
        yield Won(algorithm, kernels, shape, ordered, planned)


def _ways_of(kernels: str, x: tuple[int, ...], filters: int, window: list[int]) -> list[Case]:
    """Every algorithm in every layout that is legal, but for transforms of 1x1 windows, which take seconds."""
    pads = tuple(((extent - 1) // 2, extent // 2) for extent in window)
    told = {"stride": (1, 1), "dilation": (1, 1), "groups": 1, "bias": False}
    attrs: dict[str, Any] = {"filters": filters, "window": tuple(window), "pad": pads, **told}
    weight = tensor("f32", **{"out": filters, "in": x[1], "height": window[0], "width": window[1]})
    images = (TensorType("f32", tuple(map(Axis, AXES, (x[0], c, *x[2:])))) for c in (x[1], filters))
    (image, result) = images
    shapes = Shapes((image, weight), (result,), attrs)
    conv = operator("conv")
    assert conv is not None
    return [
        Case("conv", "forward", shapes, each.name, layout, kernels)
        for each in conv.algorithms
        for layout in LAYOUTS
        if each.excluded("forward", shapes) is None and layout in each.layouts and "cpu" in each.devices
        if max(window) > 1 or not each.name.startswith("fft")
    ]


def _planned(
    kernels: str, x: tuple[int, ...], filters: int, window: list[int], *, profile: str = "", samples: Measured = ()
) -> str:
    """The algorithm and the layout that the planner chooses by itself for a network of this convolution, forward."""
    n, channels, height, width = x
    told = {"n": n, "channels": channels, "height": height, "width": width, "filters": filters}
    text = ONE.format(**told, rows=window[0], columns=window[1], pad=window[0] // 2)
    with tempfile.TemporaryDirectory(prefix="dlc-choice-") as folder:
        path = Path(folder) / "one.dlspec"
        path.write_text(text, encoding="utf-8")
        options, here = Options(kernels=kernels, precision="f32", measured=samples), machine(1)
        if profile:
            named = os.path.abspath(profile)
            here = replace(here, devices=tuple(replace(device, profile=named) for device in here.devices))
        made = chosen(driver.read(str(path), {}), options, here)
    (role,) = made.program.roles
    for segment in role.segments:
        for each in segment.instructions:
            if isinstance(each, Compute):
                for call in each.members or (each,):
                    if call.kernel[:2] == ("conv", "forward"):
                        return f"{call.kernel[2]} {call.layout}"
    raise LookupError("there is no convolution")
