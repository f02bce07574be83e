"""Where the arrays of a program lie: in the processor's memory, as NumPy's.

Programs on GPUs have another module of this name and with the same functions in its place. What other modules do to
arrays they do through these functions, wherever arrays of the device and of the processor may meet.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from .collectives import Array, Step

if TYPE_CHECKING:
    from .world import World

SHARED = True
"""Whether gradients can be born in memory that the ranks of a node share."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what only programs on such a device can be told: nothing."""


def begin(rank: int, world: World | None = None) -> str:
    """Called once on each rank before any array is made; a line about the device, "" where there is nothing to say.

    Without a world, all ranks are in this process.
    """
    return ""


def begin_choices(world: World, kept: Mapping[str, str]) -> None:
    """What was chosen in runs before is known to all ranks: processors choose nothing."""


def agree(world: World) -> None:
    """All ranks decide what was left open."""


def choices() -> dict[str, str]:
    """What was decided, for a checkpoint."""
    return {}


def explained(failure: BaseException) -> BaseException:
    """What was raised, or the same in words that a user can act on."""
    return failure


def zeros(elements: int, dtype: npt.DTypeLike) -> Array:
    """A flat array of the device."""
    return np.zeros(elements, dtype)


def is_array(value: object) -> TypeGuard[Array]:
    """Whether it is an array of the device or of the processor."""
    return isinstance(value, np.ndarray)


def pointer(array: Array) -> int:
    """Where an array's memory begins."""
    return int(array.__array_interface__["data"][0])


def copy(target: Array, source: Array) -> None:
    """The elements of one array to another, which may be on either side; they broadcast as NumPy's do."""
    np.copyto(target, source)


def host(array: Array) -> Array:
    """The same elements where the processor can read them; who writes them puts them back with `copy`."""
    return array


def staging(array: Array) -> Array:
    """Where the processor writes what is to be in an array: `copy` brings it there if this is not the array itself."""
    return array


def later(number: Array, check: Callable[[float], None]) -> float:
    """What float() of an array of one element gives, once it is checked; devices read it when it is wanted."""
    value = float(number)
    check(value)
    return value


def catch_up() -> None:
    """All numbers that were to be read later are read and checked."""


class Messages:
    """The order of what messages need done and of what the program computes: here all is done as it is called."""

    def __init__(self, ranks: int) -> None: ...

    def begin(self) -> None:
        """Messages that begin now are behind all that the program was given."""

    def end(self) -> None:
        """What the program is given now is behind all that messages needed."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def join(group: World) -> None:
    """What messages among these ranks need: all of them call it."""


def summed(group: World, values: Array) -> bool:
    """The sum over these ranks, in place, by the device's own library; False where that does not do it."""
    return False


def passages(group: World, steps: Sequence[Step]) -> Any:
    """Messages as the message library reaches them; None where they are in the processor's memory as they are."""
    return None


def run(calls: Sequence[tuple[Any, ...]], ended: Callable[[str], None], apart: bool = False) -> None:
    """Functions of a step, each with its arrays, on a microbatch; `ended` is told the name of each that is over."""
    for function, arrays, at, place in calls:
        function(*arrays, at, place)
        ended(function.__name__)


def settle() -> None:
    """Returns when the device has done all that it was given."""
