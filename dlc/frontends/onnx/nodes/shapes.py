"""What moves numbers and changes none."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from dlc.frontends.onnx.cover import INTEGERS, Cover
from dlc.frontends.onnx.flow import Flow, UncoveredError, joined, parted
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.translation import Translation, replaced_batch, require_aligned

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array


def to_result_shape(node: OnnxNode, made: Translation) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the shape of the result is known, the order of numbers stays.

    With the transposition behind it that cuts features into heads it is `split_heads`.
    """
    turned = made.only_reader(node, "Transpose")
    heads = _heads(node, made)
    order = () if turned is None else tuple(turned.get("perm", ()))
    if turned is not None and heads and order in (_SWAPPED, _TURNED):
        y = made.value(node).apply("split_heads", heads=heads)
        made.bind(turned, y if order == _SWAPPED else y.apply("transpose"))
        return
    made.bind(node, made.reshaped(made.value(node), made.model.types[node.outputs[0]].shape))


_SWAPPED, _TURNED = (0, 2, 1, 3), (0, 2, 3, 1)
"""[batch, seq, heads, width] as [batch, heads, seq, width] and as [batch, heads, width, seq]."""


def _heads(node: OnnxNode, made: Translation) -> int:
    """How many heads a reshape cuts the features of a sequence into; 0 where it does something else."""
    x, after = made.value(node), made.model.types[node.outputs[0]].shape
    cuts = x.at == 0 and x.rank == 3 and len(after) == 4 and after[:2] == x.type.shape[:2]
    return after[2] if cuts else 0


def _merged(node: OnnxNode, made: Translation, order: tuple[int, ...]) -> OnnxNode | None:
    """The reshape behind a transposition that puts heads side by side again; None where there is none."""
    x, joins = made.value(node), made.only_reader(node, "Reshape")
    if joins is None or order != _SWAPPED or x.at != 0 or x.type.names[1] != "heads":
        return None
    batch, heads, seq, width = x.type.shape
    return joins if made.model.types[joins.outputs[0]].shape == (batch, seq, heads * width) else None


def transpose(node: OnnxNode, made: Translation) -> None:
    """Any order of the axes behind the batch. With a reshape behind it that joins heads it is `merge_heads`."""
    x = made.value(node)
    order = tuple(node.get("perm", tuple(reversed(range(x.rank)))))
    joins = _merged(node, made, order)
    if joins is not None:
        made.bind(joins, x.apply("merge_heads"))
        return
    positions = [x.position(axis) for axis in order if axis != x.at]
    at = None if x.at is None else order.index(x.at)
    made.bind(node, replaced_batch(_ordered(x, positions), at))


def _ordered(x: Flow, positions: list[int]) -> Flow:
    """A value with its axes in the order of these positions."""
    *before, last_but_one, last = range(len(x.type.axes))
    if positions == [*before, last_but_one, last][1:]:
        return x
    if positions == [*before, last, last_but_one][1:] and len(positions) > 1:
        return x.apply("transpose")
    return x.apply("transpose", order=tuple(x.type.names[position] for position in positions))


def concat(node: OnnxNode, made: Translation) -> None:
    """All operands under the names of the first one's axes."""
    first, *others = (made.value(node, index) for index in range(len(node.inputs)))
    position = first.position(node.get("axis", 1))
    require_aligned(first, *others)
    same = [made.renamed(other, first.type.names[1:]) for other in others]
    made.bind(node, joined("concat", first, *same, axis=first.type.names[position]))


def split(node: OnnxNode, made: Translation) -> None:
    """Equal parts, or parts of the extents that an attribute or a constant input gives."""
    x = made.value(node)
    position = x.position(node.get("axis", 0))
    given = made.constant(node, 1)
    parts = tuple(given.tolist()) if given is not None else tuple(node.get("split", ()))
    if not parts:
        axis = node.get("axis", 0)
        parts = tuple(made.model.types[output].shape[axis] for output in node.outputs)
    n = len(parts) if len(set(parts)) == 1 else parts
    flow, types = parted("split", x, n=n, axis=x.type.names[position])
    made.bind_all(node, flow, types)


def slice_(node: OnnxNode, made: Translation) -> None:
    """One `slice` an axis. Bounds beyond the ends are the ends."""
    bounds = _bounds(node, made)
    flow = made.value(node)
    for axis, start, stop, step in bounds:
        flow = sliced(flow, flow.position(axis), slice(start, stop, step))
    made.bind(node, flow)


def _bounds(node: OnnxNode, made: Translation) -> list[tuple[int, int, int, int]]:
    """(axis, start, stop, step) of each axis; they are attributes before opset 10."""
    given = [made.constant(node, index) for index in range(1, 5)]
    starts, stops, axes, steps = (None if array is None else array.tolist() for array in given)
    starts = starts if starts is not None else list(node.get("starts", ()))
    stops = stops if stops is not None else list(node.get("ends", ()))
    axes = axes if axes is not None else list(node.get("axes", range(len(starts))))
    return list(zip(axes, starts, stops, steps or [1] * len(starts), strict=True))


