"""What a buffer holds, as a sum of terms, and what each value of a graph is in such terms.

A term is a value that some node computes, of one microbatch, and how often it is counted. Gradients that meet at a
fan-out are the sum of their parts, wherever and in whatever order they are added up; a step's gradient of a weight is
the sum of its parts over all microbatches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dlc.ir.graph import Graph

NONE = -1
"""The microbatch of what belongs to none: weights, states, what a step sums over all of them."""

KEPT = ("weight", "statistic", "state", "constant")
"""Kinds of values that live as long as the job."""

Terms = frozenset[tuple[str, int, int]]
"""(value, microbatch, how often it is counted) of all that is summed; empty for zero."""

ZERO: Terms = frozenset()


def term(value: str, microbatch: int = NONE) -> Terms:
    """One value, counted once."""
    return frozenset(((value, microbatch, 1),))


def added(parts: Iterable[Terms]) -> Terms:
    """The sum of sums."""
    counts: dict[tuple[str, int], int] = {}
    for terms in parts:
        for value, microbatch, count in terms:
            counts[value, microbatch] = counts.get((value, microbatch), 0) + count
    return frozenset((value, microbatch, count) for (value, microbatch), count in counts.items())


def after(step: str, value: str) -> Terms:
    """What a weight, a state or a gradient is once a node has changed it in place."""
    return term(f"{value} behind {step}")


def microbatch_of(terms: Terms) -> int:
    """The microbatch that all terms are of; NONE where they are of several."""
    found = {microbatch for _, microbatch, _ in terms}
    return found.pop() if len(found) == 1 else NONE


def shown(terms: Terms) -> str:
    """In words: `` `x` of microbatch 1 ``, at most three values."""
    by_value: dict[tuple[str, int], list[int]] = {}
    for value, microbatch, count in sorted(terms):
        by_value.setdefault((value, count), []).append(microbatch)
    words = [_shown(value, count, microbatches) for (value, count), microbatches in by_value.items()]
    rest = [f"{len(words) - 3} more"] if len(words) > 3 else []
    return " + ".join((*words[:3], *rest)) or "zero"


def _shown(value: str, count: int, microbatches: list[int]) -> str:
    often = {1: "", 2: "twice "}.get(count, f"{count} times ")
    if microbatches == [NONE]:
        return f"{often}`{value}`"
    which = ", ".join(map(str, microbatches[:4])) + (", …" if len(microbatches) > 4 else "")
    return f"{often}`{value}` of microbatch{'es' if len(microbatches) > 1 else ''} {which}"


@dataclass(slots=True)
class Meaning:
    """What the values of a graph are. In inference a dropout's result is its operand."""

    graph: Graph
    inference: bool = False
    _parts: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    _terms: dict[int, dict[str, Terms]] = field(default_factory=dict)  # by microbatch and value

    def of(self, value: str, microbatch: int) -> Terms:
        """A value in one microbatch; of what is kept from step to step, its content before the update."""
        of_microbatch = self._terms.get(microbatch)
        if of_microbatch is None:
            of_microbatch = self._terms[microbatch] = {}
        found = of_microbatch.get(value)
        if found is None:
            kept = self.graph.value(value).kind in KEPT
            found = term(value) if kept else frozenset((part, microbatch, n) for part, n in self.parts(value))
            of_microbatch[value] = found
        return found

    def total(self, value: str, microbatches: Iterable[int]) -> Terms:
        """A value summed over microbatches."""
        return frozenset((part, at, count) for at in microbatches for part, count in self.parts(value))

    def parts(self, value: str) -> tuple[tuple[str, int], ...]:
        """The computed values that a value is the sum of, and how often each is counted."""
        found = self._parts.get(value)
        if found is None:
            found = self._parts[value] = self._find(value)
        return found

    def _find(self, value: str) -> tuple[tuple[str, int], ...]:
        node = self.graph.producer(value)
        if node is not None and node.stage == "sum":
            counts: dict[str, int] = {}
            for name in node.inputs:
                for part, count in self.parts(name):
                    counts[part] = counts.get(part, 0) + count
            return tuple(counts.items())
        if self.inference and node is not None and node.op == "dropout" and value == node.outputs[0]:
            return self.parts(node.inputs[0])
        return ((value, 1),)
