"""Products of matrices by cuBLAS, called by its C interface: CuPy's own calls cannot be captured in a graph.

Matrices lie row by row here and column by column there, so each of cuBLAS's is one of ours turned over: for
out = left · right it is asked for outᵀ = rightᵀ · leftᵀ.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from .launch import HALVES, Array
from .libraries import loaded

LIBRARIES = ("libcublas.so.13", "libcublas.so.12", "libcublas.so.11")
WORKSPACE = 32 * 2**20
"""Bytes that cuBLAS works in; given to it, so that it allocates nothing while a graph is captured."""

EXTENDED = "cublasGemmStridedBatchedEx"
"""The function that is told types."""

FUNCTIONS: dict[str, tuple[str, Any]] = {
    "float32": (EXTENDED, ctypes.c_float),
    "float64": ("cublasDgemmStridedBatched", ctypes.c_double),
    "complex64": ("cublasCgemmStridedBatched", ctypes.c_float * 2),
    "complex128": ("cublasZgemmStridedBatched", ctypes.c_double * 2),
}
"""Element type -> the function, and the C type of its factors."""

COMPUTE = {"": 68, "f16": 74, "bf16": 75, "tf32": 77}
"""cublasComputeType_t of products of f32, by what their operands may be rounded to: nothing, or tensor cores' types.
Sums are in f32."""

TYPES = {"float32": 0, "float16": 2, "uint16": 14}
"""cudaDataType_t of arrays' elements where the function is told; bf16 lies in the 16 bits of an integer."""

DEFAULT_ALGORITHM = -1

NORMAL, TRANSPOSED, CONJUGATE = 0, 1, 2
"""cuBLAS's operations on an operand; the last is the transposed of the conjugate."""


class Order(NamedTuple):
    """How matrices lie: `turned` where columns lie in one piece and not rows; those that do not begin `leading` apart,
    matrices of a stack `apart` elements."""

    turned: bool
    leading: int
    apart: int


class Cublas:
    """A handle on the current device, with a workspace of its own. `cp` is CuPy.

    `rounding` is what a precision lets operands of f32 be rounded to: `tf32` in all products, `f16` and `bf16`
    in those of numbers that have been cast from that, which this changes nothing of. `workspace` are `WORKSPACE` bytes.
    """

    def __init__(self, cp: Any, library: Any = None, rounding: str = "", workspace: Array | None = None) -> None:
        self._cp, self._library, self._rounding = cp, library or _library(), rounding
        self._handle = ctypes.c_void_p()
        self._checked("cublasCreate_v2", ctypes.byref(self._handle))
        self._workspace = cp.empty(WORKSPACE, "uint8") if workspace is None else workspace
        self._stream: int | None = None

    def product(
        self, left: Array, right: Array, out: Array, conjugate: tuple[bool, bool] = (False, False), given: bool = False
    ) -> None:
        """out = left · right, of matrices [m, k] and [k, n] or of stacks of as many.

        `conjugate` says of which operands, whose columns lie in one piece, the conjugates are meant; `given` that they
        hold what the call was given, and not what it has computed of that. Operands in half precision are of one type,
        and out is, too, or it is f32; sums are in f32.
        """
        rows, columns = out.shape[-2:]
        inner, count = left.shape[-1], out.size // max(1, rows * columns)
        if not out.size:
            return
        if not inner:
            out.fill(0)
            return
        self._on_stream()
        name, real = FUNCTIONS["float32" if left.dtype.name in HALVES else out.dtype.name]
        one, zero = ctypes.byref(real(1)), ctypes.byref(real())
        operands = zip((right, left, out), (*conjugate[::-1], False), strict=True)
        (a, *at_a), (b, *at_b), (c, *at_c) = (_operand(array, turn) for array, turn in operands)
        if c:
            raise ValueError("the rows of a product must lie in one piece")
        extents = (columns, rows, inner)
        if name != EXTENDED:
            self._checked(name, self._handle, a, b, *extents, one, *at_a, *at_b, zero, *at_c, count)
            return
        rounded = left.dtype.name not in HALVES and (given or self._rounding == "tf32")
        compute = COMPUTE[self._rounding if rounded else ""]
        kinds = [TYPES[each.dtype.name] for each in (right, left, out)]
        typed_a, typed_b, typed_c = (
            (at, kind, *apart) for (at, *apart), kind in zip((at_a, at_b, at_c), kinds, strict=True)
        )
        told = (one, *typed_a, *typed_b, zero, *typed_c, count, compute, DEFAULT_ALGORITHM)
        self._checked(name, self._handle, a, b, *extents, *told)

    def _on_stream(self) -> None:
        """The current stream, whose work it is a part of; setting one takes the workspace away."""
        stream = self._cp.cuda.get_current_stream().ptr
        if stream != self._stream:
            self._checked("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
            workspace = ctypes.c_void_p(self._workspace.data.ptr)
            self._checked("cublasSetWorkspace_v2", self._handle, workspace, ctypes.c_size_t(WORKSPACE))
            self._stream = stream

    def _checked(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} ends with status {status}")


def order(array: Array) -> Order:
    """How an array [m, n] or [count, m, n] lies of which rows or columns are in one piece; ValueError for others."""
    size, (rows, columns) = array.itemsize, array.shape[-2:]
    down, along = (stride // size for stride in array.strides[-2:])
    if array.ndim > 3:
        raise ValueError("a stack of matrices has one axis")
    apart = array.strides[0] // size if array.ndim == 3 else 0
    if along == 1 or columns == 1:
        return Order(False, down if rows > 1 else columns, apart)
    if down == 1 or rows == 1:
        return Order(True, along, apart)
    raise ValueError(f"neither rows nor columns of an array with strides {array.strides} lie in one piece")


def order_of_conjugate(array: Array) -> Order:
    """That of an array whose columns are in one piece; ValueError for others, whose conjugates cuBLAS does not take."""
    size, (rows, columns) = array.itemsize, array.shape[-2:]
    down, along = (stride // size for stride in array.strides[-2:])
    if down != 1 and rows > 1:
        raise ValueError("of conjugates the columns must lie in one piece")
    return Order(True, along if columns > 1 else rows, array.strides[0] // size if array.ndim == 3 else 0)


def _operand(array: Array, conjugate: bool) -> tuple[int, ctypes.c_void_p, int, ctypes.c_longlong]:
    """The operation on it, and what is said of its memory."""
    turned, leading, apart = order_of_conjugate(array) if conjugate else order(array)
    operation = CONJUGATE if conjugate else TRANSPOSED if turned else NORMAL
    return operation, ctypes.c_void_p(array.data.ptr), leading, ctypes.c_longlong(apart)


def _library() -> Any:
    return loaded("cuBLAS", LIBRARIES, "cupy_backends.cuda.libs.cublas")
