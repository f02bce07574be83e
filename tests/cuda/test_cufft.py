"""What cuFFT is told of transforms, by a library that does as its documentation says, in NumPy's memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels.cufft import Cufft
from backends.cupy_mpi.runtime.emulated import ndarray

REALS = {0x2A: np.float32, 0x2C: np.float32, 0x6A: np.float64, 0x6C: np.float64}
BACKWARD = (0x2C, 0x6C)
EXECUTES = {"cufftExecR2C": 0x2A, "cufftExecC2R": 0x2C, "cufftExecD2Z": 0x6A, "cufftExecZ2D": 0x6C}
INVALID_PLAN, INVALID_TYPE = 1, 3
WORK = 100


class Plan(SimpleNamespace):
    """What a plan was told."""

    def places(self, number: int, embedded: tuple[int, ...], apart: int, begin: int) -> np.ndarray[Any, Any]:
        """Where elements of a transform lie in the advanced data layout: number·begin + (x·embedded[1] + y)·apart."""
        at = np.arange(prod(embedded)).reshape(embedded)
        return number * begin + at * apart


class Library:
    """Functions that give a status, as cuFFT's do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.plans: list[Plan] = []

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any) -> int:
            self.calls.append(name)
            if name in EXECUTES:
                return self.execute(EXECUTES[name], *arguments)
            return int(getattr(self, f"_{name}")(*arguments) or 0)

        return called

    def _cufftCreate(self, plan: Any) -> None:  # noqa: N802
        plan._obj.value = len(self.plans)
        self.plans.append(Plan(automatic=True, kind=None, work=None, stream=None))

    def _cufftSetAutoAllocation(self, plan: Any, automatic: int) -> None:  # noqa: N802
        self.plans[plan.value].automatic = bool(automatic)

    def _cufftMakePlanMany(self, plan: Any, rank: int, n: Any, *told: Any) -> int:  # noqa: N802
        *layout, kind, batch, size = told
        if kind not in REALS or rank != len(n):
            return INVALID_TYPE
        known = self.plans[plan.value]
        known.n, known.layout, known.kind, known.batch = tuple(n), layout, kind, batch
        size._obj.value = WORK
        return 0

    def _cufftSetWorkArea(self, plan: Any, memory: Any) -> None:  # noqa: N802
        self.plans[plan.value].work = memory.value

    def _cufftSetStream(self, plan: Any, stream: Any) -> None:  # noqa: N802
        self.plans[plan.value].stream = stream.value

    def execute(self, kind: int, number: Any, source: Any, target: Any) -> int:
        """Unnormalised; backward spoils what it reads."""
        plan = self.plans[number.value]
        if plan.kind != kind or (not plan.automatic and not plan.work) or plan.stream is None:
            return INVALID_PLAN
        real = REALS[kind]
        pair = np.result_type(real, np.complex64)
        (inembed, *given), (onembed, *made) = plan.layout[:3], plan.layout[3:]
        for at in range(plan.batch):
            read = plan.places(at, tuple(inembed), *given)
            written = plan.places(at, tuple(onembed), *made)
            before, after = (pair, real) if kind in BACKWARD else (real, pair)
            values = memory(source, before, read)[read]
            if kind in BACKWARD:
                memory(source, before, read)[read] = np.nan
                found = np.fft.irfftn(values, plan.n, tuple(range(len(plan.n)))) * prod(plan.n)
            else:
                found = np.fft.rfftn(values)
            memory(target, after, written)[written] = found
        return 0


def memory(pointer: Any, dtype: Any, places: Any) -> Any:
    """An array from a pointer on, as long as those places need."""
    size = (int(places.max()) + 1) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer.value), dtype)


@pytest.fixture
def library() -> Iterator[Library]:
    return Library()


def cufft(dtype: str, library: Library) -> Cufft:
    cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=7))
    cp = SimpleNamespace(cuda=cuda, empty=lambda size, kind: ndarray(np.empty(size, kind)))
    return Cufft(cp, dtype, library)


@pytest.mark.parametrize("lengths", [(6,), (5,), (4, 6), (3, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transforms(library: Library, dtype: str, lengths: tuple[int, ...]) -> None:
    """Spectra with the transforms innermost, and back again."""
    count, half = 3, (*lengths[:-1], lengths[-1] // 2 + 1)
    drawn = np.random.default_rng(3).standard_normal((count, *lengths)).astype(dtype)
    values, spectra = ndarray(drawn.copy()), ndarray(np.full((*half, count, 2), np.nan, dtype))
    runs = cufft(dtype, library)
    runs.plan(lengths, count, False)(values, spectra)
    right = np.moveaxis(np.fft.rfftn(drawn, axes=tuple(range(1, len(lengths) + 1))), 0, -1)
    pairs = spectra.get()
    np.testing.assert_allclose(pairs[..., 0] + 1j * pairs[..., 1], right, atol=1e-5 if dtype == "float32" else 1e-12)
    values.fill(np.nan)
    runs.plan(lengths, count, True)(values, spectra)
    np.testing.assert_allclose(values.get(), drawn * prod(lengths), atol=1e-5 if dtype == "float32" else 1e-12)


def test_plans_are_made_once_and_work_in_one_memory(library: Library) -> None:
    """Nothing is made or allocated when a plan runs, so that a graph can be captured of it."""
    runs = cufft("float64", library)
    values, spectra = ndarray(np.zeros((2, 4))), ndarray(np.zeros((3, 2, 2)))
    for backward in (False, True, False):
        runs.plan((4,), 2, backward)(values, spectra)
    assert library.calls.count("cufftMakePlanMany") == 2
    assert len({plan.work for plan in library.plans}) == 1
    assert not any(plan.automatic for plan in library.plans)
    before = len(library.calls)
    runs.plan((4,), 2, False)(values, spectra)
    assert library.calls[before:] == ["cufftExecD2Z"]


def test_what_cufft_refuses_is_an_error(library: Library) -> None:
    runs = cufft("float64", library)
    run = runs.plan((4,), 2, False)
    library.plans[0].kind = 0x6C
    with pytest.raises(RuntimeError, match="cufftExecD2Z ends with status 1"):
        run(ndarray(np.zeros((2, 4))), ndarray(np.zeros((3, 2, 2))))
