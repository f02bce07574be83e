"""What may be chosen: for each forward op every (layout, pass, algorithm), legal or with the rule that excludes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dlc.diagnostics import Diagnostic, Span
from dlc.ir.graph import Graph, Node
from dlc.ir.request import Request, Rule
from dlc.ir.tensor import BATCH
from dlc.messages.e05_plan import CANNOT_COMPUTE, RULED_OUT
from dlc.ops.blocks import BLOCKED
from dlc.ops.operator import Algorithm, Operator, Shapes
from passes.differentiate import operator_of
from passes.layouts import DEFAULT_LAYOUT, offered

EXACT = ("direct", "im2col")
"""Algorithms that add up products of inputs and weights and nothing else."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to compute one pass of an op; `excluded` is the reason against it, None where it is legal."""

    node: Node
    layout: str
    algorithm: str
    excluded: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """A forward op with its gradients, and the layouts that it can take."""

    forward: Node
    passes: tuple[Node, ...]
    layouts: tuple[str, ...]

    @property
    def address(self) -> str:
        """That of the forward op."""
        return self.forward.address


@dataclass(frozen=True, slots=True)
class Rules:
    """Pins, forbids and limits of a request, by op; `kernels` is the kind of devices whose kernels may be chosen."""

    request: Request
    exact: bool
    kernels: str
    pins: dict[tuple[str, str], Rule]
    forbids: dict[tuple[str, str], tuple[Rule, ...]]

    def pin(self, address: str, key: str) -> Rule | None:
        """The pin of `algorithm` or `layout` on an op."""
        return self.pins.get((address, key))

    def named_layout(self, address: str) -> str:
        """The layout that the request names for an op, `auto` where it names none; devices but CPUs know no blocks."""
        pin = self.pin(address, "layout")
        named = str(pin.value) if pin is not None else self.request.layout
        return named if self.kernels == "cpu" or named not in BLOCKED else "auto"

    def excluded(self, address: str, key: str, value: str) -> str | None:
        """Why a pin or forbid rules this value out."""
        pin = self.pin(address, key)
        if pin is not None and not is_meant(pin.value, value):
            return f"by line {pin.span.line}"
        for rule in self.forbids.get((address, key), ()):
            if is_meant(rule.value, value):
                return f"by line {rule.span.line}"
        return None

    @property
    def roomy(self) -> Rules:
        """The same without limits."""
        return replace(self, request=replace(self.request, limits=())) if self.request.limits else self

    @property
    def workspace(self) -> float | None:
        """The bound of `limit workspace`, in bytes."""
        return min((limit.bound for limit in self.request.limits if limit.subject == "workspace"), default=None)


def is_meant(written: object, name: str) -> bool:
    """Whether a name in a rule means a choice: itself or its family, `fft` also `fft_tiled`, `winograd` any tile."""
    return isinstance(written, str) and (name == written or name.startswith((f"{written}_", f"{written}(")))


def rules_of(request: Request, exact: bool = False, kernels: str = "cpu") -> Rules:
    """The request's rules, looked up by (address, key); `exact` allows nothing but integer sums of products.

    `kernels` is the kind of devices whose kernels may be chosen; `cpu` stands for those of the backend `numpy`, which
    alone are in its programs, whatever device they are for.
    """
    pins = {(address, rule.key): rule for rule in request.pins for address in rule.addresses}
    forbids: dict[tuple[str, str], tuple[Rule, ...]] = {}
    for rule in request.forbids:
        for address in rule.addresses:
            forbids[address, rule.key] = (*forbids.get((address, rule.key), ()), rule)
    return Rules(request, exact, kernels, pins, forbids)


def operations(graph: Graph, named: Mapping[str, str] = MappingProxyType({})) -> tuple[Operation, ...]:
    """The forward ops in order, each with its backward nodes; `named` are layouts asked for, by address."""
    passes: dict[str, list[Node]] = {node.address: [node] for node in graph.forward}
    for node in graph.nodes:
        if node.stage in ("dx", "dw") and node.base in passes:
            passes[node.base].append(node)
    return tuple(
        Operation(node, tuple(passes[node.address]), offered(graph, node, named.get(node.address, "")))
        for node in graph.forward
    )


def layout_exclusion(operation: Operation, layout: str, rules: Rules) -> str | None:
    """Why an op cannot take a layout that its kernels offer: a pin, a forbid, or the plan's own `layout`."""
    if layout == "":
        return None
    excluded = rules.excluded(operation.address, "layout", layout)
    if excluded is not None:
        return excluded
    wanted = rules.request.layout
    if wanted != "auto" and rules.pin(operation.address, "layout") is None and wanted in operation.layouts:
        span = rules.request.span("layout")
        return None if layout == wanted else f"by line {span.line}" if span else f"by `layout = {wanted}`"
    return None


