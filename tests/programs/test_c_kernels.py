"""Programs with kernels in C, on one rank and on several, against the serial program with NumPy's."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from backends.numpy_mpi.c.general import GENERAL
from backends.numpy_mpi.kernels import KERNELS
from backends.numpy_mpi.kernels.native import find_compiler
from dlc.driver import Compiled, Options, compile_spec, emit_files, read
from dlc.verification import compare
from tests.clusters import BOX
from tests.programs.random_plans import in_turns

pytestmark = pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")

SPEC = (
    """dlspec 1

param batch = 6

network net {{
  input image: f32[batch, channel = 3, height = 12, width = 12]
  stem  = image -> conv(20, 3x3, stride = 2, pad = 1, bias = no) -> bn(group = {group}) -> relu
  wide  = stem -> conv(20, 3x3, pad = 1)
  left  = wide -> bn(group = {group}) -> relu -> conv(20, 1x1) -> bn(group = {group})
  right = stem -> conv(20, 3x3, pad = same, groups = 4) -> tanh
  join  = left + right
  y     = join -> relu -> conv(20, 3x3, pad = 1) -> relu -> maxpool(2x2) -> conv(17, 2x2) -> sigmoid
  logits = concat(y, y) -> avgpool(2x2, stride = 1) -> flatten -> linear(5)
  output logits
}}

train net {{
  data      = synthetic(samples = 24, classes = 5)
  loss      = cross_entropy(logits, data.label)
  metrics   = [accuracy(logits, data.label)]
  optimizer = {optimizer}
  lr        = constant(0.01)
  steps     = 4
}}

"""
    + BOX
    + """\

plan net on box {{
  kernels = c
  {plan}
}}
"""
)

PLANS = {
    "direct NHWC": (1, "layout = NHWC; pin **.conv { algorithm = direct }"),
    "direct CHWN": (1, "layout = CHWN; pin **.conv { algorithm = direct }"),
    "direct NCHW": (1, "layout = NCHW; pin **.conv { algorithm = direct }"),
    "winograd 2": (1, "layout = NHWC; pin wide.conv { algorithm = winograd(2) }"),
    "winograd 4": (2, "layout = NHWC; strategy = data; pin wide.conv { algorithm = winograd(4) }"),
    "data": (2, "layout = NHWC; strategy = data; pin **.conv { algorithm = direct }"),
    "data of 4": (4, "layout = CHWN; strategy = data; pin **.conv { algorithm = direct }"),
    "model": (2, "layout = NHWC; strategy = model; pin **.conv { algorithm = direct }"),
    "spatial": (2, "layout = NHWC; strategy = spatial; pin **.conv { algorithm = direct }"),
    "pipeline": (2, "strategy = pipeline; pipeline.microbatches = 3"),
}
DAILY = (
    *((plan, "f32") for plan in ("direct NHWC", "winograd 4", "data of 4", "model", "pipeline")),
    ("data", "f64"),
)


def compiled(text: str, folder: Path, precision: str) -> Compiled:
    path = folder / "net.dlspec"
    path.write_text(text)
    options = Options(precision=precision)
    return compile_spec(read(str(path)), options)


@pytest.mark.parametrize(
    ("plan", "precision"),
    [
        pytest.param(plan, precision, marks=() if (plan, precision) in DAILY else pytest.mark.slow)
        for plan in PLANS
        for precision in ("f32", "f64")
    ],
)
def test_a_program_computes_what_numpy_does(plan: str, precision: str, tmp_path: Path) -> None:
    ranks, lines = PLANS[plan]
    optimizer = "adam" if ranks > 1 else "sgd(momentum = 0.9, weight_decay = 1e-3)"
    group = 2 if plan == "pipeline" else "batch"
    text = SPEC.format(ranks=ranks, optimizer=optimizer, plan=lines.replace("; ", "\n  "), group=group)
    made = compiled(text, tmp_path, precision)
    files = emit_files(made)
    assert made.plan.kernels == "c"
    if "pin" in lines and "NCHW" not in lines:
        algorithm = lines.partition("algorithm = ")[2][:6]
        assert re.search(rf'Function\(\s*"{algorithm}', files["compiled.py"].decode())
    if plan == "direct NHWC":
        fused = set(re.findall(r"\b(?:bn|conv|sum)_(?:add_)?relu\w*(?=\()", files["train.py"].decode()))
        assert {"bn_relu_forward", "bn_add_relu_forward", "sum_relu_dx", "conv_relu_direct_forward"} <= fused
        assert "conv_relu_direct_dx" in fused
    verdict = compare(made, files, plan, 2, run=in_turns)
    assert verdict.passed, verdict


def test_every_function_takes_the_place_of_a_kernel_that_has_a_binding() -> None:
    """What C is generated for, and the module of bindings of its NumPy kernel, are one list."""
    for op, stage, variant in GENERAL:
        kernel = KERNELS.get((op, stage, variant)) or KERNELS[op, stage, ""]
        module = import_module(f"backends.numpy_mpi.kernels.c_{kernel.module}")
        assert callable(getattr(module, kernel.function)), kernel
