"""Products of matrices by cuBLASLt, which finishes them as it stores them: a bias, an activation, or sums for a bias.

Matrices lie row by row here and column by column there: for out = left · right it is asked for outᵀ = rightᵀ · leftᵀ,
whose rows are out's columns. What a product needs is described once, when its call is prepared; cuBLASLt's heuristics
name an algorithm then. Where they have none, the program's own kernel finishes cuBLAS's product.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from .cublas import COMPUTE, WORKSPACE, order
from .launch import Array
from .libraries import loaded

LIBRARIES = ("libcublasLt.so.13", "libcublasLt.so.12")

TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint16": 14}
"""cudaDataType_t of arrays' elements; bf16 lies in the 16 bits of an integer."""

COMPUTE_64F = 70

EPILOGUES = {
    "": 1,
    "relu": 2,
    "bias": 4,
    "relu bias": 6,
    "gelu": 32,
    "gelu bias": 36,
    "gelu kept": 160,
    "gelu kept bias": 164,
    "gelu slope": 192,
    "sums of right": 256,
    "sums of left": 512,
}
"""What is done as a product is stored -> cublasLtEpilogue_t. GELU is its approximation by tanh; `kept` stores its
operand besides, `slope` multiplies by its derivative there. Sums are of an operand, over what is contracted."""

# cublasLtMatmulDescAttributes_t
TRANSPOSED_A, TRANSPOSED_B, EPILOGUE, BIAS, KEPT, LEADING_OF_KEPT = 3, 4, 7, 8, 11, 12

# cublasLtMatmulPreferenceAttributes_t
MOST_WORKSPACE, ALIGNMENTS = 1, (5, 6, 7, 8)

KEPT_BY = 8
"""Elements: rows of what GELU keeps begin on multiples of them."""

MOST_ALIGNED = 256
"""Bytes: more than that no algorithm asks for."""


