"""Which functions of a step become graphs, and when; with emulated streams in place of a GPU's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels.calls import Kernels
from backends.cupy_mpi.kernels.engines import OnStandIns
from backends.cupy_mpi.runtime import emulated
from backends.cupy_mpi.runtime.graphs import WARM, Call, Graphs
from backends.cupy_mpi.runtime.numbers import Numbers
from backends.cupy_mpi.source import whole_text
from backends.numpy_mpi.kernels import KERNELS
from backends.numpy_mpi.kernels.philox import key
from tests.cuda.calling import binding, needs_compiler
from tests.kernels.calling import kernel

EAGER = WARM + 1
"""Runs of a function call by call before its graph is made: one to see what it reads."""


class Captured:
    """Graphs of what the current stream is given."""

    def __init__(self) -> None:
        self.stream = emulated.cuda.get_current_stream()

    def begin(self) -> None:
        self.stream.begin_capture()

    def end(self) -> Any:
        made = self.stream.end_capture()
        return SimpleNamespace(launch=lambda: made.launch(self.stream))


class Refused(Captured):
    """Nothing can be captured."""

    def end(self) -> None:
        self.stream.end_capture()


class Program:
    """A function whose one kernel adds what it is told to a sum."""

    def __init__(self) -> None:
        self.sum, self.calls = 0.0, 0
        self.graphs = Graphs(Captured())

    def add(self, number: float) -> None:
        self.sum += number

    def update(self, _arrays: object, at: Any, _place: object) -> None:
        self.calls += 1
        emulated.launch(self.add, float(at.lr))

    def forward(self, _arrays: object, at: Any, _place: object) -> None:
        self.calls += 1
        emulated.launch(self.add, at.count)

    def load(self, _arrays: object, _at: Any, _place: object) -> None:
        self.calls += 1
        self.graphs.cross()

    def runs(self, rates: list[float], arrays: object, *functions: Any, microbatches: int = 1) -> None:
        for step, lr in enumerate(rates):
            for number in range(microbatches):
                at = moment(step, lr, number)
                self.graphs.run([Call(function, (arrays,), at, None) for function in functions])


def moment(step: int, lr: float, microbatch: int = 0) -> SimpleNamespace:
    return SimpleNamespace(count=8, samples=8, first=8 * microbatch, microbatch=microbatch, step=step, lr=lr)


def test_a_function_that_is_told_the_same_is_a_graph() -> None:
    program, arrays = Program(), object()
    program.runs([0.5] * 10, arrays, program.forward)
    assert program.sum == 80
    assert program.calls == EAGER + 1  # the last one while the graph is made
    assert program.graphs.launched == 10 - EAGER


def test_what_it_does_not_read_does_not_matter() -> None:
    program, arrays = Program(), object()
    program.runs([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], arrays, program.forward)
    assert program.calls == EAGER + 1


def test_a_rate_that_is_passed_by_value_leaves_an_update_as_it_is() -> None:
    program, arrays = Program(), object()
    program.runs([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], arrays, program.update)
    assert program.calls == 6
    assert program.sum == 21
    program.runs([7.0] * 6 + [8.0], arrays, program.update)
    assert program.sum == 21 + 42 + 8
    assert program.calls == 6 + WARM + 1 + 1


def test_what_copies_to_or_from_the_processor_is_no_graph() -> None:
    program, arrays = Program(), object()
    program.runs([1.0] * 8, arrays, program.load)
    assert program.calls == 8


def test_functions_that_follow_each_other_are_one_graph() -> None:
    """All of a step but what copies: they part where it does."""
    program, arrays = Program(), object()
    program.runs([1.0] * 9, arrays, program.load, program.forward, program.update)
    assert program.sum == 9 * 9
    assert program.calls == 9 + 2 * (EAGER + 1)
    assert program.graphs.launched == 9 - EAGER


def test_what_copies_only_while_a_graph_is_made_is_none() -> None:
    program, arrays = Program(), object()
    counted = program.forward

    def copying(*given: Any) -> None:
        counted(*given)
        if emulated.cuda.get_current_stream().capture is not None:
            program.graphs.cross()

    program.runs([1.0] * 9, arrays, copying)
    assert program.sum == 72
    assert program.calls == 9 + 1  # once to be recorded, in vain


def test_each_microbatch_has_a_graph_of_its_own() -> None:
    """They come by turns, so that none is run twice in a row."""
    program, arrays = Program(), object()
    program.runs([1.0] * 8, arrays, program.forward, microbatches=3)
    assert program.sum == 8 * 3 * 8
    assert program.calls == 1 + 3 * (WARM + 1)


def test_other_arrays_have_a_graph_of_their_own() -> None:
    program, one, two = Program(), object(), object()
    for arrays in (one, two):
        program.runs([1.0] * 5, arrays, program.forward)
    assert program.sum == 80


def test_where_nothing_can_be_captured_it_is_run_as_it_is() -> None:
    program, arrays = Program(), object()
    program.graphs = Graphs(Refused())
    program.runs([1.0] * 9, arrays, program.forward)
    assert program.calls == 9 + 1
    assert program.sum == 72


class Messages:
    """A place that keeps what was sent, and one pure question."""

    def __init__(self) -> None:
        self.sent, self.filled = list[float](), list[int]()

    def send(self, value: Any, *, to: int) -> None:
        self.sent.append(float(value))

    def fill(self, at: Any) -> None:
        self.filled.append(at.step)

    def pads(self, number: float) -> float:
        return number


def test_what_lies_between_messages_is_a_graph() -> None:
    """Messages go in their order with what was computed before them, and samples are those of the step at hand."""
    place, total, calls = Messages(), emulated.zeros((), np.float64), 0

    def step(array: Any, at: Any, place: Any) -> None:
        nonlocal calls
        calls += 1
        place.fill(at)
        np.add(array, place.pads(1.0), out=array)
        place.send(array, to=1)
        np.multiply(array, 2.0, out=array)
        place.send(array, to=1)
        np.add(array, 3.0, out=array)

    graphs = Graphs(Captured())
    for number in range(8):
        graphs.run([Call(step, (total,), moment(number, 0.5), place)])
    right, value = list[float](), 0.0
    for _ in range(8):
        right += [value + 1, 2 * (value + 1)]
        value = right[-1] + 3
    assert place.sent == right
    assert place.filled == list(range(8))
    assert float(total) == value
    assert calls == EAGER + 1
    assert graphs.launched == 4 * (8 - EAGER)  # before the samples there is one of nothing


def test_nothing_is_done_while_it_is_recorded() -> None:
    """Were it done, what cannot be a graph in the end would be done twice."""
    place, total = Messages(), emulated.zeros((), np.float64)

    def step(array: Any, _at: Any, place: Any) -> None:
        np.add(array, 1.0, out=array)
        place.send(array, to=1)
        if emulated.cuda.get_current_stream().capture is not None:
            graphs.cross()

    graphs = Graphs(Captured())
    for number in range(6):
        graphs.run([Call(step, (total,), moment(number, 0.5), place)])
    assert place.sent == [1, 2, 3, 4, 5, 6]
    assert graphs.launched == 0


def test_memory_may_be_taken_in_the_first_run() -> None:
    graphs, kept = Graphs(Captured()), list[Any]()

    def step(array: Any, _at: Any, _place: Any) -> None:
        if not kept:
            graphs.cross()
            kept.append(emulated.zeros((), np.float64))
        np.add(array, 1.0, out=kept[0])

    array = emulated.zeros((), np.float64)
    for number in range(8):
        graphs.run([Call(step, (array,), moment(number, 0.5), None)])
    assert graphs.launched == 8 - EAGER - 1


class Step:
    """Dropout and an update of weights with Adam, by the CUDA text, as a program calls them."""

    def __init__(self) -> None:
        self.written = 0
        self.device = device = SimpleNamespace(cp=emulated, on_device=lambda array: isinstance(array, emulated.ndarray))
        device.RANK = self.rank = SimpleNamespace(graphs=Graphs(Captured()))
        self.rank.numbers = Numbers(lambda size: emulated.zeros(size, np.uint8), self._put)
        self.kernels = []
        for each in (("dropout", "forward", ""), ("adamw", "update", "")):
            text = whole_text(KERNELS[each].module, "f32")
            made = Kernels(OnStandIns(text, np.dtype(np.float32).type, device))
            self.kernels.append(made.replace(kernel(*each), binding(each)))
        drawn = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
        self.x, self.dropped = emulated.asarray(drawn), emulated.zeros((6, 40), np.float32)
        self.mask = emulated.zeros((6, 40), np.uint8)
        self.weights, *self.states = (emulated.zeros((6, 40), np.float32) for _ in range(3))

    def _put(self, target: Any, source: Any) -> None:
        self.written += 1
        target.set(source)

    def function(self, _arrays: object, at: Any, _place: object) -> None:
        dropout, adamw = self.kernels
        dropout(self.x, self.dropped, self.mask, p=0.5, key=key(1, "a.dropout"), step=at.step, position=0)
        adamw(self.weights, self.dropped, *self.states, lr=at.lr, step=at.step, weight_decay=0.1)

    def run(self, steps: int, graphs: bool) -> Any:
        for step in range(steps):
            at = moment(step, 0.1 / (1 + step))
            self.rank.numbers.follow(at)
            call = Call(self.function, (self.weights,), at, None)
            self.rank.graphs.run([call]) if graphs else self.rank.graphs.alone(call)
        return self.weights.get()


@needs_compiler
def test_what_changes_from_step_to_step_is_read_from_memory() -> None:
    """Dropout's numbers and AdamW with a schedule are one graph, and give the same bits as call by call."""
    eager, whole = Step(), Step()
    right, found = eager.run(9, graphs=False), whole.run(9, graphs=True)
    assert np.array_equal(found, right)
    assert whole.rank.graphs.launched == 9 - EAGER
    assert eager.rank.graphs.launched == 0
    assert whole.written == 8 + 2  # once a step but the first, in which each of the two has its place made
    dropped, mask = np.empty((6, 40)), np.empty((6, 40), np.uint8)
    dropout = kernel("dropout", "forward")
    dropout(whole.x.get(), dropped, mask, p=0.5, key=key(1, "a.dropout"), step=8, position=0)
    assert np.array_equal(whole.mask.get(), mask)


