"""Which functions of a step become graphs, and when; with launches on a tape in place of a GPU's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from backends.cupy_mpi.runtime.graphs import WARM, Graphs, Tape


class Program:
    """A function whose one kernel adds what it is told to a sum."""

    def __init__(self) -> None:
        self.tape, self.sum, self.calls = Tape(), 0.0, 0
        self.graphs = Graphs(self.tape.capture)

    def add(self, number: float) -> None:
        self.sum += number

    def update(self, _arrays: object, at: Any, _place: object) -> None:
        self.calls += 1
        self.tape.add(self.add, at.lr)

    def forward(self, _arrays: object, at: Any, _place: object) -> None:
        self.calls += 1
        self.tape.add(self.add, at.count)

    def load(self, _arrays: object, _at: Any, _place: object) -> None:
        self.calls += 1
        self.graphs.cross()

    def runs(self, function: Any, rates: list[float], arrays: object) -> None:
        for step, lr in enumerate(rates):
            at = SimpleNamespace(count=8, samples=8, first=0, microbatch=0, step=step, lr=lr)
            self.graphs.run(function, (arrays,), at, None)


def test_a_function_that_is_told_the_same_is_a_graph() -> None:
    program, arrays = Program(), object()
    program.runs(program.forward, [0.5] * 10, arrays)
    assert program.sum == 80
    assert program.calls == WARM + 2  # once to see what it reads, and once while the graph is made


def test_what_it_does_not_read_does_not_matter() -> None:
    program, arrays = Program(), object()
    program.runs(program.forward, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], arrays)
    assert program.calls == WARM + 2


def test_rates_that_change_leave_an_update_as_it_is() -> None:
    program, arrays = Program(), object()
    program.runs(program.update, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], arrays)
    assert program.calls == 6
    assert program.sum == 21
    program.runs(program.update, [7.0] * 6 + [8.0], arrays)
    assert program.sum == 21 + 42 + 8
    assert program.calls == 6 + WARM + 1 + 1


def test_what_copies_to_or_from_the_processor_is_no_graph() -> None:
    program, arrays = Program(), object()
    program.runs(program.load, [1.0] * 8, arrays)
    assert program.calls == 8


def test_other_arrays_have_a_graph_of_their_own() -> None:
    program, one, two = Program(), object(), object()
    for arrays in (one, two):
        program.runs(program.forward, [1.0] * 5, arrays)
    assert program.sum == 80


def test_where_nothing_can_be_captured_it_is_run_as_it_is() -> None:
    program, arrays = Program(), object()
    program.graphs = Graphs(lambda _: None)
    program.runs(program.forward, [1.0] * 9, arrays)
    assert program.calls == 9
    assert program.sum == 72
