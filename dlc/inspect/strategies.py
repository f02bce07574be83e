"""`dlc explain FILE strategy`: what was looked at, what J is made of in each strategy, and why the winner wins."""

from __future__ import annotations

from dataclasses import asdict
from math import inf

from dlc.inspect.decisions import summary
from dlc.inspect.plan_document import plan_document
from dlc.inspect.plan_table import comparison_text, proof
from dlc.inspect.tables import table
from dlc.ir.plan import Plan
from dlc.units import format_bytes, format_seconds
from passes.explain_strategies import PARTS, Looked, Strategies

SHOWN = 20
"""So many strategies are shown, the best; `--json` has all."""

LEFT_OUT = ("spec", "parameters", "ops", "sources", "digests", "samples_per_second")
"""Of a plan's document: what does not bear on the strategy."""


def strategy_document(plan: Plan, found: Strategies) -> dict[str, object]:
    """What the strategy was weighed against, as JSON; `strategies` are all that were looked at."""
    whole = plan_document(plan)
    kept = {key: value for key, value in whole.items() if key not in LEFT_OUT}
    return {**kept, "strategies": [_document(each) for each in found.looked], "reasons": list(found.reasons)}


def _document(looked: Looked) -> dict[str, object]:
    bound = looked.bound if looked.bound < inf else None
    return asdict(looked) | {
        "bound": bound,
        "simulated": looked.simulated or None,
        "objective": looked.parts and looked.parts.objective,
    }


def strategy_text(plan: Plan, found: Strategies) -> str:
    """How the work is divided, what that costs, what else was looked at, and why this is better."""
    parts = [summary(plan), f"gap: {proof(plan.gap)}", _table(found)]
    if found.reasons:
        parts.append("\n".join(found.reasons))
    return "\n\n".join([*parts, comparison_text(plan)])


def _table(found: Strategies) -> str:
    """The strategies with a plan, all of them; then those without, as far as there is room."""
    solved = sum(each.parts is not None for each in found.looked)
    shown = found.looked[: max(SHOWN, solved)]
    used = [part for part in PARTS if any(each.parts and getattr(each.parts, part) for each in shown)]
    rows = [_row(each, used) for each in shown]
    header = ("", "strategy", "bound", "J", *used, "simulated", "memory", "why")
    text = table(header, rows, right=range(2, len(header) - 1))
    rest = found.looked[len(shown) :]
    return f"{text}\nand {len(rest):,} more, none with a plan" if rest else text


def _row(each: Looked, used: list[str]) -> tuple[str, ...]:
    parts = each.parts
    figures = [format_seconds(getattr(parts, name)) if parts else "" for name in ("objective", *used)]
    return (
        each.role,
        each.name,
        format_seconds(each.bound) if 0 < each.bound < inf else "",
        *figures,
        format_seconds(each.simulated) if each.simulated else "",
        "" if each.peak is None else format_bytes(each.peak),
        each.why,
    )
