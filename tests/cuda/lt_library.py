"""Stands for cuBLASLt: descriptors and products as its documentation says, computed by NumPy in the memory of pointers.

It is as strict as what it stands for: attributes have their sizes, extents fit, what an epilogue needs is there.
"""

from __future__ import annotations

import ctypes
from math import pi, sqrt
from typing import Any

import numpy as np

from tests.cuda.front_end import values

NUMPY = {0: np.float32, 1: np.float64, 2: np.float16, 14: np.uint16}

SIZES = {3: 4, 4: 4, 7: 4, 8: 8, 11: 8, 12: 8}
"""Bytes of an operation's attributes (cublasLtMatmulDescAttributes_t)."""

PREFERRED = {1: 8, 5: 4, 6: 4, 7: 4, 8: 4}
"""Of a preference's (cublasLtMatmulPreferenceAttributes_t)."""

INVALID, UNSUPPORTED = 7, 15

RELU, BIAS, GELU, KEPT, SLOPE, SUMS_OF_A, SUMS_OF_B = 2, 4, 32, 128, 64, 256, 512

COMPUTE = {1: (70,), 0: (68, 74, 75, 77), 2: (68,), 14: (68,)}
"""Types of computation by elements; sums are in f32, of f64 in f64."""

TOKEN = 0x1A70
"""What this library's algorithm looks like."""


