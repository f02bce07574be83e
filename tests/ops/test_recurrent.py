"""Recurrent networks: shapes, weights, mistakes, counts; their graphs as text; their stand-ins."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT
from dlc.driver import Options, compile_spec, read
from dlc.ir.tensor import TensorType, tensor
from dlc.ir.text import from_text, to_text
from dlc.ops import operator
from dlc.ops.operator import OperandError
from tests.kernels.calling import Op

OPS = {"rnn": 1, "lstm": 4, "gru": 3}
"""Op -> gates."""

X = tensor("f32", batch=4, seq=6, width=5)


def made(name: str, x: TensorType = X, table: Any = None, **arguments: Any) -> Op:
    found = operator(name)
    assert found is not None
    return Op(found, (x,), {"hidden": 3, **arguments}, **({"table": table} if table else {}))


@pytest.mark.parametrize("name", OPS)
def test_results(name: str) -> None:
    assert made(name).inferred.results == (X.with_extent("width", 3),)
    assert made(name, bidirectional=True).inferred.results == (X.with_extent("width", 6),)
    assert made(name, bidirectional=True, returns="last").inferred.results == (tensor("f32", batch=4, width=6),)


@pytest.mark.parametrize(("name", "gates"), OPS.items())
def test_weights_have_names_and_shapes_of_pytorch(name: str, gates: int) -> None:
    rows = 3 * gates
    weights = {w.role: w.type.shape for w in made(name, layers=2, bidirectional=True).inferred.weights}
    assert list(weights.items()) == [
        (f"{kind}_l{layer}{way}", (rows, *columns))
        for layer, way in product((0, 1), ("", "_reverse"))
        for kind, columns in {
            "weight_ih": (6 if layer else 5,),
            "weight_hh": (3,),
            "bias_ih": (),
            "bias_hh": (),
        }.items()
    ]
    assert [w.role for w in made(name, bias=False).inferred.weights] == ["weight_ih_l0", "weight_hh_l0"]
    assert {(w.init.kind, w.init.fan_in) for w in made(name).inferred.weights} == {("kaiming_uniform", 3)}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("x", [tensor("f32", batch=4, width=5), tensor("f32", seq=6, batch=4, width=5)])
def test_operands_are_sequences(name: str, x: TensorType) -> None:
    with pytest.raises(OperandError) as caught:
        made(name, x)
    assert caught.value.code == "E0301"


def test_tokens_are_embedded_first() -> None:
    with pytest.raises(OperandError) as caught:
        made("lstm", X.with_dtype("i32"))
    assert caught.value.code == "E0305"


@pytest.mark.parametrize(("name", "gates"), OPS.items())
def test_multiply_adds(name: str, gates: int) -> None:
    """Each element meets every weight that is no bias once; backwards twice."""
    op = made(name, layers=2, bidirectional=True)
    matrices = sum(w.type.elements for w in op.inferred.weights if w.role.startswith("weight"))
    assert op.operator.cost("forward", op.shapes("forward")).macs == 4 * 6 * matrices
    assert op.operator.cost("dx", op.shapes("dx")).macs == 2 * 4 * 6 * matrices


@pytest.mark.parametrize("name", OPS)
def test_depth_grows_with_the_sequence(name: str) -> None:
    def depth(stage: str, seq: int, **arguments: Any) -> int:
        op = made(name, X.with_extent("seq", seq), **arguments)
        return op.operator.cost(stage, op.shapes(stage)).depth

    assert depth("forward", 12) - depth("forward", 11) == depth("forward", 7) - depth("forward", 6) > 0
    assert depth("forward", 12, layers=2) == depth("forward", 13)
    assert depth("forward", 12, layers=2, bidirectional=True) == depth("forward", 24)
    assert depth("dx", 16, truncate=4) < depth("dx", 16, truncate=8) < depth("dx", 16) == depth("dx", 16, truncate=16)


@pytest.mark.parametrize("name", OPS)
def test_stand_ins_count_in_small_integers(name: str) -> None:
    """Results, gradients and their sums are integers that depend on every sample."""
    op = made(name, X.with_dtype("f64"), EXACT, layers=2, bidirectional=True, truncate=4)
    rng = np.random.default_rng(0)
    known = {role: np.round(value) for role, value in op.draw(rng).items()}
    known["dy"] = rng.integers(-3, 4, op.types["y"].shape).astype(float)
    found = op.backward(op.forward(known))
    for value in found.values():
        assert np.array_equal(value, np.round(value))
    assert np.abs(found["y"]).max() <= 3
    changed = dict(known, x=known["x"].copy())
    changed["x"][-1, 0] += 1
    other = op.backward(op.forward(changed))
    assert np.array_equal(found["y"][:-1], other["y"][:-1])
    assert not np.array_equal(found["dweight_ih_l0"], other["dweight_ih_l0"])


@pytest.mark.parametrize("name", OPS)
def test_shards_are_computed_alike(name: str) -> None:
    """The history is laid out by the samples at hand, however many these are."""
    op = made(name, X.with_dtype("f64"), layers=2, bidirectional=True)
    rng = np.random.default_rng(0)
    known = op.draw(rng) | {"dy": rng.standard_normal(op.types["y"].shape)}
    whole = op.backward(op.forward(known))
    shards = [{role: known[role][samples] for role in ("x", "dy")} for samples in (slice(0, 1), slice(1, 4))]
    parts = [op.backward(op.forward(known | shard)) for shard in shards]
    for role in ("y", "dx"):
        assert np.allclose(np.concatenate([part[role] for part in parts]), whole[role], rtol=0, atol=1e-14)
    for role in op.inputs[1:]:
        assert np.allclose(sum(part[f"d{role}"] for part in parts), whole[f"d{role}"], rtol=0, atol=1e-13)


def test_graph_plan_and_program_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "net.dlspec"
    path.write_text(SPEC)
    compiled = compile_spec(read(str(path)), Options())
    for ir in (compiled.graph, compiled.plan, compiled.program):
        assert from_text(to_text(ir)) == ir
    node = compiled.graph.node("y.lstm@dx")
    assert len(node.outputs) == 1 + 4 * 2 * 2


def test_init_leaves_biases_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "net.dlspec"
    path.write_text(SPEC.replace("steps     = 5", "steps     = 5\n  init      = he"))
    graph = compile_spec(read(str(path)), Options()).graph
    kinds = {value.name.rpartition(".")[2][:6]: value.init.kind for value in graph.of_kind("weight") if value.init}
    assert kinds == {"weight": "he", "bias_i": "constant", "bias_h": "constant", "bias": "constant"}


SPEC = """dlspec 1
network net {
  input x: f32[batch = 8, seq = 6, width = 5]
  y = x -> lstm(4, layers = 2, bidirectional = yes, truncate = 3) -> gru(3, returns = last) -> linear(5)
  output y
}
train net {
  data      = synthetic(samples = 40, classes = 5)
  loss      = cross_entropy(y, data.label)
  optimizer = sgd
  lr        = constant(0.01)
  steps     = 5
}
"""
