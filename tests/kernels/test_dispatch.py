"""Calls that go to C or to NumPy: by the binding, by types and strides, and what is kept of a call."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import dispatch
from backends.numpy_mpi.kernels.dispatch import Kernels, kernels_of
from backends.numpy_mpi.kernels.native import Numbers, find_compiler

pytestmark = pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")

Array = np.ndarray[Any, Any]

SOURCE = """
void scaled_f32(const float *x, float *y, long n, double by) { for (long i = 0; i < n; i++) y[i] = x[i] * by; }
void scaled_f64(const double *x, double *y, long n, double by) { for (long i = 0; i < n; i++) y[i] = x[i] * by; }
void through(const float *x, const float *add, float *y, float *scratch, long n) {
  for (long i = 0; i < n; i++) scratch[i] = x[i];
  for (long i = 0; i < n; i++) y[i] = scratch[i] + (add ? add[i] : 0);
}
"""


def scaled(x: Array, y: Array, *, by: float) -> None:
    """NumPy's, told apart by its sign."""
    np.multiply(x, -by, out=y)


def binding(x: Array, y: Array, *, by: float) -> Numbers | None:
    return Numbers((x.size, by)) if by else None


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    monkeypatch.setenv("DLC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "kernels.c").write_text(SOURCE)
    return kernels_of(tmp_path / "kernels.c", np.float32)


def result(kernel: Callable[..., None], x: Array, by: float = 2.0) -> list[float]:
    y = np.full_like(x, 7, order="C")
    kernel(x, y, by=by)
    return [float(value) for value in y.reshape(-1)]


def test_c_computes_what_it_can_and_numpy_the_rest(kernels: Kernels) -> None:
    kernel = kernels.replace(scaled, binding)
    x = np.arange(6, dtype=np.float32)
    assert result(kernel, x) == [0, 2, 4, 6, 8, 10]
    assert result(kernel, x[::2]) == [0, -4, -8], "elements that do not lie together"
    assert result(kernel, x.astype(np.float64)) == [0, -2, -4, -6, -8, -10], "another type than the library's"
    assert result(kernel, x[:2], by=0.0) == [0, 0], "the binding has no code for it"
    assert result(kernel, x[:0]) == []


def test_a_call_is_told_anew_what_changes(kernels: Kernels) -> None:
    kernel, x, y = kernels.replace(scaled, binding), np.ones(3, np.float32), np.zeros(3, np.float32)
    for by in (2.0, 3.0, 3.0, 0.0, 2.0):
        kernel(x, y, by=by)
        assert y.tolist() == [by] * 3 or (by == 0 and y.tolist() == [-0.0] * 3)


def test_what_is_prepared_goes_with_its_arrays(kernels: Kernels) -> None:
    """Arrays that come where others were are not taken for them, and none is kept alive."""
    kernel = kernels.replace(scaled, binding)
    for size in range(1, 200):
        assert result(kernel, np.ones(size, np.float32)) == [2] * size
    gc.collect()
    (prepared,) = (cell.cell_contents for cell in kernel.__closure__ or () if isinstance(cell.cell_contents, dict))  # type: ignore[attr-defined]
    assert not prepared


def test_optional_arrays_and_scratch(kernels: Kernels) -> None:
    def through(*arrays: Array | None) -> None:
        raise AssertionError("NumPy's kernel is called")

    kernel = kernels.replace(through, lambda x, *_: Numbers((x.size,), scratch=x.size, arrays=3, name="through"))
    x, workspace = np.arange(5, dtype=np.float32), np.zeros(2, np.float32)

    def check() -> None:
        for _ in range(50):
            y = np.zeros_like(x)
            kernel(x, None, y, workspace)
            assert y.tolist() == x.tolist()
            kernel(x, x, y, workspace)
            assert y.tolist() == (2 * x).tolist()

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check()


def test_without_a_compiler_the_kernels_are_numpys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BLAS, which is told to work alone beside kernels in C, keeps the threads that the program gave it."""
    told = list[bool]()
    monkeypatch.setattr(dispatch, "work_alone", lambda: told.append(True))
    monkeypatch.setenv("CC", "/nowhere/cc")
    found = kernels_of(tmp_path / "kernels.c", np.float64)
    assert found.replace(scaled, binding) is scaled
    assert not told
    why, _, then = found.about.partition(": the kernels are ")
    assert why == "`/nowhere/cc` cannot be started: No such file or directory"
    assert then == "NumPy's, BLAS has all threads, and the plan's times, of kernels in C, do not hold"
