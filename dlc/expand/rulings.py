"""Whether what a plan says can be kept: its pins and forbids together, with what each algorithm can compute, and its
microbatches with the groups of batch norms.

Each mistake is reported once for the rules that cause it, at the first op that it concerns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import gcd
from typing import Any

from dlc.diagnostics import Diagnostics, Label, Span
from dlc.expand.arguments import Calls
from dlc.expand.pins import family, operator_of
from dlc.ir.graph import Attr, Graph, Node
from dlc.ir.request import Rule, Setting
from dlc.messages import e05_plan as messages
from dlc.ops.operator import LAYOUTS, Algorithm, Shapes

Place = tuple[str, str]
"""An op's address and the key of a rule."""


def check_rules(
    graph: Graph, pins: Sequence[Rule], forbids: Sequence[Rule], calls: Calls, diagnostics: Diagnostics
) -> None:
    """Report pins that disagree (E0501), pinned algorithms that cannot compute an op (E0504), and ops that the rules
    leave without any choice (E0512).
    """
    pinned = _agreed(pins, diagnostics)
    for rule in pins:
        if rule.key == "algorithm":
            _check_computable(graph, rule, calls, diagnostics)
    _check_choices(graph, pinned, forbids, diagnostics)


def forward_shapes(graph: Graph, node: Node) -> Shapes:
    """The types around a forward node."""
    inputs = tuple(graph.type(name) for name in node.inputs)
    return Shapes(inputs, tuple(graph.type(name) for name in node.outputs), dict(node.attrs))


def _agreed(pins: Iterable[Rule], diagnostics: Diagnostics) -> dict[Place, Rule]:
    """The first pin of each place; others must say the same."""
    found: dict[Place, Rule] = {}
    for rule in pins:
        differing: dict[Rule, list[str]] = {}
        for address in rule.addresses:
            first = found.setdefault((address, rule.key), rule)
            if first.value != rule.value:
                differing.setdefault(first, []).append(address)
        for first, addresses in differing.items():
            message = messages.PINNED_TWICE.at(
                rule.span,
                f"here {value_text(rule.value)}",
                secondary=(Label(first.span, f"here {value_text(first.value)}"),),
                notes=_others(addresses),
                key=rule.key,
                address=addresses[0],
            )
            diagnostics.add(message)
    return found


def _others(addresses: Sequence[str]) -> tuple[str, ...]:
    """A note on the further ops that a mistake concerns."""
    further = len(addresses) - 1
    return (
        (f"the same holds for {further} more op{'s' * (further > 1)}, the next is {addresses[1]}",) if further else ()
    )


def _check_computable(graph: Graph, rule: Rule, calls: Calls, diagnostics: Diagnostics) -> None:
    """E0504 where the pinned algorithm cannot compute one of the ops, with the argument that makes it so."""
    reasons = {address: _excluded(graph, graph.node(address), str(rule.value)) for address in rule.addresses}
    failing = [address for address, reason in reasons.items() if reason is not None]
    if failing:
        address = failing[0]
        reason = str(reasons[address])
        span = _cause(graph.node(address), reason, calls)
        labels = (Label(span, f"{reason.removeprefix('the ')} here"),) if span else ()
        notes = (() if span else (reason,)) + _others(failing)
        message = messages.CANNOT_COMPUTE.at(
            rule.value_span, secondary=labels, notes=notes, algorithm=rule.value, address=address
        )
        diagnostics.add(message)


def _cause(node: Node, reason: str, calls: Calls) -> Span | None:
    """The argument that a reason such as `the stride is 2` names, or the call where it is not given."""
    if node.span is None:
        return None
    named = (parameter.name for parameter in operator_of(node).parameters if parameter.name in reason.split())
    return next(filter(None, (calls.argument_span(node.span, name) for name in named)), node.span)


def _excluded(graph: Graph, node: Node, name: str) -> str | None:
    """Why an algorithm cannot compute a node; one that no backend has is judged by a relative, if it has any."""
    relatives = (a for a in _algorithms(node) if family(a.name) == family(name))
    judged = _algorithm(node, name) or next(relatives, None)
    return judged.excluded("forward", forward_shapes(graph, node)) if judged else None


def _algorithms(node: Node) -> tuple[Algorithm, ...]:
    """Those that a backend has. The others are of the language too, and refused at `compile`."""
    return tuple(algorithm for algorithm in operator_of(node).algorithms if "cpu" in algorithm.devices)


def _algorithm(node: Node, name: str) -> Algorithm | None:
    return next((algorithm for algorithm in _algorithms(node) if algorithm.name == name), None)


def _check_choices(
    graph: Graph, pinned: Mapping[Place, Rule], forbids: Iterable[Rule], diagnostics: Diagnostics
) -> None:
    """E0512 for each place where nothing is left to choose."""
    forbidden: dict[Place, list[Rule]] = {}
    for rule in forbids:
        for address in rule.addresses:
            forbidden.setdefault((address, rule.key), []).append(rule)
    empty: dict[tuple[str, str], list[Place]] = {}
    for place, rules in forbidden.items():
        reasons = _reasons(graph, place, rules, pinned.get(place))
        if reasons is not None:
            empty.setdefault((place[1], reasons), []).append(place)
    for (key, reasons), places in empty.items():
        *others, last = dict.fromkeys(rule.value_span for rule in forbidden[places[0]])
        diagnostics.add(
            messages.RULED_OUT.at(
                last,
                secondary=map(Label, others),
                notes=_others([address for address, _ in places]),
                key=key,
                address=places[0][0],
                reasons=reasons,
            )
        )


