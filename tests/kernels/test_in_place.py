"""Results in the places of operands: each kernel that allows it gives the same bits there, in every family."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels.on_cpu import find_compiler
from backends.numpy_mpi.c import arithmetic, chains, dropout, elementwise, gradients, losses
from backends.numpy_mpi.kernels import EXACT, KERNELS
from dlc.ir.in_place import IN_PLACE, in_place, kernel_of
from tests.c.bound import Bound, Key, bound
from tests.c.building import runnable
from tests.cuda import places
from tests.cuda.calling import bound_kernel
from tests.kernels.calling import kernel

Arrays = list[np.ndarray[Any, Any]]
Call = Callable[..., Any]

FAMILIES = {
    "c_elementwise": elementwise,
    "c_arithmetic": arithmetic,
    "c_chains": chains,
    "c_philox": dropout,
    "c_gradients": gradients,
    "c_losses": losses,
}
"""The bindings of kernels in C, and the functions."""

SHAPE = (3, 8, 37)
"""Of values: what is left behind whole vectors, too."""

DRAWN = {"p": 0.25, "key": (7, 9), "step": 3, "position": 5}
NUMBERS = {
    "leaky_relu": {"slope": 0.01},
    "elu": {"alpha": 0.5},
    "gelu": {"approximate": "none"},
    "dropout": DRAWN,
    "cross_entropy": {"count": 24, "smoothing": 0.1},
}


def key_of(name: str) -> Key:
    """The kernel of that name."""
    (found,) = (key for key in KERNELS if kernel_of(*key[:2]) == name)
    return found


def told(name: str) -> dict[str, Any]:
    return {k: v for part, numbers in NUMBERS.items() if re.search(rf"(^|_){part}_", name) for k, v in numbers.items()}


def calls(name: str) -> Iterator[tuple[Arrays, dict[str, Any]]]:
    """Arrays as the kernel takes them, results last, of which there is junk; and what it is told."""
    rng = np.random.default_rng(4)

    def values(count: int) -> Arrays:
        return list(rng.normal(0, 2, (count, *SHAPE)).astype(np.float32))

    mask = rng.integers(0, 2, SHAPE).astype(np.uint8)
    operation = name.partition("_")[0]
    if operation in ("add", "sub", "mul", "div") and name.endswith("_forward"):
        yield values(3), told(name)
        if IN_PLACE[name].result < 0:
            yield values(2), {"scalar": 2.5}
    elif name == "mul_dx":
        yield values(2), {"scalar": 2.5}
    elif name == "sum_gradients":
        yield from ((values(count), {}) for count in (3, 4, 6))
    elif name == "dropout_forward":
        yield [*values(2), mask], told(name)
    elif name == "dropout_add_forward":
        yield [*values(3), mask], told(name)
    elif name.startswith("dropout_"):
        dy, *others = values(2 if name == "dropout_dx" else 3)
        yield [dy, mask, *others], told(name)
    elif name == "cross_entropy_dx":
        label = rng.integers(0, SHAPE[-1], SHAPE[:-1]).astype(np.int32)
        probabilities, to = values(2)
        yield [np.array(1.5, np.float32), np.abs(probabilities), label, to], told(name)
    else:
        yield values(IN_PLACE[name].result + 1), told(name)


def compare(name: str, call: Call) -> None:
    """All results of a call whose result lies apart, and in the place of each operand that the table names."""
    for arrays, numbers in calls(name):
        apart = [each.copy() for each in arrays]
        call(*apart, **numbers)
        pairs = list(in_place(name, range(len(arrays))))
        assert pairs
        for operand, result in pairs:
            assert arrays[operand].shape == arrays[result].shape
            assert arrays[operand].dtype == arrays[result].dtype
            again = [each.copy() for each in arrays]
            again[result] = again[operand]
            call(*again, **numbers)
            for at in (result, *range(result + 1, len(arrays))):
                assert np.array_equal(again[at], apart[at], equal_nan=True), (name, operand, at)


@pytest.mark.parametrize("name", IN_PLACE)
def test_numpy(name: str) -> None:
    compare(name, kernel(*key_of(name)))


@pytest.mark.parametrize("name", [name for name in IN_PLACE if key_of(name) in EXACT])
def test_exact(name: str) -> None:
    compare(name, kernel(*key_of(name), table=EXACT))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[Key, Bound]:
    target = runnable()[0]
    found = {}
    for bindings, family in FAMILIES.items():
        table = {key: made for key, made in family.FUNCTIONS.items() if kernel_of(*key[:2]) in IN_PLACE}
        made = bound(table, bindings, target, tmp_path_factory.mktemp(bindings))
        found.update(dict.fromkeys(table, made))
    return found


@pytest.mark.skipif(not runnable(), reason="there is no C compiler")
def test_c(built: dict[Key, Bound]) -> None:
    assert {kernel_of(*key[:2]) for key in built} == set(IN_PLACE)
    for of, made in built.items():

        def call(*arrays: Any, made: Bound = made, of: Key = of, **told: Any) -> None:
            assert made.call(of, "f32", arrays, **told)

        compare(kernel_of(*of[:2]), call)


@pytest.mark.skipif(places.WHERE == "gpu" or not find_compiler(), reason="there is no C++ compiler to run CUDA with")
@pytest.mark.parametrize("name", IN_PLACE)
def test_cuda(name: str) -> None:
    key = key_of(name)
    if not hasattr(import_module(f"backends.cupy_mpi.kernels.cu_{KERNELS[key].module}"), KERNELS[key].function):
        pytest.skip("CUDA has no code for it")
    compare(name, bound_kernel(key, "f32")[0])


def test_an_operand_that_is_given_again_stays() -> None:
    assert list(in_place("relu_dx", ["dy", "y", "dx"])) == [("dy", "dx"), ("y", "dx")]
    assert list(in_place("dropout_add_forward", ["x", "x", "y", "mask"])) == []
    assert list(in_place("mul_forward", ["x", "x", "y"])) == [("x", "y"), ("x", "y")]
    assert list(in_place("mul_dx", ["dy", "a", "b", "da", "db"])) == []
    assert list(in_place("conv_direct_forward", ["x", "weight", "y"])) == []
