"""What must hold for every operator alike."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dlc.messages.e03_shapes as e03
import dlc.ops
from dlc.diagnostics import Message
from dlc.ops import LOSSES, METRICS, OPS, OPTIMIZERS, SIGNS, operator, optimizer
from dlc.ops.operator import LAYOUTS, Operator

MESSAGES = {message.code: message for message in e03.MESSAGES}


def by_name(op: Operator) -> str:
    return op.name


def weights(op: Operator) -> tuple[str, ...]:
    """What gradients call the weights: `weights` where the attributes decide how many there are."""
    return op.weights if op.weights_by is None else ("weights",)


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_gradients_need_and_give_what_exists(op: Operator) -> None:
    readable = {*op.operands, *weights(op), *op.saved, *op.results, "dy"}
    for gradient in op.gradients:
        assert set(gradient.needs) <= readable
        assert set(gradient.gives) <= {*op.operands, *weights(op)}
        assert "dy" in gradient.needs


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_every_operand_and_weight_has_one_gradient(op: Operator) -> None:
    given = [role for gradient in op.gradients for role in gradient.gives]
    without = {"label"} | ({"x"} if op.name in ("embedding", "position_embedding") else set())
    expected = () if op.role in ("metric", "optimizer") else (*op.operands, *weights(op))
    assert sorted(given) == sorted(set(expected) - without)


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_every_saved_value_is_needed_by_a_gradient(op: Operator) -> None:
    assert set(op.saved) <= {role for gradient in op.gradients for role in gradient.needs}


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_parameters_are_well_formed(op: Operator) -> None:
    names = [parameter.name for parameter in op.parameters]
    assert len(names) == len(set(names))
    for parameter in op.parameters:
        assert not (parameter.required and parameter.default is not None)
        assert parameter.like is None or parameter.like in names
        assert (parameter.kind == "choice") == bool(parameter.choices)
        if parameter.kind == "choice" and parameter.default is not None:
            assert parameter.default in parameter.choices


@pytest.mark.parametrize("op", OPS, ids=by_name)
def test_layouts_are_known(op: Operator) -> None:
    assert set(op.layout_free) <= set(LAYOUTS[1:])
    assert not (op.view and op.weights)


def test_names_are_unique_and_found() -> None:
    names = [op.name for op in OPS]
    assert len(names) == len(set(names))
    assert all(operator(op.name) is op for op in OPS)
    assert [operator(name) for name in SIGNS.values()].count(None) == 0


def test_roles() -> None:
    assert {op.role for op in LOSSES} == {"loss"}
    assert {op.role for op in METRICS} == {"metric"}
    assert all(rule.operator.role == "optimizer" and optimizer(rule.name) is rule for rule in OPTIMIZERS)
    with pytest.raises(KeyError):
        optimizer("larse")


def test_dropout_stays_in_logical_order() -> None:
    """Its mask counts elements; in another layout the same element would have another number."""
    dropout = operator("dropout")
    assert dropout is not None
    assert not dropout.elementwise
    assert dropout.layout_free == ()


def test_every_code_raised_has_a_message() -> None:
    folder = Path(str(dlc.ops.__file__)).parent
    raised = {
        node.args[0].value
        for path in sorted(folder.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "OperandError"
        and isinstance(node.args[0], ast.Constant)
    }
    assert raised
    assert raised <= set(MESSAGES)
    assert set(MESSAGES) - raised <= {"E0308", "E0318"}, "raised by the expander, which knows data sets and weights"


def test_every_message_is_listed_once() -> None:
    defined = [value for value in vars(e03).values() if isinstance(value, Message)]
    assert sorted(m.code for m in e03.MESSAGES) == sorted({m.code for m in defined})
    assert len(defined) == len(e03.MESSAGES)


def test_messages_are_sentences_without_capital_or_stop() -> None:
    for message in MESSAGES.values():
        assert not message.sentence[0].isupper()
        assert not message.sentence.endswith(".")
        assert message.explanation.strip().endswith((".", ")", "`"))


def test_importing_operators_does_not_import_numpy() -> None:
    code = "import sys, dlc.ops, dlc.ops.schedules, dlc.data_sets; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "networkx", "mpi4py", "jinja2", "lark"} & set(loaded)
