"""The orders of a plan block one by one, and the fewest of them that no plan keeps together.

U. Junker, "QuickXplain: preferred explanations and relaxations for over-constrained problems" (AAAI 2004): a set of
which every order is needed for the conflict, found by halving. Earlier orders are preferred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dlc.diagnostics import Span
from dlc.ir.request import Limit, Request, Rule, Split
from dlc.ir.training import Choice
from dlc.units import format_bytes

SETTINGS = {
    "strategy": ("strategy", Choice("auto")),
    "mesh": ("mesh", ()),
    "allreduce": ("allreduce", "auto"),
    "layout": ("layout", "auto"),
    "pipeline.schedule": ("schedule", "auto"),
    "pipeline.microbatches": ("microbatches", None),
    "shard": ("shard", "none"),
    "recompute": ("recompute", "auto"),
}
"""Settings that exclude plans: the field of Request, and its value where nothing is written."""


@dataclass(frozen=True, slots=True)
class Order:
    """Something that a plan block insists on: a limit, a pin, a forbid or a setting, as it is written."""

    kind: str  # limit, pin, forbid or setting
    what: Limit | Rule | str
    text: str
    span: Span

    @property
    def place(self) -> str:
        """`line 41`."""
        return f"line {self.span.line}"

    @property
    def bounds_memory(self) -> bool:
        """Whether it is `limit memory`."""
        return isinstance(self.what, Limit) and self.what.subject == "memory"


def orders(request: Request) -> tuple[Order, ...]:
    """Everything that a request insists on: limits first, then settings, pins and forbids."""
    found = [Order("limit", limit, _limit(limit), limit.span) for limit in request.limits]
    named = any(split.over in {a.name for a in request.mesh} for rule in _rules(request) for split in _splits(rule))
    for key, (field, default) in SETTINGS.items():
        span, value = request.span(key), getattr(request, field)
        # Where rules speak of the axes of a mesh, it cannot be taken away by itself.
        open_ = value == default and key != "shard"  # a sharding that is not written is open
        if span is not None and not open_ and not (key == "mesh" and named):
            found.append(Order("setting", key, key if key == "mesh" else f"{key} = {_word(value)}", span))
    found += [Order("pin", rule, f"pin {_rule(rule)}", rule.span) for rule in request.pins]
    found += [Order("forbid", rule, f"forbid {_rule(rule)}", rule.span) for rule in request.forbids]
    return tuple(found)


def keeping(request: Request, kept: Sequence[Order]) -> Request:
    """The request with these of its orders and no others."""
    left = {id(order.what) for order in kept if order.kind != "setting"}
    settings = {order.what for order in kept if order.kind == "setting"}
    listed = {order.what for order in orders(request) if order.kind == "setting"}
    freed = {SETTINGS[str(key)][0]: SETTINGS[str(key)][1] for key in listed - settings}
    return replace(
        request,
        limits=tuple(limit for limit in request.limits if id(limit) in left),
        pins=tuple(rule for rule in request.pins if id(rule) in left),
        forbids=tuple(rule for rule in request.forbids if id(rule) in left),
        spans=tuple((key, span) for key, span in request.spans if key not in listed - settings),
        **freed,  # type: ignore[arg-type]
    )


def without(request: Request, order: Order) -> Request:
    """The request without one of its orders."""
    return keeping(request, [other for other in orders(request) if other != order or other.span != order.span])


def conflict(found: Sequence[Order], keeps: Callable[[Sequence[Order]], bool]) -> tuple[Order, ...]:
    """Orders that no plan keeps together, each of them needed for that; () where none is needed.

    `keeps` says whether some plan keeps so many orders; that it keeps all of them is known to be false.
    """
    if not found or not keeps(()):
        return ()
    return _reduced(tuple(_needed([], False, list(found), keeps)), keeps)


def _reduced(found: tuple[Order, ...], keeps: Callable[[Sequence[Order]], bool]) -> tuple[Order, ...]:
    """The same without orders that it stays a conflict without: there are none if plans are found wherever there are
    any, and a search that misses one must not put the blame on too many."""
    for order in found:
        left = tuple(other for other in found if other is not order)
        if left and not keeps(left):
            return _reduced(left, keeps)
    return found


def _needed(
    background: list[Order], added: bool, rest: list[Order], keeps: Callable[[Sequence[Order]], bool]
) -> list[Order]:
    """The orders of `rest` that are needed for a conflict with `background`."""
    if added and not keeps(background):
        return []
    if len(rest) == 1:
        return rest
    first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    later = _needed([*background, *first], True, second, keeps)
    earlier = _needed([*background, *later], bool(later), first, keeps)
    return [*earlier, *later]


def _rules(request: Request) -> tuple[Rule, ...]:
    return (*request.pins, *request.forbids)


def _splits(rule: Rule) -> tuple[Split, ...]:
    return rule.value if isinstance(rule.value, tuple) else ()


def _limit(limit: Limit) -> str:
    return f"limit {limit.subject} <= {f'{limit.bound:g}' if limit.subject == 'bubble' else _size(limit.bound)}"


def _size(bound: float) -> str:
    """Bytes in the largest unit, binary or decimal, of which they are a whole number."""
    powers = [
        (prefix + i, base**n) for n, prefix in ((3, "G"), (2, "M"), (1, "K")) for i, base in (("iB", 1024), ("B", 1000))
    ]
    whole = ((name, size) for name, size in powers if bound >= size and bound % size == 0)
    name, size = next(whole, ("", 1))
    return f"{int(bound) // size} {name}" if name else format_bytes(int(bound))


def _rule(rule: Rule) -> str:
    return f"{rule.selector} {{ {rule.key} = {spelt(rule)} }}"


def spelt(rule: Rule) -> str:
    """The value of a rule as it is written."""
    match rule.value:
        case tuple(splits):
            return ", ".join(f"split({split.axis}, over = {split.over})" for split in splits) or "replicate"
        case bool(value):
            return "yes" if value else "no"
        case value:
            return str(value)


def _word(value: object) -> str:
    if not isinstance(value, Choice):
        return str(value)
    stated = ", ".join(f"{name} = {extent}" for name, extent in value.arguments if extent not in (None, 1))
    return f"{value.kind}({stated})" if stated else value.kind
