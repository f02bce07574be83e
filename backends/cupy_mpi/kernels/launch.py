"""What a binding says: with which launches, products of matrices and transforms a call of a kernel is computed.

A *binding* has the name and the arguments of a NumPy kernel and gives the steps of the call, or None where there is no
CUDA kernel for it: then the NumPy kernel is called, on copies of the arrays. What is here has no device: preparing.py
makes of steps what an engine runs, calls.py calls it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

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

BRAIN = "uint16"
"""The type of arrays of bf16."""


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
class Held(Room):
    """A room that stands for an array of that shape in the program's type."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """As of an array."""
        return self.elements

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)


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


def own(steps: Steps) -> Iterator[Own]:
    """The steps without the calls of libraries that may not be there."""
    for step in steps:
        if isinstance(step, ByLibrary):
            yield from own(step.otherwise or ())
        else:
            yield step


def kernels_in(source: str) -> list[str]:
    """The kernels of a CUDA text, and of templates the instances that it lists: `/* instance NAME<6, 5>: … */`."""
    plain = re.findall(r'^extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(', source, re.MULTILINE)
    return [*plain, *re.findall(r"^/\* instance (\w+<[^>]*>)", source, re.MULTILINE)]