def sliced(flow: Flow, position: int, wanted: slice) -> Flow:
    """Elements along an axis, bounds as dlc writes them: what is given is inside, what is all the way is left away."""
    extent = flow.type.shape[position]
    start, stop, step = wanted.indices(extent)
    if (start, stop, step) == (0, extent, 1):
        return flow
    first = 0 if step > 0 else extent - 1
    last = extent if step > 0 else -1
    return flow.apply(
        "slice",
        axis=flow.type.names[position],
        start=None if start == first else start,
        stop=None if stop == last else stop,
        step=step,
    )


def pad(node: OnnxNode, made: Translation) -> None:
    """By a constant, mirrored, or by the edge; axes that nothing is added to are left away."""
    x = made.value(node)
    mode, pads, axes = node.get("mode", "constant"), made.constant(node, 1), made.constant(node, 3)
    amounts = list(pads.tolist()) if pads is not None else list(node.get("pads", ()))
    places = list(range(x.rank)) if axes is None else axes.tolist()
    pairs = {axis: (amounts[at], amounts[at + len(places)]) for at, axis in enumerate(places)}
    kept = {x.position(axis): pair for axis, pair in pairs.items() if any(pair)}
    if mode not in ("constant", "reflect", "edge"):
        raise UncoveredError(f"attribute `mode` is {mode}")
    if any(amount < 0 for pair in kept.values() for amount in pair):
        raise UncoveredError("it takes elements away")
    value = _fill(made.constant(node, 2), node)
    names = tuple(x.type.names[position] for position in kept)
    args = {"amount": tuple(kept.values()), "axis": names, "mode": mode, "value": value if mode == "constant" else 0.0}
    made.bind(node, x.apply("pad", **args) if kept else x)


def _fill(constant: Array | None, node: OnnxNode) -> float:
    return float(node.get("value", 0.0)) if constant is None else float(constant.reshape(()))


def gather(node: OnnxNode, made: Translation) -> None:
    """Rows of a constant table by computed numbers: an embedding. One element along an axis: a slice."""
    table, chosen = made.constant(node, 0), made.constant(node, 1)
    if table is not None and chosen is None:
        _embed(node, made, table)
    elif table is None and chosen is not None and chosen.ndim == 0:
        _choose(node, made, int(chosen))
    else:
        raise UncoveredError("it is neither a constant table by computed numbers nor one element along an axis")


def _embed(node: OnnxNode, made: Translation, table: Array) -> None:
    if node.get("axis", 0) % table.ndim:
        raise UncoveredError(f"its table of shape {list(table.shape)} is read along axis {node.get('axis', 0)}")
    x, (rows, *row) = made.value(node, 1), table.shape
    if x.type.dtype not in INTEGERS:
        raise UncoveredError("it is read by no integers")
    y = x.apply("embedding", {"weight": table.reshape(rows, -1)}, vocab=rows, width=prod(row))
    made.bind(node, y if len(row) == 1 else made.sampled(y, (*x.extents, *row)))


def _choose(node: OnnxNode, made: Translation, index: int) -> None:
    x = made.value(node)
    axis = node.get("axis", 0) % x.rank
    position = x.position(axis)
    start = index % x.type.shape[position]
    left = (*x.type.shape[1:position], *x.type.shape[position + 1 :])
    y = made.sampled(sliced(x, position, slice(start, start + 1)), left)
    made.bind(node, replaced_batch(y, x.at - 1 if x.at is not None and x.at > axis else x.at))


TABLE = {
    "Reshape": Cover(
        to_result_shape, versions=(5, 13, 14, 19, 21, 23, 24, 25), attributes=("allowzero",), constants=(1,)
    ),
    "Flatten": Cover(to_result_shape, versions=(1, 9, 11, 13, 21, 23, 24, 25), attributes=("axis",)),
    "Squeeze": Cover(to_result_shape, versions=(1, 11, 13, 21, 23, 24, 25), attributes=("axes",), constants=(1,)),
    "Unsqueeze": Cover(to_result_shape, versions=(1, 11, 13, 21, 23, 24, 25), attributes=("axes",), constants=(1,)),
    "Transpose": Cover(transpose, versions=(1, 13, 21, 23, 24, 25), attributes=("perm",)),
    "Concat": Cover(concat, versions=(4, 11, 13), attributes=("axis",)),
    "Split": Cover(
        split, versions=(2, 11, 13, 18), attributes=("axis", "split", "num_outputs"), constants=(1,), results=2**31
    ),
    "Slice": Cover(slice_, versions=(1, 10, 11, 13), attributes=("axes", "ends", "starts"), constants=(1, 2, 3, 4)),
    "Pad": Cover(
        pad, versions=(2, 11, 13, 18, 19, 21, 23, 24, 25), attributes=("mode", "pads", "value"), constants=(1, 2, 3)
    ),
    "Gather": Cover(gather, versions=(1, 11, 13), attributes=("axis",), weights=(0,), dtypes=("f32", "f64", *INTEGERS)),
}