@needs_compiler
def test_numbers_of_another_step_give_other_weights() -> None:
    """Were the block not written, a graph would go on with the numbers of the step that it was made in."""
    forgetful, right = Step(), Step().run(9, graphs=True)
    forgetful.rank.numbers.follow = lambda _: None
    assert not np.array_equal(forgetful.run(9, graphs=True), right)


@needs_compiler
def test_numpys_kernels_are_told_numbers_as_such() -> None:
    """NumPy would compute in double precision with a number that is more than one."""
    told: dict[str, Any] = {}

    def otherwise(_: object, **given: Any) -> None:
        told.update(given)

    step = Step()
    text = whole_text("update", "f32")
    made = Kernels(OnStandIns(text, np.dtype(np.float32).type, step.device))
    for kind in (made.on_processor(otherwise), made.replace(otherwise, lambda *_, **__: None)):
        call = Call(lambda x, at, _, kind=kind: kind(x, lr=at.lr, step=at.step), (step.x,), moment(3, 0.5), None)
        step.rank.graphs.alone(call)
        assert {name: type(value) for name, value in told.items()} == {"lr": float, "step": int}
        told.clear()


def test_what_is_told_by_value_is_placed_alone() -> None:
    """Numbers of the same call that do not follow the steps are not overwritten by those that do."""
    numbers = Numbers(lambda size: emulated.zeros(size, np.uint8), lambda target, source: target.set(source))
    changing = SimpleNamespace(of=lambda lr: (float(lr),), told=("lr",), fixed=())
    alone = numbers.place(changing, {"lr": 0.25}, np.float32)
    numbers.follow(moment(1, 0.5))
    assert alone.get() == pytest.approx(0.25)
