"""Values joined, cut, padded and transposed: copies between views with strides of their own."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from .cu_places import TO_LOGICAL, View, countable, four, logical
from .launch import Array, Steps, each


def concat_forward(*arrays: Array, axis: int, layout: str = "NCHW", **_: object) -> Steps | None:
    """Each operand to its stretch of the result."""
    *xs, y = arrays
    pairs = zip(xs, _parts(y, xs, axis, layout), strict=True)
    return _through(arrays, (_copy(x, _all(x), y, part) for x, part in pairs))


def concat_dx(dy: Array, *dxs: Array, axis: int, layout: str = "NCHW", **_: object) -> Steps | None:
    """Each stretch of dy to an operand's gradient."""
    parts = _parts(dy, dxs, axis, layout)
    return _through((dy, *dxs), (_copy(dy, part, dx, _all(dx)) for dx, part in zip(dxs, parts, strict=True)))


def split_forward(x: Array, *ys: Array, axis: int, layout: str = "NCHW", **_: object) -> Steps | None:
    """Each stretch of x to a result."""
    return concat_dx(x, *ys, axis=axis, layout=layout)


def split_dx(
    *arrays: Array, n: tuple[int, ...], axis: int, reached: tuple[int, ...], layout: str = "NCHW", **_: object
) -> Steps | None:
    """Each gradient to its stretch of dx, zeros elsewhere."""
    *dys, dx = arrays
    at = _physical(axis, layout, dx.ndim)
    steps = [] if len(dys) == len(n) else [_fill(dx, 0.0)]
    for number, dy in zip(reached, dys, strict=True):
        steps.append(_copy(dy, _all(dy), dx, _all(dx).cut(at, sum(n[:number]), n[number])))
    return _through(arrays, steps)


def slice_forward(
    x: Array, y: Array, *, axis: int, start: int, step: int, stop: int | None = None, layout: str = "NCHW", **_: object
) -> Steps | None:
    """A stretch of x."""
    return _through((x, y), [_copy(x, _stretch(x, axis, layout, start, stop, step), y, _all(y))])


def slice_dx(
    dy: Array,
    dx: Array,
    *,
    axis: int,
    start: int,
    step: int,
    stop: int | None = None,
    layout: str = "NCHW",
    **_: object,
) -> Steps | None:
    """dy to a stretch of dx, zeros elsewhere."""
    copied = _copy(dy, _all(dy), dx, _stretch(dx, axis, layout, start, stop, step))
    return _through((dy, dx), [_fill(dx, 0.0), copied])


def transpose_forward(x: Array, y: Array, *, order: tuple[int, ...] | None = None, **_: object) -> Steps | None:
    """x with its axes in another order."""
    return _through((x, y), [_copy(x, _all(x).ordered(_order(order, x.ndim)), y, _all(y))])


def transpose_dx(dy: Array, dx: Array, *, order: tuple[int, ...] | None = None, **_: object) -> Steps | None:
    """Back again."""
    return _through((dy, dx), [_copy(dy, _all(dy), dx, _all(dx).ordered(_order(order, dx.ndim)))])


def pad_forward(
    x: Array,
    y: Array,
    *,
    amount: tuple[tuple[int, int], ...],
    axis: tuple[int, ...],
    value: float = 0.0,
    mode: str = "constant",
    layout: str = "NCHW",
    **_: object,
) -> Steps | None:
    """A value everywhere, and x inside; mirrored and repeated margins are NumPy's."""
    if mode != "constant":
        return None
    inside = _inside(y, amount, axis, layout)
    return _through((x, y), [_fill(y, float(value)), _copy(x, logical(x, layout), y, inside)])


def pad_dx(
    dy: Array,
    dx: Array,
    *,
    amount: tuple[tuple[int, int], ...],
    axis: tuple[int, ...],
    mode: str = "constant",
    layout: str = "NCHW",
    **_: object,
) -> Steps | None:
    """What is inside."""
    if mode != "constant":
        return None
    return _through((dy, dx), [_copy(dy, _inside(dy, amount, axis, layout), dx, logical(dx, layout))])


def _through(arrays: tuple[Array, ...], steps: Iterator[Steps] | list[Steps]) -> Steps | None:
    """All steps, where kernels can go through the arrays."""
    return tuple(step for several in steps for step in several) if countable(*arrays) else None


def _copy(x: Array, source: View, y: Array, target: View) -> Steps:
    """The elements of a view of x to one of y, of the same extents."""
    order = tuple(sorted(range(len(target.strides)), key=lambda at: -abs(target.strides[at])))  # as they are written
    source, target = source.ordered(order), target.ordered(order)
    copied = (*four(source.extents, 1), *four(source.strides, 0), *four(target.strides, 0), source.begin, target.begin)
    return each(prod(source.extents), x, y, copied, kernel="shapes_copy")


def _fill(x: Array, value: float) -> Steps:
    return each(x.size, x, numbers=(value,), kernel="shapes_fill")


def _all(x: Array) -> View:
    """An array as it lies."""
    return View(x.shape, tuple(stride // x.itemsize for stride in x.strides))


def _physical(axis: int, layout: str, ndim: int) -> int:
    return TO_LOGICAL[layout][axis] if ndim == 4 else axis % ndim


def _parts(x: Array, others: list[Array] | tuple[Array, ...], axis: int, layout: str) -> Iterator[View]:
    """The stretches of x that are as long as the others, one behind the other."""
    at, start = _physical(axis, layout, x.ndim), 0
    for other in others:
        yield _all(x).cut(at, start, other.shape[at])
        start += other.shape[at]


def _stretch(x: Array, axis: int, layout: str, start: int, stop: int | None, step: int) -> View:
    at = _physical(axis, layout, x.ndim)
    chosen = range(*slice(start, stop, step).indices(x.shape[at]))
    return _all(x).cut(at, chosen.start, len(chosen), step)


def _order(order: tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    return (*range(ndim - 2), ndim - 1, ndim - 2) if order is None else order


def _inside(y: Array, amount: tuple[tuple[int, int], ...], axis: tuple[int, ...], layout: str) -> View:
    """What is no pad, in logical order."""
    found = logical(y, layout)
    for at, (before, after) in zip(axis, amount, strict=True):
        found = found.cut(at, before, found.extents[at] - before - after)
    return found
