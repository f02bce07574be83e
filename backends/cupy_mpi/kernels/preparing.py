"""Steps of a call made ready for an engine: prepared once for certain arrays and for what the call is told.

Rooms get their memory, arguments the form in which they are passed, calls of libraries their plans. Who has what is
prepared (calls.py) calls functions with arguments, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple, Protocol

from .launch import (
    HALVES,
    Array,
    Binding,
    ByLibrary,
    Changing,
    Kernel,
    Launch,
    Matrices,
    Own,
    Product,
    Room,
    Steps,
    Table,
    Transform,
    own,
)

ALIGNMENT = 64
"""Elements: rooms begin on multiples of them."""


class Engine(Protocol):
    """What runs steps: a device (gpu.py), or a processor in its place (on_cpu.py). `about` is a line for people."""

    about: str

    def has(self, kernel: str) -> bool:
        """Whether there is a kernel, or an instance of a template, of that name."""

    def launcher(self, kernel: str) -> Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], None]:
        """What launches a kernel: (blocks, threads, arguments as `passed` gives them)."""

    def passed(self, value: Any) -> Any:
        """An argument as a launch takes it: a pointer, an i64, a real, a struct of ints, or one of i64 (a table)."""

    def address(self, array: Array) -> int:
        """Where an array begins."""

    def changing(self, numbers: Changing, told: dict[str, Any]) -> Array:
        """Where these numbers are. They follow the steps where what they are made of does: see `follows` below."""

    def product(
        self, left: Array, right: Array, out: Array, conjugate: tuple[bool, bool] = (False, False), given: bool = False
    ) -> None:
        """out = left · right. `given` says that the elements are those of arrays that the call was given."""

    def transformer(self, lengths: tuple[int, ...], count: int, backward: bool) -> Callable[[Array, Array], None]:
        """What transforms (values, spectra) as `Transform` says; all that it needs besides is there then."""

    def library(self, call: Any) -> Callable[[], None] | None:
        """What computes a library's call; None where there is no library for it."""

    def room(self, elements: int) -> Array:
        """Memory that all calls work in, one after the other."""

    def passable(self, array: Array) -> bool:
        """Whether a kernel can be given it."""

    def otherwise(self, kernel: Kernel, arrays: tuple[Array | None, ...], told: dict[str, Any]) -> None:
        """Call a NumPy kernel, where there is none in CUDA for a call."""


Runs = tuple[tuple[Callable[..., None], tuple[Any, ...]], ...]
"""(function, arguments) of each step."""


class Call(NamedTuple):
    """A call for certain arrays, as it was told last; without `runs` it is for NumPy.

    Of what is told by the names `followed` the value does not matter: the numbers made of it follow the steps.
    `numbers` is where these and others that change are, kept for as long as the call is.
    """

    arrays: tuple[object, ...]
    told: dict[str, Any]
    runs: Runs | None = None
    followed: frozenset[str] = frozenset()
    numbers: tuple[Array, ...] = ()

    def serves(self, told: dict[str, Any]) -> bool:
        """Whether it is the same call."""
        if not self.followed:
            return self.told == told
        return self.told == _without(told, self.followed)


def follows(value: Any) -> str:
    """What of a step a number that is told stands for, if it follows the steps: such numbers are the runtime's."""
    return getattr(value, "follows", "")


def plain(told: dict[str, Any]) -> dict[str, Any]:
    """What NumPy's kernels are told: numbers as such, for NumPy takes those that follow the steps for f64."""
    return {name: value.plain if follows(value) else value for name, value in told.items()}


def _without(told: dict[str, Any], followed: frozenset[str]) -> dict[str, Any]:
    """What is told, with what follows the steps by what it follows."""
    return {name: follows(value) if name in followed else value for name, value in told.items()}


def prepared(
    engine: Engine,
    name: str,
    binding: Binding,
    arrays: tuple[Array | None, ...],
    told: dict[str, Any],
    kept: tuple[object, ...] = (),
) -> Call:
    """A call of the kernel of that name for certain arrays; `kept` lives as long as it does."""
    halves = getattr(binding, "takes_halves", False)
    if not all(engine.passable(each) or (halves and _is_half(each)) for each in arrays if each is not None):
        return Call(kept, told)
    return bound(engine, name, binding, arrays, told, kept)


