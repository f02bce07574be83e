"""What cuBLAS is told of products, by a library that does as its documentation says, in NumPy's memory."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels.cublas import Cublas, order
from backends.cupy_mpi.runtime.emulated import ndarray


class Library:
    """Column by column, as cuBLAS has matrices; the arrays are NumPy's."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.rounding: Any = None

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cublasGemmStridedBatchedEx":
                self.extended(*arguments)
            elif "gemm" in name:
                self.product(complex if name[6] in "CZ" else float, *arguments)
            return 0

        return called

    def extended(self, _handle: Any, *told: Any) -> None:
        """Of f32, whose operands are rounded as the type of the computation says."""
        (*shape, _one), rest = told[:6], told[6:]
        a, type_a, lda, apart_a, b, type_b, ldb, apart_b, zero, c, type_c, ldc, apart_c, count, compute, algorithm = (
            rest
        )
        assert (type_a, type_b, type_c, algorithm) == (0, 0, 0, -1)
        self.rounding = {68: None, 74: np.float16, 75: "bf16", 77: "tf32"}[compute]
        rest = (a, lda, apart_a, b, ldb, apart_b, zero, c, ldc, apart_c, count)
        self.product(np.float32, _handle, *shape, _one, *rest)
        self.rounding = None

    def rounded(self, matrix: Any) -> Any:
        """As tensor cores take it: to 8 bits in bf16, to 11 in tf32, counting the first."""
        if self.rounding in (None, np.float16):
            return matrix if self.rounding is None else matrix.astype(np.float16).astype(np.float32)
        fraction, exponent = np.frexp(matrix)
        digits = 2.0 ** {"bf16": 8, "tf32": 11}[self.rounding]
        return np.ldexp(np.rint(fraction * digits) / digits, exponent).astype(np.float32)

    def product(self, of: type, _handle: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, *rest: Any) -> None:
        """C = op(A) op(B), 0 as it is, 1 transposed, 2 conjugate transposed."""
        a, lda, apart_a, b, ldb, apart_b, zero, c, ldc, apart_c, count = rest
        factors = [np.frombuffer(each._obj, of)[0] for each in (one, zero)]
        assert factors == [1, 0]
        turn = (lambda x: x, lambda x: x.T, lambda x: x.T.conj())
        for i in range(count):
            left = columns(of, a, i * apart_a.value, lda, *((k, m) if ta else (m, k)))
            right = columns(of, b, i * apart_b.value, ldb, *((n, k) if tb else (k, n)))
            columns(of, c, i * apart_c.value, ldc, m, n)[...] = turn[ta](self.rounded(left)) @ turn[tb](
                self.rounded(right)
            )


def columns(of: type, pointer: Any, begin: int, leading: int, rows: int, count: int) -> Any:
    """A matrix of doubles, or of pairs of them, whose columns begin `leading` apart."""
    assert leading >= rows
    size = np.dtype(of).itemsize
    memory = (ctypes.c_char * (size * ((count - 1) * leading + rows))).from_address(pointer.value + size * begin)
    return np.lib.stride_tricks.as_strided(np.frombuffer(memory, of), (rows, count), (size, size * leading))


@pytest.fixture
def cublas() -> Cublas:
    return made()


def made(rounding: str = "") -> Cublas:
    stream = SimpleNamespace(ptr=7)
    cuda = SimpleNamespace(get_current_stream=lambda: stream)
    cp = SimpleNamespace(cuda=cuda, empty=lambda size, dtype: ndarray(np.empty(8, dtype)))
    return Cublas(cp, Library(), rounding)


def drawn(*shape: int) -> Any:
    return np.random.default_rng([3, *shape]).standard_normal(shape)


