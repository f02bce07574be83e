"""The train block in emitted text: data set, first weights, length, and what the data must look like."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.text import call, literal
from dlc.ir.graph import Graph, Init, Value
from dlc.ir.training import Choice, Length


def sample_shapes(graph: Graph, data: Choice) -> dict[str, tuple[int, ...]]:
    """Shape of one sample of each input, by its name; of each field too where the file decides what it holds."""
    names = (*graph.inputs, *graph.fields) if data.kind == "npz" else graph.inputs
    return {name: graph.type(name).shape[1:] for name in names}


def label_classes(graph: Graph) -> dict[str, int]:
    """How many classes each label may have: those of the loss that it is compared in."""
    found = {}
    for node in graph.nodes:
        if node.op == "cross_entropy" and node.inputs[1] in graph.fields:
            found[node.inputs[1]] = graph.type(node.inputs[0]).shape[-1]
    return found


def weight_names(graph: Graph) -> tuple[str, ...]:
    """The addresses that weight files hold: weights, then running statistics."""
    return tuple(value.name for value in graph.of_kind("weight", "statistic"))


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


def dataset_call(emission: Emission) -> str:
    """`digits(scale=4, input="image", test=0.2, seed=SEED)`: the reader of the runtime, with the block's arguments."""
    data, graph = emission.training.data, emission.graph
    given = {name: literal(value) for name, value in data.arguments if name not in ("shuffle", "last", "augment")}
    given = {name: text for name, text in given.items() if text != "None"}
    arguments = []
    if data.kind in ("mnist", "cifar10", "npz"):
        arguments = ["files", given.pop("file" if data.kind == "npz" else "dir")]
    if data.kind == "npz":
        given["names"] = literal((*graph.inputs, *graph.fields))
    elif data.kind == "synthetic":
        arguments.append("SAMPLE")
    else:
        given["input"] = literal(graph.inputs[0])
    if data.kind in ("digits", "npz", "synthetic"):
        given["seed"] = "SEED"
    return call(data.kind, [*arguments, *(f"{name}={text}" for name, text in given.items())])


def initialisation(graph: Graph, names: Mapping[str, str]) -> str:
    """One call for each weight, statistic and constant; optimizer states are zero as they are allocated."""
    values = graph.of_kind("weight", "statistic", "constant")
    return "\n".join(_initialise(value, value.init, names) for value in values if value.init is not None)


def _initialise(value: Value, init: Init, names: Mapping[str, str]) -> str:
    array = f"w.{names[value.name]}"
    if init.kind == "constant":
        return f"    {array}.fill({literal(init.value)})"
    given = {"fan_in": init.fan_in, "fan_out": init.fan_out, "value": init.value}
    wanted = {"kaiming_uniform": ("fan_in",), "he": ("fan_in",), "glorot": ("fan_in", "fan_out"), "normal": ("value",)}
    arguments = [array, f"kind={literal(init.kind)}", f"key=key(SEED, {literal(value.name)})"]
    return call("initialise", [*arguments, *(f"{name}={literal(given[name])}" for name in wanted[init.kind])], 4)
