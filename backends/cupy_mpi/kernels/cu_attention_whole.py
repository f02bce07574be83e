"""Steps of multi-head self-attention as one operator: products of all heads of all samples, and what is between."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from .cu_sums import columns_of_blocks, parts_of_rows
from .launch import MOST_COUNTED, THREADS, Array, Launch, Matrices, Product, Room, Steps, each, reciprocal, rows


class Extents(NamedTuple):
    """Of a call; `width` is a head's."""

    batch: int
    seq: int
    heads: int
    width: int

    @property
    def items(self) -> int:
        """Samples by places."""
        return self.batch * self.seq

    @property
    def size(self) -> int:
        """Of x."""
        return self.items * self.heads * self.width

    @property
    def queries(self) -> int:
        """Rows of scores."""
        return self.items * self.heads

    def told(self, parts: int) -> tuple[tuple[int, ...] | int, ...]:
        """How values lie, of which there are so many side by side: q, k and v, or one."""
        extents = (self.seq, parts, self.heads, self.width)
        return ((self.batch, *extents), *map(reciprocal, extents))

    def matrices(self, room: Room, part: int = 0, turned: bool = False) -> Matrices:
        """[sample and head, place, width] in a room by heads."""
        return Matrices(room, (self.batch * self.heads, self.seq, self.width), part * self.size, turned)

    def scores(self, probabilities: Array) -> Array:
        """[sample and head, query, key]."""
        return probabilities.reshape(self.batch * self.heads, self.seq, self.seq)


def attention_forward(x: Array, *rest: Array, heads: int, causal: bool, **_: object) -> Steps | None:
    """x, in and out projections -> y, qkv, probabilities, context."""
    *weights, y, qkv, probabilities, context = rest
    inside, outside = weights[: len(weights) // 2], weights[len(weights) // 2 :]
    ext = _extents(x, heads)
    if max(qkv.size, probabilities.size) >= MOST_COUNTED:
        return None
    by_head, found = Room(qkv.size), Room(context.size)
    columns, factor = qkv.shape[-1], 1 / sqrt(ext.width)
    scores = ext.scores(probabilities)
    bias = inside[1] if len(inside) > 1 else None
    split = each(qkv.size, qkv, bias, by_head, numbers=(columns, reciprocal(columns)), kernel="attention_forward_split")
    return (
        Product(_rows(x), inside[0].T, _rows(qkv)),
        *_also_told(split, ext.told(3)),
        Product(ext.matrices(by_head), ext.matrices(by_head, 1, turned=True), scores),
        *rows(
            ext.queries,
            *(probabilities, ext.seq, ext.seq, int(causal), factor),
            kernel="attention_forward_weigh",
            threads=_threads(ext.seq),
        ),
        Product(scores, ext.matrices(by_head, 2), ext.matrices(found)),
        *_merged(ext, found, context, 1),
        Product(_rows(context), outside[0].T, _rows(y)),
        *(_biased(outside[1], y) if len(outside) > 1 else ()),
    )


def attention_dx(
    dy: Array,
    x: Array,
    in_proj_weight: Array,
    out_proj_weight: Array,
    qkv: Array,
    probabilities: Array,
    context: Array,
    dx: Array,
    *gradients: Array,
    heads: int,
    **_: object,
) -> Steps | None:
    """The gradients by x and by the weights and biases."""
    into, outward = gradients[: len(gradients) // 2], gradients[len(gradients) // 2 :]
    ext = _extents(x, heads)
    if max(qkv.size, probabilities.size) >= MOST_COUNTED:
        return None
    dcontext, dy_by_head, slopes = Room(context.size), Room(context.size), Room(probabilities.size)
    by_head, found, dqkv = Room(qkv.size), Room(qkv.size), Room(qkv.size)
    scores = ext.scores(probabilities)
    dscores = Matrices(slopes, (ext.batch * ext.heads, ext.seq, ext.seq))
    outer = Matrices(dcontext, (ext.items, context.shape[-1]))
    inner = (ext.items, qkv.shape[-1])
    return (
        Product(_rows(dy), out_proj_weight, outer),
        Product(_rows(dy).T, _rows(context), outward[0]),
        *(_bias_sums(dy, outward[1], ext.items) if len(outward) > 1 else ()),
        *_split(ext, dcontext, dy_by_head, context.size, 1),
        *_split(ext, qkv, by_head, qkv.size, 3),
        Product(scores.transpose(0, 2, 1), ext.matrices(dy_by_head), ext.matrices(found, 2)),
        Product(ext.matrices(dy_by_head), ext.matrices(by_head, 2, turned=True), dscores),
        *rows(
            ext.queries,
            *(slopes, probabilities, ext.seq, 1 / sqrt(ext.width)),
            kernel="attention_dx_weigh",
            threads=_threads(ext.seq),
        ),
        Product(dscores, ext.matrices(by_head, 1), ext.matrices(found, 0)),
        Product(dscores._replace(turned=True), ext.matrices(by_head, 0), ext.matrices(found, 1)),
        *_merged(ext, found, dqkv, 3),
        Product(Matrices(dqkv, inner), in_proj_weight, _rows(dx)),
        Product(Matrices(dqkv, inner, turned=True), _rows(x), into[0]),
        *(_bias_sums(dqkv, into[1], ext.items) if len(into) > 1 else ()),
    )


def _extents(x: Array, heads: int) -> Extents:
    return Extents(x.shape[0], x.shape[1], heads, x.shape[2] // heads)


def _rows(x: Array) -> Array:
    """[samples and places, features]."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def _split(ext: Extents, values: Array | Room, by_head: Room, size: int, parts: int) -> Steps:
    """Values by heads."""
    return _also_told(
        each(size, values, None, by_head, numbers=(1, 0), kernel="attention_forward_split"), ext.told(parts)
    )


def _merged(ext: Extents, by_head: Room, values: Array | Room, parts: int) -> Steps:
    """Values by sample and place."""
    size = ext.size * parts
    return _also_told(each(size, by_head, values, kernel="attention_forward_merge"), ext.told(parts))


def _also_told(steps: Steps, more: tuple[tuple[int, ...] | int, ...]) -> Steps:
    """Launches with more arguments behind theirs."""
    return tuple(step._replace(arguments=(*step.arguments, *more)) for step in steps if isinstance(step, Launch))


def _biased(bias: Array, y: Array) -> Steps:
    columns = y.shape[-1]
    return each(y.size, bias, y, numbers=(columns, reciprocal(columns)), kernel="attention_forward_bias")


def _bias_sums(dy: Array | Room, dbias: Array, count: int) -> Steps:
    """Parts of 32 columns, then a warp a column."""
    parts = parts_of_rows(dbias.size, count)
    room, blocks = Room(2 * parts * dbias.size), (columns_of_blocks(dbias.size), parts)
    return (
        Launch((dy, room, count, dbias.size), blocks, kernel="attention_dx_bias"),
        *rows(dbias.size, room, dbias, parts, kernel="attention_dx_bias_finish", threads=32),
    )


def _threads(extent: int) -> int:
    return min(THREADS, max(32, -(-extent // 128) * 32))
