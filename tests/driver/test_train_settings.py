"""Nothing that a train block says is ignored: each setting with another value than its default changes what is
compiled, or is refused (E0701)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dlc.expand.rates import PIECES
from dlc.expand.training import CHOICES, COUNTS, KEYS, LISTS, Schemas
from tests.driver.conftest import NETWORK, TRAIN, Compile, spec
from tests.driver.honoured import another, assert_kept, calls, outcome, seen, signature, train
from tests.slices import first


def train_cases() -> Iterator[tuple[str, str]]:
    settings: dict[str, Schemas] = {key: schemas for key, (_, schemas) in (*CHOICES.items(), *LISTS.items())}
    del settings["data"]
    for key, schemas in settings.items():
        for kind, fields in schemas.items():
            for changed, base in calls(kind, tuple(fields)):
                yield f"{key} = {changed}", f"{key} = {base}" if base else "seed = 0"
    for field in COUNTS:
        if field.key not in ("epochs", "steps"):
            yield f"{field.key} = {another(field)}", f"{field.key} = {field.default}"
    for kind, fields in PIECES.items():
        lasting = tuple(field for field in fields if field.key != "over")
        for changed, base in calls(kind, lasting):
            if all(field.key != "over" or not field.required for field in fields):
                yield f"lr = {changed}", f"lr = {base or 'constant(0.125)'}"


DEFAULTS = (
    "init = pytorch", "precision = f32", "precision = tf32", "update = synchronous", "compress = none",
    "optimizer = sgd",
)  # fmt: skip
"""What is so anyway; a CPU has no tf32 and computes in f32."""


CASES = list(train_cases())


@pytest.mark.parametrize(
    ("changed", "base"), first(len(CASES) // 2, [*CASES[::2], *CASES[1::2]]), ids=lambda value: value
)
def test_train_settings_are_honoured_or_refused(compiled: Compile, changed: str, base: str) -> None:
    if changed in DEFAULTS:
        assert seen(compiled, train(changed)) == seen(compiled, train(base)) is not None
    else:
        assert_kept(compiled, train(changed), train(base))


HONOURED = (
    "optimizer", "regularise", "clip", "init", "precision", "seed", "lr", "epochs", "steps", "data", "loss", "metrics",
    "accumulate", "checkpoint", "stop",
)  # fmt: skip


def test_the_train_settings_that_are_honoured(compiled: Compile) -> None:
    """Each of the others is refused, whatever it says; these have at least one value that is not."""
    kept = {changed.partition(" ")[0] for changed, _ in train_cases() if seen(compiled, train(changed)) is not None}
    assert kept == {*HONOURED, "update", "compress"} - {"epochs", "steps", "data", "loss", "metrics"}
    assert set(HONOURED) <= set(KEYS)


SCHEDULES = (
    "constant(0.1, over = 3 steps) then constant(0.2)",
    "constant(0.1, over = 4 steps) then constant(0.2)",
    "constant(0.1, over = 3 epochs) then constant(0.2)",
    "step(0.1, every = 2 steps, over = 3 steps) then constant(0.2)",
    "exponential(0.1, every = 2 steps, over = 3 steps) then constant(0.2)",
    "cosine(to = 0.01, over = 5 epochs, rate = 0.1)",
    "cosine(to = 0.01, over = 6 epochs, rate = 0.1)",
    "cosine(to = 0.02, over = 5 epochs, rate = 0.1)",
    "cosine(to = 0.01, over = 5 epochs, rate = 0.2)",
    "polynomial(to = 0.01, over = 5 epochs, rate = 0.1)",
    "polynomial(to = 0.01, over = 5 epochs, rate = 0.1, power = 2)",
    "warmup(to = 0.1, over = 5 steps)",
    "warmup(to = 0.1, over = 5 steps) then cosine(over = 9 steps)",
    "warmup(to = 0.1, over = 5 steps) then polynomial(over = 9 steps)",
)


def test_schedules_differ(compiled: Compile) -> None:
    made = {signature(compiled(train(f"lr = {schedule}")))[:2] for schedule in SCHEDULES}
    assert len(made) == len(SCHEDULES)


SAMPLES = {
    "digits": (1, 8),
    "digits(scale = 2)": (1, 16),
    "digits(shuffle = no)": (1, 8),
    "digits(last = keep)": (1, 8),
    "digits(test = 0.5)": (1, 8),
    "digits(test = 0)": (1, 8),
    'mnist("folder")': (1, 28),
    'mnist("other")': (1, 28),
    'mnist("folder", pad = 2)': (1, 32),
    'mnist("folder", shuffle = no)': (1, 28),
    'mnist("folder", last = keep)': (1, 28),
    'cifar10("folder")': (3, 32),
    'cifar10("folder", shuffle = no)': (3, 32),
    'npz("file.npz")': (2, 8),
    'npz("file.npz", test = 0.5)': (2, 8),
    "synthetic": (2, 8),
    "synthetic(samples = 100)": (2, 8),
    'images("folder", size = 16)': (3, 16),
    'images("folder", size = 16, augment = [flip])': (3, 16),
}
"""Data sets, and the channels and extent of their samples."""


def fed(data: str, network: str = NETWORK) -> str:
    """A job on a data set, its network made to fit."""
    channels, extent = SAMPLES[data]
    image = f"channel = {channels}, height = {extent}, width = {extent}"
    network = network.replace("channel = 1, height = 8, width = 8", image)
    return spec(network=network, train=TRAIN.replace("digits", data))


def test_data_sets_differ_or_are_refused(compiled: Compile) -> None:
    made = {data: outcome(compiled, fed(data)) for data in SAMPLES}
    assert {data.partition("(")[0] for data, job in made.items() if job is None} == {"images"}
    found = [signature(job)[:3] for job in made.values() if job is not None]
    assert all(one != other for i, one in enumerate(found) for other in found[:i])


TWO = NETWORK.replace("output logits", "side = c1 -> global_avgpool -> flatten -> linear(10)\n  output logits, side")
LOSSES = (
    "cross_entropy(logits, data.label)",
    "cross_entropy(side, data.label)",
    "cross_entropy(logits, data.label, smoothing = 0.1)",
    "cross_entropy(logits, data.label) + cross_entropy(side, data.label)",
    "cross_entropy(logits, data.label) + 0.3 * cross_entropy(side, data.label)",
    "cross_entropy(logits, data.label) + 0.4 * cross_entropy(side, data.label)",
    "mse(logits, side)",
    "half_mse(logits, side)",
    "l1(logits, side)",
    "huber(logits, side)",
    "huber(logits, side, delta = 2)",
    "bce(logits, side)",
    "hinge(logits, data.label)",
    "kl(logits, side)",
    "kl(logits, side, temperature = 2)",
    "reconstruction(logits, side)",
)


def test_losses_and_metrics_differ_or_are_refused(compiled: Compile) -> None:
    jobs = [outcome(compiled, spec(network=TWO, train=TRAIN.replace(LOSSES[0], loss))) for loss in LOSSES]
    made = [signature(job)[0] for job in jobs if job is not None]
    assert len(set(made)) == len(made) == len(LOSSES)
    metrics = (
        "accuracy(logits, data.label)",
        "accuracy(logits, data.label, top = 2)",
        "perplexity(logits, data.label)",
    )
    assert len({signature(compiled(train(f"metrics = [{metric}]")))[0] for metric in (*metrics, "")}) == 4
