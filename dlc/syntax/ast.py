"""The syntax tree: what a .dlspec file says, word for word, each node with its span.

Nothing is resolved here: names, units and arguments are text and numbers. `dlc.expand` gives them meaning. Spans do
not take part in comparison, so two trees are equal where they say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlc.diagnostics import Span


def _span() -> Any:
    return field(compare=False, repr=False)


# --- expressions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name:
    """A bare word: a value, a parameter, or a choice such as `same` and `NHWC`, by what its place asks for."""

    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Number:
    """`32`, `0.05`, `5e-5`; integers stay integers."""

    value: int | float
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit, one token: `900 GB/s`, `2 us`, `5 epochs`."""

    value: int | float
    unit: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted text."""

    value: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Window:
    """`3x3`, `1x2`, `3x3x3`: one extent per spatial axis, height before width."""

    extents: tuple[int, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[3, 4, 6, 3]`."""

    items: tuple[Expr, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call; `name` is None where it is positional."""

    name: str | None
    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """`conv(64, 3x3)`: an operator, a block or a function of settings; `callee_span` covers the name alone."""

    callee: str
    arguments: tuple[Argument, ...]
    callee_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Attribute:
    """`x.channel`, `data.label`, `wte.embedding.weight`."""

    value: Expr
    name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Index:
    """`blocks[0]`."""

    value: Expr
    index: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` and `not x`; `operator` is the text `-` or `not`."""

    operator: str
    operand: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binary:
    """`a + b`; `operator` is one of `+ - * / @ == != < <= > >= and or then`.

    `then` joins learning-rate schedules and only means something there.
    """

    operator: str
    left: Expr
    right: Expr
    operator_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class If:
    """`if condition then value else other`; only the branch taken is expanded."""

    condition: Expr
    then: Expr
    otherwise: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat n as i { chain }`: the body is a chain of links without a head."""

    count: Expr
    variable: str | None
    body: tuple[Link, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Link:
    """One stage of a chain: a call, a bare operator name (a call without arguments) or a repeat, and its label."""

    stage: Call | Repeat
    label: str | None
    label_span: Span | None = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Chain:
    """`head -> link -> link`."""

    head: Expr
    links: tuple[Link, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Labelled:
    """A call that heads a chain or stands alone, with a label: `concat(a, b) as join`."""

    value: Expr
    label: str
    label_span: Span = _span()
    span: Span = _span()


Expr = (
    Name
    | Number
    | Quantity
    | Text
    | Window
    | ListOf
    | Call
    | Attribute
    | Index
    | Unary
    | Binary
    | If
    | Chain
    | Labelled
)


# --- networks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AxisDeclaration:
    """`channel = 3`, or a bare `batch` (name only: a param of that name gives the extent), or a bare extent."""

    name: str | None
    extent: Expr | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class TypeExpression:
    """`f32[batch, channel = 3]`."""

    dtype: str
    axes: tuple[AxisDeclaration, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Input:
    """`input image: f32[…]`."""

    name: str
    type: TypeExpression
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binding:
    """`a, b = expression`: the targets' names, each with its span."""

    targets: tuple[Name, ...]
    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Output:
    """`output logits, aux`."""

    names: tuple[Name, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Return:
    """`return expression`; a block with several results returns a list of them."""

    value: Expr
    span: Span = _span()


Statement = Input | Binding | Output | Return


# --- items -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Import:
    """`import "clusters/a100_pod.dlspec"`."""

    path: str
    path_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Param:
    """`param batch = 32`."""

    name: str
    default: Expr
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Formal:
    """A formal argument of a block, with its default if it has one."""

    name: str
    default: Expr | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Block:
    """`block NAME(args) { … return expression }`; the first formal is what arrives through `->`."""

    name: str
    formals: tuple[Formal, ...]
    body: tuple[Statement, ...]
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Network:
    """`network NAME { … }`."""

    name: str
    body: tuple[Statement, ...]
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Setting:
    """`key = value`; a dotted key such as `compute.f32` is one text, `edges` and the like take lists."""

    key: str
    value: Expr
    key_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Device:
    """`device NAME { settings }`."""

    name: str
    settings: tuple[Setting, ...]
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class LinkItem:
    """`link NAME { settings }`."""

    name: str
    settings: tuple[Setting, ...]
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Group:
    """`node[4] over infiniband { v100[8] over nvlink }`; the innermost group names a device and has no children."""

    name: str
    count: Expr | None
    over: str | None
    children: tuple[Group, ...]
    name_span: Span = _span()
    over_span: Span | None = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Cluster:
    """`cluster NAME { devices, links, topology { groups } }`."""

    name: str
    devices: tuple[Device, ...]
    links: tuple[LinkItem, ...]
    topology: tuple[Group, ...]
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Train:
    """`train NETWORK { settings }`."""

    network: str
    settings: tuple[Setting, ...]
    network_span: Span = _span()
    span: Span = _span()


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
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Pin:
    """`pin SELECTOR { settings }`."""

    selector: Selector
    settings: tuple[Setting, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Forbid:
    """`forbid SELECTOR { settings }`."""

    selector: Selector
    settings: tuple[Setting, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Limit:
    """`limit memory <= 28 GiB`; the comparison is kept as written."""

    subject: str
    comparison: str
    bound: Expr
    subject_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class MeshRule:
    """`mesh { pipeline = node / 4; data = node / 2 }`."""

    axes: tuple[Setting, ...]
    span: Span = _span()


PlanRule = Setting | Pin | Forbid | Limit | MeshRule


@dataclass(frozen=True, slots=True)
class Plan:
    """`plan NETWORK on CLUSTER { rules }`."""

    network: str
    cluster: str
    rules: tuple[PlanRule, ...]
    network_span: Span = _span()
    cluster_span: Span = _span()
    span: Span = _span()


Item = Import | Param | Block | Network | Device | LinkItem | Cluster | Train | Plan


@dataclass(frozen=True, slots=True)
class File:
    """One .dlspec file: `path` as shown in messages, the language version, and the items in text order."""

    path: str
    version: int
    items: tuple[Item, ...]
    span: Span = _span()
