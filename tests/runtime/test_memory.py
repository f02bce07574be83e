"""Temporary arrays: when a program's functions use them, and where they lie."""

from __future__ import annotations

from types import FunctionType

import numpy as np
import numpy.typing as npt
import pytest

from backends.numpy_mpi.runtime import Arrays, Bucket, Member, Place, Saved, Scratch, Serial, Temporary, View
from backends.numpy_mpi.runtime.memory import share

LINE = 16
"""Elements of f32 in a cache line."""


def window(name: str, size: int, over: str) -> npt.NDArray[np.uint8]:
    """No rank shares memory with others here."""
    raise AssertionError(f"`{name}` is shared over {over} by nobody")


def inside(array: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    """Whether an array lies within the memory of another one."""
    start = array.ctypes.data - other.ctypes.data
    return start >= 0 and start + array.nbytes <= other.nbytes


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
    made = Arrays(TABLE, Place(Serial(), {"data": 1}, batch=1), np.float32)
    share({"a": made}, window, functions, ["forward", "backward"])  # type: ignore[arg-type]
    return made


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
    used = (a.first.x, a.first.y, a.first.z, *a.first.scratch.forward, a.second, a.bucket)
    assert all(inside(each, a.never) for each in used)  # which is in nobody's way
    ends = [each.ctypes.data + each.nbytes for each in used]
    assert max(ends) - a.never.ctypes.data == (16 + 32 + 16 + 64 + 16) * 4  # x, y, z and what the kernel works in


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
    """A value from the function that makes it to the one that reads it; an output to the end."""
    scope: dict[str, object] = {"kernel": lambda *_: None}
    exec(INFERENCE, scope)
    table = {name: Temporary("16") for name in ("logits", "x", "early", "result", "late", "first", "sums", "second")}
    functions = [scope[name] for name in ("forward", "predict", "evaluate")]
    place = Place(Serial(), {"data": 1}, batch=1)
    arrays = Arrays(table, place, np.float32)
    memory = share({"a": arrays}, window, functions, ["forward"], [["predict", "evaluate"]], ["result"])  # type: ignore[arg-type]
    a = arrays.at(1)
    for name in ("early", "result", "late", "first", "sums", "second"):
        assert not np.shares_memory(a.logits, getattr(a, name)), name
    for name in ("late", "first", "sums", "second"):  # it is handed on when all is over
        assert not np.shares_memory(a.result, getattr(a, name)), name
    assert sum(each.nbytes for each in memory) == 4 * 64


STEP = """
def load(a, w, g, s, at, place):
    place.fill(at, {"x": a.x})

def forward(a, w, g, s, at, place):
    kernel(a.x, a.kept, a.early)
    kernel(a.kept, a.late)

def backward(a, w, g, s, at, place):
    kernel(a.kept, a.passed, g.part)
    kernel(a.passed, g.other)

def update(a, w, g, s, at, place):
    updates(*each((w, ""), (g, "")))
"""


def test_what_functions_leave_to_others_lasts_to_the_last_of_them() -> None:
    """A bucket is there from the backward pass to the update, and lies where nothing else is in use by then."""
    scope: dict[str, object] = {"kernel": lambda *_: None, "updates": lambda *_: None, "each": lambda *_: ()}
    exec(STEP, scope)
    rows = {
        "x": Saved("16"),
        "kept": Saved("16"),
        "early": Saved("16"),
        "late": Temporary("16"),
        "passed": Temporary("16"),
    }
    place = Place(Serial(), {"data": 1}, batch=1)
    activations = Arrays(rows, place, np.float32)
    gradients = Arrays(
        {"bucket": Bucket(), "part": Member("bucket", "8"), "other": Member("bucket", "8")}, place, np.float32
    )
    step = ["load", "forward", "backward", "update"]
    memory = share({"a": activations, "g": gradients}, window, [scope[name] for name in step], step)  # type: ignore[misc]
    a, g = activations.at(), gradients.at()
    assert sum(each.nbytes for each in memory) == 3 * 64
    for one, other in [(a.x, a.kept), (a.kept, a.late), (a.kept, g.bucket), (a.passed, g.bucket), (a.kept, a.passed)]:
        assert not np.shares_memory(one, other)


IN_PLACE = """
def block(x, y):
    relu_forward(x, y)

def forward(a, w, g, s, at, place):
    linear_forward(a.image, a.first)
    block(a.first, a.second)
    linear_forward(a.second, a.third)
    place.halo(a.third, a.wide, begin=True)
    relu_forward(a.third, a.fourth)
    place.wait(a.wide)
    relu_forward(a.fourth, a.fifth)
    sum_gradients(a.fourth, a.fifth, a.sixth)
    relu_forward(a.front, a.short)
    linear_forward(a.sixth, a.seventh)
    relu_forward(a.seventh[1:], a.eighth[1:])
    mul_forward(a.eighth, a.view, a.ninth)
"""


def test_a_result_lies_where_an_operand_is_needed_no_more() -> None:
    """Not where it is read again, or on its way to a neighbour, or a part, or where the kernel does not allow it."""
    scope: dict[str, object] = {}
    kernels: dict[str, object] = {}
    exec("def kernel(*_): pass", kernels)
    for name in ("linear_forward", "relu_forward", "sum_gradients", "mul_forward"):
        scope[name] = kernels["kernel"]
    exec(IN_PLACE, scope)
    names = ("image", "first", "second", "third", "wide", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    table = {
        **{name: Temporary("32") for name in names},
        "halves": Temporary("32"),
        "front": View("halves", "16"),
        "short": Temporary("16"),
        "view": View("seventh", "4 8"),
    }
    arrays = Arrays(table, Place(Serial(), {"data": 1}, batch=1), np.float32)
    share({"a": arrays}, window, [scope["forward"]], ["forward"])  # type: ignore[list-item]
    a = arrays.at(1)
    pairs = {"first": "second", "fourth": "sixth", "eighth": "ninth"}
    for operand, result in pairs.items():
        assert getattr(a, operand).ctypes.data == getattr(a, result).ctypes.data
    for one, other in [("third", "fourth"), ("fourth", "fifth"), ("image", "first"), ("seventh", "eighth")]:
        assert not np.shares_memory(getattr(a, one), getattr(a, other)), (one, other)
    assert not np.shares_memory(a.front, a.short)
