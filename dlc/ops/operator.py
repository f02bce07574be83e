"""What dlc knows of an operator: one object per operator, one file each, listed in `dlc.ops.OPS`.

An operator declares its operands by name; kernels, gradients, emission and checks all follow from that:

* a forward node's inputs are `operands`, then `weights`, then `statistics`; its outputs are `y` (or `results`), then
  `saved`;
* a backward node's inputs are named in `Gradient.needs`, its outputs in `Gradient.gives`: a needed name is an operand,
  a weight, a saved value, `y`, or `dy` (the gradient of y); a given name is an operand or weight whose gradient it is;
* a kernel takes arrays in exactly that order, then its outputs, then the algorithm's workspaces, then the attributes
  and the runtime values of `Operator.runtime` as keywords:
  `kernel(*inputs, *outputs, *workspaces, **attrs, **runtime)`.

A node leaves out what it does not have: the weight `bias` where that attribute is no, the second operand of arithmetic
where the attribute `scalar` stands for it. Its gradients neither need nor give those.

Where no axis named `batch` is left in a result computed from batched operands, the result is a sum over the samples at
hand (means divide by the global `count`), so that shards add up: that one rule places every value under data
parallelism.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from dlc.ir.graph import Attr, Attrs, Init
from dlc.ir.tensor import TensorType
from dlc.ops.indexing import Rule

ParameterKind = Literal[
    "int",
    "number",
    "bool",
    "window",
    "pad",
    "axis",
    "axes",
    "counts",
    "margins",
    "choice",
    "weight",
    "layer",
    "shape",
    "group",
    "length",
    "text",
    "list",
]
"""How an argument is read: `window` is `3` or `3x5` (one positive extent a spatial axis), `pad` a number, `1x2`, pairs
(before, after) in a list, `same` or `valid`; `axis` a bare axis name, `axes` one or a list of them; `counts` a count or
a list of them; `margins` a number, `1x2`, a pair or a list of pairs; `choice` one of `choices`; `weight` an address
such as `wte.embedding.weight`; `layer` a call such as `linear(84)`; `shape` a list of positive integers; `group` a
count of samples or `batch`.

In the train block only: `length` is `5 epochs` or `2000 steps`, `text` a quoted text, `list` a list of `choices`."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operator; `default` is None where it is required (`window` of a pool's stride: see `like`)."""

    name: str
    kind: ParameterKind
    default: Attr | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    below: float | None = None
    above: float | None = None
    like: str | None = None  # takes the value of this other parameter where it is not given


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight or statistic that an op owns: its role (`weight`, `bias`, `scale`), type and initialisation."""

    role: str
    type: TensorType
    init: Init
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Inferred:
    """What an operator makes of its operands: result types, owned weights, normalised attributes.

    `saved` are by-products for the backward pass, by role. A tied weight is in `tied` as (role, weight address) and
    not in `weights`; `tied_types` are the types that it must have, in the same order (E0318).
    """

    results: tuple[TensorType, ...]
    attrs: Attrs = ()
    weights: tuple[Weight, ...] = ()
    saved: tuple[tuple[str, TensorType], ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    tied_types: tuple[TensorType, ...] = ()


class OperandError(Exception):
    """A user's mistake found by a shape rule; the caller adds the spans.

    `code` is a key of `dlc.messages`, `values` fill its sentence; `argument` names the argument at fault, None means
    the operands (`operand` its index where it is one).
    """

    def __init__(
        self,
        code: str,
        *,
        argument: str | None = None,
        operand: int | None = None,
        label: str = "",
        notes: tuple[str, ...] = (),
        helps: tuple[str, ...] = (),
        **values: object,
    ) -> None:
        super().__init__(code, values)
        self.code, self.values = code, values
        self.argument, self.operand = argument, operand
        self.label, self.notes, self.helps = label, notes, helps


@dataclass(frozen=True, slots=True)
class Gradient:
    """One backward node: `suffix` of its address, what it needs and which gradients it gives.

    Suffixes: `dx` by the operands, `dw` by the weights, `dt` by the target of a loss.
    """

    suffix: Literal["dx", "dw", "dt"]
    needs: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of one pass of an op on the whole batch, by cost-models.md §1: counts, not seconds.

    `macs` multiply-adds; `work` operations W; `depth` D, the longest dependency path; `bytes` touched at least once.
    """

    macs: int
    work: int
    depth: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Shapes:
    """The types around one node, as cost and algorithm rules see them, and its attributes."""

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    attrs: Mapping[str, Attr]


