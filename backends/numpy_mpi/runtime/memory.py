"""Memory that arrays share: each has it while it is in use, from the first to the last call that names it.

That is within a function, or, for what functions leave to others, within a step; in inference it is from function to
function. An output of the network stays up to the end, since it is handed on. A result may take the place of an operand
that is in use for the last time, where the kernel allows it (in_place.py).

Which calls name an array, the functions of a stage tell themselves: they are run once with stand-ins, for arrays and
for kernels, that do nothing but take notes. dlc places the arrays of its plan by the same rule (packing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from . import device
from .in_place import in_place
from .packing import Life, Span, Takeover, Times, placed

Calls = list[tuple[str, ...]]
"""The arrays that a function's calls name, call by call."""

Pairs = list[tuple[int, str, str]]
"""The number of a call, an operand of it, and a result that may lie where that does."""

Function = Callable[..., None]


class Asked(NamedTuple):
    """Memory that is asked for: bytes, whether from function to function, the mesh axes along which ranks share it; for
    so many elements of a type."""

    bytes: int
    passing: bool = False
    shared: str = ""
    elements: tuple[int, str] = (0, "")


class Holder(Protocol):
    """The arrays of a namespace (arrays.py)."""

    def asked(self) -> Mapping[str, Asked]:
        """What is asked for, by the names of arrays."""

    def take(self, name: str, memory: npt.NDArray[np.uint8]) -> None:
        """The memory of an array."""

    def stand_ins(self, array: Callable[[str, bool], Any]) -> Any:
        """The namespace with what `array` makes of the names of arrays, and of whether all of each is meant."""


Window = Callable[[str, int, str], npt.NDArray[np.uint8]]
"""(name, bytes, mesh axes) -> zeroed memory that ranks share along these axes; all of them call it."""


def share(
    holders: Mapping[str, Holder],
    window: Window,
    functions: Sequence[Function] = (),
    training: Sequence[str] = (),
    inference: Sequence[Sequence[str]] = (),
    outputs: Collection[str] = (),
) -> list[npt.NDArray[np.uint8]]:
    """Memory for all that the namespaces `a` and `g` ask for; what was allocated.

    `training` has the names of the functions of a step as they follow each other, `inference` those of each way to
    infer; `outputs` are the arrays of `a` that are handed on.
    """
    asked = {f"{space}.{name}": each for space, held in holders.items() for name, each in held.asked().items()}
    uses: dict[str, dict[str, Span]] = {}
    lengths, pairs = dict[str, int](), dict[str, Pairs]()
    for function in functions:
        calls, pairs[function.__name__] = _rehearsed(function, holders)
        lengths[function.__name__] = len(calls)
        for at, names in enumerate(calls):
            for name in asked.keys() & names:
                spans = uses.setdefault(name, {})
                spans[function.__name__] = spans.get(function.__name__, (at, at))[0], at
    passing = {name for name, each in asked.items() if each.passing}
    times = Times(lengths, training, inference)
    instants = times.instants(uses, passing, {f"a.{name}" for name in outputs})
    lives = {name: Life(each.bytes, instants.get(name, ()), each.shared) for name, each in asked.items()}
    found = placed(lives, _takeovers(times, pairs, asked))
    memories = {
        over: window("arrays", size, over) if over else device.zeros(size, np.uint8)
        for over, size in found.sizes.items()
    }
    for name, (over, start) in found.places.items():
        space, _, array = name.partition(".")
        holders[space].take(array, memories[over][start : start + asked[name].bytes])
    return list(memories.values())


def _takeovers(times: Times, pairs: Mapping[str, Pairs], asked: Mapping[str, Asked]) -> Iterator[Takeover]:
    """Where calls may leave results in the place of operands: of as many elements of one type."""
    begins = times.begins()
    for function, found in pairs.items():
        for at, operand, result in found:
            known = asked.get(operand), asked.get(result)
            if operand != result and known[0] and known[1] and known[0].elements == known[1].elements:
                yield begins[function] + at, operand, result


# --- stand-ins -----------------------------------------------------------------------------------------------------


class Nothing:
    """Stands for what is not followed: whatever is done with it gives nothing again."""

    def _itself(self, *_: Any, **__: Any) -> Any:
        return self

    __call__ = __getitem__ = __array_ufunc__ = _itself
    __add__ = __sub__ = __mul__ = __mod__ = __truediv__ = __radd__ = __rmul__ = _itself

    def __getattr__(self, name: str) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __setitem__(self, place: Any, value: Any) -> None:
        """Forgotten."""


