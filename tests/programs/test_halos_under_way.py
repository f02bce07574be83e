"""Programs that compute inner rows while halos are on their way are the serial program, whatever kernels they call."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.driver import Compiled, Options, compile_spec, emit_files, read
from dlc.ir.program import Compute
from dlc.verification import compare
from tests.driver.conftest import CLUSTER, NETWORK, spec
from tests.programs.started import started
from tests.programs.test_random_plans import in_turns

LAYERS = "conv(4, 3x3, pad = same) -> relu -> conv(3, 3x3, pad = 1x0) -> maxpool(3x3, stride = 2, pad = 1)"
DEEP = NETWORK.replace("height = 8, width = 8", "height = 19, width = 17").replace("conv(4, 3x3)", LAYERS)
SAMPLES = {"digits": "synthetic(samples = 32, classes = 10)"}
CASES = [
    ("im2col", "NCHW", "height", 2),
    ("im2col", "NHWC", "height", 3),
    ("im2col", "CHWN", "width", 2),
    ("direct", "NHWC", "width", 2),
    ("direct", "NCHW", "height", 3),
    ("fft", "NCHW", "height", 2),
    ("winograd(2)", "NCHW", "height", 3),
    ("winograd(4)", "NHWC", "height", 2),
]


def compiled(tmp_path: Path, algorithm: str, layout: str, axis: str, ranks: int, precision: str) -> Compiled:
    plan = f"""mesh {{ rows = core }}
  overlap = yes
  layout  = {layout}
  pin **.conv {{ partition = split({axis}, over = rows) }}
  pin **.conv {{ algorithm = {algorithm} }}
  pin **.maxpool {{ partition = split({axis}, over = rows) }}"""
    text = spec(plan, network=DEEP, cluster=CLUSTER.replace("core[2]", f"core[{ranks}]"))
    path = tmp_path / "tiny.dlspec"
    path.write_text(text.replace("= digits", f"= {SAMPLES['digits']}"), encoding="utf-8")
    return compile_spec(read(str(path)), Options(precision=precision))


@pytest.mark.parametrize(("algorithm", "layout", "axis", "ranks"), CASES)
def test_inner_rows_first(algorithm: str, layout: str, axis: str, ranks: int, tmp_path: Path) -> None:
    made = compiled(tmp_path, algorithm, layout, axis, ranks, "f64")
    forward = made.program.roles[0].segment("forward").instructions
    cut = {i.kernel for i in forward if isinstance(i, Compute) and i.rows}
    assert cut >= {("conv", "forward", algorithm), ("maxpool", "forward", "")}
    verdict = compare(made, emit_files(made), "rows", steps=2, run=in_turns)
    assert verdict.passed, verdict


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_under_mpi(ranks: int, tmp_path: Path) -> None:
    made = compiled(tmp_path, "im2col", "NCHW", "height", ranks, "f32")
    verdict = compare(made, emit_files(made), "rows", steps=2, run=started)
    assert verdict.passed, verdict


def test_the_text_says_what_happens_in_order(tmp_path: Path) -> None:
    text = emit_files(compiled(tmp_path, "im2col", "NCHW", "height", 2, "f32"))["train.py"].decode()
    lines = [line.strip() for line in text.splitlines()]
    at = lines.index('place.halo(a.c1.relu, a.c1.relu_halo, over="rows", begin=True)  # 1 rows before, 1 behind')
    calls = [line for line in lines[at:] if line.startswith(("place.interior", "place.wait", "place.border"))]
    assert [call.partition("(")[0] for call in calls[:3]] == ["place.interior", "place.wait", "place.border"]
