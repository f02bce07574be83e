"""A network around each operator on several ranks: equal to the serial program, bit by bit and within rounding."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.driver import Options, read
from dlc.verification import verify
from tests.networks import BODIES, LOSSES, OPERATORS, loss_spec, spec
from tests.programs.started import started

pytestmark = pytest.mark.mpi

RANKS = (3,)  # 8 samples: shards of 3, 3 and 2

TEXTS = {name: spec(name) for name in (*OPERATORS, *BODIES)} | {f"loss {name}": loss_spec(name) for name in LOSSES}


def passes(name: str, folder: Path, options: Options) -> None:
    path = folder / "net.dlspec"
    path.write_text(TEXTS[name])
    verdicts = verify(read(str(path)), options, RANKS, steps=2, run=started)
    assert verdicts
    assert all(verdict.passed for verdict in verdicts), [verdict for verdict in verdicts if not verdict.passed]


@pytest.mark.parametrize("name", TEXTS)
def test_exact(name: str, tmp_path: Path) -> None:
    passes(name, tmp_path, Options(exact=True))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("name", TEXTS)
def test_within_rounding(name: str, precision: str, tmp_path: Path) -> None:
    passes(name, tmp_path, Options(precision=precision))
