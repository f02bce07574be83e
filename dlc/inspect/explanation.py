"""`dlc explain FILE ADDRESS`: every way to divide and compute an op with its price, and what rules out each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from dlc.inspect.decisions import partition, reason, short_partition, source
from dlc.inspect.tables import table
from dlc.ir.request import Split
from dlc.units import format_bytes, format_seconds
from passes.explain import Excluded, Explanation, Neighbour, Option, Priced

SHOWN = 20
"""So many options are shown, the cheapest; `--json` has all."""


def explanation_document(explanation: Explanation) -> dict[str, object]:
    """One op as JSON: what was decided, its options, all candidates, and its neighbours."""
    op = explanation.op
    return {
        "address": op.address,
        "layout": op.layout,
        "partition": _split_document(op.partition),
        "reason": str(op.reason),
        "layout_reason": str(op.layout_reason),
        "microbatches": explanation.microbatches,
        "partition_reason": str(op.partition_reason),
        "candidates": [
            {
                "pass": candidate.stage,
                "layout": candidate.layout,
                "algorithm": candidate.algorithm,
                "seconds": None if candidate.figure is None else candidate.figure.seconds,
                "bound": None if candidate.figure is None else candidate.figure.bound,
                "source": None if candidate.figure is None else candidate.figure.source,
                "excluded": candidate.excluded,
                "taken": candidate.taken,
            }
            for candidate in explanation.candidates
        ],
        "options": [_option_document(option) for option in explanation.options],
        "excluded_partitions": [
            {"partition": _split_document(each), "why": excluded.why}
            for excluded in explanation.excluded
            for each in excluded.partitions
        ],
        "neighbours": [
            {**asdict(each), "partition": _split_document(each.partition)} for each in explanation.neighbours
        ],
    }


def _option_document(option: Option) -> dict[str, object]:
    shown = asdict(option) | {"partition": _split_document(option.partition), "algorithms": dict(option.algorithms)}
    return {**shown, "total": option.total}


def _split_document(splits: Sequence[Split]) -> list[dict[str, str]]:
    return [{"axis": split.axis, "over": split.over} for split in splits]


def explanation_text(explanation: Explanation) -> str:
    """The op's decisions, its options, the algorithms (legal ones first, cheap before dear), and what is around it."""
    parts = [_decision(explanation)]
    if len(explanation.options) > 1:
        caption = (
            f"seconds of a step of {explanation.microbatches:,} microbatches" if explanation.microbatches > 1 else ""
        )
        parts.append("\n".join(filter(None, (caption, _options(explanation.options)))))
    if explanation.excluded:
        parts.append(_excluded_partitions(explanation.excluded))
    caption = "seconds of one microbatch" if explanation.microbatches > 1 else ""
    parts.append("\n".join(filter(None, (caption, _candidates(explanation)))))
    if explanation.neighbours:
        parts.append(_neighbours(explanation.neighbours))
    return "\n\n".join(parts)


def _decision(explanation: Explanation) -> str:
    op, taken = explanation.op, next((option for option in explanation.options if option.taken), None)
    layout = f" in {op.layout}" if op.layout else ""
    chosen = ", ".join(f"{part.stage} by {part.algorithm}" for part in op.passes if part.algorithm)
    divided = partition(_pairs(taken.partition)) if taken is not None else ""
    decided = "; ".join(filter(None, (divided, chosen)))
    decision = f"{op.address}{layout}" + (f": {decided}" if decided else "")
    why = reason(op)
    return f"{decision} ({why})" if why else decision


def _pairs(splits: Sequence[Split]) -> tuple[tuple[str, str], ...]:
    return tuple((split.axis, split.over) for split in splits)


# --- options -------------------------------------------------------------------------------------------------------

COSTS = ("forward", "dx", "dw", "inside", "moves", "sums", "hidden", "update", "total")


