"""Calls of kernels on a device: a binding says with which launches and products it computes what the call asks for.

A *binding* has the name and the arguments of a NumPy kernel and gives the steps of the call, or None where there is no
CUDA kernel for it: then the NumPy kernel is called, on copies of the arrays. A call is prepared once for its arrays and
for what it is told: from the second time on it costs a lookup and the launches. What is prepared lives as long as its
arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from math import prod
from typing import Any, NamedTuple, Protocol
from weakref import ref

Array = Any
"""An array on the device, CuPy's or what stands for it."""

THREADS = 256
"""Threads of a block where nothing speaks for another number."""

BLOCKS = 132 * 16
"""Blocks of a launch that goes through elements, at most: what the largest devices run at a time."""

MOST_COUNTED = 2**31
"""Places below it are divided without a division: `quotient` of head.cu."""

ROWS, ARRAYS, CHUNK = 80, 4, 2048
"""Of a `Table`: rows at most, so that a launch can be told it by value (4 KiB), arrays of a row at most, and elements
that a block handles one after the other; as in update.cu."""

HALVES = ("float16", "uint16")
"""Types of arrays in half precision; NumPy has no bf16, whose bits are in the second."""

ALIGNMENT = 64
"""Elements: rooms begin on multiples of them."""


class Changing(NamedTuple):
    """Numbers that change from step to step: `of(*told, *fixed)` of what a call is told by these names.

    They lie in the device's memory, one behind the other, all of them whole (i64) or all of them not (real): the launch
    is the same in every step, and so can be part of a graph. `of` is a function of a module, so that equal numbers of
    several calls are one.
    """

    of: Callable[..., tuple[float, ...]]
    told: tuple[str, ...]
    fixed: tuple[float, ...] = ()


