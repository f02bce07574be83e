"""Ops whose pieces exchange sums inside a pass: batch norm, group norm by rows, cross-entropy by classes.

No kernel does all of it yet, so the pieces are computed here: batch norm by the phases of its kernels, where what is
summed over ranks with other rows is scaled by the share of pixels at hand, since the kernels count those; group norm
and cross-entropy in NumPy by their formulas. What is exchanged is counted, and compared with the rule's `exchanges`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.distances import divisor
from backends.numpy_mpi.kernels.norms import grouped, per_channel, products, wide
from dlc.ir.mesh import Mesh
from dlc.ops.indexing import Exchange, Indexing
from tests.kernels.calling import Array
from tests.operators.cases import cases
from tests.operators.test_gradients import with_gradients
from tests.ops.pieces import Piece, Pieces, exchanges, indexing, largest_error, line, partitions, reads_something

BOUND = 1e-11
DRAWS = 40
CASES = cases()


class Exchanging(Pieces):
    """Pieces that sum arrays over the ranks which an `Exchange` names."""

    rounds: int

    def rule(self, stage: str) -> Exchange:
        """The exchange of a pass."""
        return next(exchange for exchange in self.space.exchanges if exchange.stage == stage)

    def exchanged(self, stage: str, *tables: list[Array], reduce: Callable[..., Any] = np.sum) -> list[list[Array]]:
        """One round: each table, an array a rank, reduced over the ranks of each group."""
        rule, self.rounds = self.rule(stage), self.rounds + 1
        over = rule.over(self.partition, self.mesh, self.op.operands[0].shape[0])
        sizes = [sum(table[rank].size for table in tables) for rank in range(len(self.pieces))]
        parts = prod(self.parts(axis) for axis in rule.along)
        assert min(sizes) * parts <= rule.elements <= max(sizes) * parts
        return [[reduce([table[other] for other in self.beside(rank, over)], axis=0) for rank in range(len(sizes))]
                for table in tables]  # fmt: skip

    def beside(self, rank: int, over: tuple[str, ...]) -> list[int]:
        """The ranks that differ from one along these mesh axes only."""
        apart = [index for index, name in enumerate(self.mesh.names) if name not in over]
        at = self.pieces[rank].at
        return [o for o, piece in enumerate(self.pieces) if all(piece.at[i] == at[i] for i in apart)]

    def forward(self) -> None:
        self.rounds = 0
        self.compute()
        assert self.rounds == self.rule("forward").times

    def backward(self) -> None:
        self.rounds = 0
        self.differentiate()
        assert self.rounds == sum(exchange.times for exchange in self.space.exchanges if exchange.stage == "dx")

    def compute(self) -> None:
        raise NotImplementedError

    def differentiate(self) -> None:
        raise NotImplementedError


class BatchNorm(Exchanging):
    """Its kernels' phases; tables have a row for each group of the whole batch."""

    def compute(self) -> None:
        self._phase("sums", ("x",), ("sums",))
        self._sum("forward", "sums")
        self._phase("squares", ("x", "sums"), ("squares",))
        self._sum("forward", "squares")
        needs = ("x", "scale", "shift", "sums", "squares")
        self._phase("apply", needs, ("y", "batch_mean", "batch_rstd"))

    def differentiate(self) -> None:
        sums = ("dy_sums", "dyx_sums")
        self._phase("grad_sums", ("dy", "x", "batch_mean", "batch_rstd"), sums)
        self._sum("dx", *sums)
        needs = ("dy", "x", "scale", "batch_mean", "batch_rstd", *sums)
        self._phase("grad_apply", needs, ("dx", "dscale", "dshift"))

    def _phase(self, name: str, needs: tuple[str, ...], gives: tuple[str, ...]) -> None:
        for piece in self.pieces:
            table = piece.op.types["batch_mean"]
            piece.op.types |= dict.fromkeys(("sums", "squares", "dy_sums", "dyx_sums"), table)
            piece.known = piece.op.call(name, needs, gives, piece.known)

    def _sum(self, stage: str, *roles: str) -> None:
        found = self.exchanged(stage, *([piece.known[role] for piece in self.pieces] for role in roles))
        for role, totals in zip(roles, found, strict=True):
            for piece, total in zip(self.pieces, totals, strict=True):
                piece.known[role] = total * pixels(piece.op.types["x"].shape) / pixels(self.types["x"].shape)