def candidates(graph: Graph, operation: Operation, rules: Rules, largest_shard: int) -> Iterator[Candidate]:
    """Every (pass, layout, algorithm) of an op, by pass, then layout, then algorithm."""
    op = operator_of(operation.forward)
    for node in operation.passes:
        shapes = local_shapes(graph, node, largest_shard)
        for layout in operation.layouts:
            against = layout_exclusion(operation, layout, rules)
            for algorithm in op.algorithms:
                reason = against or _algorithm_exclusion(operation.address, node, shapes, layout, algorithm, rules)
                yield Candidate(node, layout, algorithm.name, reason)
            if not op.algorithms:
                yield Candidate(node, layout, "", against)


def local_shapes(graph: Graph, node: Node, largest_shard: int) -> Shapes:
    """The types around a node on the rank with most samples."""
    inputs, outputs = (
        tuple(graph.type(name).with_extent(BATCH, largest_shard) for name in names)
        for names in (node.inputs, node.outputs)
    )
    return Shapes(inputs, outputs, dict(node.attrs))


def _algorithm_exclusion(
    address: str, node: Node, shapes: Shapes, layout: str, algorithm: Algorithm, rules: Rules
) -> str | None:
    reason = algorithm.excluded(node.stage, shapes)
    if reason is None and rules.pin(address, "algorithm") is None:
        reason = algorithm.inexact(node.stage, shapes)
    if reason is not None:
        return f"because {reason}"
    if rules.kernels not in algorithm.devices:
        owner = "the kernel family `numpy` has" if rules.kernels == "cpu" else f"devices of kind `{rules.kernels}` have"
        return f"because {owner} no kernel for it"
    if layout and layout not in algorithm.layouts:
        return f"because it has no kernel for {layout}"
    excluded = rules.excluded(address, "algorithm", algorithm.name)
    if excluded is not None:
        return excluded
    if rules.exact and algorithm.name not in EXACT:
        return "because it does not compute integers exactly"
    if rules.workspace is None:
        return None
    workspaces = algorithm.workspaces(node.stage, shapes, layout or DEFAULT_LAYOUT)
    needed = sum(workspace.type.bytes for workspace in workspaces)
    if needed > rules.workspace:
        return f"because its workspace of {needed:,} bytes is above the limit"
    return None


def nothing_left(operation: Operation, found: tuple[Candidate, ...], rules: Rules) -> Diagnostic:
    """The message about an op without a legal choice: E0504 or E0512."""
    address, op = operation.address, operator_of(operation.forward)
    pin = rules.pin(address, "algorithm")
    if pin is not None:
        meant = [c for c in found if is_meant(pin.value, c.algorithm) and c.excluded is not None]
        reasons = [
            c.excluded.removeprefix("because ") for c in meant if c.excluded and c.excluded.startswith("because")
        ]
        notes = () if reasons else (f"`{op.name}` can be computed by {_listed(op)}",)
        label = reasons[0] if reasons else ""
        return CANNOT_COMPUTE.at(pin.value_span, label, notes=notes, algorithm=pin.value, address=address)
    key = "algorithm" if op.algorithms and any(_layout_left(operation, rules)) else "layout"
    return RULED_OUT.at(
        _first_span(address, key, rules), key=key, address=address, reasons=_reasons(operation, found, rules, key)
    )


def _layout_left(operation: Operation, rules: Rules) -> Iterator[bool]:
    return (layout_exclusion(operation, layout, rules) is None for layout in operation.layouts)


def _reasons(operation: Operation, found: tuple[Candidate, ...], rules: Rules, key: str) -> str:
    """`im2col by line 41, direct by line 42, winograd(2) because the window is 5x5`."""
    if key == "layout":
        pairs = [(layout, layout_exclusion(operation, layout, rules)) for layout in operation.layouts]
    else:
        pairs = [(c.algorithm, c.excluded) for c in found if layout_exclusion(operation, c.layout, rules) is None]
    first: dict[str, str] = {}
    for name, reason in pairs:
        if reason is not None:
            first.setdefault(name, reason)
    return ", ".join(f"{name} {reason}" for name, reason in first.items())


def _first_span(address: str, key: str, rules: Rules) -> Span | None:
    """Where the first rule that speaks of it stands: a pin, a forbid, the plan's own setting, the limit."""
    pin = rules.pin(address, key)
    spoken = (*((pin,) if pin else ()), *rules.forbids.get((address, key), ()))
    limit = next((limit.span for limit in rules.request.limits if limit.subject == "workspace"), None)
    return spoken[0].span if spoken else rules.request.span(key) or limit


def _listed(op: Operator) -> str:
    return ", ".join(algorithm.name for algorithm in op.algorithms)
