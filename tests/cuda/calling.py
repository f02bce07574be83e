"""Calls CUDA kernels as emitted programs do, beside the NumPy twin: their text on the processor (kernels/on_cpu.h), or
on the GPU that DLC_CUDA_DEVICE says is there (places.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from backends.cupy_mpi.kernels.calls import Kernels
from backends.cupy_mpi.kernels.launch import Launch, own
from backends.cupy_mpi.kernels.on_cpu import find_compiler
from backends.cupy_mpi.source import whole_text
from backends.numpy_mpi.kernels import KERNELS
from tests.cuda import places
from tests.kernels.calling import kernel

Array = npt.NDArray[Any]
Key = tuple[str, str, str]

DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64}
GUARD = 96
"""Elements before and behind each array, which nobody may write; those of numbers are none, so reading them shows."""

needs_compiler = pytest.mark.skipif(
    places.WHERE != "gpu" and not find_compiler(), reason="there is no C++ compiler to run CUDA's text with"
)


@cache
def engine(module: str, dtype: str, instances: tuple[str, ...] = ()) -> Any:
    """The kernels of `MODULE.cu` where they are tested, with these instances of its templates."""
    return places.engine(whole_text(module, dtype, instances), DTYPES[dtype])


def compare(
    key: Key,
    dtype: str,
    arrays: Sequence[Array | None],
    bound: float = 8,
    workspaces: Sequence[Array] = (),
    also: Mapping[str, Any] | None = None,
    **told: Any,
) -> None:
    """Call the CUDA kernel of (op, pass, algorithm) on these arrays and compare what all of them hold then.

    The arrays are given in double precision (or as integers) in the order of the NumPy kernel's call; results hold
    whatever they begin with, such as `empty(...)` below. The twin computes in double precision. `bound` is in units of
    the last place of the largest element of each array. Threads and blocks run forwards and backwards, which must give
    the same bits: a barrier that is missing, or an order of blocks that is relied on, shows (on a GPU they run twice).
    Nothing may be written beside the arrays. `also` has what the kernel is told by names that this function has
    arguments of.
    """
    told = {**(also or {}), **told}
    calls = launches(key, (*arrays, *workspaces), **told)
    assert calls is not None, f"{key} has no CUDA kernel for a call with {told}"
    instances = sorted({each.kernel for each in calls if "<" in each.kernel})
    found = [
        _called(key, dtype, (*arrays, *workspaces), tuple(instances), backwards, told) for backwards in (False, True)
    ]
    expected = [None if each is None else each.copy() for each in arrays]
    kernel(*key)(*expected, *(each.copy() for each in workspaces), **told)
    for at, (one, two, right) in enumerate(zip(*found, expected, strict=False)):
        if right is None or one is None or two is None:
            continue
        assert np.array_equal(one, two, equal_nan=True), f"array {at} depends on the order of threads or blocks"
        scale = np.max(np.abs(right), initial=0, where=np.isfinite(right)) * np.finfo(DTYPES[dtype]).eps
        np.testing.assert_allclose(one, right, rtol=0, atol=bound * scale, err_msg=f"array {at} of {key}, {told}")


def bound_kernel(key: Key, dtype: str, instances: tuple[str, ...] = ()) -> tuple[Callable[..., None], Any]:
    """The kernel as compiled.py has it, where kernels are tested; a call that CUDA has no code for fails."""
    found, runs = KERNELS[key], engine(KERNELS[key].module, dtype, instances)

    def refused(*_: Any, **told: Any) -> None:
        raise AssertionError(f"{key} has no CUDA kernel for a call with {told}")

    refused.__name__ = found.function
    return Kernels(runs).replace(refused, binding(key)), runs


def binding(key: Key) -> Callable[..., Any]:
    """The binding of (op, pass, algorithm)."""
    found = KERNELS[key]
    bound: Callable[..., Any] = getattr(import_module(f"backends.cupy_mpi.kernels.cu_{found.module}"), found.function)
    return bound


def launches(key: Key, arrays: Sequence[Any], /, **told: Any) -> list[Launch] | None:
    """The launches of a call, without its products; None where it is left to NumPy."""
    steps = binding(key)(*arrays, **told)
    return None if steps is None else [step for step in own(steps) if isinstance(step, Launch)]


def drawn(dtype: str, *shape: int) -> Array:
    """Normally distributed numbers that the element type has."""
    values = np.random.default_rng([1, *shape]).standard_normal(shape)
    return np.asarray(values).astype(DTYPES[dtype]).astype(np.float64)


def empty(*shape: int, dtype: Any = np.float64) -> Array:
    """A result before the call: not-a-numbers, or for integers a number that is in the way."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)


def _called(
    key: Key,
    dtype: str,
    arrays: Sequence[Array | None],
    instances: tuple[str, ...],
    backwards: bool,
    told: dict[str, Any],
) -> list[Array | None]:
    """What the arrays hold after a call."""
    call, runs = bound_kernel(key, dtype, instances)
    before = [None if each is None else _guarded(each, dtype) for each in arrays]
    memory = [None if each is None else places.put(each) for each in before]
    runs.backwards = backwards
    call(*(None if m is None or a is None else _inside(m, a) for m, a in zip(memory, arrays, strict=True)), **told)
    found = list[Array | None]()
    for at, (there, old, array) in enumerate(zip(memory, before, arrays, strict=True)):
        if there is None or old is None or array is None:
            found.append(None)
            continue
        now = places.get(there)
        for part in (slice(0, GUARD), slice(-GUARD, None)):
            assert np.array_equal(now[part], old[part], equal_nan=True), f"{key} writes beside array {at}"
        found.append(_inside(now, array))
    return found


def _guarded(array: Array, dtype: str) -> Array:
    """Memory with an array in the middle of it, in the element type of the program where it holds numbers."""
    wanted = np.dtype(DTYPES[dtype]) if array.dtype.kind == "f" else array.dtype
    memory = empty(array.size + 2 * GUARD, dtype=wanted)
    memory[GUARD : GUARD + array.size] = array.reshape(-1)
    return memory


def _inside(memory: Any, array: Array) -> Any:
    """The array in the middle."""
    return memory[GUARD : GUARD + array.size].reshape(array.shape)