class Named(Nothing):
    """Stands for an array; what it is a part of bears the name, too. `calls` is where it notes that it is used, `whole`
    says that all of what bears the name is meant."""

    def __init__(self, name: str, calls: Calls, whole: bool = True) -> None:
        self.name, self.calls, self.whole = name, calls, whole

    def __getitem__(self, place: Any) -> Named:
        return Named(self.name, self.calls, whole=False)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.calls.append(_names((self, value)))

    def _changed(self, by: Any) -> Self:
        self.calls.append(_names((self, by)))
        return self

    __iadd__ = __isub__ = __imul__ = __itruediv__ = _changed

    def __array_ufunc__(self, function: Any, method: str, *values: Any, **keywords: Any) -> Nothing:
        self.calls.append(_names((values, keywords)))
        return NOTHING


class _Place(Nothing):
    """Stands for the place: what it begins to move is in use until it is waited for."""

    def __init__(self, calls: Calls) -> None:
        self._calls, self._begun = calls, dict[str, tuple[str, ...]]()

    def __getattr__(self, name: str) -> Any:
        def noted(*arguments: Any, begin: bool = False, **_: Any) -> Any:
            names = _names(arguments)
            if begin or name == "send":
                for each in names:
                    self._begun[each] = (*self._begun.get(each, ()), *names)
            self._calls.append((*names, *(self._ended(names) if name in ("wait", "sent") else ())))
            return arguments[-1:] if name == "needed" else arguments[0] if name == "once" else NOTHING

        return noted

    def _ended(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """What is in use until this wait: all that is under way where it is for an array that is not followed."""
        if not names:
            return tuple(more for begun in self._begun.values() for more in begun)
        return tuple(more for each in names for more in self._begun.pop(each, ()))


NOTHING = Nothing()


def _names(values: Any) -> tuple[str, ...]:
    """The arrays among values, and in sequences of them."""
    found: list[str] = []
    for value in values:
        if isinstance(value, Named):
            found.append(value.name)
        elif isinstance(value, list | tuple):
            found += _names(value)
        elif isinstance(value, dict):
            found += _names(value.values())
        elif isinstance(value, SimpleNamespace):
            found += _names(vars(value).values())
    return tuple(found)


def _rehearsed(function: Function, holders: Mapping[str, Holder]) -> tuple[Calls, Pairs]:
    """The arrays that a function's calls name, call by call, and which of these may lie where others do."""
    calls, pairs = Calls(), Pairs()
    spaces = {
        space: held.stand_ins(lambda name, whole, space=space: Named(f"{space}.{name}", calls, whole))  # type: ignore[misc]
        for space, held in holders.items()
    }
    scope = _scope(function, calls, pairs)
    a, g = (spaces.get(space, NOTHING) for space in "ag")
    scope[function.__name__](a, NOTHING, g, NOTHING, NOTHING, _Place(calls))
    return calls, pairs


def _scope(function: Any, calls: Calls, pairs: Pairs) -> dict[str, Any]:
    """The names that a function knows: its own module's functions as they are, those of others as stand-ins."""
    known = function.__globals__
    scope: dict[str, Any] = dict(known)

    def noting(kernel: str) -> Function:
        def note(*arguments: Any, **keywords: Any) -> Any:
            given = [each.name if isinstance(each, Named) else "" for each in arguments]
            parts = {"", *(each.name for each in arguments if isinstance(each, Named) and not each.whole)}
            pairs.extend((len(calls), *pair) for pair in in_place(kernel, given) if not parts.intersection(pair))
            calls.append(_names((arguments, keywords)))
            return NOTHING

        return note

    def stand_in(name: str, value: Any) -> Any:
        return noting(name) if isinstance(value, FunctionType) and value.__globals__ is not known else value

    for name, value in known.items():
        scope[name] = stand_in(name, value)
        if isinstance(value, FunctionType) and value.__globals__ is known:
            usual = tuple(stand_in(getattr(each, "__name__", ""), each) for each in value.__defaults__ or ())
            scope[name] = FunctionType(value.__code__, scope, name, usual, value.__closure__)
            scope[name].__kwdefaults__ = value.__kwdefaults__
    return scope
