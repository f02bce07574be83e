"""The order in which the variables of a graph are eliminated, found once a graph and without numbers.

A problem has a variable for each node of a graph, a table of costs over its values (by the node's kind) and a table for
each edge (by the edge's kind). Eliminating a variable sums the tables that mention it and takes the minimum over its
values: a variable with one neighbour leaves a table of that neighbour, a variable with two leaves a table of both.

Which tables these are is known before their entries are: a table is *defined* by the tables that it is made of, and
equal definitions get one symbol. So equal parts of a graph are evaluated once. Variables are eliminated in waves of
independent sets of equal ones, so that each wave halves a chain of equal blocks: n blocks need about log n tables, as
in computing a power by squaring. What has no variable with one or two neighbours any more is the *core*, and left to
`passes.planning.core`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

REPEATED = 8
"""So many equal variables are eliminated together; rarer ones wait until a neighbour is gone.

A variable with two neighbours of n values costs n³ and one with one neighbour n², so a chain without repetition is
better eliminated from its ends.
"""

Key: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """A table of the problem itself: `unary[index]` where `edge` is false, else `pair[index]`."""

    index: int
    edge: bool


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of tables over the same variables, each `2 * symbol`, plus 1 where it is transposed."""

    terms: Key


@dataclass(frozen=True, slots=True)
class Least:
    """The minimum over a variable's values: of its own table `unary` and one table for each of its neighbours.

    `pairs[i]` is `2 * symbol`, plus 1 where transposed, of the table over [the variable, its neighbour i]. The result's
    axes are the neighbours in this order.
    """

    unary: int
    pairs: Key


Definition: TypeAlias = Given | Sum | Least


@dataclass(frozen=True, slots=True)
class Group:
    """Variables eliminated in one wave by the same `Least`: `neighbours[i, j]` is the j-th of `variables[i]`."""

    symbol: int
    variables: Indices
    neighbours: Indices


@dataclass(frozen=True, slots=True)
class Core:
    """What is left: each variable has three neighbours or more. `pairs` are (a, b, symbol of the table over [a, b])."""

    variables: tuple[int, ...]
    unary: tuple[int, ...]
    pairs: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """A graph and how its variables are eliminated.

    `kinds[v]` is a variable's kind and `edges[i]` = (u, v, kind of the edge). `definitions[s]` defines symbol s by
    earlier ones; `groups` are in the order of elimination; `scalars` are (symbol, how often it is added).
    `ends_of_edges[e]` are the kinds (of u, of v) that edges of kind e join. `incidence[k][e, turned]` is the (fewest,
    most) edges of kind e that a variable of kind k has, as their v where `turned`, else as their u.
    """

    kinds: Indices
    edges: Indices
    definitions: tuple[Definition, ...]
    groups: tuple[Group, ...]
    scalars: tuple[tuple[int, int], ...]
    core: Core
    ends_of_edges: Mapping[int, tuple[int, int]]
    incidence: Mapping[int, Mapping[tuple[int, bool], tuple[int, int]]]

    @property
    def steps(self) -> int:
        """How many distinct eliminations there are."""
        return sum(isinstance(definition, Least) for definition in self.definitions)


def structure(kinds: Sequence[int], edges: Sequence[tuple[int, int, int]]) -> Structure:
    """How to eliminate the variables 0, 1, … of these kinds, joined by edges (u, v, kind of the edge).

    The table of an edge's kind is oriented [value of u, value of v]; several edges may join the same two variables. A
    ValueError where an edge joins a variable to itself, or edges of one kind join different kinds of variables.
    """
    import numpy as np

    joined = _joined(kinds, edges)
    reduction = _Reduction(kinds, edges)
    reduction.run()
    groups = tuple(
        Group(symbol, np.array(variables, dtype=np.int64), np.array(around, dtype=np.int64).reshape(len(variables), -1))
        for symbol, variables, around in reduction.groups
    )
    return Structure(
        np.array(kinds, dtype=np.int64),
        np.array(edges, dtype=np.int64).reshape(-1, 3),
        tuple(reduction.symbols.definitions),
        groups,
        tuple(reduction.scalars.items()),
        reduction.core(),
        joined,
        _incidence(kinds, edges, joined),
    )


