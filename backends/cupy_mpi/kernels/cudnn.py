"""Convolutions by cuDNN, through its Python front end: a graph for each, whose plans are timed, and the best is kept.

Needs `pip install nvidia-cudnn-frontend nvidia-cudnn-cu13`. Without it, or where it has no plan, the program's own
kernels compute. A plan is asked to give the same bits every time and, in f32, to multiply in full precision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from math import prod
from typing import Any, NamedTuple

from .choices import Choices
from .launch import Array

INSTALL = "`pip install nvidia-cudnn-frontend nvidia-cudnn-cu13` installs it"

TYPES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF", "uint16": "BFLOAT16"}
"""Element types of arrays, and cuDNN's names of them; bf16 lies in the 16 bits of an integer."""

MOST = 16
"""Plans that are timed, of those that cuDNN thinks best."""

ROUNDS, RUNS = 3, 3
"""How often each plan is timed, all plans by turns, and runs at a time."""


class Problem(NamedTuple):
    """A convolution: extents [n, c, …] of x, the weights and y, and how windows lie. `stage` is forward, dx or dw.

    `last` says that channels of images lie together (NHWC); weights always lie as PyTorch's. `tensor` allows products
    of f32 on tensor cores, which round their operands to 10 bits (TF32).
    """

    stage: str
    dtype: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    last: bool
    before: tuple[int, ...]
    behind: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    bias: bool = False
    relu: bool = False
    tensor: bool = False


class Convolution(NamedTuple):
    """What a call asks for: (x, weight, [bias], y), (dy, weight, dx) or (dy, x, dweight), and memory to work in."""

    problem: Problem
    operands: tuple[Array, ...]
    workspace: Array


class Planned(NamedTuple):
    """A graph with the plan that is kept. Tensors have the numbers of the operands, from 1 on."""

    graph: Any
    plan: int
    name: str


class UnavailableError(Exception):
    """cuDNN cannot be used here; the text says why and what helps."""


def load() -> Any:
    """The front end, where it finds the library; UnavailableError otherwise."""
    try:
        module = import_module("cudnn")
        module.backend_version()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise UnavailableError(f"cuDNN cannot be used ({error}); {INSTALL}") from None
    return module


