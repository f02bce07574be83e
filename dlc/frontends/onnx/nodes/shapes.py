"""What moves numbers and changes none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.frontends.onnx.flow import Flow, UncoveredError, joined, parted
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.translation import INTEGERS, Cover, Translation

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array


def to_result_shape(node: OnnxNode, made: Translation) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the shape of the result is known, the order of numbers stays."""
    shape = made.sample(made.model.types[node.outputs[0]].shape)
    made.bind(node, made.reshaped(made.value(node), shape))


def transpose(node: OnnxNode, made: Translation) -> None:
    """Any order of the axes behind the batch."""
    x, rank = made.value(node), len(made.shape(node))
    order = tuple(node.get("perm", tuple(reversed(range(rank)))))
    if made.batched and order[0] != 0:
        raise UncoveredError("it moves the batch")
    positions = [made.position(axis, rank) for axis in (order[1:] if made.batched else order)]
    if positions == list(range(1, len(x.type.axes))):
        made.bind(node, x)
    else:
        made.bind(node, x.apply("transpose", order=tuple(x.type.names[position] for position in positions)))


def concat(node: OnnxNode, made: Translation) -> None:
    """All operands under the names of the first one's axes."""
    first, *others = (made.value(node, index) for index in range(len(node.inputs)))
    position = made.position(node.get("axis", 1), len(made.shape(node)))
    same = [made.renamed(other, first.type.names[1:]) for other in others]
    made.bind(node, joined("concat", first, *same, axis=first.type.names[position]))


def split(node: OnnxNode, made: Translation) -> None:
    """Equal parts, or parts of the extents that an attribute or a constant input gives."""
    x = made.value(node)
    position = made.position(node.get("axis", 0), len(made.shape(node)))
    given = made.constant(node, 1)
    parts = tuple(given.tolist()) if given is not None else tuple(node.get("split", ()))
    if not parts:
        shapes = [made.model.types[output].shape for output in node.outputs]
        parts = tuple(shape[position - (not made.batched)] for shape in shapes)
    if 0 in parts:
        raise UncoveredError("one of its parts is empty")
    n = len(parts) if len(set(parts)) == 1 else parts
    flow, types = parted("split", x, n=n, axis=x.type.names[position])
    made.bind_all(node, flow, types)


def slice_(node: OnnxNode, made: Translation) -> None:
    """One `slice` an axis. Bounds beyond the ends are the ends."""
    bounds = _bounds(node, made)
    flow = made.value(node)
    for axis, start, stop, step in bounds:
        position = made.position(axis, len(made.shape(node)))
        flow = _sliced(flow, position, slice(start, stop, step))
    made.bind(node, flow)


def _bounds(node: OnnxNode, made: Translation) -> list[tuple[int, int, int, int]]:
    """(axis, start, stop, step) of each axis; they are attributes before opset 10."""
    given = [made.constant(node, index) for index in range(1, 5)]
    starts, stops, axes, steps = (None if array is None else array.tolist() for array in given)
    starts = starts if starts is not None else list(node.get("starts", ()))
    stops = stops if stops is not None else list(node.get("ends", ()))
    axes = axes if axes is not None else list(node.get("axes", range(len(starts))))
    return list(zip(axes, starts, stops, steps or [1] * len(starts), strict=True))


def _sliced(flow: Flow, position: int, wanted: slice) -> Flow:
    """Elements along an axis, bounds as dlc writes them: what is given is inside, what is all the way is left away."""
    extent = flow.type.shape[position]
    start, stop, step = wanted.indices(extent)
    if not range(start, stop, step):
        raise UncoveredError("nothing is left of it")
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
    x, rank = made.value(node), len(made.shape(node))
    mode, pads, axes = node.get("mode", "constant"), made.constant(node, 1), made.constant(node, 3)
    amounts = list(pads.tolist()) if pads is not None else list(node.get("pads", ()))
    places = list(range(rank)) if axes is None else axes.tolist()
    pairs = {axis: (amounts[at], amounts[at + len(places)]) for at, axis in enumerate(places)}
    kept = {made.position(axis, rank): pair for axis, pair in pairs.items() if any(pair)}
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
    """Rows of a constant table by computed numbers: an embedding. An element or a run by a constant number: a slice."""
    table, chosen = made.constant(node, 0), made.constant(node, 1)
    if table is not None and chosen is None:
        _embed(node, made, table)
    elif table is None and chosen is not None and chosen.ndim == 0:
        _choose(node, made, int(chosen))
    else:
        raise UncoveredError("it is neither a constant table by computed numbers nor one element along an axis")


def _embed(node: OnnxNode, made: Translation, table: Array) -> None:
    if table.ndim != 2 or node.get("axis", 0) != 0:
        raise UncoveredError(f"its table has the shape {list(table.shape)}, an embedding has rows of one axis")
    rows, width = table.shape
    made.bind(node, made.value(node, 1).apply("embedding", {"weight": table}, vocab=rows, width=width))


def _choose(node: OnnxNode, made: Translation, index: int) -> None:
    x, rank = made.value(node), len(made.shape(node))
    position = made.position(node.get("axis", 0), rank)
    start = index % x.type.shape[position]
    flow = _sliced(x, position, slice(start, start + 1))
    left = (*x.type.shape[1:position], *x.type.shape[position + 1 :])
    made.bind(node, made.reshaped(flow, left))


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
    "Gather": Cover(gather, versions=(1, 11, 13), attributes=("axis",), dtypes=("f32", "f64", *INTEGERS)),
}