class LtLibrary:
    """`lacks` are epilogues that it has no algorithm for, `wants` bytes that its algorithm works in."""

    def __init__(self, lacks: tuple[int, ...] = (), wants: int = 4096, created: int = 0) -> None:
        self.lacks, self.wants, self.created = lacks, wants, created
        self.known: list[dict[Any, Any]] = []
        self.asked, self.ran = list[dict[Any, Any]](), list[dict[Any, Any]]()

    def _make(self, at: Any, **found: Any) -> int:
        self.known.append(found)
        at._obj.value = len(self.known)
        return 0

    def _of(self, handle: Any) -> dict[Any, Any]:
        return self.known[handle.value - 1]

    def cublasLtCreate(self, at: Any) -> int:  # noqa: N802
        at._obj.value = 99
        return self.created

    def cublasLtMatmulDescCreate(self, at: Any, compute: int, scale: int) -> int:  # noqa: N802
        return self._make(at, compute=compute, scale=scale)

    def cublasLtMatmulPreferenceCreate(self, at: Any) -> int:  # noqa: N802
        return self._make(at, preferred=True)

    def cublasLtMatrixLayoutCreate(self, at: Any, kind: int, rows: Any, columns: Any, leading: Any) -> int:  # noqa: N802
        assert [type(each) for each in (rows, columns, leading)] == [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64]
        assert leading.value >= rows.value > 0
        return self._make(at, kind=kind, shape=(rows.value, columns.value), leading=leading.value)

    def _set(self, of: Any, name: int, at: Any, size: Any, sizes: dict[int, int]) -> int:
        if size.value != sizes[name] or ctypes.sizeof(at._obj) != size.value:
            return INVALID
        self._of(of)[name] = at._obj.value
        return 0

    def cublasLtMatmulDescSetAttribute(self, of: Any, name: int, at: Any, size: Any) -> int:  # noqa: N802
        return self._set(of, name, at, size, SIZES)

    def cublasLtMatmulPreferenceSetAttribute(self, of: Any, name: int, at: Any, size: Any) -> int:  # noqa: N802
        return self._set(of, name, at, size, PREFERRED)

    def cublasLtMatmulAlgoGetHeuristic(  # noqa: N802
        self, handle: Any, of: Any, a: Any, b: Any, c: Any, d: Any, preference: Any, most: int, found: Any, count: Any
    ) -> int:
        """One algorithm, where what is asked for fits together."""
        assert (handle.value, most) == (99, 1)
        told, limits = self._of(of), self._of(preference)
        self.asked.append(told | {"limits": limits})
        if told[7] in self.lacks or limits[1] < self.wants:
            return UNSUPPORTED
        self._fits(told, *map(self._of, (a, b, c, d)))
        found._obj.algorithm[0], found._obj.workspace, found._obj.status = TOKEN, self.wants, 0
        count._obj.value = 1
        return 0

    def _fits(self, told: Any, a: Any, b: Any, c: Any, d: Any) -> tuple[int, int, int]:
        """(m, n, k) of D [m, n] = op(A) op(B)."""
        m, n = d["shape"]
        k = a["shape"][0 if told[3] else 1]
        assert c == d
        assert a["shape"] == ((k, m) if told[3] else (m, k))
        assert b["shape"] == ((n, k) if told[4] else (k, n))
        assert a["kind"] == b["kind"]
        assert d["kind"] in (a["kind"], 0)
        assert told["compute"] in COMPUTE[a["kind"]]
        assert told["scale"] == (1 if d["kind"] == 1 else 0)
        if told[7] & KEPT or told[7] & SLOPE:
            assert told[11] > 0
            assert told[12] % 8 == 0
            assert told[12] >= m
        assert bool(told.get(8)) is bool(told[7] & (BIAS | SUMS_OF_A | SUMS_OF_B))
        return m, n, k

    def cublasLtMatmul(  # noqa: N802
        self, handle: Any, of: Any, alpha: Any, a: Any, at_a: Any, b: Any, at_b: Any, beta: Any, c: Any, at_c: Any,
        d: Any, at_d: Any, algorithm: Any, workspace: Any, size: Any, stream: Any,
    ) -> int:  # fmt: skip
        """D = op(A) op(B), and what its epilogue does."""
        assert handle.value == 99
        told, layouts = self._of(of), [*map(self._of, (at_a, at_b, at_c, at_d))]
        m, n, _ = self._fits(told, *layouts)
        assert algorithm._obj[0] == TOKEN
        assert size.value >= self.wants
        assert workspace.value
        assert (alpha._obj.value, beta._obj.value, c.value) == (1, 0, d.value)
        assert type(alpha._obj) is type(beta._obj) is (ctypes.c_double if told["scale"] else ctypes.c_float)
        self.ran.append(told | {"stream": stream.value})
        kind = NUMPY[layouts[3]["kind"]]
        left, right = (
            values(matrix(each.value, NUMPY[layout["kind"]], layout["leading"], *layout["shape"]))
            for each, layout in ((a, layouts[0]), (b, layouts[1]))
        )
        left, right = (each.T if told[name] else each for each, name in ((left, 3), (right, 4)))
        found = left @ right
        if told[7] & SUMS_OF_A:
            put(vector(told[8], kind, m), left.sum(axis=1))
        if told[7] & SUMS_OF_B:
            put(vector(told[8], kind, n), right.sum(axis=0))
        if told[7] & BIAS:
            found += values(vector(told[8], kind, m))[:, None]
        kept = matrix(told[11], kind, told[12], m, n) if told[7] & KEPT else None
        if told[7] & SLOPE:
            found *= slope(values(kept))
        elif kept is not None:
            put(kept, found)
        found = np.maximum(found, 0) if told[7] & RELU else gelu(found) if told[7] & GELU else found
        put(matrix(d.value, kind, layouts[3]["leading"], m, n), found)
        return 0


def matrix(address: int, kind: Any, leading: int, rows: int, columns: int) -> Any:
    """A matrix whose columns begin `leading` apart."""
    size = np.dtype(kind).itemsize
    memory = (ctypes.c_char * (size * ((columns - 1) * leading + rows))).from_address(address)
    return np.lib.stride_tricks.as_strided(np.frombuffer(memory, kind), (rows, columns), (size, size * leading))


def vector(address: int, kind: Any, count: int) -> Any:
    return matrix(address, kind, count, count, 1)[:, 0]


def put(array: Any, found: Any) -> None:
    """As elements of the array, rounded to nearest, ties to even."""
    if array.dtype == np.uint16:
        bits = np.ascontiguousarray(found, np.float32).view(np.uint32)
        found = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    array[...] = found


def gelu(z: Any) -> Any:
    """By tanh, as cuBLASLt has it."""
    return z * (1 + np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))) / 2


def slope(z: Any) -> Any:
    """Its derivative."""
    t = np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))
    return (1 + t) / 2 + z * (1 - t * t) / 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * z * z)
