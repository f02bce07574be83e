"""Plan blocks: settings, mesh and limits, and the pins and forbids resolved against the ops that they reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from dlc.cluster.topology import KERNEL_FAMILIES, Cluster
from dlc.diagnostics import Diagnostics, Label, Span
from dlc.expand.arguments import Calls
from dlc.expand.evaluate import Scope
from dlc.expand.fields import Field
from dlc.expand.pins import PinReader
from dlc.expand.rulings import check_groups, check_rules
from dlc.expand.settings import Reader, Wording, similar_help
from dlc.ir.graph import Graph
from dlc.ir.request import Limit, MeshAxis, Request
from dlc.ir.training import Choice
from dlc.messages import e05_plan as messages
from dlc.ops.blocks import EVERY_LAYOUT
from dlc.syntax import ast

WORDING = Wording(
    unknown=messages.UNKNOWN_SETTING,
    missing=messages.MISSING_SETTING,
    twice=messages.SET_TWICE,
    kind=messages.WRONG_KIND,
    choice=messages.UNKNOWN_CHOICE,
    range=messages.OUT_OF_RANGE,
)

ALLREDUCE = ("auto", "tree", "butterfly", "ring", "rabenseifner", "hierarchical", "mpi", "shared")
SCHEDULES = ("auto", "gpipe", "one_f_one_b", "interleaved", "zero_bubble")

SETTINGS = (
    Field("objective", "word", "step_time", choices=("step_time", "memory", "communication")),
    Field("allreduce", "word", "auto", choices=ALLREDUCE),
    Field("layout", "word", "auto", choices=("auto", *EVERY_LAYOUT)),
    Field("pipeline.schedule", "word", "auto", choices=SCHEDULES),
    Field("pipeline.microbatches", "count", choices=("auto",), minimum=1),
    Field("shard", "word", "none", choices=("none", "optimizer", "gradients", "weights")),
    Field("recompute", "word", "auto", choices=("auto", "none", "all")),
    Field("overlap", "flag", "auto", choices=("auto",)),
    Field("fusion", "flag", "auto", choices=("auto",)),
    Field("pack", "flag", "auto", choices=("auto",)),
    Field("kernels", "word", "auto", choices=KERNEL_FAMILIES),
)
"""The settings of a plan block besides `strategy`."""

_DEGREES = tuple(
    Field(axis, "count", 1, choices=("auto",), minimum=1) for axis in ("data", "model", "spatial", "pipeline")
)

STRATEGIES: Mapping[str, tuple[Field, ...]] = {
    "auto": (),
    "data": (),
    "model": (),
    "spatial": (),
    "pipeline": (),
    "hybrid": _DEGREES,
}

LIMITS: Mapping[str, Field] = {
    "memory": Field("memory", "size", above=0),
    "bubble": Field("bubble", "number", minimum=0, below=1),
    "communication": Field("communication", "size", minimum=0),
    "workspace": Field("workspace", "size", minimum=0),
}
"""Subjects of limits: bytes per device at the peak, idle share of a pipeline, bytes that a device sends in a step,
bytes of scratch memory."""


def expand_request(
    item: ast.Plan, graph: Graph, cluster: Cluster, calls: Calls, scope: Scope, diagnostics: Diagnostics
) -> Request | None:
    """What a plan block asks for; None where it has mistakes, which are then in `diagnostics`.

    `graph` is the network that the block names, `cluster` the one that it is planned on; `calls` are those that the
    network was expanded from.
    """
    before = len(diagnostics.errors)
    reader = Reader(scope, diagnostics, WORDING)
    settings = _settings(item, cluster, reader)
    meshes = [rule for rule in item.rules if isinstance(rule, ast.MeshRule)]
    mesh = expand_mesh(meshes, cluster, reader)
    limits = _limits([rule for rule in item.rules if isinstance(rule, ast.Limit)], reader)
    axes = frozenset(setting.key for rule in meshes for setting in rule.axes)
    pins = PinReader(graph, cluster, mesh, frozenset() if mesh else axes, reader)
    pinned = pins.rules([rule for rule in item.rules if isinstance(rule, ast.Pin)])
    forbidden = pins.rules([rule for rule in item.rules if isinstance(rule, ast.Forbid)])
    check_rules(graph, pinned, forbidden, calls, diagnostics)
    spans = dict(_spans(item))
    if settings is not None:
        check_groups(graph, settings["microbatches"], spans.get("pipeline.microbatches"), pinned, diagnostics)
        _check_degrees(settings["strategy"], mesh, reader)
    if settings is None or len(diagnostics.errors) > before:
        return None
    return Request(
        item.network,
        cluster.name,
        mesh=mesh,
        limits=limits,
        pins=pinned,
        forbids=forbidden,
        spans=tuple(spans.items()),
        **settings,
    )


def _spans(item: ast.Plan) -> Iterator[tuple[str, Span]]:
    """Where each setting of the block stands, and the mesh."""
    for rule in item.rules:
        if isinstance(rule, ast.Setting):
            yield rule.key, rule.span
        elif isinstance(rule, ast.MeshRule):
            yield "mesh", rule.span


def _settings(item: ast.Plan, cluster: Cluster, reader: Reader) -> dict[str, Any] | None:
    """The settings of the block as fields of Request; None where one is wrong."""
    where = f"the plan of `{item.network}`"
    written = [rule for rule in item.rules if isinstance(rule, ast.Setting)]
    given = reader.collect(written, ("strategy", *(field.key for field in SETTINGS)), where)
    values = reader.fill(SETTINGS, {key: setting.value for key, setting in given.items()}, where, item.span)
    strategy = _strategy(given["strategy"].value, cluster, reader) if "strategy" in given else Choice("auto")
    if values is None or strategy is None:
        return None
    found = {key.removeprefix("pipeline."): value for key, value in values}
    found["microbatches"] = None if found["microbatches"] == "auto" else found["microbatches"]
    for key in ("overlap", "fusion", "pack"):
        if isinstance(found[key], bool):
            found[key] = "yes" if found[key] else "no"
    return {**found, "strategy": strategy}


def _strategy(expr: ast.Expr, cluster: Cluster, reader: Reader) -> Choice | None:
    """The strategy; the degrees of `hybrid(…)` multiply to the cluster's ranks, or divide them where one is auto."""
    choice = reader.choice("a strategy", expr, STRATEGIES)
    if choice is None or choice.kind != "hybrid":
        return choice
    degrees = {axis: degree for axis, degree in choice.arguments if isinstance(degree, int)}
    needed, left_open = prod(degrees.values()), len(degrees) < len(choice.arguments)
    if needed == cluster.ranks or (left_open and cluster.ranks % needed == 0):
        return choice
    taken = reader.taken(expr)
    named = [argument.name for argument in taken.arguments if argument.name] if isinstance(taken, ast.Call) else []
    written = sorted(degrees, key=lambda axis: named.index(axis) if axis in named else -1)
    factors = {axis: degrees[axis] for axis in written if degrees[axis] > 1}
    _refuse_product(factors, cluster, choice.span, reader)
    return None


