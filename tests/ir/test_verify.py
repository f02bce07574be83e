"""Every invariant of Graphs catches a graph that breaks it, and sound graphs pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dlc.ir.chain_rule import RULES, Chain
from dlc.ir.graph import Graph, Init, Node, Value
from dlc.ir.tensor import tensor
from dlc.ir.training import Choice
from dlc.ir.verify import INVARIANTS, InternalError, verify
from dlc.ops import operator
from passes.add_updates import add_updates
from passes.differentiate import differentiate
from tests.ir.sample_graphs import context, residual, training

Break = Callable[[Graph], Graph]


def node(address: str, **changes: object) -> Break:
    """Change one node."""

    def broken(graph: Graph) -> Graph:
        assert address in {n.address for n in graph.nodes}
        nodes = (replace(n, **changes) if n.address == address else n for n in graph.nodes)  # type: ignore[arg-type]
        return graph.with_(nodes=tuple(nodes))

    return broken


def value(name: str, **changes: object) -> Break:
    """Change one value."""

    def broken(graph: Graph) -> Graph:
        assert graph.has_value(name)
        values = (replace(v, **changes) if v.name == name else v for v in graph.values)  # type: ignore[arg-type]
        return graph.with_(values=tuple(values))

    return broken


def graph(**changes: object) -> Break:
    """Change the graph itself."""
    return lambda found: found.with_(**changes)


def without(*addresses: str) -> Break:
    """Drop nodes, and the values that only they compute."""

    def broken(found: Graph) -> Graph:
        gone = {out for n in found.nodes if n.address in addresses for out in n.outputs}
        return found.with_(
            nodes=tuple(n for n in found.nodes if n.address not in addresses),
            values=tuple(v for v in found.values if v.name not in gone),
        )

    return broken


def last(address: str) -> Break:
    """Move a node to the end."""

    def broken(found: Graph) -> Graph:
        others = tuple(n for n in found.nodes if n.address != address)
        return found.with_(nodes=(*others, found.node(address)))

    return broken


def twice(address: str, new: str | None = None, before: str | None = None) -> Break:
    """Put a copy of a node right behind it, or in front of another one."""

    def broken(found: Graph) -> Graph:
        copy = replace(found.node(address), address=new or address)
        if before is not None:
            pairs = ((copy, n) if n.address == before else (n,) for n in found.nodes)
        else:
            pairs = ((n, copy) if n.address == address else (n,) for n in found.nodes)
        return found.with_(nodes=tuple(n for pair in pairs for n in pair))

    return broken


def added(made: Value, *nodes: Node) -> Break:
    """Add a value, and nodes in front of all that changes gradients and weights."""

    def broken(found: Graph) -> Graph:
        at = next(index for index, n in enumerate(found.nodes) if n.address == "regularise")
        return found.with_(values=(*found.values, made), nodes=(*found.nodes[:at], *nodes, *found.nodes[at:]))

    return broken


def appended(made: Value, node: Node) -> Break:
    """Add a value and a node at the end."""
    return lambda found: found.with_(values=(*found.values, made), nodes=(*found.nodes, node))


def differentiated(broken: Break) -> Break:
    """Break the graph as it is before updates are added."""
    return lambda _: broken(differentiate(residual(), context()))


def summed_wrongly(found: Graph) -> Graph:
    parts = found.node("stem.conv@sum").inputs
    return node("stem.conv@sum", inputs=(parts[0], parts[0]))(found)


def input_gradient(found: Graph) -> Graph:
    made = Value("image@grad", found.type("image"), "gradient")
    back = Node("stem.conv@dx", "conv", "dx", ("stem.conv@grad", "stem.conv.weight"), ("image@grad",))
    return added(made, replace(back, attrs=found.node("stem.conv").attrs))(found)


def reordered(inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Weights as they are, their gradients from the last to the first."""
    half = len(inputs) // 2
    return (*inputs[:half], *reversed(inputs[half:]))


SCALAR = tensor("f32")
WEIGHT = Value("w", SCALAR, "weight", Init("constant"), "stem.conv")

