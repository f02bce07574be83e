"""Kernels in CUDA under the names and with the arguments of NumPy's, whose places they take.

A call is prepared once for its arrays and for what it is told (preparing.py): from the second time on it costs a lookup
and the launches. What is prepared lives as long as its arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from weakref import ref

from .launch import ARRAYS, ROWS, Array, Binding, Kernel, Table
from .preparing import Call, Engine, bound, plain, prepared


@dataclass(frozen=True)
class Kernels:
    """The kernels of a program on an engine."""

    engine: Engine

    @property
    def about(self) -> str:
        """A line for people: what computes."""
        return self.engine.about

    def replace(self, otherwise: Kernel, binding: Binding) -> Kernel:
        """The kernel that takes the place of one of NumPy's."""
        engine, known = self.engine, dict[tuple[int, ...], Call]()
        name = otherwise.__name__

        def kernel(*arrays: Any, **told: Any) -> None:
            key = tuple(map(id, arrays))
            call = known.get(key)
            if call is None or not call.serves(told):
                kept = tuple(ref(each, lambda _: known.pop(key, None)) for each in arrays if each is not None)
                call = known[key] = prepared(engine, name, binding, arrays, told, kept)
            for each in call.followed:
                told[each].follow()
            if call.runs is None:
                engine.otherwise(otherwise, arrays, plain(told))
                return
            for run, arguments in call.runs:
                run(*arguments)

        kernel.__name__ = name
        kernel.twin, kernel.binding = otherwise, binding  # type: ignore[attr-defined]
        return kernel

    def in_parts(self, otherwise: Kernel) -> Kernel:
        """`in_parts` of NumPy's kernels on a device: a kernel in CUDA takes all samples at once, others go by parts."""
        known = dict[tuple[Any, ...], Kernel]()

        def run(kernel: Any, parts: int, inputs: int, arrays: Sequence[Array], *rooms: Array, **told: Any) -> None:
            samples = tuple(told.pop("samples"))
            key = (kernel, parts, inputs, len(arrays), samples)
            if key not in known:

                def by_parts(*every: Array, **told: Any) -> None:
                    given, own = every[: key[3]], every[key[3] :]
                    otherwise(kernel.twin, parts, inputs, given, *own, samples=samples, **told)

                by_parts.__name__ = kernel.__name__
                known[key] = self.replace(by_parts, kernel.binding)
            known[key](*arrays, *rooms, **told)

        run.__name__ = otherwise.__name__
        return run

    def replace_rows(self, otherwise: Kernel, binding: Binding) -> Kernel:
        """As `replace`, of a kernel that takes rows of arrays; the binding is given tables of them.

        Rows that no kernel can be given are for NumPy; those without elements for nobody.
        """
        engine, known = self.engine, dict[tuple[int, ...], _Rows]()
        name = otherwise.__name__

        def kernel(*rows: tuple[Any, ...], **told: Any) -> None:
            key = tuple(map(id, chain.from_iterable(rows)))
            call = known.get(key)
            if call is None:
                kept = tuple(ref(each, lambda _: known.pop(key, None)) for each in chain.from_iterable(rows))
                call = known[key] = _Rows(kept, *_tables(engine, rows))
            if call.made is None or not call.made.serves(told):
                call.made = bound(engine, name, binding, call.tables, told)
            for each in call.made.followed:
                told[each].follow()
            for run, arguments in call.made.runs or ():
                run(*arguments)
            for at in call.others:
                engine.otherwise(lambda *arrays, **given: otherwise(arrays, **given), rows[at], plain(told))

        kernel.__name__ = name
        return kernel

    def on_processor(self, otherwise: Kernel) -> Kernel:
        """One of NumPy's, which works on copies of the arrays."""

        def kernel(*arrays: Any, **told: Any) -> None:
            self.engine.otherwise(otherwise, arrays, plain(told))

        kernel.__name__ = otherwise.__name__
        kernel.twin, kernel.binding = otherwise, lambda *_, **__: None  # type: ignore[attr-defined]
        return kernel


@dataclass(slots=True)
class _Rows:
    """A call for certain rows: `tables` of rows, and the numbers of `others`, for NumPy; `made` as it was told last."""

    arrays: tuple[object, ...]
    tables: tuple[Table, ...]
    others: tuple[int, ...]
    made: Call | None = None


def _tables(engine: Engine, rows: Sequence[tuple[Array, ...]]) -> tuple[tuple[Table, ...], tuple[int, ...]]:
    """The tables of rows that kernels can be given, and the numbers of those that they cannot."""
    fit = [len(row) <= ARRAYS and all(map(engine.passable, row)) for row in rows]
    known = [
        (tuple(map(engine.address, row)), row[0].size)
        for row, fits in zip(rows, fit, strict=True)
        if fits and row[0].size
    ]
    tables = tuple(Table.of(known[at : at + ROWS]) for at in range(0, len(known), ROWS))
    return tables, tuple(at for at, fits in enumerate(fit) if not fits)
