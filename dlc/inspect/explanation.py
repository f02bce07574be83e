"""`dlc explain FILE ADDRESS`: every way to compute an op with its price, and what rules out each other."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.inspect.plan_table import comparison_text, plan_document, reason, summary
from dlc.inspect.tables import table
from dlc.ir.plan import Plan
from dlc.units import format_seconds
from passes.explain import Explanation, Priced


def explanation_document(explanation: Explanation) -> dict[str, object]:
    """One op as JSON: what was decided, all candidates, and the conversions around it."""
    op = explanation.op
    return {
        "address": op.address,
        "layout": op.layout,
        "reason": str(op.reason),
        "layout_reason": str(op.layout_reason),
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
        "conversions": [
            {"value": value, "from": source, "to": target, "seconds": seconds}
            for value, source, target, seconds in explanation.conversions
        ],
    }


def explanation_text(explanation: Explanation) -> str:
    """The op's decisions, a table of its candidates (legal ones first, cheap before dear), and its conversions."""
    op = explanation.op
    layout = f" in {op.layout}" if op.layout else ""
    chosen = ", ".join(f"{part.stage} by {part.algorithm}" for part in op.passes if part.algorithm)
    decision = f"{op.address}{layout}" + (f": {chosen}" if chosen else "")
    why = reason(op)
    lines = [f"{decision} ({why})" if why else decision, "", _candidates(explanation)]
    if explanation.conversions:
        rows = [
            (value, f"{source or 'logical'} to {target or 'logical'}", format_seconds(seconds))
            for value, source, target, seconds in explanation.conversions
        ]
        lines += ["", table(("conversion of", "layout", "time"), rows, right=(2,))]
    elif op.layout:
        lines += ["", "no conversions: its neighbours keep the same layout"]
    return "\n".join(lines)


def _candidates(explanation: Explanation) -> str:
    """Legal candidates a row each, cheap before dear; then those that one rule excludes, together in one row."""
    stages = list(dict.fromkeys(candidate.stage for candidate in explanation.candidates))
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        here = [candidate for candidate in explanation.candidates if candidate.stage == stage]
        legal = [(_price(candidate), candidate) for candidate in here if candidate.figure is not None]
        rows += [_legal_row(candidate) for _, candidate in sorted(legal, key=lambda pair: pair[0])]
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
    assert candidate.figure is not None
    figure = candidate.figure
    mark = "*" if candidate.taken else ""
    return (
        mark,
        candidate.stage,
        candidate.layout,
        candidate.algorithm,
        format_seconds(figure.seconds),
        f"{figure.bound}, {figure.source}",
        "",
    )


def _price(candidate: Priced) -> float:
    return 0.0 if candidate.figure is None else candidate.figure.seconds


def strategy_document(plan: Plan) -> dict[str, object]:
    """What the strategy was weighed against, as JSON."""
    whole = plan_document(plan)
    kept = ("network", "cluster", "ranks", "batch", "mesh", "shards", "predicted", "lower_bound_seconds", "bounds")
    return {key: whole[key] for key in (*kept, "runner_up", "baselines", "buckets")}


def strategy_text(plan: Plan) -> str:
    """How the work is divided, what that costs, and what it is compared with."""
    why = "why data parallelism: it is the only strategy that this version of dlc has programs for"
    return f"{summary(plan)}\n\n{why}\n\n{comparison_text(plan)}"