@dataclass(frozen=True, slots=True)
class Workspace:
    """Scratch memory of an algorithm: a role and a type; the kernel is handed an array of that shape."""

    role: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to compute an op.

    `excluded(pass, shapes, dtype)` is None where it is legal, else the reason in words (E0504, E0512).
    `cost` gives the counts of this algorithm for a pass, by cost-models.md §2; `workspaces(pass, shapes, layout)` its
    scratch arrays. `layouts` are those that there are kernels for, on devices of the kinds `devices`; the kernels of
    the backend `numpy` are those for `cpu`. `inexact(pass, shapes)` is a reason not to take it by itself: it may be
    pinned, with a warning.
    """

    name: str
    layouts: tuple[str, ...]
    excluded: Callable[[str, Shapes], str | None]
    cost: Callable[[str, Shapes], Cost]
    workspaces: Callable[[str, Shapes, str], tuple[Workspace, ...]]
    devices: tuple[str, ...] = ("cpu", "gpu", "accelerator")
    inexact: Callable[[str, Shapes], str | None] = lambda stage, shapes: None


LAYOUTS = ("NCHW", "NHWC", "CHWN")
"""Orders in memory of a value with axes batch, channel, height, width; all others are kept in logical order."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Everything that the compiler knows of one operator."""

    name: str
    infer: Callable[[tuple[TensorType, ...], Mapping[str, Attr]], Inferred]
    cost: Callable[[str, Shapes], Cost]
    """(pass, shapes) -> counts, for `forward`, `dx`, `dw`, `update`."""
    operands: tuple[str, ...] = ("x",)
    variadic: bool = False  # takes any number of operands, named x0, x1, …; gradients give all of them
    parameters: tuple[Parameter, ...] = ()
    weights: tuple[str, ...] = ()
    weights_by: Callable[[Mapping[str, Attr]], tuple[str, ...]] | None = None
    """Where the attributes decide how many weights there are: their roles, `weight_…` and `bias_…`, in order. Gradients
    name all of them `weights`."""
    statistics: tuple[str, ...] = ()
    results: tuple[str, ...] = ("y",)
    variadic_results: bool = False
    """As many results as the attributes say, y0, y1, …; its backward node reads the gradients of those that have one
    and is told their numbers by the attribute `reached`."""
    saved: tuple[str, ...] = ()
    gradients: tuple[Gradient, ...] = ()
    identity_gradient: bool = False  # dy itself is the gradient of every operand: add
    view: bool = False  # forward and backward only rename axes: no kernel, no copy (in the default layout)
    elementwise: bool = False  # any layout serves, in and out alike
    layout_free: tuple[str, ...] = ()  # layouts besides the default that its kernels take
    blocked: bool = False  # its kernels take layouts with channels in blocks (`dlc.ops.blocks`)
    runtime: tuple[str, ...] = ()
    """Values known only when running: `count` (samples in the global batch), `position` (global index of the first
    local sample in it), `step`, `training`."""
    algorithms: tuple[Algorithm, ...] = ()
    splits: tuple[str, ...] = ("batch",)  # axes of the forward iteration space that may be split
    indexing: Rule | None = None
    """How the iteration space indexes the tensors (`dlc.ops.indexing`); None where it is never split.
    """
    role: Literal["operator", "loss", "metric", "optimizer"] = "operator"
    finish: Literal["mean", "exp"] = "mean"
    """What is shown of a metric: the mean over the samples, or e to that power."""