BROKEN: dict[str, tuple[str, Break]] = {
    "two values of one name": ("names_are_unique", added(Value("image", SCALAR, "activation"))),
    "two nodes of one address": ("names_are_unique", twice("main.relu")),
    "unknown operand": ("names_are_known", node("main.relu", inputs=("nothing",))),
    "unknown operator": ("names_are_known", node("main.relu", op="rleu")),
    "unknown loss": ("names_are_known", graph(loss="nothing")),
    "unknown output": ("names_are_known", graph(outputs=(("logits", "nothing"),))),
    "input not listed": ("fed_values_are_listed", graph(inputs=())),
    "field of another kind": ("fed_values_are_listed", value("label", kind="input")),
    "nobody computes it": ("values_have_one_origin", added(Value("orphan", SCALAR, "activation"))),
    "two compute it": ("values_have_one_origin", twice("main.relu", "other.relu")),
    "a weight is computed": ("values_have_one_origin", node("main.relu", outputs=("stem.conv.weight",))),
    "read before made": ("nodes_are_in_order", last("stem.conv")),
    "sum before its parts": ("nodes_are_in_order", last("main.conv@dx")),
    "read after update": (
        "changes_come_last",
        appended(Value("late", SCALAR, "activation"), Node("late", "relu", "forward", ("stem.conv.bias",), ("late",))),
    ),
    "clip after update": ("changes_come_last", last("clip")),
    "regularise after update": ("changes_come_last", last("regularise")),
    "regularise after clip": ("changes_come_last", twice("clip", "early clip", before="regularise")),
    "weight without init": ("first_contents_are_known", value("stem.conv.weight", init=None)),
    "activation with init": ("first_contents_are_known", value("main.relu", init=Init("constant"))),
    "state without init": ("first_contents_are_known", value("stem.conv.weight@velocity", init=None)),
    "owner gone": ("owners_exist", value("stem.conv.weight", owner="stem")),
    "statistic without owner": ("owners_exist", value("main.bn.mean", owner=None)),
    "gradients before training": ("stages_fit", graph(stage="loss")),
    "no loss": ("stages_fit", lambda g: g.with_(loss=None)),
    "loss in a network": ("stages_fit", lambda g: residual().with_(stage="network")),
    "vector loss": ("results_are_sums", graph(loss="logits.mul")),
    "vector metric": ("results_are_sums", graph(metrics=(("accuracy", "label"),))),
    "half a batch": ("batches_are_whole", value("main.relu", type=tensor("f32", batch=2))),
    "missing by-product": ("operands_are_complete", lambda g: node("accuracy", inputs=("logits.mul",))(g)),
    "weight as operand": (
        "operands_are_complete",
        lambda g: node("main.relu", inputs=("main.bn", "stem.conv.bias"))(g),
    ),
    "wrong result": ("types_follow_the_operators", value("main.relu", type=tensor("f32", batch=4, channel=4))),
    "wrong element type": ("types_follow_the_operators", value("main.relu", type=tensor("f64", batch=4, channel=4))),
    "wrong weight": ("types_follow_the_operators", value("stem.conv.weight", type=tensor("f32", out=4))),
    "wrong by-product": ("types_follow_the_operators", value("pool.maxpool.indices", type=tensor("i32", batch=4))),
    "missing attribute": ("types_follow_the_operators", node("pool.maxpool", attrs=())),
    "other attribute": (
        "types_follow_the_operators",
        node("left.linear", attrs=(("features", 6), ("bias", True))),
    ),
    "raw attribute": ("types_follow_the_operators", node("right.dropout", attrs=())),
    "gradient of an input": ("gradients_are_needed", input_gradient),
    "missing gradient": ("gradients_are_complete", differentiated(without("left.linear@dw"))),
    "wrong dy": ("gradients_read_their_needs", node("left.linear@dw", inputs=("right.dropout@grad", "head.flatten"))),
    "wrong operand": ("gradients_read_their_needs", node("main.relu@dx", inputs=("join.add@grad", "main.bn"))),
    "part in place of sum": (
        "gradients_read_their_needs",
        node("stem.conv@dw", inputs=("stem.conv@grad_main.conv@dx", "image")),
    ),
    "a part is left out": ("fan_outs_are_summed", node("stem.conv@sum", inputs=("join.add@grad",))),
    "a part counts twice": ("fan_outs_are_summed", summed_wrongly),
    "a sum of no fan-out": (
        "fan_outs_are_summed",
        added(Value("more", SCALAR, "gradient"), Node("more@sum", "sum", "sum", ("main.bn.scale@grad",), ("more",))),
    ),
    "gradient of another type": ("gradients_have_their_types", value("main.bn.scale@grad", type=SCALAR)),
    "sum of another type": ("gradients_have_their_types", value("stem.conv@grad", type=SCALAR)),
    "weight without update": ("weights_are_updated_once", without("left.linear.bias@update")),
    "weight with two": ("weights_are_updated_once", twice("left.linear.bias@update", "again@update")),
    "update of an idle weight": (
        "weights_are_updated_once",
        appended(WEIGHT, Node("w@update", "sgd", "update", ("w", "left.linear.bias@grad"), ())),
    ),
    "update by another gradient": (
        "weights_are_updated_once",
        node("left.linear.bias@update", inputs=("left.linear.bias", "main.bn.shift@grad")),
    ),
    "a weight is not regularised": (
        "regularised_gradients_are_whole",
        node("regularise", inputs=("left.linear.bias", "left.linear.bias@grad")),
    ),
    "regularised beside another's gradient": (
        "regularised_gradients_are_whole",
        lambda g: node("regularise", inputs=reordered(g.node("regularise").inputs))(g),
    ),
}


