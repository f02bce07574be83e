"""ONNX's own node tests, run by dlc: each is imported, and computed by the kernels that programs are made of.

A test gives weights and shapes as inputs of its graph; those that the importer needs to know (`Cover.constants`) become
initialisers with the test's data. Where an input may be a weight or a value (`Cover.weights`), a test is run both ways.
Outputs that the importer does not cover (`Cover.results`), such as the mask of a dropout, are left out of the graph,
all others are compared. Nothing else of a test is changed.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from dlc import driver
from dlc.diagnostics import DiagnosticError
from dlc.frontends.onnx.coverage import TABLE
from dlc.frontends.onnx.importing import Imported, import_model
from dlc.frontends.onnx.model import model_of
from dlc.ir.graph import Graph
from tests import kept
from tests.frontends.evaluate import evaluate

Array = np.ndarray


OUTSIDE = {
    "test_gather_negative_indices": "tokens are numbers from 0 up: programs refuse others when they read them",
}
"""Tests whose data, not their graph, lie outside of what is claimed."""


@dataclass(frozen=True)
class Outcome:
    """What came of a test. `reason` says why it lies outside of what is claimed, empty where it does not.

    Then there are the largest error of its outputs, in ULP of the expected element and of its tensor's largest one, and
    how many outputs were `compared` out of how many.
    """

    name: str
    ops: tuple[str, ...]
    reason: str = ""
    passed: bool = False
    ulp: float = 0.0
    ulp_of_largest: float = 0.0
    compared: tuple[int, int] = (0, 0)

    @property
    def claimed(self) -> bool:
        return not self.reason


@cache
def node_tests() -> tuple[Any, ...]:
    """All tests of single nodes and of the function bodies of nodes, in their own order.

    ONNX computes what they expect, in Python: ten times as long as what is made of it here, so it is kept.
    """
    name = f"onnx-{onnx.__version__}-numpy-{np.__version__}.pickle"
    if (path := kept.find(name)) is None:
        from onnx.backend.test.loader import load_model_tests

        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            path = kept.keep(name, pickle.dumps(tuple(load_model_tests(kind="node"))))
    found: tuple[Any, ...] = pickle.loads(path.read_bytes())
    return found


def outcomes() -> Iterator[Outcome]:
    """What comes of every test."""
    for test in node_tests():
        yield outcome(test)


def outcome(test: Any) -> Outcome:
    """Import a test's model, compute it, compare; the worse of its two ways, where both are covered."""
    ways = [_outcome(test, weights=False)]
    if any(TABLE[node.op_type].weights for node in test.model.graph.node if node.op_type in TABLE):
        ways.append(_outcome(test, weights=True))
    claimed = [way for way in ways if way.claimed]
    return max(claimed, key=lambda way: (not way.passed, way.ulp)) if claimed else ways[-1]


def _outcome(test: Any, *, weights: bool) -> Outcome:
    ops = tuple(dict.fromkeys(node.op_type for node in test.model.graph.node))
    if test.name in OUTSIDE:
        return Outcome(test.name, ops, OUTSIDE[test.name])
    try:
        proto, kept, imported = prepared(test, weights=weights)
    except DiagnosticError as error:
        return Outcome(test.name, ops, "; ".join(dict.fromkeys(d.message for d in error.diagnostics)))
    (inputs, expected), *_ = test.data_sets
    found = computed(proto, imported, named_inputs(test, inputs))
    pairs = [(array(expected[index]), found[at]) for at, index in enumerate(kept)]
    passed = all(close(a, b, test.rtol, test.atol) for a, b in pairs)
    ulp, largest = (max(measure(a, b) for a, b in pairs) for measure in (error_in_ulp, error_beside_largest))
    return Outcome(test.name, ops, "", passed, ulp, largest, (len(kept), len(expected)))


def prepared(test: Any, *, weights: bool) -> tuple[onnx.ModelProto, list[int], Imported]:
    """A test's model as the importer takes it, the numbers of the outputs that are kept, and what it makes of it."""
    proto = onnx.ModelProto()
    proto.CopyFrom(test.model)
    fix_constants(proto, named_inputs(test, test.data_sets[0][0]), weights=weights)
    kept = covered_outputs(proto)
    outputs = [proto.graph.output[index] for index in kept]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    return proto, kept, import_model(model_of(proto, test.name, {}), test.name, "net.dlspec")


