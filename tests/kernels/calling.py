"""Calls kernels through the operator's own declaration, as emitted programs do, on arrays in logical order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.numpy_mpi.kernels import KERNELS, Kernels
from backends.numpy_mpi.kernels.layout import TO_LOGICAL, physical
from dlc.ir.graph import Attr
from dlc.ir.schema import given, needed
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.operator import Algorithm, Gradient, Inferred, Operator, Shapes

Array = NDArray[Any]
Known = dict[str, Array]

DTYPES = {"f64": np.float64, "f32": np.float32, "i32": np.int32, "u8": np.uint8}
JUNK = 7.25
"""What outputs and workspaces hold before a call: kernels must not rely on zeros."""


def kernel(op: str, stage: str, algorithm: str = "", table: Kernels = KERNELS) -> Any:
    entry = {**KERNELS, **table}[op, stage, algorithm]
    return getattr(import_module(f"backends.numpy_mpi.kernels.{entry.module}"), entry.function)


def image(dtype: str, *shape: int) -> TensorType:
    names = ("batch", "channel", "height", "width") if len(shape) == 4 else ("batch", "feature")[: len(shape)]
    return TensorType(dtype, tuple(Axis(name, extent) for name, extent in zip(names, shape, strict=True)))


@dataclass
class Op:
    """One op with its types; `known` maps roles to arrays in logical order, gradients are `dROLE`."""

    operator: Operator
    operands: tuple[TensorType, ...]
    args: Mapping[str, Attr]
    layout: str = "NCHW"
    algorithm: str = ""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    table: Kernels = field(default_factory=lambda: KERNELS)

    def __post_init__(self) -> None:
        defaults = {p.name: p.default for p in self.operator.parameters if p.default is not None}
        self.inferred: Inferred = self.operator.infer(self.operands, {**defaults, **self.args})
        names = [f"x{i}" for i in range(len(self.operands))] if self.operator.variadic else self.operator.operands
        names = names[: len(self.operands)]  # a number may stand for the second
        self.types: dict[str, TensorType] = dict(zip(names, self.operands, strict=True))
        self.types |= {w.role: w.type for w in self.inferred.weights}
        self.inputs = tuple(self.types)
        many = tuple(f"y{i}" for i in range(len(self.inferred.results)))
        self.results = many if self.operator.variadic_results else self.operator.results
        results = dict(zip(self.results, self.inferred.results, strict=True)) | dict(self.inferred.saved)
        self.outputs = tuple(results)
        self.types |= results
        self.types |= {f"d{role}": type_ for role, type_ in list(self.types.items())}

    def draw(self, rng: np.random.Generator) -> Known:
        """Normally distributed inputs."""
        return {
            role: rng.standard_normal(self.types[role].shape).astype(DTYPES[self.types[role].dtype])
            for role in self.inputs
        }

    def forward(self, known: Known) -> Known:
        """`known` with results and saved values."""
        return self.call("forward", self.inputs, self.outputs, known)

    def backward(self, known: Known) -> Known:
        """`known` with all gradients; needs `dy` and what `forward` gives."""
        for gradient in self.operator.gradients:
            gives = tuple(f"d{role}" for role in given(gradient, self.roles))
            known = self.call(gradient.suffix, self.needs(gradient), gives, known)
        return known

    @property
    def roles(self) -> dict[str, str]:
        """All roles of the node, as `dlc.ir.schema` has them."""
        return {role: role for role in self.types}

    def needs(self, gradient: Gradient) -> tuple[str, ...]:
        """What a backward node reads: gradients of all results, operands, weights and saved values."""
        dy = tuple(f"d{role}" for role in self.results)
        return tuple(name for role in needed(gradient, self.roles) for name in (dy if role == "dy" else (role,)))

    def call(self, stage: str, needs: tuple[str, ...], gives: tuple[str, ...], known: Known) -> Known:
        batch = next((known[r].shape[0] for r in needs if r in known and self.types[r].batched), 0)
        inputs = [self.store(role, known[role]) for role in needs if role in self.types]
        types = {role: self.types[role].with_extent("batch", batch) for role in gives}
        outputs = [self.store(role, np.full(t.shape, JUNK).astype(DTYPES[t.dtype])) for role, t in types.items()]
        scratch = [np.full(w.type.shape, JUNK, DTYPES[w.type.dtype]) for w in self.workspaces(stage)]
        before = [array.copy() for array in inputs]
        function = kernel(self.operator.name, stage, self.algorithm, self.table)
        attrs = dict(self.inferred.attrs)
        if self.operator.variadic_results and stage == "dx":
            attrs["reached"] = tuple(range(len(self.results)))
        function(*inputs, *outputs, *scratch, **attrs, **self.runtime, **self.layout_keyword())
        assert all(np.array_equal(a, b) for a, b in zip(before, inputs, strict=True)), "a kernel wrote to its input"
        return known | {role: self.load(role, array) for role, array in zip(gives, outputs, strict=True)}

    def layout_keyword(self) -> dict[str, str]:
        return {"layout": self.layout} if any(len(type_.axes) == 4 for type_ in self.types.values()) else {}

    def chosen(self) -> Algorithm | None:
        return next((a for a in self.operator.algorithms if a.name == self.algorithm), None)

    def shapes(self, stage: str) -> Shapes:
        gradient = next((g for g in self.operator.gradients if g.suffix == stage), None)
        ins = self.inputs if gradient is None else self.needs(gradient)
        outs = self.outputs if gradient is None else tuple(given(gradient, self.roles))
        return Shapes(tuple(self.types[r] for r in ins), tuple(self.types[r] for r in outs), dict(self.inferred.attrs))

    def workspaces(self, stage: str) -> Any:
        algorithm = self.chosen()
        return algorithm.workspaces(stage, self.shapes(stage), self.layout) if algorithm else ()

    def excluded(self, stage: str) -> str | None:
        algorithm = self.chosen()
        if algorithm is not None and "cpu" not in algorithm.devices:
            return "it is for other devices"
        return algorithm.excluded(stage, self.shapes(stage)) if algorithm else None

    def store(self, role: str, array: Array) -> Array:
        return np.array(physical(array, self.layout) if self.is_image(role) else array, order="C")

    def load(self, role: str, array: Array) -> Array:
        return array.transpose(TO_LOGICAL[self.layout]) if self.is_image(role) else array

    def is_image(self, role: str) -> bool:
        return len(self.types[role].axes) == 4 and self.types[role].batched


def relative_error(found: Array, expected: Array) -> float:
    """‖found - expected‖/‖expected‖, Frobenius norms."""
    norm = float(np.linalg.norm(expected.astype(np.float64)))
    return float(np.linalg.norm(found.astype(np.float64) - expected)) / (norm or 1.0)


def numeric_gradient(op: Op, known: Known, role: str, step: float = 1e-3) -> Array:
    """d Σ(y·dy) / d role by central differences of fourth order, one element at a time."""
    x = known[role]
    gradient = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        moved = []
        for factor in (-2, -1, 1, 2):
            other = x.copy()
            other[index] += factor * step
            moved.append(weighted(op, known | {role: other}))
        gradient[index] = (moved[0] - 8 * moved[1] + 8 * moved[2] - moved[3]) / (12 * step)
    return gradient


def weighted(op: Op, known: Known) -> float:
    """Σ(y·dy) over all results; the scores that a mask makes -∞ are constants."""
    found = op.forward(known)
    return float(sum(np.sum(found[role] * known[f"d{role}"], where=found[role] > -np.inf) for role in op.results))


def linear_gradient(op: Op, known: Known, role: str) -> Array:
    """The same for an op that is linear in `role`: steps may be long, and leave nothing but rounding."""
    x = known[role]
    gradient = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        moved = []
        for step in (-0.5, 0.5):
            other = x.copy()
            other[index] += step
            moved.append(weighted(op, known | {role: other}))
        gradient[index] = moved[1] - moved[0]
    return gradient
