"""Parts whose windows lie in the pads alone: a rank has rows of the result, and none of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.ir.program import Compute
from dlc.verification import compare
from tests.driver.conftest import CLUSTER, NETWORK, spec
from tests.programs.test_random_plans import in_turns

WIDE = NETWORK.replace("conv(4, 3x3)", "conv(2, 3x3, pad = same) -> relu -> conv(2, 3x3, pad = 10)")


@pytest.mark.parametrize("algorithm", ["im2col", "direct", "fft", "winograd(2)"])
def test_windows_in_pads(algorithm: str, tmp_path: Path) -> None:
    """Of 26 rows of results the first seven, those of rank 0, read rows -10 to -2 of 8."""
    plan = f"""mesh {{ rows = core }}
  pin **.conv {{ partition = split(height, over = rows) }}
  pin **.conv {{ algorithm = {algorithm} }}"""
    path = tmp_path / "tiny.dlspec"
    path.write_text(spec(plan, network=WIDE, cluster=CLUSTER.replace("core[2]", "core[4]")), encoding="utf-8")
    compiled = compile_spec(read(str(path)), Options(precision="f64"))
    made = [i for i in compiled.program.roles[0].segment("forward").instructions if isinstance(i, Compute)]
    assert {i.kernel[2] for i in made if i.kernel[0] == "conv"} >= {algorithm}
    verdict = compare(compiled, emit_files(compiled), "pads", steps=2, run=in_turns)
    assert verdict.passed, verdict
