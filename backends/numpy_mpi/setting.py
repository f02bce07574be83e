"""The train block in emitted text: data set, first weights, length, and what the data must look like."""

from __future__ import annotations

from math import gcd

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.text import call, literal, literal_map
from dlc.ir.graph import Graph
from dlc.ir.training import Choice, Length
from dlc.ops.operands import FLOATING
from passes.classes import fed_classes

DRAWN_WITH_INPUTS = ("label", "next")
"""The fields that synthetic samples have besides those that are drawn as inputs are."""


def input_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shape of one sample of each input, by its name."""
    return {name: graph.type(name).shape[1:] for name in graph.inputs}


def sample_shapes(graph: Graph, data: Choice) -> dict[str, tuple[int, ...]]:
    """Shape of one sample of each input, and of each field whose shape the file or the draw leaves open."""
    fields = {"npz": graph.fields, "synthetic": [name for name in graph.fields if name not in DRAWN_WITH_INPUTS]}
    return input_shapes(graph) | {name: graph.type(name).shape[1:] for name in fields.get(data.kind, ())}


def classes(graph: Graph) -> dict[str, int]:
    """How many classes the integers of each input and field may name."""
    return {name: found.count for name, found in fed_classes(graph).items()}


def interchangeable(graph: Graph) -> int:
    """How many neighbouring samples of a batch may trade places without changing what is computed, rounding apart.

    Groups of a batch norm keep their members; dropout masks belong to positions.
    """
    if any(node.op == "dropout" for node in graph.nodes):
        return 1
    groups = [node.attr("group") for node in graph.forward if node.op == "bn"]
    return gcd(graph.batch, *(group for group in groups if isinstance(group, int)))


def length_call(length: Length) -> str:
    """The number of steps as the train block gives it."""
    return f"{length.count} * epoch" if length.unit.startswith("epoch") else str(length.count)


def stop_call(stop: Choice | None) -> str:
    """What ends training before its time, such as `Patience(5 * epoch)`; "" for nothing."""
    if stop is None:
        return ""
    return f"Patience({_steps(stop, 'over')})" if stop.kind == "patience" else f"Below({literal(stop.get('below'))})"


def checkpoint_arguments(checkpoint: Choice | None) -> str:
    """How often and where to: `, every=1 * epoch, to="ckpt"`, or nothing."""
    return "" if checkpoint is None else f", every={_steps(checkpoint, 'interval')}, to={literal(checkpoint.get('to'))}"


def _steps(choice: Choice, name: str) -> str:
    """An argument that is a length, in steps."""
    given = choice.get(name)
    assert isinstance(given, tuple)
    count, unit = given
    return length_call(Length(int(count), str(unit)))


def dataset_call(emission: Emission) -> str:
    """`digits(scale=4, input="image", test=0.2, seed=SEED)`: the reader of the runtime, with the block's arguments."""
    data, graph = emission.training.data, emission.graph
    given = {name: literal(value) for name, value in data.arguments if name not in ("shuffle", "last", "augment")}
    given = {name: text for name, text in given.items() if text != "None"}
    arguments = []
    if data.kind in ("mnist", "cifar10", "npz", "text", "tokens"):
        arguments = ["files", given.pop("file" if "file" in given else "dir")]
    if data.kind == "npz":
        given["names"] = literal((*graph.inputs, *graph.fields))
    elif data.kind == "synthetic":
        arguments.append("SAMPLE")
        given |= _integers(graph, given["classes"])
    else:
        given["input"] = literal(graph.inputs[0])
    if data.kind == "text" and classes(graph):
        given["classes"] = "min(CLASSES.values())"
    if data.kind not in ("mnist", "cifar10"):
        given["seed"] = "SEED"
    return call(data.kind, [*arguments, *(f"{name}={text}" for name, text in given.items())])


def _integers(graph: Graph, otherwise: str) -> dict[str, str]:
    """What synthetic samples need to know of integers: their bounds, and which input the field `next` goes with.

    `next` holds what its input holds, so the input's bound is the smaller one.
    """
    bounds, first, ahead = classes(graph), graph.inputs[0], "next" in graph.fields
    if ahead and "next" in bounds:
        bounds[first] = min(bounds["next"], bounds.get(first, bounds["next"]))
    names = [name for name in sample_shapes(graph, Choice("synthetic")) if graph.type(name).dtype not in FLOATING]
    below = literal_map({name: bounds[name] if name in bounds else int(otherwise) for name in names})
    return ({"below": below} if names else {}) | ({"next": literal(first)} if ahead else {})