class Cudnn:
    """A handle on the current device. `cp` is CuPy, `module` the front end; `tensor` allows TF32.

    `properties` are those of a device that is not there: then plans are built and none is run.
    """

    def __init__(
        self, cp: Any, module: Any, tensor: bool = False, choices: Choices | None = None, properties: Any = None
    ) -> None:
        self._cp, self._module, self._tensor = cp, module, tensor
        self._choices = choices or Choices(None, "")
        self._properties = properties
        self._handle: Any = None
        self._stream: int | None = None
        self._planned: dict[Problem, Planned | None] = {}
        self._open, self._turn = set[Problem](), self._choices.turn

    def prepared(self, call: Convolution) -> Callable[[], None] | None:
        """What computes a convolution, on the current stream of each time; None where cuDNN has no plan for it."""
        problem = call.problem._replace(tensor=self._tensor and call.problem.dtype == "float32")
        pointers = {number: each.data.ptr for number, each in enumerate(call.operands, 1)}
        workspace = call.workspace.data.ptr
        limit = call.workspace.nbytes
        if self._found(problem, pointers, workspace, limit) is None:
            return None

        def run() -> None:
            planned = self._found(problem, pointers, workspace, limit)
            if planned is None:
                raise RuntimeError(f"cuDNN has no plan any more for {problem}")
            self._execute(planned.graph, planned.plan, pointers, workspace)

        return run

    def _found(self, problem: Problem, pointers: dict[int, int], workspace: int, limit: int) -> Planned | None:
        """The plan of a problem: another one than before where the ranks have decided so meanwhile."""
        if self._choices.turn != self._turn:
            self._turn = self._choices.turn
            self._choices.decided()
            for each in self._open:
                del self._planned[each]
            self._open.clear()
        if problem not in self._planned:
            self._planned[problem] = self._plan(problem, pointers, workspace, limit)
        return self._planned[problem]

    def _execute(self, graph: Any, index: int, pointers: dict[int, int], workspace: int) -> None:
        graph.execute_plan_at_index(pointers, workspace, index, handle=self._on_stream())

    def _on_stream(self) -> Any:
        """The handle, on the current stream."""
        if self._handle is None:
            self._handle = self._module.create_handle()
        stream = self._cp.cuda.get_current_stream().ptr
        if stream != self._stream:
            self._module.set_stream(handle=self._handle, stream=stream)
            self._stream = stream
        return self._handle

    # --- plans ---------------------------------------------------------------------------------------------------

    def _plan(self, problem: Problem, pointers: dict[int, int], workspace: int, limit: int) -> Planned | None:
        """The plan that was chosen before, else the fastest."""
        key = f"{problem}, {limit} bytes, cuDNN {self._module.backend_version()}"
        try:
            graph = self.graph(problem, limit)
        except self._failures() as error:
            print(f"cuDNN has no plan for {problem}: {error}".splitlines()[0], file=sys.stderr)
            return None
        chosen = self._choices.get(key)
        known = [index for index in range(graph.get_execution_plan_count()) if name_of(graph, index) == chosen]
        if known and self._built(graph, known):
            return Planned(graph, known[0], name_of(graph, known[0]))
        built = self._built(graph, range(graph.get_execution_plan_count()))
        times = self._timed(graph, built, pointers, workspace)
        if not times:
            print(f"cuDNN has no plan for {problem}: none of its own can be built and run", file=sys.stderr)
            return None
        best = min(times, key=lambda index: times[index])
        name = self._choices.keep(key, name_of(graph, best), {name_of(graph, at): times[at] for at in times})
        if not name:  # the ranks decide later; until then all of them take the first one, whatever times they find
            self._open.add(problem)
            name = name_of(graph, next(iter(times)))
        best = next((index for index in times if name_of(graph, index) == name), best)
        return Planned(graph, best, name_of(graph, best))

    def graph(self, problem: Problem, limit: int) -> Any:
        """A graph with its plans, none of which is built, and which want so many bytes at most.

        Errors: those of the front end, where cuDNN has none.
        """
        module, described = self._module, {}
        if self._properties is None:
            described = {"handle": self._on_stream()}
        else:
            described = {"device_property": self._properties, "sm_version": 90}
        real = getattr(module.data_type, "DOUBLE" if problem.dtype == "float64" else "FLOAT")
        kind = getattr(module.data_type, TYPES[problem.dtype])
        graph = module.pygraph(io_data_type=kind, intermediate_data_type=real, compute_data_type=real, **described)
        self._describe(graph, problem, kind)
        graph.validate()
        graph.build_operation_graph()
        modes = module.heur_mode
        graph.create_execution_plans([modes.A, modes.B, modes.FALLBACK])
        notes = [module.numerical_note.NONDETERMINISTIC]
        if problem.dtype == "float32" and not problem.tensor:
            notes.append(module.numerical_note.TENSOR_CORE)  # in f32 they compute in TF32
        graph.deselect_numeric_notes(notes)
        graph.deselect_workspace_greater_than(limit)
        graph.check_support()
        return graph

    def _describe(self, graph: Any, p: Problem, kind: Any) -> None:
        """The operations of a convolution, and its tensors."""

        def tensor(number: int, extents: Sequence[int], last: bool) -> Any:
            return graph.tensor(dim=list(extents), stride=strides(extents, last), data_type=kind, uid=number)

        windows = {
            "pre_padding": list(p.before),
            "post_padding": list(p.behind),
            "stride": list(p.stride),
            "dilation": list(p.dilation),
        }
        if p.stage == "forward":
            x, weight = tensor(1, p.x, p.last), tensor(2, p.weight, False)
            made = graph.conv_fprop(image=x, weight=weight, **windows)
            if p.bias:
                made = graph.bias(input=made, bias=tensor(3, (1, p.y[1], *(1 for _ in p.y[2:])), p.last))
            if p.relu:
                made = graph.relu(input=made)
            extents, last = p.y, p.last
        elif p.stage == "dx":
            dy, weight = tensor(1, p.y, p.last), tensor(2, p.weight, False)
            made = graph.conv_dgrad(loss=dy, filter=weight, **windows)
            extents, last = p.x, p.last
        else:
            dy, x = tensor(1, p.y, p.last), tensor(2, p.x, p.last)
            made = graph.conv_wgrad(image=x, loss=dy, **windows)
            extents, last = p.weight, False
        made.set_output(True).set_uid(3 + p.bias).set_dim(list(extents)).set_stride(strides(extents, last))
        made.set_data_type(kind)

    def _built(self, graph: Any, indices: Sequence[int]) -> list[int]:
        """Of these plans those that can be built, not more than are worth timing."""
        found = list[int]()
        for index in indices:
            if len(found) == MOST:
                break
            try:
                graph.build_plan_at_index(index)
            except self._failures():
                continue  # deselected, or not for this device
            found.append(index)
        return found

    def _timed(self, graph: Any, indices: Sequence[int], pointers: dict[int, int], workspace: int) -> dict[int, float]:
        """Milliseconds of plans: the least of several rounds; without those that fail."""
        times = dict[int, float]()
        for index in indices:
            try:
                self._execute(graph, index, pointers, workspace)
            except self._failures():
                continue
            times[index] = float("inf")
        event = self._cp.cuda.Event
        for _ in range(ROUNDS if len(times) > 1 else 0):
            for index in times:
                begin, end = event(), event()
                begin.record()
                for _ in range(RUNS):
                    self._execute(graph, index, pointers, workspace)
                end.record()
                end.synchronize()
                times[index] = min(times[index], self._cp.cuda.get_elapsed_time(begin, end) / RUNS)
        return times

    def _failures(self) -> tuple[type[Exception], ...]:
        return (self._module.cudnnGraphNotSupportedError, RuntimeError)


def name_of(graph: Any, index: int) -> str:
    """A plan's name: its engine and all of its knobs."""
    return str(graph.get_plan_name_at_index(index))


def strides(extents: Sequence[int], last: bool) -> list[int]:
    """How far apart elements of [n, c, …] lie along each axis; with `last` channels lie together."""
    if not last:
        return [prod(extents[axis + 1 :]) for axis in range(len(extents))]
    channels, inner = extents[1], extents[2:]
    return [channels * prod(inner), 1, *(channels * prod(inner[axis + 1 :]) for axis in range(len(inner)))]
