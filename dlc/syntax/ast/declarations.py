"""Declarations: what stands at the top of a file, and the statements of networks and blocks."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.diagnostics import Span
from dlc.syntax.ast.expressions import Expr, Name, span_field

# --- networks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AxisDeclaration:
    """`channel = 3`, or a bare `batch` (name only: a param of that name gives the extent), or a bare extent."""

    name: str | None
    extent: Expr | None
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class TypeExpression:
    """`f32[batch, channel = 3]`."""

    dtype: str
    axes: tuple[AxisDeclaration, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Input:
    """`input image: f32[…]`."""

    name: str
    type: TypeExpression
    name_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Binding:
    """`a, b = expression`: the targets' names, each with its span."""

    targets: tuple[Name, ...]
    value: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Output:
    """`output logits, aux`."""

    names: tuple[Name, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Return:
    """`return expression`; a block with several results returns a list of them."""

    value: Expr
    span: Span = span_field()


Statement = Input | Binding | Output | Return


# --- items -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Import:
    """`import "clusters/a100_pod.dlspec"`."""

    path: str
    path_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Param:
    """`param batch = 32`."""

    name: str
    default: Expr
    name_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Formal:
    """A formal argument of a block, with its default if it has one."""

    name: str
    default: Expr | None
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Block:
    """`block NAME(args) { … return expression }`; the first formal is what arrives through `->`."""

    name: str
    formals: tuple[Formal, ...]
    body: tuple[Statement, ...]
    name_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Network:
    """`network NAME { … }`."""

    name: str
    body: tuple[Statement, ...]
    name_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Setting:
    """`key = value`; a dotted key such as `compute.f32` is one text, `edges` and the like take lists."""

    key: str
    value: Expr
    key_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Device:
    """`device NAME { settings }`."""

    name: str
    settings: tuple[Setting, ...]
    name_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class LinkItem:
    """`link NAME { settings }`."""

    name: str
    settings: tuple[Setting, ...]
    name_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Group:
    """`node[4] over infiniband { v100[8] over nvlink }`; the innermost group names a device and has no children."""

    name: str
    count: Expr | None
    over: str | None
    children: tuple[Group, ...]
    name_span: Span = span_field()
    over_span: Span | None = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Cluster:
    """`cluster NAME { devices, links, topology { groups } }`."""

    name: str
    devices: tuple[Device, ...]
    links: tuple[LinkItem, ...]
    topology: tuple[Group, ...]
    name_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Train:
    """`train NETWORK { settings }`."""

    network: str
    settings: tuple[Setting, ...]
    network_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class IndexSet:
    """One bracket of a selector: `[3]` (start 3, stop 4), `[0..3]` (end excluded) or `[*]` (start and stop None)."""

    start: int | None
    stop: int | None


@dataclass(frozen=True, slots=True)
class SelectorSegment:
    """A name, `*` or `**`, and the brackets behind it."""

    name: str
    indices: tuple[IndexSet, ...] = ()


@dataclass(frozen=True, slots=True)
class Selector:
    """`stage3[1].main.**.conv where window == 3x3 and stride == 1`."""

    segments: tuple[SelectorSegment, ...]
    where: Expr | None
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Pin:
    """`pin SELECTOR { settings }`."""

    selector: Selector
    settings: tuple[Setting, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Forbid:
    """`forbid SELECTOR { settings }`."""

    selector: Selector
    settings: tuple[Setting, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Limit:
    """`limit memory <= 28 GiB`; the comparison is kept as written."""

    subject: str
    comparison: str
    bound: Expr
    subject_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class MeshRule:
    """`mesh { pipeline = node / 4; data = node / 2 }`."""

    axes: tuple[Setting, ...]
    span: Span = span_field()


PlanRule = Setting | Pin | Forbid | Limit | MeshRule


@dataclass(frozen=True, slots=True)
class Plan:
    """`plan NETWORK on CLUSTER { rules }`."""

    network: str
    cluster: str
    rules: tuple[PlanRule, ...]
    network_span: Span = span_field()
    cluster_span: Span = span_field()
    span: Span = span_field()


Item = Import | Param | Block | Network | Device | LinkItem | Cluster | Train | Plan


@dataclass(frozen=True, slots=True)
class File:
    """One .dlspec file: `path` as shown in messages, the language version, and the items in text order."""

    path: str
    version: int
    items: tuple[Item, ...]
    span: Span = span_field()