def _check_degrees(strategy: Choice, mesh: Sequence[MeshAxis], reader: Reader) -> None:
    """E0523 where `hybrid(…)` and the mesh give an axis two extents."""
    extents = {axis.name: axis.extent for axis in mesh}
    for name, degree in strategy.arguments:
        if isinstance(degree, int) and extents.get(name, degree) != degree:
            message = messages.TWO_DEGREES.at(strategy.span, axis=name, degree=degree, extent=extents[name])
            reader.diagnostics.add(message)


def _refuse_product(
    degrees: Mapping[str, int], cluster: Cluster, span: Span | None, reader: Reader, helps: tuple[str, ...] = ()
) -> None:
    """E0508: the degrees do not multiply to the devices of the cluster."""
    factors = " x ".join(f"{axis} {degree}" for axis, degree in degrees.items()) or "one part"
    groups = ", ".join(f"`{level.name}` of {level.count}" for level in cluster.levels)
    notes = (f"its groups: {groups}",)
    needed = prod(degrees.values())
    devices = f"{needed} device{'s' * (needed > 1)}"
    facts: dict[str, Any] = {"factors": factors, "needed": devices, "ranks": cluster.ranks}
    reader.diagnostics.add(messages.WRONG_PRODUCT.at(span, notes=notes, helps=helps, cluster=cluster.name, **facts))


# --- mesh and limits -----------------------------------------------------------------------------------------------


