"""Losses and metrics: shapes, mistakes, and what they come to where it can be said beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels.totals import exp, mean
from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ops import LOSSES, METRICS, operator
from dlc.ops.operator import OperandError
from tests.kernels.calling import Known, Op

LOGITS = tensor("f64", batch=4, seq=3, feature=5)
LABEL = tensor("i32", batch=4, seq=3)
COMPARED = ("bce", "mse", "half_mse", "l1", "huber", "reconstruction", "kl")


def loss(name: str, *operands: TensorType, **arguments: Attr) -> Op:
    return Op(operator(name), operands, arguments, runtime={"count": operands[0].shape[0]})


def value(op: Op, *arrays: Any) -> float:
    return float(op.forward(dict(zip(op.inputs, arrays, strict=True)))["y"])


@pytest.mark.parametrize("name", COMPARED)
def test_comparisons_give_a_gradient_for_each_operand(name: str) -> None:
    op = operator(name)
    assert op is not None
    assert [gradient.suffix for gradient in op.gradients] == ["dx", "dt"]
    assert [gradient.gives for gradient in op.gradients] == [(operand,) for operand in op.operands]


@pytest.mark.parametrize("name", [op.name for op in (*LOSSES, *METRICS)])
def test_results_are_numbers(name: str) -> None:
    op = operator(name)
    assert op is not None
    found = Op(op, (LOGITS, LABEL if "label" in op.operands else LOGITS), {})
    assert found.inferred.results == (tensor("f64"),)


@pytest.mark.parametrize(
    ("name", "operands", "code"),
    [
        ("l1", (LOGITS, tensor("f64", batch=4, feature=15)), "E0303"),
        ("huber", (LOGITS, tensor("f64", batch=4, seq=3, feature=1)), "E0303"),
        ("bce", (LOGITS, tensor("f64", batch=4, seq=3)), "E0303"),
        ("kl", (LOGITS, tensor("f64", batch=4, seq=3, feature=4)), "E0303"),
        ("kl", (tensor("f64", batch=4), tensor("f64", batch=4)), "E0301"),
        ("l1", (LOGITS, LABEL), "E0305"),
        ("bce", (LABEL, LABEL), "E0305"),
        ("mse", (LOGITS, tensor("f32", batch=4, seq=3, feature=5)), "E0305"),
        ("reconstruction", (LOGITS, tensor("f64", batch=4, feature=14)), "E0301"),
        ("reconstruction", (LOGITS, LABEL), "E0305"),
        ("hinge", (LOGITS, tensor("i32", batch=4)), "E0314"),
        ("hinge", (LOGITS, LOGITS), "E0305"),
        ("perplexity", (LOGITS, tensor("i32", batch=4, seq=2)), "E0314"),
    ],
)
def test_mistakes(name: str, operands: tuple[TensorType, ...], code: str) -> None:
    with pytest.raises(OperandError) as caught:
        Op(operator(name), operands, {})
    assert caught.value.code == code


def test_mse_of_the_same_elements_in_another_shape_names_reconstruction() -> None:
    with pytest.raises(OperandError) as caught:
        Op(operator("mse"), (LOGITS, tensor("f64", batch=4, feature=15)), {})
    assert "`reconstruction`" in caught.value.helps[0]


def test_reconstruction_is_mse_times_the_elements_of_a_sample() -> None:
    rng = np.random.default_rng(0)
    decoded, image = rng.standard_normal((4, 15)), rng.standard_normal((4, 3, 5))
    whole = value(loss("reconstruction", tensor("f64", batch=4, feature=15), LOGITS), decoded, image)
    flat = tensor("f64", batch=4, feature=15)
    assert whole == pytest.approx(15 * value(loss("mse", flat, flat), decoded, image.reshape(4, 15)), rel=1e-14)


def test_huber_lies_between_its_two_parts() -> None:
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal((4, 3, 5)), rng.standard_normal((4, 3, 5))
    assert value(loss("huber", LOGITS, LOGITS, delta=100.0), x, t) == pytest.approx(
        value(loss("half_mse", LOGITS, LOGITS), x, t), rel=1e-13
    )
    small = 1e-9
    assert value(loss("huber", LOGITS, LOGITS, delta=small), x, t) / small == pytest.approx(
        value(loss("l1", LOGITS, LOGITS), x, t), rel=1e-7
    )


def test_kinks_have_the_gradients_of_pytorch() -> None:
    """0 where prediction and target are equal; no share for a margin that is just kept."""
    x = np.array([[1.0, 2.0, 3.0]])
    type_ = tensor("f64", batch=1, feature=3)
    known: Known = {"prediction": x, "target": x.copy(), "dy": np.array(1.0)}
    for name in ("l1", "huber"):
        assert not loss(name, type_, type_).backward(known)["dprediction"].any()
    margins = loss("hinge", type_, tensor("i32", batch=1))
    found = margins.backward({"logits": x, "label": np.array([2], np.int32), "dy": np.array(1.0)})
    assert found["dlogits"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("size", [40.0, 800.0])
def test_large_logits_do_not_overflow(size: float) -> None:
    type_ = tensor("f64", batch=1, feature=2)
    x = np.array([[size, -size]])
    with np.errstate(all="raise", under="ignore"):
        right = loss("bce", type_, type_)
        assert value(right, x, np.array([[1.0, 0.0]])) == pytest.approx(0, abs=1e-17)
        assert value(right, x, np.array([[0.0, 1.0]])) == pytest.approx(size)
        found = right.backward({"logits": x, "target": np.array([[0.5, 0.5]]), "dy": np.array(1.0)})
        assert found["dlogits"].tolist() == [[0.25, -0.25]]
        distilled = loss("kl", type_, type_)
        assert value(distilled, x, -x) == pytest.approx(2 * size)
        assert value(distilled, x, x) == 0
    assert value(loss("perplexity", type_, tensor("i32", batch=1)), x, np.array([1], np.int32)) == 2 * size


def test_kl_counts_what_the_teacher_rules_out_as_nothing() -> None:
    type_ = tensor("f64", batch=1, feature=3)
    masked, even = np.array([[0.0, 0.0, -np.inf]]), np.zeros((1, 3))
    op = loss("kl", type_, type_)
    with np.errstate(all="ignore"):
        known = op.forward({"logits": even, "target": masked}) | {"dy": np.array(1.0)}
        found = op.backward(known)
    assert found["y"] == pytest.approx(np.log(1.5))
    assert np.isfinite(found["dlogits"]).all()
    assert found["dtarget"] == pytest.approx(np.zeros((1, 3)))


def test_accuracy_is_a_share_of_the_labels() -> None:
    """A total over the samples of the shares of their labels."""
    axes = (Axis("batch", 2), Axis("height", 1), Axis("width", 2))
    logits = TensorType("f64", (*axes, Axis("feature", 3)))
    x = np.zeros((2, 1, 2, 3))
    x[..., 1] = 1
    label = np.array([[[1, 0]], [[1, 1]]], np.int32)
    for top, expected in ((1, 1.5), (2, 2.0)):
        assert value(Op(operator("accuracy"), (logits, TensorType("i32", axes)), {"top": top}), x, label) == expected


def test_perplexity_of_equal_logits_is_the_number_of_classes() -> None:
    op = Op(operator("perplexity"), (LOGITS, LABEL), {})
    total = value(op, np.full((4, 3, 5), 7.0), np.zeros((4, 3), np.int32))
    assert exp(total, 4) == pytest.approx(5)
    assert mean(total, 4) == pytest.approx(np.log(5))
    assert exp(1e6, 1) == float("inf")
    assert np.isnan(exp(float("nan"), 1))


@pytest.mark.parametrize("name", [op.name for op in LOSSES])
def test_shards_add_up(name: str) -> None:
    """Uneven ones, and one without a sample."""
    rng = np.random.default_rng(2)
    op = operator(name)
    assert op is not None
    labels = "label" in op.operands
    found = loss(name, LOGITS, LABEL if labels else LOGITS)
    first, second = found.inputs
    known: Known = {first: rng.standard_normal((4, 3, 5)), "dy": np.array(0.5)}
    known[second] = rng.integers(0, 5, (4, 3)).astype(np.int32) if labels else rng.standard_normal((4, 3, 5))

    def run(start: int, stop: int) -> Known:
        return found.backward(found.forward(known | {role: known[role][start:stop] for role in (first, second)}))

    whole, parts = run(0, 4), (run(0, 1), run(1, 1), run(1, 4))
    assert sum(part["y"] for part in parts) == pytest.approx(whole["y"], rel=1e-14)
    for role in (first,) if labels else (first, second):
        joined = np.concatenate([part[f"d{role}"] for part in parts])
        assert joined == pytest.approx(whole[f"d{role}"], rel=1e-14, abs=1e-16)
