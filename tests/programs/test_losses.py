"""Every loss, metric, optimizer and regulariser in programs whose ranks have unequal shares of the batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.driver import Compiled, Options, compile_job, compile_spec, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.verification import Variant, Verdict, compare, variants, without_rounding
from tests.programs.conftest import EmittedProgram
from tests.programs.started import started

pytestmark = pytest.mark.mpi

SPEC = """dlspec 1
network several {{
  input image: f32[batch = 7, channel = 1, height = 8, width = 8]
  c1      = image -> conv(3, 3x3) -> tanh
  logits  = c1 -> flatten -> linear(10)
  side    = c1 -> global_avgpool -> flatten -> linear(10)
  again   = c1 -> conv(1, 3x3, pad = 2) -> tanh
  decoded = c1 -> flatten -> linear(64)
  output logits, side, again, decoded
}}
train several {{
  data      = digits
  loss      = {loss}
  metrics   = [accuracy(side, data.label, top = 3), perplexity(logits, data.label)]
  optimizer = {optimizer}
  lr        = constant(0.05)
  epochs    = 1
  seed      = 3
  {extra}
}}
"""

LOSSES = {
    "classes": "cross_entropy(logits, data.label) + 0.3 * cross_entropy(side, data.label, smoothing = 0.1)"
    " + 0.5 * hinge(side, data.label)",
    "distances": "mse(again, data.image) + half_mse(side, logits) / 2 + l1(logits, side)"
    " - 0.1 * huber(again, data.image, delta = 0.2)",
    "distributions": "bce(again, data.image) + kl(side, logits, temperature = 2) + reconstruction(decoded, data.image)"
    " + reconstruction(again, decoded)",
}
BOTH = "regularise = [l1(1e-3), l2(1e-2)]\n  clip = norm(0.1)"


def written(folder: Path, loss: str = LOSSES["classes"], optimizer: str = "sgd", extra: str = "") -> str:
    path = folder / "several.dlspec"
    path.write_text(SPEC.format(loss=loss, optimizer=optimizer, extra=extra), encoding="utf-8")
    return str(path)


def job(spec: str, name: str, *, ranks: int, exact: bool = False) -> Compiled:
    """The variant of that name, in float64."""
    source = read(spec)
    made, context = context_of(source, Options(ranks=ranks, precision="f64"))
    context = without_rounding(context, made.graph) if exact else context
    variant: Variant = next(v for v in variants(context.training, exact=exact) if v.name == name)
    return compile_job(source, made, context.with_(training=variant.training), Options())


def verdict(compiled: Compiled, steps: int = 2) -> Verdict:
    return compare(compiled, emit_files(compiled), "", steps, run=started)


@pytest.mark.parametrize("exact", [False, True], ids=["f64", "exact"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_of_the_serial_program(loss: str, exact: bool, tmp_path: Path) -> None:
    name = "sgd, exact" if exact else "adam, not clipped"
    found = verdict(job(written(tmp_path, LOSSES[loss]), name, ranks=2, exact=exact))
    assert found.passed, found
    assert found.bound == 0 if exact else found.bound < 1e-10


@pytest.mark.parametrize("exact", [False, True], ids=["f64", "exact"])
@pytest.mark.parametrize("optimizer", ["lars", "lamb(weight_decay = 0.01)", "lbfgs(history = 2)", "adamw", "rmsprop"])
def test_optimizers_are_those_of_the_serial_program(optimizer: str, exact: bool, tmp_path: Path) -> None:
    name = f"{optimizer.partition('(')[0]}, {'exact' if exact else 'as written'}"
    found = verdict(job(written(tmp_path, optimizer=optimizer, extra=BOTH), name, ranks=3, exact=exact), steps=4)
    assert found.passed, found


@pytest.mark.parametrize("exact", [False, True], ids=["f64", "exact"])
def test_a_program_that_does_not_regularise_is_caught(exact: bool, tmp_path: Path) -> None:
    name = "sgd, exact" if exact else "sgd, not clipped"
    compiled = job(written(tmp_path, extra="regularise = l2(0.01)"), name, ranks=2, exact=exact)
    files = emit_files(compiled)
    text = files["train.py"].decode()
    assert "    regularise(" in text
    files["train.py"] = text.replace("    regularise(", "    (lambda *_, **__: None)(").encode()
    failed = compare(compiled, files, "", 1, run=started).failed
    assert failed
    assert all("after." in tensor for tensor in failed), "loss and gradients are as without regularisers"


def test_evaluations_are_those_of_one_rank(tmp_path: Path) -> None:
    """Perplexity is e to a mean over all samples, not a mean of means; the loss knows no regulariser."""
    results = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        compiled = compile_spec(read(written(tmp_path, extra=BOTH)), Options(ranks=ranks, precision="f64"))
        write_folder(emit_files(compiled), str(folder))
        results.append(EmittedProgram(folder, ranks).run("--steps", "3").result)
    one, two = results
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-12)
    assert one["metrics"] == pytest.approx(two["metrics"], rel=1e-12)
    assert set(one["metrics"]) == {"accuracy_top3", "perplexity"}
    assert 1 < one["metrics"]["perplexity"] < 20