def _options(options: Sequence[Option]) -> str:
    """The cheapest options, the one that is taken among them in any case."""
    shown = [option for number, option in enumerate(options) if number < SHOWN or option.taken]
    used = [cost for cost in COSTS if cost == "total" or any(getattr(option, cost) for option in shown)]
    rows = [
        (
            "*" if option.taken else "",
            short_partition(_pairs(option.partition)),
            option.layout,
            _algorithms(option),
            *(_cost(option, cost) for cost in used),
            format_bytes(option.bytes),
        )
        for option in shown
    ]
    header = ("", "partition", "layout", "algorithm", *used, "memory")
    text = table(header, rows, right=range(4, len(header)))
    rest = len(options) - len(shown)
    return f"{text}\nand {rest:,} more" if rest else text


def _cost(option: Option, cost: str) -> str:
    seconds = getattr(option, cost)
    return f"-{format_seconds(seconds)}" if cost == "hidden" and seconds else format_seconds(seconds)


def _algorithms(option: Option) -> str:
    """`im2col`, or `winograd(4), dw direct` where the passes differ."""
    names = [name for _, name in option.algorithms]
    if len(set(names)) < 2:
        return "".join(names[:1])
    first = names[0]
    return ", ".join([first, *(f"{stage} {name}" for stage, name in option.algorithms[1:] if name != first)])


def _excluded_partitions(excluded: Sequence[Excluded]) -> str:
    rows = [
        (short_partition(_pairs(each.partitions[0])), f"{len(each.partitions):,}", f"ruled out {each.why}")
        for each in excluded
    ]
    return table(("partitions such as", "how many", "why not"), rows, right=(1,))


def _neighbours(neighbours: Sequence[Neighbour]) -> str:
    rows = [
        (each.way, each.name, short_partition(_pairs(each.partition)), each.layout, format_seconds(each.seconds))
        for each in neighbours
    ]
    return table(("tensors", "neighbour", "which has", "layout", "moves"), rows, right=(4,))


# --- algorithms ----------------------------------------------------------------------------------------------------


def _candidates(explanation: Explanation) -> str:
    """Legal algorithms, cheap before dear, layouts of one price in a row; then those that one rule excludes."""
    stages = list(dict.fromkeys(candidate.stage for candidate in explanation.candidates))
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        here = [candidate for candidate in explanation.candidates if candidate.stage == stage]
        legal = sorted((candidate for candidate in here if candidate.figure is not None), key=_price)
        alike: dict[tuple[str, ...], list[str]] = {}
        for candidate in legal:
            alike.setdefault(_legal_row(candidate), []).append(candidate.layout)
        rows += [(mark, stage, ", ".join(layouts), *cells) for (mark, *cells), layouts in alike.items()]
        rows += [
            ("", stage, ", ".join(layouts), ", ".join(algorithms), "", "", f"ruled out {why}")
            for (why, algorithms), layouts in _excluded(here).items()
        ]
    return table(("", "pass", "layout", "algorithm", "time", "bound by", "why not"), rows, right=(4,))


def _excluded(candidates: Sequence[Priced]) -> dict[tuple[str, tuple[str, ...]], list[str]]:
    """(reason, algorithms) -> the layouts in which that reason rules out just these algorithms."""
    algorithms: dict[tuple[str, str], list[str]] = {}
    for candidate in candidates:
        if candidate.excluded is not None:
            algorithms.setdefault((candidate.layout, candidate.excluded), []).append(candidate.algorithm)
    layouts: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (layout, why), names in algorithms.items():
        layouts.setdefault((why, tuple(names)), []).append(layout)
    return layouts


def _legal_row(candidate: Priced) -> tuple[str, ...]:
    """All cells but the pass and the layout."""
    assert candidate.figure is not None
    figure = candidate.figure
    mark = "*" if candidate.taken else ""
    return (mark, candidate.algorithm, format_seconds(figure.seconds), f"{figure.bound}, {source(figure)}", "")


def _price(candidate: Priced) -> float:
    return 0.0 if candidate.figure is None else candidate.figure.seconds
