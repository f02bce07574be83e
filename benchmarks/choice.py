"""The analytic model against the kernels: every candidate of every op of a network, predicted and measured here.

    python -m benchmarks.choice lenet --batch 16 --peak 100e9 --bandwidth 20e9

One thread (OPENBLAS_NUM_THREADS=1 is set before NumPy is imported). Prints a line for each kernel, then by algorithm
and layout the geometric mean and spread of predicted / measured, and the time of each op's measured best choice against
that of the predicted one: what the model's errors cost.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from math import exp, log
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from backends.numpy_mpi.kernels import KERNELS
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.compute import seconds
from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Figure
from dlc.ir.tensor import TensorType
from passes.differentiate import operator_of
from passes.layouts import is_image
from passes.options import Candidate, candidates, local_shapes, operations, rules_of
from tests.passes import sample_networks

DTYPES = {"f64": np.float64, "f32": np.float32, "i32": np.int32, "u8": np.uint8}
ORDER = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1), "CHWN": (1, 2, 3, 0)}


@dataclass(frozen=True, slots=True)
class Kernels:
    """The candidates of each op of a network, to be priced on a device."""

    graph: Graph
    device: Device
    candidates: list[tuple[Candidate, ...]]

    def figure(self, candidate: Candidate) -> Figure:
        node = candidate.node
        shapes = local_shapes(self.graph, node, self.graph.batch)
        return seconds(operator_of(node), node.stage, shapes, candidate.algorithm, candidate.layout, self.device)


def main() -> None:
    options = _arguments()
    graph = getattr(sample_networks, options.network)(options.batch)
    core = Device("core", bandwidth=options.bandwidth, compute=(("f32", options.peak),))
    cluster = Cluster("here", (core,), (Link("shm", 8e9, 1e-6),), (Group("core", 1, "shm", device="core"),))
    asked = sample_networks.context(1, cluster).request
    found = Kernels(
        graph, core, [tuple(candidates(graph, op, rules_of(asked), graph.batch)) for op in operations(graph)]
    )
    ratios, measured = defaultdict[str, list[float]](list), dict[tuple[str, str, str, str], float]()
    for candidate, taken in _measured(found, options.only, options.budget):
        predicted = found.figure(candidate)
        name = f"{candidate.node.op} {candidate.node.stage} {candidate.algorithm} {candidate.layout}".replace("  ", " ")
        ratios[name].append(predicted.seconds / taken)
        measured[candidate.node.base, candidate.node.stage, candidate.layout, candidate.algorithm] = taken
        shape = "x".join(map(str, graph.type(candidate.node.inputs[0]).shape))
        print(
            f"{name:38} {shape:18} measured {taken * 1e6:10.1f} us, predicted {predicted.seconds * 1e6:10.1f} us"
            f" ({predicted.bound}), {predicted.seconds / taken:.2f}"
        )
    print()
    for name, values in sorted(ratios.items()):
        mean = exp(sum(map(log, values)) / len(values))
        print(f"{name:38} {mean:5.2f}  ({min(values):.2f} to {max(values):.2f}, {len(values)} kernels)")
    _regret(found, measured)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="lenet")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--peak", type=float, default=100e9, help="FLOP/s of a core")
    parser.add_argument("--bandwidth", type=float, default=20e9, help="bytes per second, read and written")
    parser.add_argument("--only", default="", help="one op, for example conv")
    parser.add_argument("--budget", type=float, default=0.05, help="seconds for each kernel")
    return parser.parse_args()


def _measured(found: Kernels, only: str, budget: float) -> Iterator[tuple[Candidate, float]]:
    """Each distinct kernel once; equal ops share their time."""
    known: dict[object, float] = {}
    for ways in found.candidates:
        for candidate in ways:
            node = candidate.node
            key = (node.op, node.stage, candidate.algorithm)
            if candidate.excluded or key not in KERNELS or only not in ("", node.op):
                continue
            shapes = local_shapes(found.graph, node, found.graph.batch)
            same = (key, candidate.layout, shapes.inputs, node.attrs)
            if same not in known:
                known[same] = _time(_call(found.graph, candidate), budget)
            yield candidate, known[same]


def _call(graph: Graph, candidate: Candidate) -> Callable[[], None]:
    """The kernel with its arrays, ready to run."""
    node, operator = candidate.node, operator_of(candidate.node)
    rng = np.random.default_rng(0)
    inputs = [_array(graph.type(name), candidate.layout, rng) for name in node.inputs]
    outputs = [_array(graph.type(name), candidate.layout, rng) for name in node.outputs]
    algorithm = next((a for a in operator.algorithms if a.name == candidate.algorithm), None)
    shapes = local_shapes(graph, node, graph.batch)
    scratch = algorithm.workspaces(node.stage, shapes, candidate.layout) if algorithm else ()
    workspaces = [np.zeros(w.type.shape, DTYPES[w.type.dtype]) for w in scratch]
    entry = KERNELS[node.op, node.stage, candidate.algorithm]
    function = getattr(import_module(f"backends.numpy_mpi.kernels.{entry.module}"), entry.function)
    keywords: dict[str, Any] = {**dict(node.attrs), **_runtime(node, operator.runtime, graph.batch)}
    if any(is_image(graph.type(name)) for name in (*node.inputs, *node.outputs)):
        keywords["layout"] = candidate.layout
    return lambda: function(*inputs, *outputs, *workspaces, **keywords)


def _runtime(node: Node, names: tuple[str, ...], batch: int) -> dict[str, Any]:
    values = {"count": batch, "position": 0, "step": 0, "lr": 0.1}
    found: dict[str, Any] = {name: values[name] for name in names if name in values}
    return found | ({"key": (1, 2)} if node.op == "dropout" else {})


def _array(type_: TensorType, layout: str, rng: np.random.Generator) -> Any:
    shape = tuple(type_.shape[axis] for axis in ORDER[layout]) if is_image(type_) else type_.shape
    if type_.dtype in ("i32", "u8"):
        return np.zeros(shape, DTYPES[type_.dtype])
    return rng.random(shape).astype(DTYPES[type_.dtype])


def _time(run: Callable[[], None], budget: float) -> float:
    """The median of as many runs as fit the budget, three at least."""
    run()
    times, end = list[float](), time.perf_counter() + budget
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 200):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def _regret(found: Kernels, measured: dict[tuple[str, str, str, str], float]) -> None:
    """Per op and pass: the measured time of the predicted best candidate against the measured best."""
    chosen, best = 0.0, 0.0
    for ways in found.candidates:
        by_stage = defaultdict[str, list[tuple[float, float]]](list)
        for c in ways:
            taken = measured.get((c.node.base, c.node.stage, c.layout, c.algorithm))
            if taken is not None:
                by_stage[c.node.stage].append((found.figure(c).seconds, taken))
        for pairs in by_stage.values():
            chosen += min(pairs)[1]
            best += min(taken for _, taken in pairs)
    print(f"\nby predicted choice {chosen * 1e3:.2f} ms, by measured choice {best * 1e3:.2f} ms: {chosen / best:.2f}x")


if __name__ == "__main__":
    main()