def expand_mesh(rules: Sequence[ast.MeshRule], cluster: Cluster, reader: Reader) -> tuple[MeshAxis, ...]:
    """The mesh axes, major first: in the order of the topology's groups, within a group as they are written.

    `data = node` takes a group whole, `data = node / 4` an axis of 4 ranks out of it. An empty tuple where there is no
    mesh, or it has mistakes.
    """
    for rule in rules[1:]:
        label = Label(rules[0].span, "first here")
        reader.diagnostics.add(messages.SET_TWICE.at(rule.span, secondary=(label,), key="mesh", where="the plan"))
    if not rules:
        return ()
    written = rules[0].axes
    axes: dict[str, MeshAxis] = {}
    for setting in written:
        axis = _mesh_axis(setting, cluster, reader)
        if setting.key in axes:
            first = next(s for s in written if s.key == setting.key)
            reader.diagnostics.add(
                messages.SET_TWICE.at(
                    setting.key_span,
                    secondary=(Label(first.key_span, "first here"),),
                    key=setting.key,
                    where="the mesh",
                )
            )
        elif axis is not None:
            axes[setting.key] = axis
    if len(axes) < len(written):
        return ()
    if prod(axis.extent for axis in axes.values()) != cluster.ranks:
        helps = ("`GROUP` takes a group whole, `GROUP / n` an axis of n ranks out of it",)
        _refuse_product({axis.name: axis.extent for axis in axes.values()}, cluster, rules[0].span, reader, helps)
        return ()
    return _major_first(tuple(axes.values()), cluster, rules[0].span, reader)


def _mesh_axis(setting: ast.Setting, cluster: Cluster, reader: Reader) -> MeshAxis | None:
    """One axis: a group, or a factor of one."""
    expr = reader.taken(setting.value)
    name, divisor = (expr.left, expr.right) if isinstance(expr, ast.Binary) and expr.operator == "/" else (expr, None)
    if expr is None:
        return None
    if not isinstance(name, ast.Name):
        expected = "a group of the cluster or a factor of one, such as `node / 4`"
        reader.diagnostics.add(
            messages.WRONG_KIND.at(expr.span, key=setting.key, expected=expected, found="this is not")
        )
        return None
    groups = {level.name: level for level in reversed(cluster.levels)}
    if name.text not in groups:
        helps = similar_help(name.text, [level.name for level in cluster.levels], "a group")
        reader.diagnostics.add(
            messages.UNKNOWN_GROUP.at(name.span, name=name.text, what="a group", cluster=cluster.name, helps=helps)
        )
        return None
    count = groups[name.text].count
    if divisor is None:
        return MeshAxis(setting.key, count, name.text)
    factor = reader.read(Field(setting.key, "count", minimum=1), divisor)
    if not isinstance(factor, int):
        return None
    if count % factor:
        reader.diagnostics.add(messages.NO_FACTOR.at(divisor.span, factor=factor, count=count, group=name.text))
        return None
    return MeshAxis(setting.key, factor, name.text)


def _major_first(axes: tuple[MeshAxis, ...], cluster: Cluster, span: Span, reader: Reader) -> tuple[MeshAxis, ...]:
    """The axes in the order of the groups that they come from, whose members they must use up exactly."""
    found: list[MeshAxis] = []
    for level in cluster.levels:
        parts = [axis for axis in axes if axis.group == level.name]
        if prod(axis.extent for axis in parts) != level.count:
            factor = prod(axis.extent for axis in parts)
            reader.diagnostics.add(messages.NO_FACTOR.at(span, factor=factor, count=level.count, group=level.name))
            return ()
        found.extend(parts)
    return tuple(found)


def _limits(rules: Sequence[ast.Limit], reader: Reader) -> tuple[Limit, ...]:
    """The limits, each an upper bound, one for a subject."""
    found: dict[str, Limit] = {}
    for rule in rules:
        limit = _limit(rule, reader)
        if rule.subject in found:
            label = Label(found[rule.subject].span, "first here")
            reader.diagnostics.add(
                messages.SET_TWICE.at(rule.span, secondary=(label,), key=f"limit {rule.subject}", where="the plan")
            )
        elif limit is not None:
            found[rule.subject] = limit
    return tuple(found.values())


def _limit(rule: ast.Limit, reader: Reader) -> Limit | None:
    field = LIMITS.get(rule.subject)
    if field is None:
        helps = similar_help(rule.subject, LIMITS, "a subject")
        what = "a subject of limits"
        reader.diagnostics.add(
            messages.UNKNOWN_CHOICE.at(rule.subject_span, found=f"`{rule.subject}`", what=what, helps=helps)
        )
        return None
    if rule.comparison != "<=":
        reader.diagnostics.add(messages.WRONG_LIMIT.at(rule.span, subject=rule.subject, comparison=rule.comparison))
        return None
    bound = reader.read(field, rule.bound)
    return Limit(rule.subject, float(bound), rule.span) if isinstance(bound, int | float) else None