def _is_half(array: Array) -> bool:
    """Whether an array holds numbers of two bytes that all lie together."""
    return bool(array.flags.c_contiguous) and array.dtype in HALVES


def bound(
    engine: Engine,
    name: str,
    binding: Binding,
    operands: tuple[Array | Table | None, ...],
    told: dict[str, Any],
    kept: tuple[object, ...] = (),
) -> Call:
    """The same, of operands that kernels can be given."""
    steps = binding(*operands, **told)
    if steps is None:
        return Call(kept, told)
    found = _with_libraries(engine, steps)
    if found is None:
        return Call(kept, told)
    launches = [step._replace(kernel=step.kernel or name) if isinstance(step, Launch) else step for step in found]
    if not all(engine.has(step.kernel) for step in launches if isinstance(step, Launch)):
        return Call(kept, told)
    named = [each for step in launches if isinstance(step, Launch) for each in step.arguments]
    numbers = {each: engine.changing(each, told) for each in named if isinstance(each, Changing)}
    stuck = {name for each in numbers if not all(follows(told[name]) for name in each.told) for name in each.told}
    followed = frozenset(name for each in numbers for name in each.told) - stuck
    places: dict[Any, Array] = {**_places(engine, [step for step in launches if isinstance(step, Own)]), **numbers}
    runs = tuple(_run(engine, step, places) if isinstance(step, Own) else (step, ()) for step in launches)
    return Call(kept, _without(told, followed), runs, followed, tuple(numbers.values()))


def _with_libraries(engine: Engine, steps: Steps) -> list[Own | Callable[[], None]] | None:
    """The steps, with what computes libraries' calls or what is done without them; None where that is for NumPy."""
    found = list[Own | Callable[[], None]]()
    for step in steps:
        if not isinstance(step, ByLibrary):
            found.append(step)
        elif (called := engine.library(step.call)) is not None:
            found.append(called)
        elif step.otherwise is None:
            return None
        else:
            found += own(step.otherwise)
    return found


def _run(engine: Engine, step: Own, places: dict[Any, Array]) -> tuple[Callable[..., None], Any]:
    """What does a step, and with which arguments."""
    if isinstance(step, Product):
        operands = tuple(_matrices(each, places) for each in (step.left, step.right, step.out))
        given = not any(isinstance(each, Matrices) and not each.copied for each in (step.left, step.right))
        return engine.product, (*operands, step.conjugate, given)
    if isinstance(step, Transform):
        run = engine.transformer(step.lengths, step.number, step.backward)
        return run, (places[step.values], places[step.spectra])
    arguments = (places[each] if isinstance(each, Room | Changing) else each for each in step.arguments)
    return engine.launcher(step.kernel), (step.blocks, step.threads, tuple(map(engine.passed, arguments)))


def _matrices(operand: Array | Matrices, places: dict[Any, Array]) -> Array:
    """The array that a product works on."""
    if not isinstance(operand, Matrices):
        return operand
    memory = places[operand.room]
    if operand.complex:
        memory = memory.view(f"c{2 * memory.itemsize}")
    array = memory[operand.begin : operand.begin + prod(operand.shape)].reshape(operand.shape)
    outer = range(len(operand.shape) - 2)
    return array.transpose(*outer, len(outer) + 1, len(outer)) if operand.turned else array


def _places(engine: Engine, steps: Sequence[Own]) -> dict[Room, Array]:
    """Where rooms are: one behind the other in the memory that all calls share."""
    arguments = (each for step in steps for each in (step.arguments if isinstance(step, Launch) else step))
    named = (each.room if isinstance(each, Matrices) else each for each in arguments)
    rooms = dict.fromkeys(each for each in named if isinstance(each, Room))
    ends = list(accumulate(-(-room.elements // ALIGNMENT) * ALIGNMENT for room in rooms))
    if not ends:
        return {}
    memory = engine.room(ends[-1])
    begins = (0, *ends)
    return {room: memory[begin : begin + room.elements] for room, begin in zip(rooms, begins, strict=False)}