class Finished(NamedTuple):
    """out = left · right, of matrices whose rows or columns lie in one piece, finished as `EPILOGUES` says.

    Operands are of one type, and out is, too, or in f32 of halves.

    `bias` has an element a column of out; it is what sums are written to for `sums of right`, and for `sums of left`,
    an element a row. `kept` is as out.
    """

    left: Array
    right: Array
    out: Array
    finish: str
    bias: Array | None = None
    kept: Array | None = None


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm, and what it needs."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("status", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class CublasLt:
    """A handle on the current device. `cp` is CuPy, `workspace` memory of `WORKSPACE` bytes that calls on one stream
    share; `rounding` is what operands of f32 may be rounded to, as for `Cublas`.
    """

    def __init__(self, cp: Any, workspace: Array, rounding: str = "", library: Any = None) -> None:
        self._cp, self._workspace, self._rounding = cp, workspace, rounding
        self._library = library or load()
        self._handle = ctypes.c_void_p()
        self._checked("cublasLtCreate", ctypes.byref(self._handle))

    def prepared(self, call: Finished) -> Callable[[], None] | None:
        """What computes a product, on the current stream of each time; None where cuBLASLt does not, which it says."""
        if call.kept is not None and call.kept.shape[-1] % KEPT_BY:
            return None  # a rule of its, and not worth a line
        try:
            described = self.described(call)
            algorithm = self._algorithm(described)
        except LtError as error:
            print(f"cuBLASLt has nothing for {_title(call)}: {error}; kernels finish cuBLAS's", file=sys.stderr)
            return None
        real = ctypes.c_double if call.out.dtype.name == "float64" else ctypes.c_float
        one, zero = ctypes.byref(real(1)), ctypes.byref(real())
        a, b, c = (ctypes.c_void_p(each.data.ptr) for each in (call.right, call.left, call.out))
        operation, at_a, at_b, at_c, _ = described
        work = (ctypes.byref(algorithm), ctypes.c_void_p(self._workspace.data.ptr), ctypes.c_size_t(WORKSPACE))

        def run() -> None:
            stream = ctypes.c_void_p(self._cp.cuda.get_current_stream().ptr)
            told = (operation, one, a, at_a, b, at_b, zero, c, at_c, c, at_c, *work, stream)
            self._checked("cublasLtMatmul", self._handle, *told)

        return run

    def described(self, call: Finished) -> tuple[ctypes.c_void_p, ...]:
        """The descriptors of a product: of the operation, of A, B and C, and what is preferred. They stay."""
        (rows, columns), inner = call.out.shape, call.left.shape[1]
        given, kind = (TYPES[each.dtype.name] for each in (call.left, call.out))
        turned_a, leading_a, _ = order(call.right)
        turned_b, leading_b, _ = order(call.left)
        turned_c, leading_c, _ = order(call.out)
        if turned_c:
            raise ValueError("the rows of a product must lie in one piece")
        scale = kind if kind == TYPES["float64"] else TYPES["float32"]
        compute = COMPUTE_64F if scale == TYPES["float64"] else COMPUTE[self._rounding if not given else ""]
        operation = self._made("cublasLtMatmulDescCreate", compute, scale)
        told: list[tuple[int, Any]] = [
            (TRANSPOSED_A, ctypes.c_int32(turned_a)),
            (TRANSPOSED_B, ctypes.c_int32(turned_b)),
            (EPILOGUE, ctypes.c_uint32(EPILOGUES[call.finish])),
        ]
        if call.bias is not None:
            told.append((BIAS, ctypes.c_uint64(call.bias.data.ptr)))
        if call.kept is not None:
            told.append((KEPT, ctypes.c_uint64(call.kept.data.ptr)))
            told.append((LEADING_OF_KEPT, ctypes.c_int64(columns)))
        for name, value in told:
            self._set("cublasLtMatmulDescSetAttribute", operation, name, value)
        a = self._matrix(given, columns, inner, turned_a, leading_a)
        b = self._matrix(given, inner, rows, turned_b, leading_b)
        c = self._matrix(kind, columns, rows, False, leading_c)
        preference = self._made("cublasLtMatmulPreferenceCreate")
        limits = [(MOST_WORKSPACE, ctypes.c_uint64(WORKSPACE))]
        operands = (call.right, call.left, call.out, call.out)
        aligned = [(name, ctypes.c_uint32(_aligned(each))) for name, each in zip(ALIGNMENTS, operands, strict=True)]
        for name, value in (*limits, *aligned):
            self._set("cublasLtMatmulPreferenceSetAttribute", preference, name, value)
        return operation, a, b, c, preference

    def _algorithm(self, described: tuple[ctypes.c_void_p, ...]) -> Any:
        """The first of the algorithms that cuBLASLt thinks best."""
        operation, a, b, c, preference = described
        found, count = Heuristic(), ctypes.c_int()
        asked = (operation, a, b, c, c, preference, 1, ctypes.byref(found), ctypes.byref(count))
        self._checked("cublasLtMatmulAlgoGetHeuristic", self._handle, *asked)
        if not count.value or found.status:
            raise LtError("no algorithm")
        return found.algorithm

    def _matrix(self, kind: int, rows: int, columns: int, turned: bool, leading: int) -> ctypes.c_void_p:
        """The layout of a matrix, as it lies before it is turned."""
        extents = (columns, rows) if turned else (rows, columns)
        told = (kind, *map(ctypes.c_uint64, extents), ctypes.c_int64(leading))
        return self._made("cublasLtMatrixLayoutCreate", *told)

    def _made(self, name: str, *told: Any) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self._checked(name, ctypes.byref(made), *told)
        return made

    def _set(self, function: str, of: ctypes.c_void_p, name: int, value: Any) -> None:
        self._checked(function, of, name, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)))

    def _checked(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise LtError(f"{name} ends with status {status}")


class LtError(RuntimeError):
    """cuBLASLt does not do what it is asked for; the text has its status."""


def load() -> Any:
    """The library that comes with cuBLAS; LtError where there is none."""
    try:
        return loaded("cuBLASLt", LIBRARIES, "cupy_backends.cuda.libs.cublas")
    except OSError as error:
        raise LtError(str(error)) from None


def _aligned(array: Array) -> int:
    """The largest power of 2 that an address is a multiple of, as far as it matters."""
    address = int(array.data.ptr)
    return min(address & -address, MOST_ALIGNED) or MOST_ALIGNED


def _title(call: Finished) -> str:
    """For people."""
    (rows, columns), inner = call.out.shape, call.left.shape[1]
    return f"a product of {rows}x{inner} and {inner}x{columns} in {call.out.dtype.name} with {call.finish}"
