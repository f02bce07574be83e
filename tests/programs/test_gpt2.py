"""A small GPT-2: integers in, weights used twice, dropout, on several ranks."""

from __future__ import annotations

import pytest

from dlc.driver import Options, read
from dlc.verification import verify
from tests.programs.conftest import HERE, Compile
from tests.programs.started import started

pytestmark = pytest.mark.mpi

SPEC = HERE / "gpt2_small.dlspec"


@pytest.mark.parametrize(
    "options",
    [
        Options(exact=True),
        pytest.param(Options(precision="f64"), marks=pytest.mark.slow),
        pytest.param(Options(precision="f32"), marks=pytest.mark.slow),
    ],
)
def test_ranks_do_not_matter(options: Options) -> None:
    for verdict in verify(read(str(SPEC)), options, (2,), steps=2, run=started):
        assert verdict.passed, verdict


def test_it_learns_on_two_ranks(compiled: Compile) -> None:
    ran = compiled("gpt2_small", 2).run()
    assert ran.status == 0, ran.output
    assert ran.result["loss"] < 0.7 * compiled("gpt2_small", 2).run("--steps", "1").result["loss"]
