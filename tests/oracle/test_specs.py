"""Every spec of the zoo at reduced size, and three at full structure, five training steps beside PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: its training is not compared with")

from tests.oracle.comparison import Found, compare
from tests.slices import later
from tests.specs.reduced import REDUCED

pytestmark = pytest.mark.oracle

SPECS = Path(__file__).parents[2] / "specs"

DEEPER = ("densenet169", "gpt2_xl", "gpt_96", "resnet101", "resnet152", "resnet1001", "vgg19")
"""Networks that are others with more layers of the same kinds: the slow suite has them."""


def passes(found: Found) -> None:
    assert not found.training.failed
    assert found.prediction <= found.bound


@pytest.mark.parametrize("name", [later(name) if name in DEEPER else name for name in REDUCED])
def test_reduced(name: str, tmp_path: Path) -> None:
    passes(compare(SPECS / f"{name}.dlspec", tmp_path, **REDUCED[name]))


def test_every_spec_is_compared() -> None:
    assert {path.stem for path in SPECS.glob("*.dlspec")} == set(REDUCED)


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_lenet(precision: str, tmp_path: Path) -> None:
    passes(compare(SPECS / "lenet5.dlspec", tmp_path, precision))


WHOLE: dict[str, dict[str, Any]] = {
    "resnet50": {"batch": 8, "size": 64},
    "gpt2": {"batch": 2, "depth": 2, "tokens": 64, "vocab": 4096, "microbatches": 1, "corpus": "data/alice.txt"},
}


KINKS = {("resnet50", "f32"): 1}
"""Steps in which a unit lies within rounding of relu's kink, so that program and PyTorch put it on different sides: its
gradient is there in one and not in the other, 9e-5 of the stem's. In step 4 that is one of stage1[0].main.middle.bn
against float64, and another one of stage1[1].add for PyTorch; forward values are as exact in both."""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("name", WHOLE)
def test_whole(name: str, precision: str, tmp_path: Path) -> None:
    """All layers at their full widths; of GPT-2 two blocks."""
    found = compare(SPECS / f"{name}.dlspec", tmp_path, precision, **WHOLE[name])
    assert len({tensor.partition(":")[0] for tensor in found.training.failed}) <= KINKS.get((name, precision), 0)
    assert found.prediction <= found.bound
