"""The tables of docs/operators.md: formulas against the operators' counts, rules and figures against the kernels."""

from __future__ import annotations

import re
from math import ceil, log2, prod
from typing import Any

import pytest

from backends.numpy_mpi.kernels import KERNELS
from dlc.ir.tensor import tensor
from dlc.ops import LAYERS, LOSSES, METRICS, OPTIMIZERS, operator, optimizer
from dlc.ops.conv import CONV
from dlc.ops.operator import Shapes
from tests.kernels.calling import Op, image

from . import figures
from .blocks import ROOT

TEXT = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
EMITTED = [op for op in (*LAYERS, *LOSSES, *METRICS) if (op.name, "forward", "") in KERNELS or op.algorithms]


def rows(header: str) -> list[list[str]]:
    """The cells of a table, without its header."""
    table = TEXT.partition(f"\n{header}")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")[2:]]


WORK = {row[0].strip("`"): row[1:] for row in rows("| operator | work, forward")}

IMAGES = {
    "split", "slice", "pad", "transpose", "conv", "maxpool", "avgpool", "global_avgpool", "bn", "concat", "groupnorm",
    "lrn", "depthwise_conv", "conv_transpose", "local_conv", "global_maxpool", "upsample",
}  # fmt: skip
ARGUMENTS: dict[str, dict[str, Any]] = {
    "conv": {"filters": 10, "window": (3, 5), "groups": 2},
    "depthwise_conv": {"window": (3, 5), "multiplier": 3},
    "conv_transpose": {"filters": 10, "window": (3, 5), "stride": 2, "groups": 2},
    "local_conv": {"filters": 10, "window": (3, 5)},
    "upsample": {"factor": (3, 5)},
    "linear": {"features": 7},
    "maxpool": {"window": (3, 5), "stride": 2},
    "avgpool": {"window": (3, 5), "stride": 2},
    "dropout": {"p": 0.5},
    "parameter": {"shape": (6, 13)},
    "split": {"n": 2},
    "slice": {"axis": "height", "step": 2},
    "pad": {"amount": 1},
    "groupnorm": {"groups": 2},
    "lrn": {"size": 3},
    "embedding": {"vocab": 20, "width": 5},
    "position_embedding": {"width": 5},
    "attention": {"heads": 2},
    "split_heads": {"heads": 2},
    "rnn": {"hidden": 11},
    "lstm": {"hidden": 11},
    "gru": {"hidden": 11},
}

RECURRENT = ("rnn", "lstm", "gru")

TYPES = {
    "matmul": (image("f32", 6, 4, 9, 11), tensor("f32", batch=6, channel=4, width=11, key=13)),
    "embedding": (tensor("i32", batch=6, seq=13),),
    "position_embedding": (tensor("i32", batch=6, seq=13),),
    "attention": (tensor("f32", batch=6, seq=9, width=12),),
    "split_heads": (tensor("f32", batch=6, seq=9, width=12),),
    "merge_heads": (tensor("f32", batch=6, heads=2, seq=9, width=6),),
    **{name: (tensor("f32", batch=6, seq=9, width=13),) for name in RECURRENT},
    "causal_mask": (tensor("f32", batch=6, seq=9, key=9),),
}
"""What operators compute with that read neither images nor features."""


def example(name: str) -> tuple[Op, dict[str, int]]:
    """An op of that name, and what the symbols of the tables are for it."""
    op = operator(name)
    assert op is not None
    x = image("f32", 6, 4, 9, 11) if name in IMAGES else image("f32", 6, 13)
    label = image("i32", 6)
    operands = [x] * (2 if op.variadic else len(op.operands))
    types = tuple(label if role == "label" else x for role, x in zip([*op.operands, "x"], operands, strict=False))
    types = TYPES.get(name, types)
    x = types[0] if types else x
    made = Op(op, types, ARGUMENTS.get(name, {}), algorithm="direct" if op.algorithms else "")
    y = made.inferred.results[0].shape
    symbols = dict(zip("NCHW", x.shape, strict=False))
    symbols |= {"F": x.shape[-1], "E": x.elements, "T": x.elements // x.shape[-1], "G": 2, "R": 3, "S": 5}
    symbols |= {"K": y[-1] if name in ("matmul", *RECURRENT) else y[1] if len(y) > 1 else 1}
    symbols |= {"L": x.extent("seq")} if "seq" in x.names else {}
    return made, symbols | dict(zip(("Hy", "Wy"), y[2:], strict=False))


def evaluated(formula: str, symbols: dict[str, int]) -> float:
    """`⌈lg C/G⌉ + 1` for those values."""
    text = re.sub(r"⌈lg ([^⌉]+)⌉", r"lg(\1)", formula.replace("H'", "Hy").replace("W'", "Wy"))
    text = text.replace("·", "*").replace("−", "-")
    assert re.fullmatch(r"[\w\s()*/+,-]+", text)
    value: float = eval(text, {"lg": lambda n: ceil(log2(n))}, symbols)  # our own document, checked above
    return value


@pytest.mark.parametrize("name", WORK)
def test_work_and_depth_are_those_of_the_operator(name: str) -> None:
    op, symbols = example(name)
    work, *depths, _ = WORK[name]
    assert op.operator.cost("forward", op.shapes("forward")).work == evaluated(work, symbols)
    gradients = {gradient.suffix for gradient in op.operator.gradients}
    for stage, depth in zip(("forward", "dx", "dw"), depths, strict=True):
        assert bool(depth) == (stage == "forward" or stage in gradients)
        if depth:
            assert op.operator.cost(stage, op.shapes(stage)).depth == evaluated(depth, symbols)


def test_every_emitted_operator_has_its_rows_and_kernels() -> None:
    assert set(WORK) == {op.name for op in EMITTED}
    described = {name for row in rows("| operator | result") for name in re.findall(r"`(\w+)`", row[0])}
    assert described == set(WORK) | {op.name for op in LAYERS if op.view}
    for name, row in WORK.items():
        modules = {kernel.module for (op, stage, _), kernel in KERNELS.items() if op == name and stage == "forward"}
        assert set(row[-1].split(", ")) == modules


def test_operators_without_kernels_are_listed() -> None:
    """Where there are any."""
    listed = TEXT.partition("without kernels yet:")[2].partition(".")[0]
    without = {op.name for op in LAYERS if not op.view} - {op.name for op in EMITTED}
    assert set(re.findall(r"`(\w+)`", listed)) == without


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "stride 2": ("f32", {"window": 3, "stride": 2}),
    "dilation 2": ("f32", {"window": 3, "dilation": 2}),
    "5x5 window": ("f32", {"window": 5}),
    "1x1 window": ("f32", {"window": 1}),
    "2 groups": ("f32", {"window": 3, "groups": 2}),
    "f16, bf16": ("f16", {"window": 3}),
}


