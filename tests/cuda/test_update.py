"""Update rules in CUDA, of one weight and of many in a launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels import launch
from backends.cupy_mpi.kernels.calls import Kernels
from backends.numpy_mpi.kernels import KERNELS
from tests.cuda import places
from tests.cuda.calling import Array, binding, compare, drawn, empty, engine, needs_compiler
from tests.kernels.calling import kernel

pytestmark = needs_compiler

RULES: list[tuple[str, int, dict[str, Any]]] = [
    ("sgd", 0, {}),
    ("sgd", 0, {"weight_decay": 0.01}),
    ("sgd", 1, {"momentum": 0.9}),
    ("sgd", 1, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("adagrad", 1, {"weight_decay": 0.01}),
    ("rmsprop", 1, {}),
    ("rmsprop", 2, {"momentum": 0.9, "weight_decay": 0.01}),
    ("adam", 2, {"step": 0}),
    ("adam", 2, {"step": 12, "weight_decay": 0.01, "beta1": 0.8}),
    ("adamw", 2, {"step": 3}),
]

OF_NORMS: list[tuple[str, int, dict[str, Any]]] = [
    ("lars", 0, {"momentum": 0.0}),
    ("lars", 1, {"weight_decay": 0.01, "trust": 0.5}),
    ("lamb", 2, {"step": 0}),
    ("lamb", 2, {"step": 7, "weight_decay": 0.125, "beta1": 0.8}),
]


def arrays_of(dtype: str, states: int, *shape: int) -> list[Array]:
    """A weight, its gradient and its states."""
    kept = [np.asarray(np.abs(drawn(dtype, *shape))) for _ in range(states)]
    return [drawn(dtype, *shape), drawn(dtype, *shape) + 0.25, *kept]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("rule", "states", "told"), RULES)
def test_rules(rule: str, states: int, told: dict[str, Any], dtype: str) -> None:
    for shape in ((), (1000,), (3, 7, 5)):
        compare((rule, "update", ""), dtype, arrays_of(dtype, states, *shape), lr=0.0625, **told)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("rule", "states", "told"), OF_NORMS)
def test_rules_of_norms(rule: str, states: int, told: dict[str, Any], dtype: str) -> None:
    """Alone, and with sums of squares that are given: those of the part at hand, here of the whole."""
    for shape in ((), (5000,), (3, 7, 5)):
        arrays = arrays_of(dtype, states, *shape)
        compare((rule, "update", ""), dtype, arrays, lr=0.0625, **told)
        compare(("sums", rule, ""), dtype, [*arrays, empty(2)], bound=16, **{"step": 0, **told})
        compare((rule, "update", ""), dtype, [*arrays, np.array([4.0, 0.25])], lr=0.0625, **told)


@pytest.mark.parametrize("rule", ["lars", "lamb"])
def test_norms_of_zero(rule: str) -> None:
    """The ratio is 1 then."""
    told = {"lars": {"weight_decay": 0.0}, "lamb": {"step": 0}}[rule]
    for zero in (0, 1):
        arrays = arrays_of("f64", 1 + (rule == "lamb"), 30)
        for at in range(1, len(arrays)) if zero else (0,):
            arrays[at][...] = 0
        compare((rule, "update", ""), "f64", arrays, lr=0.0625, **told)


def updates(rule: str, rows: Sequence[Sequence[Array]], **told: Any) -> list[list[Array]]:
    """Many weights in double precision as a program updates them, in memory with guards around each array."""
    runs = engine("update", "f64")

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a row is left to NumPy")

    refused.__name__ = KERNELS[rule, "updates", ""].function
    call = Kernels(runs).replace_rows(refused, binding((rule, "updates", "")))
    memory = [[places.put(np.concatenate([[7.0], x.reshape(-1), [7.0]])) for x in row] for row in rows]
    given = [
        tuple(made[1:-1].reshape(x.shape) for made, x in zip(kept, row, strict=True))
        for kept, row in zip(memory, rows, strict=True)
    ]
    runs.backwards = False
    for _ in range(2):
        call(*given, **told)
    found = [[places.get(made) for made in kept] for kept in memory]
    assert all(made[0] == made[-1] == 7.0 for kept in found for made in kept)
    return [
        [made[1:-1].reshape(x.shape) for made, x in zip(kept, row, strict=True)]
        for kept, row in zip(found, rows, strict=True)
    ]


@pytest.mark.parametrize(("rule", "states", "told"), RULES)
def test_many_weights(rule: str, states: int, told: dict[str, Any]) -> None:
    """Each as by itself, to the bit: more than a launch has, of some chunks, of one and of no element."""
    shapes = [(launch.CHUNK * 2 + 5,), (), (0, 3), (3, 4), (launch.CHUNK,)] + [(7,)] * launch.ROWS
    rows = [[np.asarray(x + at) for x in arrays_of("f64", states, *shape)] for at, shape in enumerate(shapes)]
    found = updates(rule, rows, lr=0.0625, **told)
    alone = Kernels(engine("update", "f64")).replace(kernel(rule, "update", ""), binding((rule, "update", "")))
    for row, got in zip(rows, found, strict=True):
        memory = [places.put(x.copy()) for x in row]
        for _ in range(2):
            alone(*memory, lr=0.0625, **told)
        for one, right in zip(got, memory, strict=True):
            assert np.array_equal(one, places.get(right))


def test_many_weights_are_few_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for 80 of them, and tables are made once: from the second step on, whatever the rate, only launches are."""
    launched, made, of = list[str](), list[int](), launch.Table.of

    class Counting:
        about = ""

        def passable(self, _: Any) -> bool:
            return True

        def passed(self, value: Any) -> Any:
            return value

        def address(self, array: Any) -> int:
            return id(array)

        def has(self, _: str) -> bool:
            return True

        def changing(self, numbers: Any, told: dict[str, Any]) -> Any:
            return numbers.of(*(told[name] for name in numbers.told))

        def launcher(self, name: str) -> Any:
            return lambda *_: launched.append(name)

    monkeypatch.setattr(launch.Table, "of", lambda rows: made.append(len(rows)) or of(rows))
    rows = [(np.zeros(3), np.zeros(3)) for _ in range(100)]
    run: Any = Kernels(Counting()).replace_rows(kernel("sgd", "update", ""), binding(("sgd", "updates", "")))  # type: ignore[arg-type]
    for lr in (0.5, 0.25, 0.25):
        run(*rows, lr=lr)
    assert made == [80, 20]
    assert launched == ["sgd_updates_plain"] * 6


def test_what_does_not_lie_together_is_numpys() -> None:
    """Single rows of a call."""
    rows = [arrays_of("f64", 0, 6), [x[::2] for x in arrays_of("f64", 0, 12)]]
    wanted = [[x.copy() for x in row] for row in rows]
    kernel("sgd", "updates", "")(*wanted, lr=0.5)
    call = Kernels(engine("update", "f64")).replace_rows(kernel("sgd", "updates", ""), binding(("sgd", "updates", "")))
    if places.WHERE:
        pytest.skip("arrays of the processor")
    call(*map(tuple, rows), lr=0.5)
    for row, right in zip(rows, wanted, strict=True):
        np.testing.assert_allclose(row[0], right[0], rtol=1e-14)
