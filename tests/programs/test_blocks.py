"""Programs whose images lie in blocks of channels, on one rank and on several, against the serial program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backends.numpy_mpi.c.target import target_at_hand
from backends.numpy_mpi.kernels.native import find_compiler
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.source import SourcedError
from dlc.verification import compare
from tests.clusters import BOX
from tests.programs.random_plans import in_turns

pytestmark = pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")

SPEC = (
    """dlspec 1

param batch = 6

network net {{
  input image: f32[batch, channel = 3, height = 14, width = 12]
  stem   = image -> conv(16, 3x3, stride = 2, pad = 1, bias = no) -> bn(group = 2) -> relu
  first  = stem -> conv(32, 3x3, stride = 2, pad = 1) -> bn(group = 2) -> relu
  left   = first -> conv(32, 1x1, bias = no) -> bn(group = 2)
  right  = stem -> conv(32, 1x1, stride = 2, bias = no) -> bn(group = 2)
  join   = left + right
  wide   = join -> relu -> conv(16, 3x3, pad = 1) -> relu -> conv(16, 3x3, pad = 1)
  both   = concat(wide, join) -> maxpool(2x2) -> relu
  logits = both -> global_avgpool -> flatten -> linear(5)
  output logits
}}

train net {{
  data      = synthetic(samples = 24, classes = 5)
  loss      = cross_entropy(logits, data.label)
  metrics   = [accuracy(logits, data.label)]
  optimizer = sgd(momentum = 0.9)
  lr        = constant(0.01)
  steps     = 4
}}

"""
    + BOX
    + """\

plan net on box {{
  kernels = {kernels}
  {plan}
}}
"""
)

AT_HAND = f"NCHW{target_at_hand().lanes('f32')}c"
OTHER = "NCHW4c" if AT_HAND != "NCHW4c" else "NCHW16c"

CASES = {
    "vectors of the target": (1, "c", f"layout = {AT_HAND}"),
    "other blocks": (1, "c", f"layout = {OTHER}"),
    "kernels of NumPy": (1, "numpy", "layout = NCHW8c"),
    "pins": (1, "c", f"pin left.conv {{ layout = {AT_HAND} }}; pin wide.relu {{ layout = {OTHER} }}"),
    "Winograd": (1, "c", f"layout = {AT_HAND}; pin wide.conv {{ algorithm = winograd(4) }}"),
    "Winograd of NumPy": (1, "numpy", "layout = NCHW8c; pin wide.conv { algorithm = winograd(2) }"),
    "everything pinned": (1, "c", f"pin ** {{ layout = {AT_HAND} }}"),
    "data": (2, "c", f"layout = {AT_HAND}; strategy = data"),
    "several ranks": (4, "c", f"layout = {AT_HAND}"),
    "pipeline": (2, "c", f"layout = {AT_HAND}; strategy = pipeline; pipeline.microbatches = 3"),
}


QUICK = ("Winograd", "Winograd of NumPy", "data")


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES])
def test_a_program_computes_what_the_serial_one_does(case: str, tmp_path: Path) -> None:
    ranks, kernels, plan = CASES[case]
    path = tmp_path / "net.dlspec"
    path.write_text(SPEC.format(ranks=ranks, kernels=kernels, plan=plan.replace("; ", "\n  ")))
    made = compile_spec(read(str(path)), Options())
    files = emit_files(made)
    layouts = {op.address: op.layout for op in made.plan.ops}
    if "winograd" in plan:
        (wide,) = (op for op in made.plan.ops if op.address == "wide.conv")
        assert wide.layout in plan
        assert {each.algorithm for each in wide.passes} == set(re.findall(r"winograd\(\d\)", plan))
    named = re.findall(r"NCHW\d+c", plan)
    assert set(named) <= set(layouts.values())
    if case in ("vectors of the target", "data", "Winograd"):  # all but the ops of the image, which has three channels
        kept = {address for address, layout in layouts.items() if layout not in ("", AT_HAND)}
        assert kept - {"logits.flatten"} == {"stem.conv"}
        assert f'Shape("{AT_HAND}"' in files["compiled.py"].decode()
    verdict = compare(made, files, case, 2, run=in_turns)
    assert verdict.passed, verdict


@pytest.mark.parametrize("plan", ["layout = NCHW8c", "pin wide.relu { layout = NCHW16c }"])
def test_the_backend_for_devices_says_that_it_has_no_blocks(plan: str, tmp_path: Path) -> None:
    path = tmp_path / "net.dlspec"
    path.write_text(SPEC.format(ranks=1, kernels="numpy", plan=plan))
    made = compile_spec(read(str(path)), Options())
    with pytest.raises(SourcedError) as told:
        emit_files(made, "cupy")
    (found,) = told.value.diagnostics
    assert found.primary
    assert path.read_text().splitlines()[found.primary.span.line - 1].strip() == plan
    assert found.message.startswith(f"backend `cupy` cannot emit `{re.findall('layout = .*c', plan)[0]}`")
    assert "layout = auto" in "".join(found.helps)