def pixels(shape: tuple[int, ...]) -> int:
    """How many elements a channel of a sample has."""
    return prod(shape[2:])


class GroupNorm(Exchanging):
    """Means, then squares; [batch, group, channel of the group, …] as the kernels see it."""

    def compute(self) -> None:
        (sums,) = self.exchanged("forward", [self.view(piece, "x").sum(axis=self.behind) for piece in self.pieces])
        for piece, total in zip(self.pieces, sums, strict=True):
            piece.known["mean"] = total / self.count
        (squares,) = self.exchanged(
            "forward", [self.of_products(p, self.centred(p), self.centred(p)) for p in self.pieces]
        )
        for piece, total in zip(self.pieces, squares, strict=True):
            piece.known["rstd"] = 1 / np.sqrt(total / self.count + dict(piece.op.inferred.attrs)["eps"])
            x = self.standard(piece)
            y = x * per_channel(piece.known["scale"], x) + per_channel(piece.known["shift"], x)
            piece.known["y"] = y.reshape(piece.known["x"].shape)

    def differentiate(self) -> None:
        gradients = [self.view(p, "dy") * per_channel(p.known["scale"], self.view(p, "dy")) for p in self.pieces]
        means, slopes = self.exchanged(
            "dx",
            [gradient.sum(axis=self.behind) for gradient in gradients],
            [self.of_products(p, g, self.standard(p)) for p, g in zip(self.pieces, gradients, strict=True)],
        )
        for piece, gradient, mean, slope in zip(self.pieces, gradients, means, slopes, strict=True):
            x, dy = self.standard(piece), self.view(piece, "dy")
            dx = gradient - wide(mean / self.count, x) - x * wide(slope / self.count, x)
            piece.known["dx"] = (dx * wide(piece.known["rstd"], x)).reshape(piece.known["x"].shape)
            piece.known["dscale"] = products(dy, x, (1, 2)).reshape(-1)
            piece.known["dshift"] = products(dy, np.ones_like(dy), (1, 2)).reshape(-1)

    @property
    def count(self) -> int:
        """How many elements a group of a sample has in all."""
        return prod(self.types["x"].shape[1:]) // dict(self.op.inferred.attrs)["groups"]

    @property
    def behind(self) -> tuple[int, ...]:
        return tuple(range(2, len(self.types["x"].axes) + 1))

    def view(self, piece: Piece, role: str) -> Array:
        return grouped(piece.known[role], dict(piece.op.inferred.attrs)["groups"], "NCHW")

    def centred(self, piece: Piece) -> Array:
        x = self.view(piece, "x")
        return x - wide(piece.known["mean"], x)

    def standard(self, piece: Piece) -> Array:
        x = self.centred(piece)
        return x * wide(piece.known["rstd"], x)

    def of_products(self, piece: Piece, a: Array, b: Array) -> Array:
        return products(a, b, (0, 1))


class CrossEntropy(Exchanging):
    """The largest logit of each row, then the sum of exponentials; a label is looked for among the classes at hand."""

    def compute(self) -> None:
        (largest,) = self.exchanged("forward", [p.known["logits"].max(-1) for p in self.pieces], reduce=np.max)
        shifted = [p.known["logits"] - most[..., None] for p, most in zip(self.pieces, largest, strict=True)]
        (totals,) = self.exchanged("forward", [np.exp(logits).sum(-1) for logits in shifted])
        for piece, logits, total in zip(self.pieces, shifted, totals, strict=True):
            piece.known["probabilities"] = np.exp(logits) / total[..., None]
            logarithms = np.log(total) if self.number(piece.at, "feature") == 0 else 0
            losses = logarithms - (self.target(piece) * logits).sum(-1)
            piece.known["y"] = losses.sum() / divisor(piece.known["label"], piece.op.runtime["count"])

    def differentiate(self) -> None:
        for piece in self.pieces:
            difference = piece.known["probabilities"] - self.target(piece)
            share = piece.known["dy"] / divisor(piece.known["label"], piece.op.runtime["count"])
            piece.known["dlogits"] = difference * share

    def target(self, piece: Piece) -> Array:
        """What the probabilities are compared with, for the classes at hand."""
        smoothing, classes = dict(piece.op.inferred.attrs)["smoothing"], self.types["logits"].shape[-1]
        at_label = piece.known["label"][..., None] == piece.rows["logits"][-1]
        return (1 - smoothing) * at_label + smoothing / classes


