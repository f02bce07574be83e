"""`dlc verify` on programs that are right, and on programs that are wrong in a small way."""

from itertools import pairwise
from pathlib import Path

import pytest

from dlc.driver import Compiled, Options, compile_job, compile_spec, context_of, emit_files, read
from dlc.verification import VerificationError, compare, variants, verify, without_rounding
from tests.programs.conftest import HERE, SPECS
from tests.programs.random_plans import in_turns
from tests.programs.started import started
from tests.slices import first

pytestmark = pytest.mark.mpi

LENET, RESIDUAL = str(SPECS / "lenet5.dlspec"), str(HERE / "residual.dlspec")


@pytest.mark.parametrize("ranks", first(0, [2, 3]))
def test_lenet_equals_the_serial_program(ranks: int) -> None:
    verdicts = verify(read(LENET), Options(precision="f64"), (ranks,), steps=2)
    assert [verdict.variant for verdict in verdicts] == [
        "sgd, not clipped",
        "sgd, clipped",
        "adam, not clipped",
        "adam, clipped",
    ]
    for verdict in verdicts:
        assert verdict.passed, verdict
        assert verdict.bound < 1e-10


@pytest.mark.parametrize("spec", [LENET, RESIDUAL])
def test_exact_mode_is_equal_bit_by_bit(spec: str) -> None:
    (verdict,) = verify(read(spec), Options(exact=True), (3,), steps=2)
    assert verdict.passed, verdict
    assert verdict.bound == 0


@pytest.mark.slow
def test_batch_norm_groups_and_dropout_do_not_see_the_ranks() -> None:
    for verdict in verify(read(RESIDUAL), Options(precision="f64"), (3,), steps=2):
        assert verdict.passed, verdict


@pytest.fixture(scope="module")
def exact() -> Compiled:
    source = read(RESIDUAL)
    job, context = context_of(source, Options(ranks=2))
    return compile_job(source, job, without_rounding(context, job.graph), Options())


LEFT_OUT = """own = g.bucket0[:200].copy()
    (lambda *call, **how: (place.allreduce(*call, **how), g.bucket0.__setitem__(slice(200), own)))(g.bucket0,"""
"""The first gradient of a bucket stays the rank's own, whichever allreduce sums the others."""


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        pytest.param("train.py", 'at.position("data")', "0", id="every rank at the first position"),
        pytest.param("runtime/place.py", "[at.first + start : at.first + stop]", "[at.first : at.first + stop - start]",
                     id="every rank the first samples"),
        pytest.param("train.py", "place.allreduce(g.bucket0,", "(lambda *_, **__: None)(g.bucket0,",
                     id="no sum over the ranks"),
        pytest.param("train.py", "place.allreduce(g.bucket0,", LEFT_OUT, id="a gradient left out"),
        pytest.param("train.py", "place.allreduce(a.bn_sums,", "(lambda *_, **__: None)(a.bn_sums,", id="half a group"),
    ],
)  # fmt: skip
def test_faults_are_caught(exact: Compiled, file: str, right: str, wrong: str) -> None:
    files = emit_files(exact)
    text = files[file].decode()
    assert right in text
    wrong_files = {**files, file: text.replace(right, wrong).encode()}
    noticed = said = "the ranks hold different values of"
    try:
        passed = compare(exact, wrong_files, "exact", steps=1, run=started).passed
    except VerificationError as error:  # by the program itself, and it is not that the fault cannot be run
        passed, said = False, str(error)
    assert not passed
    assert noticed in said


def test_means_over_the_shard_are_caught() -> None:
    """Of the losses as they are: in exact mode others stand for them, which are no means."""
    compiled = compile_spec(read(LENET), Options(ranks=2, precision="f64"))
    files = emit_files(compiled)
    wrong = files["train.py"].decode().replace("count=at.count", "count=at.count / 2")
    failed = compare(compiled, {**files, "train.py": wrong.encode()}, "", 1, run=started).failed
    assert "step 0: loss" in failed
    assert any("after.w." in tensor for tensor in failed)


@pytest.mark.parametrize("optimizer", first(1, ["adam", "sgd"]))
def test_a_program_that_does_not_clip_is_caught(optimizer: str) -> None:
    """So the clipped variants do clip: without it the weights go elsewhere."""
    source = read(LENET)
    job, context = context_of(source, Options(ranks=2, precision="f64"))
    (variant,) = (v for v in variants(context.training, exact=False) if v.name == f"{optimizer}, clipped")
    compiled = compile_job(source, job, context.with_(training=variant.training), Options())
    files = emit_files(compiled)
    text = files["train.py"].decode()
    assert "    clip(" in text
    verdict = compare(
        compiled,
        {**files, "train.py": text.replace("    clip(", "    (lambda *_, **__: None)(").encode()},
        "",
        1,
        run=started,
    )
    assert any("after.w." in tensor for tensor in verdict.failed)


@pytest.mark.parametrize(("right", "seeds"), [(True, [1, 2]), (False, [1, 2, 3, 4, 5, 6, 7, 8])])
def test_noise_is_drawn_more_often_where_something_is_beyond_its_bound(right: bool, seeds: list[int]) -> None:
    compiled = compile_spec(read(LENET), Options(ranks=2, precision="f64"))
    text = emit_files(compiled)["train.py"].decode()
    wrong = text if right else text.replace("count=at.count", "count=7")
    drawn = list[int]()

    def run(program: str, ranks: int, root: str, steps: int, record: str, *options: str) -> None:
        drawn.extend(int(seed) for option, seed in pairwise(options) if option == "--perturb")
        in_turns(program, ranks, root, steps, record, *options)

    assert compare(compiled, {**emit_files(compiled), "train.py": wrong.encode()}, "", 1, run=run).passed == right
    assert drawn == seeds


def test_a_plan_is_applied_as_it_stands(tmp_path: Path) -> None:
    compiled = compile_spec(read(LENET), Options(ranks=2))
    assert compile_spec(read(LENET), Options(ranks=2), compiled.plan).program == compiled.program