def joint() -> Graph:
    """Updates by one node for all weights."""
    around = context()
    arguments = (("history", 2),)
    around = around.with_(training=replace(around.training, optimizer=Choice("lbfgs", arguments)))
    return add_updates(differentiate(residual(), around), around)


BROKEN_JOINT: dict[str, tuple[str, Break]] = {
    "another's gradient": (
        "weights_are_updated_once",
        lambda g: node("lbfgs", inputs=reordered(g.node("lbfgs").inputs[:-6]) + g.node("lbfgs").inputs[-6:])(g),
    ),
    "a weight less": (
        "weights_are_updated_once",
        lambda g: node("lbfgs", inputs=(*g.node("lbfgs").inputs[1:],))(g),
    ),
    "twice": ("weights_are_updated_once", twice("lbfgs", "again")),
    "clip afterwards": ("changes_come_last", last("clip")),
}


@pytest.mark.parametrize("fault", BROKEN_JOINT)
def test_a_broken_joint_update_is_caught(fault: str) -> None:
    invariant, broken = BROKEN_JOINT[fault]
    assert first_broken(joint()) == ""
    assert first_broken(broken(joint())) == invariant


def first_broken(found: Graph) -> str:
    """The name of the first invariant or rule that a graph breaks."""
    for invariant in INVARIANTS:
        if any(invariant(found, operator)):
            if invariant.__name__ != "rules_hold":
                return invariant.__name__
            return next(rule.__name__ for rule in RULES if any(rule(Chain(found, operator))))
    return ""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_graph_is_caught_by_its_invariant(fault: str) -> None:
    invariant, broken = BROKEN[fault]
    changed = broken(training())
    assert first_broken(changed) == invariant
    with pytest.raises(InternalError, match="internal error in pass `guilty`") as caught:
        verify(changed, "guilty", operator)
    assert caught.value.after == "guilty"


def test_every_invariant_has_a_broken_graph() -> None:
    names = {invariant.__name__ for invariant in (*INVARIANTS, *RULES)} - {"rules_hold"}
    assert {invariant for invariant, _ in BROKEN.values()} == names


def test_sound_graphs_pass_at_every_stage() -> None:
    found = residual()
    verify(found, "expand", operator)
    verify(differentiate(found, context()), "differentiate", operator)
    verify(training(), "add_updates", operator)


def test_the_precision_of_an_embedding_is_free() -> None:
    """Its operand is a table of words; a set of logits has the precision of what they are computed from."""
    op = operator("embedding")
    assert op is not None
    words, table = tensor("i32", batch=2, seq=3), tensor("bf16", vocab=7, width=4)
    made = op.infer((words,), {"vocab": 7, "width": 4})
    values = (
        Value("words", words, "input"),
        Value("e.embedding.weight", table, "weight", Init("normal"), "e.embedding"),
        Value("e.embedding", made.results[0].with_dtype("bf16"), "activation"),
    )
    call = Node("e.embedding", "embedding", "forward", ("words", "e.embedding.weight"), ("e.embedding",), made.attrs)
    verify(Graph("net", "network", (call,), values, ("words",), batch=2), "set_precision", operator)


def test_all_faults_of_the_first_broken_invariant_are_named() -> None:
    broken = node("main.relu", inputs=("nothing",))(node("main.conv", inputs=("nowhere",))(training()))
    with pytest.raises(InternalError, match="nothing") as caught:
        verify(broken, "fuse", operator)
    assert any("nowhere" in fault for fault in caught.value.faults)
