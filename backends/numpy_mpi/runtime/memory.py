"""Where arrays lie that share memory: each is in use from the first to the last call that names it, within a function.

Functions that only run in inference do so one behind the other: there an array is in use from the first of them that
names it to the last, and an output of the network up to the end of a function, since it is handed on behind it.

Which calls name an array, the functions of a stage tell themselves: they are run once with stand-ins, for arrays and
for kernels, that do nothing but take notes. dlc places the arrays of its plan by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, Self

Calls = list[tuple[str, ...]]
"""The arrays that a function's calls name, call by call."""


def offsets(
    functions: Sequence[Callable[..., None]],
    sizes: Mapping[str, int],
    arrays: Callable[[Calls], Any],
    inference: Collection[str] = (),
    outputs: Collection[str] = (),
) -> tuple[int, dict[str, int]]:
    """(bytes in all, where each array begins) for arrays of so many bytes; `arrays` makes their stand-ins. Of the
    functions those that `inference` names only run there; `outputs` are arrays that are handed on.

    Those that are used first come first, of these the larger: each gets the first gap between those in its way.
    """
    spans: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in sizes}
    ends = list[int]()
    for number, calls in enumerate(_rehearsed(functions, arrays)):
        ends.append(len(calls) - 1)
        for at, names in enumerate(calls):
            for name in names:
                if name in spans:
                    first, _ = spans[name].setdefault(number, (at, at))
                    spans[name][number] = (first, at)
    alone = [number for number, function in enumerate(functions) if function.__name__ in inference]
    for name, span in spans.items():
        _join(span, [number for number in alone if number in span], ends, name in outputs)
    order = sorted((name for name in sizes if spans[name]), key=lambda name: (*_first(spans[name]), -sizes[name]))
    found: dict[str, int] = dict.fromkeys(sizes, 0)
    in_use: dict[tuple[int, int], list[str]] = {}
    for name in order:
        calls_of = [(number, at) for number, (first, last) in spans[name].items() for at in range(first, last + 1)]
        others = {other for call in calls_of for other in in_use.get(call, ())}
        found[name] = _gap(sorted((found[other], found[other] + sizes[other]) for other in others), sizes[name])
        for call in calls_of:
            in_use.setdefault(call, []).append(name)
    return max((found[name] + size for name, size in sizes.items()), default=0), found


def _join(span: dict[int, tuple[int, int]], within: Sequence[int], ends: Sequence[int], handed_on: bool) -> None:
    """An array is in use through all functions from the first of `within` to the last, and where it is handed on to
    the end of each; `ends` are the numbers of their last calls."""
    for number in range(within[0], within[-1] + 1) if len(within) > 1 else ():
        first = span[number][0] if number == within[0] else 0
        span[number] = first, span[number][1] if number == within[-1] else ends[number]
    for number in within if handed_on else ():
        span[number] = span[number][0], ends[number]


def _first(spans: Mapping[int, tuple[int, int]]) -> tuple[int, int, int]:
    """The first function that uses an array, and from which call to which."""
    number = min(spans)
    return number, *spans[number]


def _gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The first offset at which so many bytes are free."""
    at = 0
    for start, end in taken:
        if start - at >= size:
            break
        at = max(at, end)
    return at


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
    """Stands for an array; what it is a part of bears the name, too. `calls` is where it notes that it is used."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.name, self.calls = name, calls

    def __setitem__(self, place: Any, value: Any) -> None:
        self.calls.append(_names((self, value)))

    def __itruediv__(self, by: Any) -> Self:  # type: ignore[misc]
        self.calls.append((self.name,))
        return self


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
    return tuple(found)


def _rehearsed(functions: Sequence[Callable[..., None]], arrays: Callable[[Calls], Any]) -> Iterator[Calls]:
    """For each function the arrays that its calls name, call by call; `arrays` makes the stand-ins."""
    for function in functions:
        calls: Calls = []
        scope = _scope(function, calls)
        scope[function.__name__](arrays(calls), NOTHING, NOTHING, NOTHING, NOTHING, _Place(calls))
        yield calls


def _scope(function: Any, calls: Calls) -> dict[str, Any]:
    """The names that a function knows: its own module's functions as they are, those of others as stand-ins."""
    known = function.__globals__
    scope: dict[str, Any] = dict(known)

    def note(*arguments: Any, **keywords: Any) -> Any:
        calls.append(_names((arguments, keywords)))
        return NOTHING

    def stand_in(value: Any) -> Any:
        return note if isinstance(value, FunctionType) and value.__globals__ is not known else value

    for name, value in known.items():
        scope[name] = stand_in(value)
        if isinstance(value, FunctionType) and value.__globals__ is known:
            usual = tuple(stand_in(each) for each in value.__defaults__ or ())
            scope[name] = FunctionType(value.__code__, scope, name, usual, value.__closure__)
            scope[name].__kwdefaults__ = value.__kwdefaults__
    return scope
