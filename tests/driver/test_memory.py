"""What a program allocates is kept within a limit too, by another plan or by saying how much it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlc.cost.memory import peak_bytes
from dlc.diagnostics import DiagnosticError
from dlc.driver import Options, compile_spec, emitted_program, plan_spec, read
from tests.driver.conftest import Compile, Write, spec

LENET = Path(__file__).parents[2] / "specs" / "lenet5.dlspec"
ALONE = "strategy = data, shard = none, recompute = none, pipeline.microbatches = 1"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("orders", ["", ALONE], ids=["free", "by options of ops alone"])
def test_a_limit_that_the_plan_just_keeps_is_kept_by_the_program(
    write: Write, compiled: Compile, ranks: int, orders: str
) -> None:
    text = LENET.read_text(encoding="utf-8").partition("plan lenet5 on laptop")[0].replace("batch = 32", "batch = 8", 1)

    def job(more: str) -> str:
        return f"{text}plan lenet5 on laptop {{ {orders}{', ' if orders and more else ''}{more} }}\n"

    best = plan_spec(read(write(job("strategy = auto" if not orders else ""))), Options(ranks=ranks)).plan
    limit = -(-best.predicted.peak_bytes // 1024)
    made = compiled(job(f"limit memory <= {limit} KiB"), ranks=ranks)
    assert peak_bytes(made.program) <= limit * 1024
    assert made.plan.predicted.objective >= best.predicted.objective * (1 - 1e-9)
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("orders", "train"),
    [("strategy = auto", ""), (ALONE, ""), ("strategy = auto", "precision = mixed(compute = bf16)")],
    ids=["free", "by options of ops alone", "half precision"],
)
def test_a_tight_limit_gives_one_plan_which_is_shown_and_compiled(write: Write, orders: str, train: str) -> None:
    text = LENET.read_text(encoding="utf-8").partition("plan lenet5 on laptop")[0].replace("batch = 32", "batch = 8", 1)
    text = text.replace("train lenet5 {", f"train lenet5 {{\n  {train}", 1)

    def job(more: str) -> str:
        return write(f"{text}plan lenet5 on laptop {{ {orders}{more} }}\n")

    free = plan_spec(read(job("")), Options(ranks=2))
    path = job(f", limit memory <= {free.plan.predicted.peak_bytes - 1024} B")
    shown, made = plan_spec(read(path), Options(ranks=2)), compile_spec(read(path), Options(ranks=2))
    assert shown.plan == made.plan
    assert made.plan.predicted.peak_bytes == peak_bytes(emitted_program(made)) < free.plan.predicted.peak_bytes


def test_the_arrays_that_half_precision_is_computed_in_are_within_the_limit_too(
    write: Write, compiled: Compile
) -> None:
    text = LENET.read_text(encoding="utf-8").partition("plan lenet5 on laptop")[0].replace("batch = 32", "batch = 8", 1)
    text = text.replace("train lenet5 {", "train lenet5 {\n  precision = mixed(compute = bf16)", 1)

    def job(more: str) -> str:
        return f"{text}plan lenet5 on laptop {{ strategy = data{more} }}\n"

    best = compiled(job(""), ranks=2)
    limit = peak_bytes(emitted_program(best)) - 64 * 1024
    made = compiled(job(f", limit memory <= {limit // 1024} KiB"), ranks=2)
    assert peak_bytes(best.program) < limit < best.plan.predicted.peak_bytes == peak_bytes(emitted_program(best))
    assert peak_bytes(emitted_program(made)) <= limit


def test_a_limit_below_all_programs_says_what_they_need(write: Write) -> None:
    """One layer by one algorithm: its plan's count keeps a limit that its program does not; the help's limit is
    enough."""
    network = """network tiny {
  input image: f32[batch = 8, channel = 1, height = 8, width = 8]
  logits = image -> flatten -> linear(10)
  output logits
}
"""

    def job(limit: str) -> str:
        return spec(f"{ALONE}, allreduce = tree, limit memory <= {limit}", network=network)

    best = plan_spec(read(write(job("1 GiB"))), Options()).plan
    path = write(job(f"{best.predicted.peak_bytes - 1} B"))
    with pytest.raises(DiagnosticError) as error:
        plan_spec(read(path), Options())
    (found,) = error.value.diagnostics
    assert found.code == "E0509"
    assert "what is on its way from one form or rank to another" in found.notes[0]
    (enough,) = [match[1] for text in found.helps if (match := re.search(r"allow `limit memory <= (.*?)`", text))]
    compile_spec(read(write(job(enough))), Options())