OPS = {"bn": BatchNorm, "groupnorm": GroupNorm, "cross_entropy": CrossEntropy, "cross_entropy/smoothing": CrossEntropy}


def errors(name: str, altered: Callable[[Indexing], Indexing] = lambda space: space) -> list[tuple[set[str], float]]:
    """For each partition with an exchange, of drawn configurations: its axes and the largest error."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    found = []
    for _ in range(DRAWS):
        case = CASES[name](rng)
        case.op.layout = "NCHW"
        known = with_gradients(case, rng)
        whole = case.op.backward(case.op.forward(known))
        space = indexing(case.op)
        for partition, mesh in partitions(space, rng):
            pieces = OPS[name](case.op, altered(space), partition, mesh, known)
            if exchanges(Pieces(case.op, space, partition, mesh, known)) and reads_something(pieces):
                pieces.forward()
                pieces.backward()
                found.append((set(partition) - {""}, largest_error(pieces, whole)))
    return found


@pytest.mark.parametrize("name", OPS)
def test_pieces_make_the_whole(name: str) -> None:
    found = errors(name)
    split = set().union(*(axes for axes, _ in found))
    needed = {"bn": {"batch", "width", "height"}, "groupnorm": {"width", "height"}}
    assert split >= needed.get(name, {"feature"})
    assert max(error for _, error in found) < BOUND


def test_every_other_op_exchanges_nothing() -> None:
    names = {name.partition("/")[0] for name in OPS}
    rng = np.random.default_rng(0)
    for name, draw in CASES.items():
        assert bool(indexing(draw(rng).op).exchanges) == (name.partition("/")[0] in names), name


FAULTS: dict[str, tuple[str, Callable[[Indexing], Indexing]]] = {
    "samples of a group do not wait for each other": ("bn", lambda space: changed(space, axes=("height", "width"))),
    "a batch is thought to hold whole groups": ("bn", lambda space: changed(space, group=1)),
    "rows do not wait for each other": ("bn", lambda space: changed(space, axes=("batch",))),
    "half of the sums are missing": ("bn", lambda space: changed(space, elements=1)),
    "group norm by rows is thought to be local": ("groupnorm", lambda space: changed(space, axes=())),
    "classes do not wait for each other": ("cross_entropy", lambda space: changed(space, axes=())),
    "the largest logit is not counted": ("cross_entropy", lambda space: changed(space, times=1)),
}


def changed(space: Indexing, **fields: Any) -> Indexing:
    """The rule with other exchanges."""
    return replace(space, exchanges=tuple(replace(exchange, **fields) for exchange in space.exchanges))


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_seen(fault: str) -> None:
    try:
        found = errors(*FAULTS[fault])
    except AssertionError:  # another amount is exchanged
        return
    assert max(error for _, error in found) > BOUND


@pytest.mark.parametrize(
    ("group", "batch", "parts", "expected"),
    [
        (4, 16, 2, ()),
        (4, 16, 4, ()),
        (4, 16, 8, ("line",)),
        (4, 12, 2, ("line",)),
        (3, 12, 4, ()),
        (0, 16, 2, ("line",)),
    ],
)
def test_whole_groups_need_no_exchange(group: int, batch: int, parts: int, expected: tuple[str, ...]) -> None:
    exchange = Exchange("forward", ("batch", "height"), 8, group=group)
    assert exchange.over(("batch",), line(parts), batch) == expected
    assert exchange.over(("height",), line(parts), batch) == ("line",)
    both = Mesh((("rows", parts), ("columns", 2)))
    assert exchange.over(("batch", "height"), both, batch) == (("rows", "columns") if expected else ("columns",))
