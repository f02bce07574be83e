"""What stands for CuPy refuses what CuPy refuses, and has nothing that CuPy has not."""

from __future__ import annotations

import operator
from functools import reduce

import numpy as np
import pytest

from backends.cupy_mpi.runtime import emulated

USED = (
    *("RawModule", "asarray", "empty", "ndarray", "zeros", "cuda.Device", "cuda.Stream", "cuda.alloc_pinned_memory"),
    *("cuda.Stream.begin_capture", "cuda.Stream.end_capture", "cuda.Stream.synchronize"),
    *("cuda.Stream.record", "cuda.Stream.use", "cuda.Stream.wait_event", "cuda.Event.done", "cuda.Event.synchronize"),
    *("cuda.MemoryPointer.copy_from_host_async", "cuda.MemoryPointer.copy_to_host_async"),
    *("cuda.get_current_stream", "cuda.graph.Graph.launch", "cuda.runtime.CUDARuntimeError"),
    *("cuda.runtime.getDeviceCount", "cuda.runtime.getDeviceProperties"),
)
"""What programs take of CuPy."""


def array(*shape: int) -> emulated.ndarray:
    return emulated.asarray(np.arange(float(np.prod(shape))).reshape(shape))


def test_all_that_it_has_is_cupys_too() -> None:
    cupy = pytest.importorskip("cupy")
    for name in USED:
        assert reduce(getattr, name.split("."), cupy)
    own = {name for name in vars(emulated.ndarray) if not name.startswith("__")} - {"values", "noted"}
    assert own <= set(dir(cupy.ndarray))


def test_arrays_of_both_sides_do_not_meet() -> None:
    x, other = array(2, 3), np.ones((2, 3))
    for meeting in (lambda: x + other, lambda: other + x, lambda: np.add(other, other, out=x)):
        with pytest.raises(TypeError):
            meeting()
    with pytest.raises(TypeError, match="an array of the processor is given"):
        x[...] = other
    with pytest.raises(TypeError, match=r"use \.get\(\)"):
        other[...] = x
    with pytest.raises(TypeError, match=r"use \.get\(\)"):
        np.asarray(x)
    with pytest.raises(TypeError, match="takes no arrays of the device"):
        np.sum(x)


def test_arrays_of_the_device_are_computed_with() -> None:
    x, y = array(2, 3), array(2, 3)
    np.add(x, y, out=y)
    y /= 2.0
    np.copyto(y[1:], x[:1])
    x[0] = 7.0
    assert np.array_equal(y.get(), [[0, 1, 2], [0, 1, 2]])
    assert x.T.shape == (3, 2)
    assert float(np.maximum(x, 9.0)[0, 0]) == 9
    assert operator.is_(type(np.zeros_like(x)), emulated.ndarray)


def test_views_are_of_the_same_memory() -> None:
    x = array(4)
    x.reshape(2, 2)[1] = 5.0
    x.view(np.uint8)[:8] = 0
    assert np.array_equal(x.get(), [0, 1, 5, 5])
    kept = x.get()
    x.fill(1)
    assert kept[3] == 5


def test_only_whole_arrays_are_set() -> None:
    x = array(4, 2)
    x.set(np.zeros((4, 2)))
    for view, values in ((x[:, 0], np.zeros(4)), (x, np.zeros((2, 4))), (x, np.zeros((4, 2), np.float32))):
        with pytest.raises(ValueError, match="only whole arrays"):
            view.set(values)