SHAPES = [(1, 1, 1), (3, 5, 2), (1, 4, 6), (4, 1, 6), (5, 3, 1)]


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products(cublas: Cublas, m: int, k: int, n: int, turned: tuple[bool, bool]) -> None:
    left = drawn(k, m).T if turned[0] else drawn(m, k)
    right = drawn(n, k).T if turned[1] else drawn(k, n)
    for one, two in ((left, right), (np.stack([left, left + 1]), np.stack([right, right - 1]))):
        one, two = (each if each.ndim == 2 else _stack(each, by) for each, by in ((one, turned[0]), (two, turned[1])))
        out = np.full((*one.shape[:-1], n), np.nan)
        cublas.product(ndarray(one), ndarray(two), ndarray(out))
        np.testing.assert_allclose(out, one @ two)


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_products_of_conjugates(cublas: Cublas, m: int, k: int, n: int) -> None:
    """Of the one operand, the other, and both; those are turned, alone and in stacks."""
    left, right = (drawn(2, *shape) + 1j * drawn(2, *shape)[::-1] for shape in ((m, k), (k, n)))
    for which in ((True, False), (False, True), (True, True)):
        one, two = (_stack(x, turned) for x, turned in zip((left, right), which, strict=True))
        wanted = (one.conj() if which[0] else one) @ (two.conj() if which[1] else two)
        out = np.full((2, m, n), np.nan, complex)
        cublas.product(ndarray(one), ndarray(two), ndarray(out), which)
        np.testing.assert_allclose(out, wanted)
        cublas.product(ndarray(one[1]), ndarray(two[1]), ndarray(out[0]), which)
        np.testing.assert_allclose(out[0], wanted[1])


def test_conjugates_that_are_not_turned_are_refused(cublas: Cublas) -> None:
    arrays = [ndarray(np.ones((2, 2), complex)) for _ in range(3)]
    with pytest.raises(ValueError, match="columns must lie in one piece"):
        cublas.product(*arrays, (True, False))


def _stack(array: Any, turned: bool) -> Any:
    return np.ascontiguousarray(array.swapaxes(1, 2)).swapaxes(1, 2) if turned else array


def test_parts_of_larger_matrices(cublas: Cublas) -> None:
    left, right, out = drawn(6, 9)[1:4, 2:7], drawn(5, 8)[:, 3:], np.zeros((3, 7))
    cublas.product(ndarray(left), ndarray(right), ndarray(out[:, 1:6]))
    np.testing.assert_allclose(out[:, 1:6], left @ right)
    assert not out[:, [0, 6]].any()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("rounding", ["", "tf32", "f16", "bf16"])
def test_what_operands_may_be_rounded_to(rounding: str, given: bool) -> None:
    """In tf32 those of all products, in half precision those that have been cast from it, which changes none."""
    cublas = made(rounding)
    left, right = (drawn(*shape).astype(np.float32) for shape in ((3, 40), (40, 5)))
    cast = cublas._library
    if rounding in ("f16", "bf16"):
        cast.rounding = {"f16": np.float16, "bf16": "bf16"}[rounding]
        halves = [cast.rounded(left), cast.rounded(right)]
        cast.rounding = None
    else:
        halves = [left, right]
    out = np.empty((3, 5), np.float32)
    cublas.product(ndarray(halves[0]), ndarray(halves[1]), ndarray(out), (False, False), given)
    known = halves[0].astype(float) @ halves[1].astype(float)
    error = np.abs(out - known).max() / np.abs(known).max()
    assert (1e-5 < error < 2e-3) if rounding == "tf32" else error < 1e-6
    cublas.product(ndarray(left), ndarray(right), ndarray(out), (False, False), given)
    error = np.abs(out - left.astype(float) @ right.astype(float)).max()
    assert bool(error > 1e-5) is (rounding == "tf32" or (given and rounding != ""))


def test_sums_of_nothing_are_zeros(cublas: Cublas) -> None:
    out = np.ones((2, 3))
    cublas.product(ndarray(np.ones((2, 0))), ndarray(np.ones((0, 3))), ndarray(out))
    assert not out.any()


def test_the_stream_is_set_once_and_the_workspace_behind_it(cublas: Cublas) -> None:
    for _ in range(2):
        cublas.product(ndarray(drawn(2, 2)), ndarray(drawn(2, 2)), ndarray(np.empty((2, 2))))
    calls = cublas._library.calls
    assert calls[:3] == ["cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2"]
    assert calls[3:] == ["cublasDgemmStridedBatched"] * 2


def test_what_lies_neither_by_rows_nor_by_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="neither rows nor columns"):
        order(np.zeros((4, 8))[::2, ::2])
