"""Gradients of weights on their way through buckets: what a bucket costs besides its bytes, and what computing hides.

Gradients lie in buckets in the order in which the backward pass completes them (`passes.lowering.buckets`), and a
bucket is summed as soon as it is complete. Which gradients share one depends on how all ops are cut; so that costs add
up, the buckets here are those of a step that splits nothing but the batch, and each gradient bears its share of its
bucket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.ir.tensor import NARROW
from passes.packing import packed
from passes.planning.network import Network, OpKind
from passes.planning.update_rules import widths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

Key = tuple[int, str]
"""The number of a kind of op, and the role of a weight of it."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much of the sums of gradients a step waits for, by kind of variable: J has max(0, Σ late · seconds of sums −
    Σ hiding · seconds of the backward pass)."""

    late: Array
    hiding: Array

    @property
    def hides(self) -> bool:
        """Whether computing hides anything."""
        return bool(self.hiding.any())


def all_late(net: Network, hiding: float = 0.0) -> Exposure:
    """All sums count, and the whole backward pass hides so much of its own time."""
    import numpy as np

    return Exposure(np.ones(len(net.kinds)), np.full(len(net.kinds), hiding))


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets of a network's gradients. Gradient i, in the order of the backward pass, is of op `ops[i]`, of the
    kind and role `keys[i]`, and lies in bucket `places[i]` of `sizes[places[i]]` bytes."""

    ops: Integers
    keys: tuple[Key, ...]
    places: Integers
    sizes: Array

    def shares(self, seconds: Callable[[Array], Array], rate: float) -> Mapping[Key, float]:
        """What gradients of a kind and role take on average besides so many seconds a byte: their parts of what the
        sums of their buckets take in `seconds`."""
        import numpy as np

        beyond = np.maximum(0.0, seconds(self.sizes) - rate * self.sizes)
        each = (beyond / np.bincount(self.places, minlength=len(beyond)))[self.places].tolist()
        found: dict[Key, list[float]] = {}
        for key, share in zip(self.keys, each, strict=True):
            found.setdefault(key, []).append(share)
        return {key: sum(values) / len(values) for key, values in found.items()}

    def exposure(self, net: Network, seconds: Callable[[Array], Array], backward: Array, overlap: float) -> Exposure:
        """What computing hides at a rate `overlap` of its time, where buckets take `seconds` and ops take `backward`.

        Sums follow each other, so what is left behind the backward pass is the largest of what is left of any bucket
        and those behind it, as far as the ops behind its last gradient do not hide them
        (`dlc.cost.communication.exposed`). The bucket is the one at which that is so by these figures.
        """
        import numpy as np

        left = np.cumsum(seconds(self.sizes)[::-1])[::-1]
        count = len(self.sizes)
        ready = np.full(count, len(backward), dtype=np.int64)
        np.minimum.at(ready, self.places, self.ops)  # the backward pass comes to the first ops last
        ready = np.minimum.accumulate(ready)
        before = np.concatenate([[0.0], np.cumsum(backward)])[ready]
        first = int(np.argmax(left - overlap * before))
        places = np.full(len(net.addresses), -1, dtype=np.int64)
        np.maximum.at(places, self.ops, self.places)
        kinds = np.array(net.variables, dtype=np.int64)
        return Exposure(
            _share(kinds[: len(places)], places >= first, places >= 0, len(net.kinds)),
            overlap * _share(kinds, net.makers < ready[first], net.makers >= 0, len(net.kinds)),
        )


def _share(kinds: Integers, chosen: NDArray[np.bool_], among: NDArray[np.bool_], count: int) -> Array:
    """By kind, the share of variables that are chosen among some; 0 where there are none."""
    import numpy as np

    whole = np.bincount(kinds[among], minlength=count)
    return np.asarray(np.bincount(kinds[among & chosen], minlength=count) / np.maximum(whole, 1))


def buckets(net: Network) -> Buckets | None:
    """The buckets of a step that splits nothing but the batch; None where there is no weight."""
    import numpy as np

    width, _ = widths(net.graph)
    found: list[tuple[int, Key, float]] = []
    for op in reversed(range(len(net.addresses))):
        kind = net.kinds[net.variables[op]]
        assert isinstance(kind, OpKind)
        for role in kind.weights:
            type_ = kind.types[role]
            size = float(type_.elements * width if type_.dtype in NARROW else type_.bytes)
            found.append((op, (kind.index, role), size))
    if not found:
        return None
    made = packed((at, None, size) for at, (_, _, size) in enumerate(found))
    return Buckets(
        np.array([op for op, _, _ in found], dtype=np.int64),
        tuple(key for _, key, _ in found),
        np.repeat(np.arange(len(made)), [len(members) for members in made]),
        np.array([sum(found[at][2] for at in members) for members in made]),
    )


def loads(net: Network) -> Mapping[Key, float]:
    """Of the operands that a kind of op reads from the data set: how many of its ops are the first to read them."""
    found: dict[Key, float] = {}
    known = set[str]()
    for op, index in enumerate(net.variables[: len(net.addresses)]):
        kind = net.kinds[index]
        assert isinstance(kind, OpKind)
        node = net.graph.node(net.addresses[op])
        for role, name in zip(kind.passes[0].inputs, node.inputs, strict=True):
            if name not in known and net.graph.value(name).kind in ("input", "field"):
                known.add(name)
                found[index, role] = found.get((index, role), 0.0) + 1.0
    counts = Counter(net.variables)
    return {key: count / counts[key[0]] for key, count in found.items()}