@pytest.mark.parametrize("column", range(len(CASES)), ids=list(CASES))
def test_algorithms_compute_what_the_table_says(column: int) -> None:
    dtype, arguments = list(CASES.values())[column]
    table = rows(f"| algorithm | {' | '.join(CASES)} |")
    assert len(table) == len(CONV.algorithms)
    for name, *cells in table:
        conv = Op(CONV, (image(dtype, 2, 4, 8, 8),), {"filters": 4, **arguments}, algorithm=name.strip("`"))
        excluded = [conv.excluded(stage) for stage in ("forward", "dx", "dw")]
        assert {reason is None for reason in excluded} == {cells[column] == "yes"}


def _numbers(cells: list[str]) -> list[float]:
    return [float(cell.rstrip("%")) for cell in cells[1:]]


def test_scratch_memory_is_what_is_declared() -> None:
    written = [f"| {' | '.join(row)} |" for row in rows("| algorithm | forward | dx | dw |")]
    assert written == figures.scratch_rows()


def test_accuracy_is_as_measured() -> None:
    written = rows("| algorithm | forward | dx | dw | forward, x ≥ 0 | spoilt |")
    measured = [[cell.strip() for cell in row.strip("|").split("|")] for row in figures.accuracy_rows()]
    assert [row[0] for row in written] == [row[0] for row in measured]
    for old, new in zip(written, measured, strict=True):
        assert all(a / 3 < b < 3 * a for a, b in zip(_numbers(old), _numbers(new), strict=True)), new


def test_operations_of_update_rules() -> None:
    table = {name: row for row in rows("| rule | operations") for name in re.findall(r"`(\w+)`", row[0])}
    assert set(table) == {rule.name for rule in OPTIMIZERS}
    weight = image("f32", 5, 3)
    for rule in OPTIMIZERS:
        if rule.joint is not None:
            continue
        defaults = {p.name: p.default for p in rule.parameters if p.default is not None} | {"weight_decay": 0.0}
        variants = [defaults | {"momentum": m} for m in (0.0, 0.9)] if "momentum" in defaults else [defaults]
        states = [str(len(rule.states(variant))) for variant in variants]
        counts = [
            rule.operator.cost("update", Shapes((weight,), (weight,), variant)).work // prod(weight.shape)
            for variant in variants
        ]
        assert re.findall(r"\d+", table[rule.name][1])[: len(counts)] == list(map(str, counts))
        assert re.findall(r"\d+", table[rule.name][2]) == states


@pytest.mark.parametrize("history", [1, 7])
def test_operations_of_lbfgs(history: int) -> None:
    """Sums of products of what stands in the table; the state's short lists are not counted."""
    (row,) = (row for row in rows("| rule | operations") if row[0] == "`lbfgs`")
    (per_pair, besides), (kept, vectors) = (map(int, re.findall(r"\d+", cell)) for cell in row[1:])
    rule, weight, arguments = optimizer("lbfgs"), image("f32", 50, 30), {"history": history}
    assert rule.joint is not None
    states = [type_ for _, type_ in rule.joint(arguments, tensor("f32", element=1500))]
    cost = rule.operator.cost("update", Shapes((weight, weight, *states), (), arguments))
    assert cost.work == (per_pair * history + besides) * 1500
    assert sum(type_.elements for type_ in states) // 1500 == kept * history + vectors