def _joined(kinds: Sequence[int], edges: Sequence[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
    """The kinds of variables that each kind of edge joins."""
    joined: dict[int, tuple[int, int]] = {}
    for u, v, kind in edges:
        if u == v:
            raise ValueError(f"an edge joins variable {u} to itself")
        ends = kinds[u], kinds[v]
        if joined.setdefault(kind, ends) != ends:
            raise ValueError(f"edges of kind {kind} join variables of kinds {joined[kind]} and {ends}")
    return joined


def _incidence(
    kinds: Sequence[int], edges: Sequence[tuple[int, int, int]], joined: Mapping[int, tuple[int, int]]
) -> dict[int, dict[tuple[int, bool], tuple[int, int]]]:
    """The fewest and the most edges of each kind, on each side, that a variable of a kind has."""
    members, counts = Counter(kinds), Counter[tuple[int, int, bool]]()
    for u, v, kind in edges:
        counts[u, kind, False] += 1
        counts[v, kind, True] += 1
    found: dict[tuple[int, bool], list[int]] = {}
    for (_, kind, turned), count in counts.items():
        found.setdefault((kind, turned), []).append(count)
    incidence: dict[int, dict[tuple[int, bool], tuple[int, int]]] = {}
    for (kind, turned), many in sorted(found.items()):
        variable = joined[kind][turned]
        fewest = min(many) if len(many) == members[variable] else 0
        incidence.setdefault(variable, {})[kind, turned] = fewest, max(many)
    return incidence


class _Symbols:
    """Definitions, each once."""

    def __init__(self, unary: int, pair: int) -> None:
        self.definitions: list[Definition] = [Given(i, False) for i in range(unary)]
        self.definitions += [Given(i, True) for i in range(pair)]
        self._sums: dict[Key, int] = {}
        self._least: dict[Key, int] = {}

    def _new(self, definition: Definition) -> int:
        self.definitions.append(definition)
        return len(self.definitions) - 1

    def least(self, key: Key) -> int:
        """The symbol of an elimination: (unary symbol, oriented pairs in rising order)."""
        found = self._least.get(key)
        if found is None:
            found = self._least[key] = self._new(Least(key[0], key[1:]))
        return found

    def sum(self, terms: Iterable[int]) -> int:
        """The symbol of a sum of oriented tables."""
        key = tuple(sorted(terms))
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = self._new(Sum(key))
        return found

    def sum_of_pairs(self, terms: Sequence[int]) -> int:
        """The oriented symbol of a sum of oriented pairs: the same symbol from both sides."""
        turned = [term ^ 1 for term in terms]
        if sorted(turned) < sorted(terms):
            return 2 * self.sum(turned) + 1
        return 2 * self.sum(terms)


class _Reduction:
    """A graph while its variables are eliminated.

    `around[v][w]` is the oriented symbol of the table over [v, w], `unary[v]` the symbol of the table over v. `small`
    holds the variables with at most two neighbours.
    """

    def __init__(self, kinds: Sequence[int], edges: Sequence[tuple[int, int, int]]) -> None:
        first = max(kinds, default=-1) + 1
        self.symbols = _Symbols(first, max((kind for _, _, kind in edges), default=-1) + 1)
        self.unary = list(kinds)
        self.around: list[dict[int, int]] = [{} for _ in kinds]
        self.groups: list[tuple[int, list[int], list[Key]]] = []
        self.scalars: dict[int, int] = {}
        self.alive = bytearray(b"\1") * len(kinds)
        parallel: dict[tuple[int, int], list[int]] = {}
        for u, v, kind in edges:
            self._join(u, v, 2 * (first + kind), parallel)
        self._merge(parallel)
        self.small = [v for v, around in enumerate(self.around) if len(around) <= 2]

    def run(self) -> None:
        """Eliminate until only the core is left."""
        while self.small:
            classes = self._classes(self.small)
            often = [members for members in classes if len(members) >= REPEATED]
            ends = [members for members in classes if len(self.around[members[0]]) <= 1]
            if often or not ends:
                self._eliminate(self._independent(often or classes))
            else:
                self._peel(ends)
            self.small = sorted(v for v in self.small if self.alive[v])

    def core(self) -> Core:
        """The variables that are left, and the tables over them."""
        left = [v for v, alive in enumerate(self.alive) if alive]
        pairs = ((v, w, symbol) for v in left for w, symbol in self.around[v].items() if v < w)
        return Core(tuple(left), tuple(self.unary[v] for v in left), tuple(pairs))

    def _peel(self, classes: list[list[int]]) -> None:
        """Eliminate variables with one neighbour, and those that have become so, until others have become small."""
        seen = len(self.small)
        while classes and len(self.small) == seen:
            touched = self._eliminate(self._independent(classes))
            classes = self._classes([v for v in touched if len(self.around[v]) <= 1])

    def _key(self, v: int) -> Key:
        """What a variable's elimination depends on; variables with equal keys give equal tables."""
        pairs = list(self.around[v].values())
        if len(pairs) == 2:
            a, b = pairs
            return (self.unary[v], a, b) if a <= b else (self.unary[v], b, a)
        return (self.unary[v], *pairs)

    def _classes(self, variables: Iterable[int]) -> list[list[int]]:
        """Variables, equal ones together: first those with fewest neighbours, then the largest classes."""
        classes: dict[Key, list[int]] = {}
        for v in variables:
            classes.setdefault(self._key(v), []).append(v)
        return [
            classes[key] for key in sorted(classes, key=lambda key: (len(key), -len(classes[key]), classes[key][0]))
        ]

    def _independent(self, classes: Iterable[list[int]]) -> list[list[int]]:
        """Of each class those that are no neighbours of one that was taken before."""
        taken, around = bytearray(len(self.around)), self.around
        chosen = list[list[int]]()
        for members in classes:
            free = list[int]()
            for v in members:
                for w in around[v]:
                    if taken[w]:
                        break
                else:
                    taken[v] = 1
                    free.append(v)
            if free:
                chosen.append(free)
        return chosen

    def _eliminate(self, classes: list[list[int]]) -> list[int]:
        """Eliminate independent variables, equal ones together; returns their neighbours in rising order."""
        parallel: dict[tuple[int, int], list[int]] = {}
        messages: dict[int, list[int]] = {}
        touched: dict[int, int] = {}
        for members in classes:
            symbol = self.symbols.least(self._key(members[0]))
            neighbours = [self._remove(v, touched) for v in members]
            self.groups.append((symbol, members, neighbours))
            for around in neighbours:
                if len(around) == 2:
                    self._join(*around, 2 * symbol, parallel)
                elif around:
                    messages.setdefault(around[0], []).append(2 * symbol)
                else:
                    self.scalars[symbol] = self.scalars.get(symbol, 0) + 1
        self._merge(parallel)
        for v, terms in messages.items():
            self.unary[v] = self.symbols.sum((2 * self.unary[v], *terms))
        self.small += [v for v, before in touched.items() if before > 2 and len(self.around[v]) <= 2]
        return sorted(touched)

    def _remove(self, v: int, touched: dict[int, int]) -> Key:
        """Take a variable out of the graph: its neighbours, in the order of its key."""
        around = self.around[v]
        for w in around:
            touched.setdefault(w, len(self.around[w]))
            del self.around[w][v]
        self.alive[v] = 0
        return tuple(sorted(around, key=lambda w: (around[w], w)))

    def _join(self, u: int, v: int, symbol: int, parallel: dict[tuple[int, int], list[int]]) -> None:
        """Add a table over [u, v], beside others over the same two where there are any."""
        known = self.around[u].get(v)
        if known is None:
            self.around[u][v], self.around[v][u] = symbol, symbol ^ 1
        elif u < v:
            parallel.setdefault((u, v), [known]).append(symbol)
        else:
            parallel.setdefault((v, u), [known ^ 1]).append(symbol ^ 1)

    def _merge(self, parallel: dict[tuple[int, int], list[int]]) -> None:
        """Sum the tables over the same two variables."""
        for (u, v), terms in parallel.items():
            symbol = self.symbols.sum_of_pairs(terms)
            self.around[u][v], self.around[v][u] = symbol, symbol ^ 1
