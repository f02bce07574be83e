"""Settings read by their schema: words, parameters of the same name, positions, kinds and ranges."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.expand.fields import Field
from dlc.expand.settings import leaves_root
from tests.expand.blocks import DEVICE, LINK, cluster, expanded, train


def test_a_word_stands_for_itself_where_a_parameter_has_its_name(tmp_path: Path) -> None:
    result = expanded("param adam = 3\n" + train(optimizer="adam"), tmp_path)
    assert result.job.training is not None
    assert result.job.training.optimizer.kind == "adam"
    assert result.error.code == "W0201"


def test_words_may_come_from_parameters(tmp_path: Path) -> None:
    text = "param what = gpu\nparam file = 'p.json'\n".replace("'", '"') + cluster(
        DEVICE.replace("memory", "kind = what, profile = file, memory"), LINK, "topology { core[2] over shm }"
    )
    spec = expanded(text, tmp_path).spec
    assert spec is not None
    assert (spec.clusters[0].devices[0].kind, spec.clusters[0].devices[0].profile) == ("gpu", "p.json")


@pytest.mark.parametrize(
    ("optimizer", "code", "message"),
    [
        ("sgd(0.9, no, 0, 1)", "E0603", "`sgd` has no argument 4"),
        ("sgd(0.9, momentum = 0.9)", "E0607", "`momentum` is set twice in `sgd`"),
        ("sgd(momentum = nan)", "E0605", "`momentum` is a number, the word `nan` is not"),
        ("sgd(momentum = 3 GiB)", "E0605", "`momentum` is a number, `3 GiB` is a size"),
        ("sgd(momentum = [0.9])", "E0605", "`momentum` is a number, a list of 1 is not"),
        ("sgd(momentum = yes)", "E0605", "`momentum` is a number, `yes` is not"),
        ("sgd(momentum = 1 / 0)", "E0214", "this divides by zero"),
        ("sgd(weight_decay = -0.1)", "E0606", "`weight_decay` must be at least 0, not -0.1"),
        ("3", "E0604", "the number 3 is not an optimizer"),
        ('"sgd"', "E0604", "a text is not an optimizer"),
        ("sgd -> adam", "E0604", "this is not an optimizer"),
        ("if 3 then sgd else adam", "E0216", "`if` needs yes or no, not the number 3"),
    ],
)
def test_arguments_that_are_refused(optimizer: str, code: str, message: str, tmp_path: Path) -> None:
    error = expanded(train(optimizer=optimizer), tmp_path).error
    assert (error.code, error.message) == (code, message)


def test_quantities_are_sizes_as_integers_and_the_rest_as_numbers(tmp_path: Path) -> None:
    text = cluster(DEVICE.replace("4 GiB", "0.1 TB"), LINK, "topology { core }")
    spec = expanded(text, tmp_path).spec
    assert spec is not None
    device = spec.clusters[0].devices[0]
    assert (device.memory, type(device.memory), type(device.bandwidth)) == (10**11, int, float)


@pytest.mark.parametrize(
    ("field", "allowed", "inside", "outside"),
    [
        (Field("x", "number", minimum=0, below=1), "at least 0 and below 1", (0, 0.5), (-1, 1)),
        (Field("x", "number", above=0, maximum=1), "above 0 and at most 1", (0.5, 1), (0, 2)),
        (Field("x", "count"), "", (0, -1, 10**9), ()),
    ],
)
def test_ranges(field: Field, allowed: str, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert field.allowed == allowed
    assert all(map(field.holds, inside))
    assert not any(map(field.holds, outside))


@pytest.mark.parametrize(
    ("path", "leaves"),
    [("data", False), ("a/../b", False), ("./a", False), ("...", False), ("a/../..", True), ("..", True), ("/", True)],
)
def test_paths(path: str, leaves: bool) -> None:
    assert leaves_root(path) is leaves
