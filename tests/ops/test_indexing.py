"""Every operator's `indexing` is true: pieces, put together as it says, are the whole.

Pieces that have to exchange sums inside a pass are in `test_indexing_exchanges.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import pytest

from dlc.ir.tensor import TensorType, tensor
from dlc.ops import LAYERS, LOSSES, METRICS, operator
from dlc.ops.indexing import AXES, Halo, Indexing, Partition, fringe, named, regrouped
from tests.kernels.calling import Known, Op
from tests.operators.case import Case, Draw, drawn
from tests.operators.cases import cases
from tests.operators.cases_losses import rows
from tests.operators.test_gradients import with_gradients
from tests.ops.pieces import Pieces, exchanges, indexing, largest_error, own_types, partitions, reads_something

Rng = np.random.Generator

BOUND = 1e-11
DRAWS = 16
FAULT_DRAWS = 25


@dataclass
class View(Op):
    """A view has no kernel: its result is the operand under other axes."""

    def forward(self, known: Known) -> Known:
        return known | {"y": known["x"].reshape(self.types["y"].shape)}

    def backward(self, known: Known) -> Known:
        return known | {"dx": known["dy"].reshape(self.types["x"].shape)}


def metric(name: str, rng: Rng) -> Case:
    """Of logits and one label a row."""
    logits = rows(rng)
    label = TensorType("i32", logits.axes[:-1])
    classes = rng.integers(0, logits.shape[-1], label.shape).astype(np.int32)
    return drawn(Op(operator(name), (logits, label), {}), rng, "logits", label=classes)


def flatten(rng: Rng) -> Case:
    names = (("channel", "height", "width"), ("seq", "width"), ("feature",))[rng.integers(3)]
    extents = {name: int(rng.choice([1, 2, 3, 4, 6])) for name in names}
    return drawn(View(operator("flatten"), (tensor("f64", batch=4, **extents),), {}), rng)


def reshape(rng: Rng) -> Case:
    """Two ways to put the same factors together, with axes of one element among them."""
    factors = [int(factor) for factor in rng.choice([1, 2, 3, 4], 5)]
    x, y = (joined(factors, rng) for _ in range(2))
    operand = tensor("f64", batch=3, **dict(zip(("seq", "heads", "key", "length"), x, strict=False)))
    axes = ("channel", "depth", "height", "width")[: len(y)]
    return drawn(View(operator("reshape"), (operand,), {"shape": y, "axes": axes}), rng)


def joined(factors: list[int], rng: Rng) -> tuple[int, ...]:
    """The factors in their order, some of them multiplied: up to four numbers."""
    cuts = sorted(int(cut) for cut in rng.choice(np.arange(1, 5), int(rng.integers(0, 4)), replace=False))
    return tuple(int(np.prod(part)) for part in np.split(factors, cuts))


CASES: dict[str, Draw] = {
    **cases(),
    **{op.name: partial(metric, op.name) for op in METRICS},
    "flatten": flatten,
    "reshape": reshape,
}

IMAGES = {"batch", "channel", "height", "width"}
SPLIT_ALONG = {
    "conv/2d": {*IMAGES, "reduce"},
    "conv/3d": {*IMAGES, "reduce", "depth"},
    "conv/1d": {"batch", "channel", "reduce", "length"},
    "conv_transpose/2d": {*IMAGES, "reduce"},
    "depthwise_conv/2d": IMAGES,
    "local_conv/2d": {*IMAGES, "reduce"},
    "upsample/2d": IMAGES,
    "maxpool/2d": IMAGES,
    "avgpool/2d": IMAGES,
    "global_avgpool/2d": IMAGES,
    "global_maxpool/2d": {"batch", "channel"},
    "lrn": {"batch", "depth", "height", "width"},
    "groupnorm": {"batch", "channel", "feature"},
    "linear": {"batch", "seq", "feature", "reduce"},
    "matmul": {"batch", "heads", "seq", "feature", "reduce"},
    "embedding": {"batch", "seq", "feature", "reduce"},
    "position_embedding": {"batch", "seq", "feature"},
    "attention": {"batch", "heads"},
    "split_heads": {"batch", "heads", "seq"},
    "merge_heads": {"batch", "heads", "seq"},
    "causal_mask": {"batch", "heads", "seq", "key"},
    "layernorm": {"batch", "seq", "channel", "height"},
    "dropout": {"batch", "seq", "feature", "channel", "height", "width"},
    "relu": {"batch", "seq", "feature", "channel", "height", "width"},
    "add": {"batch", "seq", "feature", "channel", "height", "width"},
    "lstm": {"batch"},
    "mse": {"batch", "seq", "feature", "height", "width"},
    "cross_entropy": {"batch", "seq", "height", "width"},
    "accuracy": {"batch", "seq", "height", "width"},
    "flatten": {"batch", "channel", "seq", "feature"},
    "weight_norm": {"channel"},
}
"""What the drawn configurations of an operator are split along: at least these."""


def in_pieces(case: Case, space: Indexing, rng: Rng) -> Iterator[tuple[Partition, float]]:
    """The largest error for each partition whose ranks exchange nothing."""
    known = with_gradients(case, rng)
    whole = case.op.backward(case.op.forward(known))
    for partition, mesh in partitions(space, rng):
        pieces = Pieces(case.op, space, partition, mesh, known)
        if reads_something(pieces) and not exchanges(pieces):
            pieces.forward()
            pieces.backward()
            yield partition, largest_error(pieces, whole)


@pytest.mark.parametrize("name", CASES)
def test_pieces_make_the_whole(name: str) -> None:
    rng = np.random.default_rng([ord(letter) for letter in name])
    split = set()
    for _ in range(DRAWS):
        case = CASES[name](rng)
        for partition, error in in_pieces(case, indexing(case.op), rng):
            assert error < BOUND, f"{partition} of {case.op.types}"
            split |= {axis for axis in partition if axis}
    assert split >= SPLIT_ALONG.get(name, set())
    assert split, "it was never split"


def test_every_operator_is_split() -> None:
    computed = {op.name for op in (*LAYERS, *LOSSES, *METRICS)}
    assert {op.name for op in (*LAYERS, *LOSSES, *METRICS) if op.indexing is not None} == computed
    assert computed == {name.partition("/")[0] for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_pins_know_every_axis(name: str) -> None:
    """`splits` are the axes that pins may name."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        op = CASES[name](rng).op
        space = indexing(op)
        assert set(space.axes) <= set(op.operator.splits)
        assert set(space.axes) <= {*AXES, "reduce"}
        for role, along in space.tensors.items():
            used = [axis for axis in along if axis]
            assert len(along) == len(own_types(op)[role].axes)
            assert len(used) == len(set(used)), "an axis is split in one place"


