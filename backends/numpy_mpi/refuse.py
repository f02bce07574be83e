"""What this backend cannot emit yet: refused with E0701 at `compile`, never ignored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backends.numpy_mpi.kernels import KERNELS
from dlc.cluster.topology import Cluster
from dlc.data_sets import LOADABLE
from dlc.diagnostics import Diagnostic, Span
from dlc.ir.graph import Graph, Node
from dlc.ir.request import Request, Rule
from dlc.ir.tensor import NARROW
from dlc.ir.training import Training
from dlc.messages.e07_run import E0701
from dlc.ops import LAYERS, LOSSES, operator, optimizer
from passes.differentiate import operator_of
from passes.options import is_meant

BACKEND = "numpy"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that was asked for, where, and what can be had in its place."""

    what: str
    span: Span | None
    instead: str

    def diagnostic(self) -> Diagnostic:
        """As E0701."""
        return E0701.at(self.span, backend=BACKEND, what=self.what, helps=(self.instead,))


def refusals(graph: Graph, training: Training, request: Request, cluster: Cluster) -> tuple[Diagnostic, ...]:
    """Everything in the train and plan blocks, among the ops and about the devices that has no code in this backend."""
    found = (
        *_training(training),
        *_algorithms(graph, request, cluster),
        *_devices(cluster),
        *_ops(graph),
    )
    return tuple(refusal.diagnostic() for refusal in sorted(found, key=_place))


def _place(refusal: Refusal) -> tuple[str, int, int]:
    """By which refusals are listed: where each stands in the text."""
    span = refusal.span
    return (span.file, span.line, span.column) if span else ("", 0, 0)


def _training(training: Training) -> Iterator[Refusal]:
    asked = (
        ("update", training.update.kind != "synchronous", f"update = {training.update.kind}", "`update = synchronous`"),
        ("compress", training.compress.kind != "none", f"compress = {training.compress.kind}", "`compress = none`"),
        (
            "precision",
            training.precision.compute in NARROW and optimizer(training.optimizer.kind).joint is not None,
            f"precision = mixed(…)` with `optimizer = {training.optimizer.kind}",
            "rules of one weight each, such as `optimizer = adam`, in mixed precision",
        ),
        ("data", training.data.kind not in LOADABLE, f"data = {training.data.kind}(…)", ", ".join(LOADABLE)),
    )
    for key, refused, what, instead in asked:
        if refused:
            yield Refusal(f"`{what}`", training.span(key), f"it can emit {instead}")
    if (training.optimizer.kind, "update", "") not in KERNELS:
        known = ", ".join(op for op, stage, _ in KERNELS if stage == "update" and op != "bn")
        what = f"`optimizer = {training.optimizer.kind}`"
        yield Refusal(what, training.span("optimizer"), f"it can emit {known}")


def _spelt(rule: Rule) -> str:
    match rule.value:
        case tuple(splits):
            return ", ".join(f"split({split.axis}, over = {split.over})" for split in splits) or "replicate"
        case bool(value):
            return "yes" if value else "no"
        case value:
            return str(value)


def _algorithms(graph: Graph, request: Request, cluster: Cluster) -> Iterator[Refusal]:
    """Pinned algorithms of the language that no kind of device of the cluster has kernels for.

    Those of GPUs are CUDA's in the backend `cupy`, and have twins in NumPy.
    """
    kinds = {device.kind for device in cluster.devices}
    for rule in request.pins:
        if rule.key == "algorithm":
            op = operator_of(graph.node(rule.addresses[0]))
            names = [algorithm.name for algorithm in op.algorithms if kinds.intersection(algorithm.devices)]
            if not any(is_meant(rule.value, name) for name in names):
                what = f"`algorithm = {_spelt(rule)}` for `{rule.selector}`"
                known = next((each for each in op.algorithms if is_meant(rule.value, each.name)), None)
                meant = f"it is for devices of `kind = {known.devices[0]}`; " if known else ""
                there = f"a {' and a '.join(sorted(kinds))} can compute `{op.name}` by {', '.join(names)}"
                yield Refusal(what, rule.value_span, f"{meant}{there}")


def _devices(cluster: Cluster) -> Iterator[Refusal]:
    """Settings of devices that the program has no use for."""
    for device in cluster.devices:
        if device.isa:
            instead = "NumPy chooses its instructions itself, leave `isa` away"
            yield Refusal(f"`isa = {device.isa}` for the device `{device.name}`", device.span, instead)


def _ops(graph: Graph) -> Iterator[Refusal]:
    """The kinds of ops without a kernel, each once, at the first op of its kind."""
    kinds = {op for op, _, _ in KERNELS}
    instead = f"it can emit {', '.join(op.name for op in (*LAYERS, *LOSSES) if op.view or op.name in kinds)}"
    first: dict[str, Node] = {}
    for node in graph.nodes:
        op = operator(node.op)
        if node.op not in kinds and op is not None and not op.view:
            first.setdefault(node.op, node)
    for name, node in first.items():
        yield Refusal(f"operator `{name}` at `{node.address}`", node.span, instead)