def _reasons(graph: Graph, place: Place, forbids: Sequence[Rule], pin: Rule | None) -> str | None:
    """What rules out each choice of a place, in words; None where one is left."""
    lines = {rule.value: rule.value_span.line for rule in reversed(forbids)}
    if pin is not None:
        if pin.value not in lines:
            return None
        forbidden = f"{value_text(pin.value)} by line {lines[pin.value]}"
        return f"{forbidden}, all others by the pin at line {pin.value_span.line}"
    choices = _choices(graph, place)
    if any(value not in lines and excluded is None for value, excluded in choices):
        return None
    ruled = sorted((value for value, _ in choices if value in lines), key=lambda value: lines[value])
    reasons = [f"{value_text(value)} by line {lines[value]}" for value in ruled]
    reasons += [f"{family(str(value))} because {why}" for value, why in choices if value not in lines]
    return ", ".join(dict.fromkeys(reasons)) or None


def _choices(graph: Graph, place: Place) -> tuple[tuple[Setting, str | None], ...]:
    """The choices of a place, each with the reason why it cannot be taken at all; none where they are open."""
    address, key = place
    match key:
        case "algorithm":
            node = graph.node(address)
            shapes = forward_shapes(graph, node)
            return tuple((a.name, a.excluded("forward", shapes)) for a in _algorithms(node))
        case "layout":
            return tuple((layout, None) for layout in LAYOUTS)
        case "recompute":
            return ((True, None), (False, None))
    return ()


def value_text(value: Setting) -> str:
    """A pinned value as it is written."""
    if isinstance(value, tuple):
        return ", ".join(f"split({split.axis}, over = {split.over})" for split in value) or "replicate"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# --- groups of batch norm ------------------------------------------------------------------------------------------


def check_groups(
    graph: Graph, microbatches: int | None, span: Span | None, pins: Iterable[Rule], diagnostics: Diagnostics
) -> None:
    """Report microbatches that are no unions of whole groups (E0515), or without a sample (E0516).

    `microbatches` cut the batch into consecutive samples, extents differing by at most one, the larger ones first;
    `span` is where their number stands. A pinned `microbatch` is so many samples of one op.
    """
    groups = {node.address: node.attr("group") for node in graph.forward if node.op == "bn"}
    if microbatches is not None and microbatches > graph.batch:
        allowed = f"at most the batch of {graph.batch}"
        key = "pipeline.microbatches"
        diagnostics.add(messages.OUT_OF_RANGE.at(span, key=key, allowed=allowed, found=microbatches))
    elif microbatches is not None:
        _check_microbatches(graph, groups, microbatches, span, diagnostics)
    for rule in pins:
        if rule.key == "microbatch" and isinstance(rule.value, int) and rule.value < graph.batch:
            split = [a for a in rule.addresses if rule.value % _group(groups, a)]
            if split:
                helps = (f"`bn(group = {rule.value})`, or a microbatch of {_group(groups, split[0])}",)
                _refuse_split(graph, split, rule.value, rule.value_span, helps, diagnostics)


def _check_microbatches(
    graph: Graph, groups: Mapping[str, Attr], count: int, span: Span | None, diagnostics: Diagnostics
) -> None:
    """E0515 where the boundaries of equal microbatches are not all boundaries of groups."""
    least, larger = divmod(graph.batch, count)
    largest = least + (larger > 0)
    alike = larger in (0, count - 1)  # all microbatches but the last are equal
    split = [a for a in groups if count > 1 and _group(groups, a) > 1 and (not alike or largest % _group(groups, a))]
    if not split:
        return
    whole = graph.batch // _group(groups, split[0])
    fewer = (whole if whole < count else gcd(whole, count)) if whole * _group(groups, split[0]) == graph.batch else 1
    ways = (f"`bn(group = {largest})`",) if alike and largest > 1 else ()
    fits = f"{fewer} microbatches" if fewer > 1 else "no `pipeline.microbatches`"
    _refuse_split(graph, split, largest, span, (", or ".join((*ways, fits)),), diagnostics)


def _group(groups: Mapping[str, Attr], address: str) -> int:
    """Samples in a group of an op; 1 where it has none."""
    group = groups.get(address, 1)
    assert isinstance(group, int)
    return group


def _refuse_split(
    graph: Graph, split: Sequence[str], samples: int, span: Span | None, helps: tuple[str, ...], found: Diagnostics
) -> None:
    """E0515, once for all ops that it concerns."""
    node = graph.node(split[0])
    labels = (Label(node.span, f"normalises over {node.attr('group')} samples"),) if node.span else ()
    facts: dict[str, Any] = {
        "samples": f"{samples} sample{'s' * (samples > 1)}",
        "group": node.attr("group"),
        "address": split[0],
    }
    found.add(messages.SPLIT_GROUP.at(span, secondary=labels, notes=_others(split), helps=helps, **facts))