class Launch(NamedTuple):
    """One launch: so many blocks of so many threads along x, y, z.

    `arguments` are arrays (None is passed as NULL), rooms, changing numbers (a pointer to them), whole numbers (i64 in
    the text), others (real), tuples of whole numbers (a struct whose members are ints) and tables (a struct whose
    members are i64). `kernel` is the function of kernels.cu, "" for the one that is called as the NumPy kernel is, or
    an instance of a template such as `conv_direct_forward<6, 5>`; where kernels.cu does not have it, the call is for
    NumPy.
    """

    arguments: tuple[Any, ...]
    blocks: tuple[int, ...]
    threads: tuple[int, ...] = (THREADS,)
    kernel: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Room:
    """So many elements that the steps of one call work in, holding anything; the same room is the same memory."""

    elements: int


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """Rows of arrays that one launch goes through: addresses, array by array, sizes, and first chunks of all `ROWS`.

    It is passed by value: nothing has to be kept on the device, and a graph has it.
    """

    numbers: tuple[int, ...]
    rows: int
    chunks: int

    @staticmethod
    def of(rows: Sequence[tuple[Sequence[int], int]]) -> Table:
        """Of (addresses of its arrays, elements of each) row by row, no more than `ROWS`."""
        chunks = [-(-size // CHUNK) for _, size in rows]
        ends = list(accumulate(chunks))
        begins = [end - own for end, own in zip(ends, chunks, strict=True)]
        columns = [[known[at] if at < len(known) else 0 for known, _ in rows] for at in range(ARRAYS)]
        filled = ((*column, *(0,) * (ROWS - len(rows))) for column in (*columns, [size for _, size in rows], begins))
        return Table(tuple(number for column in filled for number in column), len(rows), ends[-1])


class Matrices(NamedTuple):
    """A matrix, or a stack of them, in a room, of that shape from an element on; `turned` swaps rows and columns.

    Elements are numbers of the room, or complex ones, each two numbers one behind the other. `copied` are those that
    have been copied as they are from arrays that the call was given.
    """

    room: Room
    shape: tuple[int, ...]
    begin: int = 0
    turned: bool = False
    complex: bool = False
    copied: bool = False


class Product(NamedTuple):
    """out = left · right, of matrices or of stacks of them, by the library for matrices.

    `conjugate` says of which operands the conjugates are meant; those must be turned.
    """

    left: Array | Matrices
    right: Array | Matrices
    out: Array | Matrices
    conjugate: tuple[bool, bool] = (False, False)


class Transform(NamedTuple):
    """So many Fourier transforms of real values, by the library for them: spectra from values, or `backward`.

    values [number, *lengths]; spectra [..., lengths[-1]//2 + 1, number] of complex numbers, the other half of which are
    their conjugates. Nothing is divided: forward and backward multiply by prod(lengths). Backward spoils the spectra.
    """

    values: Room
    spectra: Room
    lengths: tuple[int, ...]
    number: int
    backward: bool = False


Own = Launch | Product | Transform


class ByLibrary(NamedTuple):
    """What a library for devices computes in one call, such as a `Convolution` (cudnn.py), where an engine has one that
    does; `otherwise` are the steps without it, None where the call is for NumPy then."""

    call: Any
    otherwise: Steps | None


Step = Own | ByLibrary
Steps = tuple[Step, ...]
Binding = Callable[..., Steps | None]
Kernel = Callable[..., None]


def each(size: int, *arguments: Any, numbers: Sequence[float | Changing] = (), kernel: str = "") -> Steps:
    """A launch with a thread an element: NAME(arguments…, size, numbers…). None where there are no elements."""
    if not size:
        return ()
    blocks = min(-(-size // THREADS), BLOCKS)
    return (Launch((*arguments, size, *numbers), (blocks,), kernel=kernel),)


def rows(count: int, *arguments: Any, kernel: str = "", threads: int = THREADS) -> Steps:
    """A launch with a block a row: NAME(arguments…). None where there are no rows."""
    return (Launch(arguments, (count,), (threads,), kernel),) if count else ()


def of_halves(binding: Binding) -> Binding:
    """A binding that takes arrays of half precision besides; others are never given any."""
    binding.takes_halves = True  # type: ignore[attr-defined]
    return binding


def reciprocal(divisor: int) -> int:
    """What `quotient(n, …)` of head.cu divides by, for n < 2³¹: a rounded 2^shift/divisor, and the shift above it.

    An extent of 0 has none; there are no places then. T. Granlund, P. Montgomery, "Division by Invariant Integers
    using Multiplication", 1994.
    """
    shift = 31 + (divisor - 1).bit_length()
    return shift << 32 | -(-(1 << shift) // divisor) if divisor else 0


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
        engine, prepared = self.engine, dict[tuple[int, ...], _Call]()
        name = otherwise.__name__

        def kernel(*arrays: Any, **told: Any) -> None:
            key = tuple(map(id, arrays))
            call = prepared.get(key)
            if call is None or not call.serves(told):
                kept = tuple(ref(each, lambda _: prepared.pop(key, None)) for each in arrays if each is not None)
                call = prepared[key] = _Call(kept, *_prepared(engine, name, binding, arrays, told))
            for each in call.followed:
                told[each].follow()
            if call.runs is None:
                engine.otherwise(otherwise, arrays, _plain(told))
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
        engine, prepared = self.engine, dict[tuple[int, ...], _Rows]()
        name = otherwise.__name__

        def kernel(*rows: tuple[Any, ...], **told: Any) -> None:
            key = tuple(map(id, chain.from_iterable(rows)))
            call = prepared.get(key)
            if call is None:
                kept = tuple(ref(each, lambda _: prepared.pop(key, None)) for each in chain.from_iterable(rows))
                call = prepared[key] = _Rows(kept, *_tables(engine, rows))
            if call.made is None or not call.made.serves(told):
                call.made = _Call((), *_bound(engine, name, binding, call.tables, told))
            for each in call.made.followed:
                told[each].follow()
            for run, arguments in call.made.runs or ():
                run(*arguments)
            for at in call.others:
                engine.otherwise(lambda *arrays, **known: otherwise(arrays, **known), rows[at], _plain(told))

        kernel.__name__ = name
        return kernel

    def on_processor(self, otherwise: Kernel) -> Kernel:
        """One of NumPy's, which works on copies of the arrays."""

        def kernel(*arrays: Any, **told: Any) -> None:
            self.engine.otherwise(otherwise, arrays, _plain(told))

        kernel.__name__ = otherwise.__name__
        kernel.twin, kernel.binding = otherwise, lambda *_, **__: None  # type: ignore[attr-defined]
        return kernel


Runs = tuple[tuple[Callable[..., None], tuple[Any, ...]], ...]
"""(function, arguments) of each step."""


class _Call(NamedTuple):
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


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """What NumPy's kernels are told: numbers as such, for NumPy takes those that follow the steps for f64."""
    return {name: value.plain if follows(value) else value for name, value in told.items()}


def _without(told: dict[str, Any], followed: frozenset[str]) -> dict[str, Any]:
    """What is told, with what follows the steps by what it follows."""
    return {name: follows(value) if name in followed else value for name, value in told.items()}


@dataclass(slots=True)
class _Rows:
    """A call for certain rows: `tables` of rows, and the numbers of `others`, for NumPy; `made` as it was told last."""

    arrays: tuple[object, ...]
    tables: tuple[Table, ...]
    others: tuple[int, ...]
    made: _Call | None = None


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


def _prepared(
    engine: Engine, name: str, binding: Binding, arrays: tuple[Array | None, ...], told: dict[str, Any]
) -> tuple[Any, ...]:
    """The fields of a call but its arrays."""
    halves = getattr(binding, "takes_halves", False)
    if not all(engine.passable(each) or (halves and _is_half(each)) for each in arrays if each is not None):
        return (told,)
    return _bound(engine, name, binding, arrays, told)


def _is_half(array: Array) -> bool:
    """Whether an array holds numbers of two bytes that all lie together."""
    return bool(array.flags.c_contiguous) and array.dtype in HALVES


def _bound(
    engine: Engine, name: str, binding: Binding, operands: tuple[Array | Table | None, ...], told: dict[str, Any]
) -> tuple[Any, ...]:
    """The same, of operands that kernels can be given."""
    steps = binding(*operands, **told)
    if steps is None:
        return (told,)
    found = _with_libraries(engine, steps)
    if found is None:
        return (told,)
    launches = [step._replace(kernel=step.kernel or name) if isinstance(step, Launch) else step for step in found]
    if not all(engine.has(step.kernel) for step in launches if isinstance(step, Launch)):
        return (told,)
    named = [each for step in launches if isinstance(step, Launch) for each in step.arguments]
    numbers = {each: engine.changing(each, told) for each in named if isinstance(each, Changing)}
    stuck = {name for each in numbers if not all(follows(told[name]) for name in each.told) for name in each.told}
    followed = frozenset(name for each in numbers for name in each.told) - stuck
    places: dict[Any, Array] = {**_places(engine, [step for step in launches if isinstance(step, Own)]), **numbers}
    runs = tuple(_run(engine, step, places) if isinstance(step, Own) else (step, ()) for step in launches)
    return _without(told, followed), runs, followed, tuple(numbers.values())


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


def own(steps: Steps) -> Iterator[Own]:
    """The steps without the calls of libraries that may not be there."""
    for step in steps:
        if isinstance(step, ByLibrary):
            yield from own(step.otherwise or ())
        else:
            yield step


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


def kernels_in(source: str) -> list[str]:
    """The kernels of a CUDA text, and of templates the instances that it lists: `/* instance NAME<6, 5>: … */`."""
    plain = re.findall(r'^extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(', source, re.MULTILINE)
    return [*plain, *re.findall(r"^/\* instance (\w+<[^>]*>)", source, re.MULTILINE)]
