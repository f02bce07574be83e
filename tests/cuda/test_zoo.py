"""The zoo on GPUs without one: each spec at reduced size, with the plan that GPUs get, equals NumPy's program.

A slice runs every day; `pytest -m slow tests/cuda/test_zoo.py` runs all of it, `-k by_its_text` of that what runs
with the CUDA text in place of NumPy's kernels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cuda.calling import needs_compiler
from tests.cuda.running import trained
from tests.cuda.zoo import SPECS, Case, compiled, write
from tests.specs.reduced import REDUCED

STEPS = 5  # the last two of them are played

DAILY = (
    Case("transformer_encoder"),
    Case("resnet18", "bf16", 2, "data"),
    Case("unet", "f32", 2, "spatial"),
    Case("vgg16", "f16", 2, "pipeline"),
)

NIGHTLY = (
    *(Case(name) for name in REDUCED if name != "transformer_encoder"),
    *(Case(name, "bf16") for name in ("gpt2", "transformer_encoder", "lstm", "densenet121", "vgg16")),
    *(Case(name, "f16") for name in ("resnet50", "mobilenet_v1", "unet", "gru")),
    *(Case(name, "f64") for name in ("googlenet", "char_lm")),
    *(Case(name, "f32", 4, "data") for name in ("resnet50", "lstm", "googlenet")),
    *(Case(name, "f32", 2, "model") for name in ("alexnet", "gpt2", "transformer_encoder")),
    *(Case(name, "f32", 4, "spatial") for name in ("resnet18", "vgg16")),
    *(Case(name, "f32", 2, "pipeline") for name in ("gpt2", "densenet121", "vgg16")),
    Case("resnet50", "f16", 2, "pipeline"),
    Case("gpt_96", "bf16", 2, "pipeline"),
    Case("gpt2_xl", "bf16", 4, "optimizer"),
    Case("resnet101", "f32", 1, "recompute"),
)


def _agree(case: Case, folder: Path) -> None:
    """Weights, losses and metrics behind some steps are those of the other backend, to the bit."""
    made = compiled(case)
    programs, root = write(made, folder), ("--root", made.source.spec.root)
    found, known = (trained(programs[each], *root, *more, steps=STEPS, timeout=300) for each, more in BACKENDS)
    assert found.equals(known)


BACKENDS = (("cupy", ("--emulate",)), ("numpy", ()))


@pytest.mark.parametrize("case", DAILY, ids=str)
def test_a_slice_of_the_zoo(case: Case, tmp_path: Path) -> None:
    _agree(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", NIGHTLY, ids=str)
def test_the_zoo(case: Case, tmp_path: Path) -> None:
    _agree(case, tmp_path)


DAILY_TEXT = ("alexnet", "treenet")

NIGHTLY_TEXT = "inception_v3", "lenet5", "lstm", "mlp", "mobilenet_v1", "nin", "resnet18", "squeezenet", "vgg16"
"""Those whose step and evaluation take less than a minute that way; docs/gpu.md names the others."""


def _agrees_with_its_text(spec: str, folder: Path) -> None:
    """Weights behind a step in double precision, and the loss: the text computes the same, but for rounding."""
    made = compiled(Case(spec, "f64"))
    programs, root = write(made, folder), ("--root", made.source.spec.root)
    found, known = (
        trained(programs[backend], *root, *more, steps=1, timeout=300)
        for backend, more in (("cupy", ("--emulate", "cuda")), ("numpy", ()))
    )
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=1e-10)
    for name, right in known.weights.items():
        np.testing.assert_allclose(found.weights[name], right, rtol=0, atol=1e-9 * np.abs(right).max(), err_msg=name)


@needs_compiler
@pytest.mark.parametrize("spec", DAILY_TEXT)
def test_a_slice_of_the_zoo_by_its_text(spec: str, tmp_path: Path) -> None:
    _agrees_with_its_text(spec, tmp_path)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("spec", NIGHTLY_TEXT)
def test_the_zoo_by_its_text(spec: str, tmp_path: Path) -> None:
    _agrees_with_its_text(spec, tmp_path)


def test_every_spec_is_there() -> None:
    alone = {case.spec for case in (*DAILY, *NIGHTLY) if (case.ranks, case.precision) == (1, "f32")}
    assert alone == {path.stem for path in SPECS.glob("*.dlspec")}
