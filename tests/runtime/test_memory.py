"""Temporary arrays: when a program's functions use them, and where they lie."""

from __future__ import annotations

from types import FunctionType

import numpy as np
import pytest

from backends.numpy_mpi.runtime import Arrays, Bucket, Member, Place, Scratch, Serial, Temporary, View

LINE = 16
"""Elements of f32 in a cache line."""

PROGRAM = """
def block(a, y, scale=2, first=kernel, *, by="x"):
    first(a.x, y, **{})
    kernel(y, a.z, *a.scratch.forward)

def forward(a, w, g, s, at, place):
    a.first.x[...] = w.something * 2
    block(a.first, a.first.y)
    place.allreduce(a.first.z, over="data", begin=True)
    kernel([a.second, at.samples], by={"dy": a.view}, **at.batch("data"))
    place.wait(a.first.z)
    a.second /= 4

def backward(a, w, g, s, at, place):
    origin = place.origin(a.first.y, a.part)
    kernel(place.once(a.first.y, "data"), origin=origin)
    other(*place.needed(origin, a.second))
"""

TABLE = {
    "first.x": Temporary("16"),
    "first.y": Temporary("32"),
    "first.z": Temporary("16"),
    "first.scratch": Scratch("forward 64 16"),
    "second": Temporary("16"),
    "bucket": Bucket(temporary=True),
    "view": View("first.x", "4 4"),
    "part": Member("bucket", "48"),
    "never": Temporary("1024"),
}


@pytest.fixture
def arrays() -> Arrays:
    def kernel(*_: object, **__: object) -> None:
        raise AssertionError("kernels do not run while arrays are placed")

    scope: dict[str, object] = {"kernel": kernel, "other": kernel}
    exec(PROGRAM, scope)
    functions = [scope["forward"], scope["backward"]]
    assert all(isinstance(each, FunctionType) for each in functions)
    return Arrays(TABLE, Place(Serial(), {"data": 1}, batch=1), np.float32, functions=functions)  # type: ignore[arg-type]


def test_what_is_in_use_at_the_same_time_lies_apart(arrays: Arrays) -> None:
    a = arrays.at(1)
    together = [
        (a.first.x, a.first.y), (a.first.x, a.first.z), (a.first.y, a.first.z),
        (a.first.scratch.forward[0], a.first.scratch.forward[1]), (a.first.y, a.first.scratch.forward[0]),
        (a.first.z, a.second), (a.first.y, a.part),
    ]  # fmt: skip
    for one, other in together:
        assert not np.shares_memory(one, other)
    assert np.shares_memory(a.view, a.first.x)


def test_what_is_not_shares_memory(arrays: Arrays) -> None:
    a = arrays.at(1)
    assert arrays.temporary == 4 * 1024  # `never`, which is in nobody's way, is the largest
    assert np.shares_memory(a.second, a.first.y)
    assert np.shares_memory(a.part, a.first.scratch.forward[0])


INFERENCE = """
def forward(a, w, g, s, at, place):
    kernel(a.logits, a.x)

def predict(a, w, g, s, at, place):
    kernel(a.early, a.logits)
    kernel(a.logits, a.result)
    kernel(a.late)

def evaluate(a, w, g, s, at, place):
    kernel(a.first, a.sums)
    kernel(a.logits, a.second)
"""


def test_what_functions_of_inference_hand_on_lasts() -> None:
    """A value from the function that makes it to the one that reads it; an output to the end of its function."""
    scope: dict[str, object] = {"kernel": lambda *_: None}
    exec(INFERENCE, scope)
    table = {name: Temporary("16") for name in ("logits", "x", "early", "result", "late", "first", "sums", "second")}
    functions = [scope[name] for name in ("forward", "predict", "evaluate")]
    place = Place(Serial(), {"data": 1}, batch=1)
    arrays = Arrays(table, place, np.float32, 1, functions, {"predict", "evaluate"}, ["result"])  # type: ignore[arg-type]
    a = arrays.at(1)
    for name in ("early", "result", "late", "first", "sums", "second"):
        assert not np.shares_memory(a.logits, getattr(a, name)), name
    assert not np.shares_memory(a.result, a.late)
    assert np.shares_memory(a.result, a.early)
    assert np.shares_memory(a.x, a.result)
    assert np.shares_memory(a.first, a.early)