@pytest.mark.parametrize("name", CASES)
def test_work_of_pieces_adds_up(name: str) -> None:
    """Multiply-adds of the pieces' shapes are those of the whole, where no row is read twice."""
    rng = np.random.default_rng(1)
    for _ in range(DRAWS // 4):
        case = CASES[name](rng)
        space, known = indexing(case.op), with_gradients(case, rng)
        for partition, mesh in partitions(space, rng):
            if not set(partition) & {"", *space.halos, *space.positions}:
                pieces = Pieces(case.op, space, partition, mesh, known).pieces
                for stage in ("forward", *(gradient.suffix for gradient in case.op.operator.gradients)):
                    assert sum(macs(piece.op, stage) for piece in pieces) == macs(case.op, stage), (stage, partition)


def macs(op: Op, stage: str) -> int:
    return op.operator.cost(stage, op.shapes(stage)).macs


# --- wrong rules are seen -----------------------------------------------------------------------------------------


def along(role: str, *axes: str) -> Callable[[Indexing], Indexing]:
    """The rule with one tensor along other axes; what has no such tensor stays."""

    def changed(space: Indexing) -> Indexing:
        fits = len(space.tensors.get(role, ())) == len(axes)
        return replace(space, tensors={**space.tensors, role: axes}) if fits else space

    return changed


def further(axis: str, position: int, extent: int = 2) -> Callable[[Indexing], Indexing]:
    """The rule with a further axis, along which all tensors of more axes run at one position."""

    def changed(space: Indexing) -> Indexing:
        tensors = {
            role: (*names[:position], axis, *names[position + 1 :]) if len(names) > position else names
            for role, names in space.tensors.items()
        }
        return replace(space, extents=(*space.extents, (axis, extent)), tensors=tensors)

    return changed


def halos(**changes: int) -> Callable[[Indexing], Indexing]:
    """The rule with other halos: what is added to each field."""

    def changed(space: Indexing) -> Indexing:
        return replace(
            space,
            halos={
                axis: replace(halo, **{name: getattr(halo, name) + more for name, more in changes.items()})
                for axis, halo in space.halos.items()
            },
        )

    return changed


def without(**fields: object) -> Callable[[Indexing], Indexing]:
    return lambda space: replace(space, **fields)  # type: ignore[arg-type]


FAULTS: dict[str, tuple[str, Callable[[Indexing], Indexing]]] = {
    "a window's first row is missing": ("conv/2d", halos(before=-1)),
    "a window's last row is missing": ("conv/1d", halos(after=-1)),
    "windows move by a row too many": ("maxpool/2d", halos(stride=1)),
    "windows are read from a row earlier on": ("avgpool/1d", halos(before=1, after=-1)),
    "no halo": ("local_conv/2d", without(halos={})),
    "no halo of a transposed convolution": ("conv_transpose/2d", halos(before=-1, after=-1)),
    "every rank adds the bias": ("linear", without(once=())),
    "every rank adds a convolution's bias": ("conv/1d", without(once=())),
    "the weight lies the other way round": ("linear", along("weight", "reduce", "feature")),
    "x is cut by output channels": ("conv/2d", along("x", "batch", "channel", "height", "width")),
    "b is replicated while rows are summed over": ("matmul", along("b", "", "")),
    "rows are normalised in parts": ("layernorm", further("feature", 2)),
    "channels read their neighbours": ("lrn", further("channel", 1)),
    "parts of a mean are added up": ("global_avgpool/2d", without(averaged=())),
    "parts of a loss's mean are added up": ("mse", without(averaged=())),
    "groups are not counted anew": ("groupnorm", without(counts={})),
    "groups of a convolution are not counted anew": ("conv/2d", without(counts={})),
    "heads are cut out of q alone": ("attention", without(stacked={})),
    "heads are not counted anew": ("attention", without(counts={})),
    "heads are torn": ("split_heads", lambda space: replace(space, whole=(), extents=(("heads", 3),))),
    "a mask begins anew": ("dropout", without(positions=())),
    "queries are counted anew": ("causal_mask", without(positions=())),
    "rows of a table are counted anew": ("embedding", without(positions=())),
    "what is repeated is cut": ("position_embedding", along("weight", "batch", "feature")),
    "blocks of a view disagree": ("flatten", lambda space: replace(space, whole=())),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_seen(fault: str) -> None:
    name, altered = FAULTS[fault]
    rng = np.random.default_rng(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert any(differs(CASES[name](rng), altered, rng) for _ in range(FAULT_DRAWS))


def differs(case: Case, altered: Callable[[Indexing], Indexing], rng: Rng) -> bool:
    """Whether pieces by another rule are not the whole, or do not fit together."""
    try:
        return any(not error < BOUND for _, error in in_pieces(case, altered(indexing(case.op)), rng))
    except (ValueError, IndexError, ZeroDivisionError, AssertionError):
        return True


# --- parts of rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (tensor("f32", batch=2, feature=3), ("batch", "feature")),
        (tensor("f32", batch=2, width=3), ("batch", "feature")),
        (tensor("f32", batch=2, channel=3, height=4, width=5), ("batch", "channel", "height", "width")),
        (tensor("f32", batch=2, height=4, width=5), ("batch", "height", "width")),
        (tensor("f32", batch=2, seq=3, width=4), ("batch", "seq", "feature")),
        (tensor("f32", batch=2, heads=3, seq=4, key=4), ("batch", "heads", "seq", "key")),
        (tensor("f32", batch=2, heads=3, width=4, key=5), ("batch", "heads", "width", "key")),
        (tensor("f32", batch=2, one=3, other=4), ("batch", "", "feature")),
        (tensor("f32", feature=3, one=4), ("feature", "")),
        (tensor("f32", one=4), ("",)),
        (tensor("f32"), ()),
    ],
    ids=str,
)
def test_names_of_axes(type_: TensorType, expected: tuple[str, ...]) -> None:
    assert named(type_) == expected


def test_elements_in_another_shape_are_split_in_blocks() -> None:
    image, row = tensor("f32", batch=8, channel=6, height=4, width=5), tensor("f32", batch=8, feature=120)
    assert regrouped(image, row) == (("batch", "channel", "", ""), ("batch", "channel"), ("channel",))
    grey = tensor("f32", batch=8, channel=1, height=4, width=5)
    assert regrouped(grey, tensor("f32", batch=8, feature=20))[0] == ("batch", "", "height", "")
    other = tensor("f32", batch=8, seq=6, width=20)
    assert regrouped(image, other) == (
        ("batch", "seq", "height", ""),
        ("batch", "seq", "height"),
        ("height",),
    )


@pytest.mark.parametrize("halo", [Halo(1, 1), Halo(2, 0), Halo(1, 1, 2), Halo(0, 2, 3), Halo(1, 0, step=2)], ids=str)
def test_fringe_is_what_parts_read_beyond_their_own_rows(halo: Halo) -> None:
    for result, parts in product((12, 14), (2, 3)):
        operand = result * halo.stride // halo.step
        small, larger = divmod(operand, parts)
        before, behind = fringe(halo, operand, result, parts)
        starts = [rank * small + min(rank, larger) for rank in range(parts + 1)]
        ends = np.array_split(np.arange(result), parts)
        read = [
            {
                row
                for at in mine // halo.step
                for row in range(at * halo.stride - halo.before, at * halo.stride + halo.after + 1)
            }
            for mine in ends
        ]
        assert before == max(max(0, starts[rank] - max(0, min(rows_))) for rank, rows_ in enumerate(read))
        assert behind == max(
            max(0, min(operand - 1, max(rows_)) + 1 - starts[rank + 1]) for rank, rows_ in enumerate(read)
        )
