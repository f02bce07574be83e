"""Calls of kernels that go to C where there is a C function for them, and to NumPy else.

A kernel's *binding* tells what the C function is given besides the arrays; where it says None the call is one that C
has no code for. A call is prepared once for its arrays, whose addresses do not change: from the second time on it costs
a lookup. What is prepared lives as long as its arrays.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np

from .blas import work_alone
from .layout import Array
from .native import Library, NoCompilerError, Numbers, load

Kernel = Callable[..., None]
Binding = Callable[..., Numbers | None]

SUFFIXES = {"float32": "f32", "float64": "f64"}

ROOM = np.dtype("V1")
"""The type of an array that a call works in: bytes. It is the last one of a call that has one."""


def kernels_of(source: Path, dtype: type, scratch: int = 0) -> Kernels:
    """The kernels in C of this source, built where that is necessary, or those of NumPy where it cannot be built.

    BLAS works in one thread beside kernels in C, and has all threads where there are none.

    `scratch` is how many elements most calls work in at most.
    """
    try:
        library = load(source)
    except NoCompilerError as error:
        instead = "the kernels are NumPy's, BLAS has all threads, and the plan's times, of kernels in C, do not hold"
        return Kernels(None, np.dtype(dtype), scratch, f"{error}: {instead}")
    work_alone()
    return Kernels(library, np.dtype(dtype), scratch, f"the kernels are in C: {library.path}")


@dataclass(frozen=True)
class Kernels:
    """The functions of a library for arrays of one element type, or none; `about` is a line for people."""

    library: Library | None
    dtype: np.dtype[Any]
    scratch: int
    about: str
    _own: threading.local = field(default_factory=threading.local)

    def rooms(self, scratch: Mapping[str, str], otherwise: Mapping[str, str]) -> Mapping[str, str]:
        """What kernels work in, by ops: those in C, or those of NumPy where they stand in for all."""
        return otherwise if self.library is None else scratch

    def replace(self, otherwise: Kernel, binding: Binding) -> Kernel:
        """The NumPy kernel, or one that calls what the binding names, else `NAME_f32` or `NAME_f64`."""
        library = self.library
        if library is None:
            return otherwise
        prepared: dict[tuple[int, ...], _Call] = {}

        def kernel(*arrays: Any, **told: Any) -> None:
            key = (*map(id, arrays),)  # tuple(map(…)) is cut to size, and Python keeps each that it has cut
            call = prepared.get(key)
            if call is None:
                kept = tuple(ref(each, lambda _: prepared.pop(key, None)) for each in arrays if each is not None)
                room = arrays[-1] if arrays[-1] is not None and arrays[-1].dtype == ROOM else None
                passable = all(map(self._passable, arrays if room is None else arrays[:-1]))
                call = prepared[key] = _Call(passable, kept, room)
            if call.told != told:
                given = arrays if call.room is None else arrays[:-1]
                self._tell(call, library, otherwise.__name__, binding(*given, **told) if call.passable else None, given)
                call.told = told
            if call.function is None:
                otherwise(*(arrays if call.room is None else arrays[:-1]), **told)
            else:
                call.function(*call.arguments)

        kernel.__name__ = otherwise.__name__
        return kernel

    def replace_rows(self, otherwise: Kernel, binding: Binding) -> Kernel:
        """As `replace`, of a kernel that takes rows of arrays; the binding tells what C is given for one row.

        C gets all rows at once, in a table of addresses and sizes. Rows that it cannot be given are for NumPy.
        """
        library = self.library
        if library is None:
            return otherwise
        prepared: dict[tuple[int, ...], _Rows] = {}

        def kernel(*rows: tuple[Array, ...], **told: Any) -> None:
            key = (*map(id, chain.from_iterable(rows)),)
            call = prepared.get(key)
            if call is None:
                kept = tuple(ref(each, lambda _: prepared.pop(key, None)) for each in chain.from_iterable(rows))
                call = prepared[key] = self._rows(rows, kept)
            if call.told != told and call.first is not None:
                numbers = binding(*rows[call.first], **told)
                assert numbers is not None
                name = numbers.name or f"{otherwise.__name__}_{SUFFIXES[self.dtype.name]}"
                call.function = library.function(name.replace("_update_", "_updates_"))
                call.arguments = (*call.pointers, *map(_passed, numbers.values[1:]))
                call.told = told
            if call.function is not None:
                call.function(*call.arguments)
            if call.others:
                otherwise(*(rows[at] for at in call.others), **told)

        kernel.__name__ = otherwise.__name__
        return kernel

    def _rows(self, rows: tuple[tuple[Array, ...], ...], kept: tuple[object, ...]) -> _Rows:
        """The rows that C can be given as a table: the addresses of each row's arrays, then their size."""
        fit = [all(self._passable(each) and each.dtype == self.dtype for each in row) for row in rows]
        known = [row for row, fits in zip(rows, fit, strict=True) if fits]
        table = np.array([[*(each.ctypes.data for each in row), row[0].size] for row in known], np.int64)
        pointers = (ctypes.c_void_p(table.ctypes.data), ctypes.c_long(len(known)))
        others = tuple(at for at, fits in enumerate(fit) if not fits)
        return _Rows(kept, table, pointers, others, fit.index(True) if known else None)

    def _tell(
        self, call: _Call, library: Library, kernel: str, numbers: Numbers | None, arrays: tuple[Any, ...]
    ) -> None:
        """Prepare a call for these numbers; what was found for its arrays before stays."""
        if numbers is None:
            call.function, call.form = None, None
            return
        form = numbers[1:]
        if call.form != form:
            pointers = [None if each is None else each.ctypes.data for each in arrays[: numbers.arrays]]
            call.scratch = self._scratch(call, numbers.scratch) if numbers.scratch else None
            pointers += [] if call.scratch is None else [call.scratch.ctypes.data]
            call.function = library.function(numbers.name or f"{kernel}_{SUFFIXES[self.dtype.name]}")
            call.form, call.pointers = form, [*map(ctypes.c_void_p, pointers)]
        call.arguments = (*call.pointers, *map(_passed, numbers.values))

    def _passable(self, array: Any) -> bool:
        """Whether C can be given it: nothing, or contiguous elements of the library's type, or indices, or masks."""
        if array is None:
            return True
        known = (self.dtype, np.int32, np.uint8)
        return isinstance(array, np.ndarray) and array.flags.c_contiguous and array.dtype in known

    def _scratch(self, call: _Call, elements: int) -> Array:
        """What a call may work in: what it is given, or one array for all calls of a thread that are given none."""
        if call.room is not None and call.room.size >= elements * self.dtype.itemsize:
            return call.room
        kept: Array | None = getattr(self._own, "scratch", None)
        if kept is None or kept.size < elements:
            kept = self._own.scratch = np.empty(max(elements, self.scratch), self.dtype)
        return kept


@dataclass(slots=True)
class _Call:
    """A call for certain arrays, as it was told last; without a function it is for NumPy. `scratch` is kept alive."""

    passable: bool
    arrays: tuple[object, ...]
    room: Array | None = None
    told: dict[str, Any] | None = None
    form: tuple[object, ...] | None = None
    pointers: list[Any] = field(default_factory=list)
    function: Callable[..., None] | None = None
    arguments: tuple[object, ...] = ()
    scratch: Array | None = None


@dataclass(slots=True)
class _Rows:
    """A call for certain rows of arrays, as it was told last.

    `first` is the number of the first row in the table, `others` are those of the rows for NumPy.
    """

    arrays: tuple[object, ...]
    table: Array
    pointers: tuple[Any, ...]
    others: tuple[int, ...]
    first: int | None
    told: dict[str, Any] | None = None
    function: Callable[..., None] | None = None
    arguments: tuple[object, ...] = ()


def _passed(number: float) -> ctypes.c_long | ctypes.c_double:
    return ctypes.c_double(number) if isinstance(number, float) else ctypes.c_long(number)