def named_inputs(test: Any, inputs: Any) -> dict[str, Array]:
    names = [value.name for value in test.model.graph.input]
    return {name: array(value) for name, value in zip(names, inputs, strict=False)}


def array(value: Any) -> Any:
    """Tensors and numbers as arrays; lists and optional values stay what they are."""
    value = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    return np.asarray(value) if isinstance(value, np.generic) else value


def fix_constants(proto: onnx.ModelProto, inputs: dict[str, Array], *, weights: bool) -> None:
    """Inputs that the importer must know become initialisers, with `weights` those too that it may; one stays."""
    graph = proto.graph
    needed = {
        name
        for node in graph.node
        if (cover := TABLE.get(node.op_type)) is not None
        for index, name in enumerate(node.input)
        if index in (*cover.constants, *(cover.weights[-1:] if weights else ()))
        and isinstance(inputs.get(name), np.ndarray)
    }
    for name in sorted(needed):
        graph.initializer.append(numpy_helper.from_array(inputs[name], name))
    given = [value for value in graph.input if value.name not in needed]
    del graph.input[:]
    graph.input.extend(given)


def covered_outputs(proto: onnx.ModelProto) -> list[int]:
    """The outputs of the graph that the importer gives a value; all where it covers none of them."""
    beyond = {
        name
        for node in proto.graph.node
        if node.op_type in TABLE
        for name in node.output[TABLE[node.op_type].results :]
    }
    kept = [index for index, value in enumerate(proto.graph.output) if value.name not in beyond]
    return kept or list(range(len(proto.graph.output)))


def computed(proto: onnx.ModelProto, imported: Imported, inputs: dict[str, Array]) -> list[Array]:
    """The outputs of an imported model for these inputs, with the axes of the model."""
    double = any(array.dtype == np.float64 for array in inputs.values())
    graph = expanded(imported)
    given = {
        imported.places[name]: with_batch(value, imported.batches[name])
        for name, value in inputs.items()
        if name in imported.places and imported.places[name] in graph.inputs
    }
    with np.errstate(all="ignore"):
        values = evaluate(graph, given, imported.weights, np.float64 if double else np.float32)
    results = dict(graph.outputs)
    names = [output.name for output in proto.graph.output]
    return [without_batch(values[results[imported.places[name]]], imported.batches[name]) for name in names]


def with_batch(value: Array, at: int | None) -> Array:
    """A value of the model as dlc has it: the batch first."""
    return value[None] if at is None else np.moveaxis(value, at, 0)


def without_batch(value: Array, at: int | None) -> Array:
    """A value of dlc as the model has it."""
    return value[0] if at is None else np.moveaxis(value, 0, at)


def expanded(imported: Imported) -> Graph:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.dlspec"
        path.write_text(imported.text, encoding="utf-8")
        return driver.read(str(path)).spec.jobs[0].graph


# --- errors ------------------------------------------------------------------------------------------------------


def close(expected: Array, found: Array, rtol: float, atol: float) -> bool:
    """By the test's own tolerances, shape and type included."""
    alike = expected.shape == found.shape and expected.dtype == found.dtype
    return alike and bool(np.allclose(found, expected, rtol=rtol, atol=atol, equal_nan=True))


def error_in_ulp(expected: Array, found: Array) -> float:
    """The largest difference, each in units of the last place of what is expected there."""
    return _largest(expected, found, np.spacing(np.abs(expected)))


def error_beside_largest(expected: Array, found: Array) -> float:
    """The largest difference in units of the last place of the largest expected number."""
    finite = np.abs(expected[np.isfinite(expected)])
    unit = np.spacing(finite.max()) if finite.size else np.float32(1)
    return _largest(expected, found, unit)


def _largest(expected: Array, found: Array, unit: Any) -> float:
    if expected.shape != found.shape or not expected.size:
        return float("inf") if expected.shape != found.shape else 0.0
    with np.errstate(all="ignore"):
        difference = np.where(expected == found, 0, np.abs(found.astype(np.float64) - expected))
    return float(np.nanmax(difference / unit)) if not np.isnan(difference).all() else 0.0
