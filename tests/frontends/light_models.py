"""The light models of the onnx wheel with random weights: what dlc computes with them, and what PyTorch does.

The models' own weights are constants, of which the results prove little. Here each is drawn: weights of convolutions
and linear maps so that values neither vanish nor explode, scales and variances around one, the rest small.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

from dlc.frontends.onnx.importing import Imported, import_model
from dlc.frontends.onnx.model import model_of
from tests.frontends.evaluate import evaluate
from tests.frontends.node_tests import expanded

FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "light"
MODELS = tuple(sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("light_*.onnx")))
SAMPLED = 12
"""So many intermediate values are compared besides the outputs."""

Array = np.ndarray


def drawn(name: str, seed: int) -> onnx.ModelProto:
    """The model of that name with random weights in the place of its constants."""
    proto = onnx.load(FOLDER / f"light_{name}.onnx")
    rng = np.random.default_rng([seed, *name.encode()])
    graph = proto.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    roles = {
        input_: (node.op_type, index)
        for node in graph.node
        for index, input_ in enumerate(node.input)
        if node.op_type in ("Conv", "Gemm", "BatchNormalization")
    }
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        array = _draw(rng, tuple(shapes[node.input[0]]), *roles.get(node.output[0], ("", 0)))
        graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    for index, tensor in enumerate(graph.initializer):
        if tensor.name in roles:
            array = _draw(rng, tuple(tensor.dims), *roles[tensor.name])
            graph.initializer[index].CopyFrom(numpy_helper.from_array(array, tensor.name))
    del graph.node[:]
    graph.node.extend(kept)
    proto.ir_version = max(proto.ir_version, 4)
    return proto


def _draw(rng: np.random.Generator, shape: tuple[int, ...], op: str, index: int) -> Array:
    if op in ("Conv", "Gemm") and index == 1:
        array = rng.standard_normal(shape) * np.sqrt(2 / max(1, int(np.prod(shape[1:]))))
    elif op == "BatchNormalization" and index in (1, 4):
        array = rng.uniform(0.5, 1.5, shape)
    else:
        array = 0.1 * rng.standard_normal(shape)
    return array.astype(np.float32)


def errors(name: str, seed: int) -> Iterator[tuple[str, float]]:
    """(value, largest difference over the largest number of the reference) of the outputs and sampled intermediates."""
    from tests.frontends.torch_models import run  # PyTorch, which the models themselves do without

    proto = drawn(name, seed)
    imported = import_model(model_of(proto, name, {}), name, "net.dlspec")
    sampled = _sampled(proto, imported, np.random.default_rng(seed))
    image = np.random.default_rng(seed).standard_normal((1, 3, 224, 224)).astype(np.float32)
    graph = expanded(imported)
    (input_,), (given,) = graph.inputs, (name for name in imported.batches if name not in outputs_of(proto))
    values = evaluate(graph, {input_: image}, imported.weights)
    expected = run(proto, {given: image})
    by_statement = {node.address.partition(".")[0]: node.outputs[0] for node in graph.nodes}
    for value in sampled:
        found, wanted = values[by_statement[imported.places[value]]], expected[value].numpy()
        assert found.shape == wanted.shape
        yield value, float(np.abs(found - wanted).max() / np.abs(wanted).max())


def _sampled(proto: onnx.ModelProto, imported: Imported, rng: np.random.Generator) -> list[str]:
    """The outputs, the logits before a softmax, and some of the values between."""
    logits = [node.input[0] for node in proto.graph.node if node.op_type == "Softmax"]
    outputs = [*outputs_of(proto), *logits]
    between = [
        name for node in proto.graph.node for name in node.output if name in imported.places and name not in outputs
    ]
    return [*outputs, *sorted(rng.choice(between, min(SAMPLED, len(between)), replace=False).tolist())]


def outputs_of(proto: onnx.ModelProto) -> list[str]:
    return [value.name for value in proto.graph.output]
