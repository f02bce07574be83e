"""The textual IR round-trips, for drawn graphs, plans and programs, and refuses what it could not have written."""

from __future__ import annotations

from dataclasses import is_dataclass
from random import Random
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from dlc.diagnostics import Span
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.plan import Figure, OpPlan, PassPlan, Plan, Reason
from dlc.ir.program import Program
from dlc.ir.tensor import DTYPE_BYTES, Axis, TensorType, tensor
from dlc.ir.text import FORMS, from_text, to_text
from dlc.ir.text_values import RECORDS, TextError, written_fields
from tests.ir.sample_graphs import residual, training
from tests.ir.sample_programs import data_parallel, pipeline

NAMES = (
    "x", "c1.conv", "stage1[0].main.conv@dx", "loss@grad_x@dx", "winograd(2)", "none", "true", "inf", "nan", "f32",
    "", " ", "a : b", 'a"b', "\\", "line\nline", "ä¸­", "{", "}", "[1]", "-1", "1", "1.5", "a[0][1].b", "a[", "= {",
    "figure", "node", "\x00", "wait",
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, 0.1, 1e-05, 1e16, 5e-324, 1.7976931348623157e308, -2.5, 3.0000000000000004, float("inf"))


def drawn(hint: Any, random: Random, depth: int = 0) -> Any:
    """A value of an annotated type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return random.choice(arguments)
    if origin in (Union, UnionType):
        return drawn(random.choice(arguments), random, depth)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return tuple(drawn(arguments[0], random, depth + 1) for _ in range(random.randrange(4 if depth < 2 else 2)))
        return tuple(drawn(argument, random, depth + 1) for argument in arguments)
    if hint is TensorType:
        axes = tuple(Axis(random.choice(NAMES), random.randrange(9)) for _ in range(random.randrange(4)))
        return TensorType(random.choice(list(DTYPE_BYTES)), axes)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{field.name: drawn(hints[field.name], random, depth + 1) for field in written_fields(hint)})  # type: ignore[operator]
    simple = {str: random.choice(NAMES), int: random.randrange(-9, 2**70), bool: random.random() < 0.5}
    return simple.get(hint, None if hint is type(None) else random.choice(FLOATS))


@pytest.mark.parametrize("kind", [Graph, Plan, Program])
def test_what_is_drawn_round_trips(kind: type[Graph | Plan | Program]) -> None:
    for seed in range(150):
        made = drawn(kind, Random(seed))
        text = to_text(made)
        assert from_text(text) == made, text
        assert to_text(from_text(text)) == text


def test_every_form_and_record_is_drawn() -> None:
    texts = "".join(to_text(drawn(kind, Random(seed))) for kind in (Graph, Plan, Program) for seed in range(150))
    for form in FORMS:
        assert f"{form.word} " in texts
    for word in RECORDS:
        assert f"{word}(" in texts or word == "span"


@pytest.mark.parametrize("made", [residual(), training(), data_parallel(overlap=True), pipeline(3, 4, 2)])
def test_real_ones_round_trip(made: Graph | Program) -> None:
    assert from_text(to_text(made)) == made


def test_spans_are_written_if_asked_for() -> None:
    span = Span("net.dlspec", 3, 5, 3, 17)
    graph = Graph("net", "network", (Node("a", "relu", "forward", (), (), (), span),), ())
    assert "span" not in to_text(graph)
    found = from_text(to_text(graph, spans=True))
    assert isinstance(found, Graph)
    assert found.nodes[0].span == span


def test_floats_keep_every_bit() -> None:
    graph = Graph(
        "net", "network", (Node("a", "relu", "forward", (), (), tuple((f"k{i}", f) for i, f in enumerate(FLOATS))),), ()
    )
    found = from_text(to_text(graph))
    assert isinstance(found, Graph)
    assert [repr(value) for _, value in found.nodes[0].attrs] == [repr(value) for value in FLOATS]


def test_how_a_graph_reads() -> None:
    x, y = tensor("f32", batch=2, feature=3), tensor("f32", batch=2, unit=4)
    node = Node("l1.linear", "linear", "forward", ("x",), ("l1.linear",), (("features", 4), ("bias", False)))
    values = (Value("x", x, "input"), Value("l1.linear", y, "activation"))
    graph = Graph("net", "network", (node,), values, ("x",), outputs=(("y", "l1.linear"),), batch=2)
    assert to_text(graph) == (
        "graph net {\n"
        "  stage = network\n"
        "  inputs = [x]\n"
        "  outputs = {y = l1.linear}\n"
        "  batch = 2\n"
        "  value x: f32[batch = 2, feature = 3] input\n"
        "  value l1.linear: f32[batch = 2, unit = 4] activation\n"
        "  node l1.linear: [l1.linear] = linear forward [x] attrs = {features = 4, bias = false}\n"
        "}\n"
    )


def test_how_a_decision_reads() -> None:
    passes = (PassPlan("forward", "winograd(2)", Figure(1.5e-05, "measured")),)
    op = OpPlan("c1.conv", "NHWC", passes, (), Reason("pinned", "lenet5.dlspec:7"), Reason("chosen"))
    drawn_plan = drawn(Plan, Random(0)).with_(ops=(op,))
    assert (
        '\n  op c1.conv: NHWC passes = [pass(forward, "winograd(2)", figure(1.5e-05, source = measured))] '
        'partition = [] reason = reason(pinned, place = "lenet5.dlspec:7") layout_reason = reason(chosen)\n'
    ) in to_text(drawn_plan)


GRAPH = "graph net {\n  stage = network\n"

REFUSED = {
    "": "line 1: expected a graph, a plan or a program, found nothing",
    "role worker {\n}\n": "line 1: expected `graph` or `plan` or `program`, found role",
    "graph net\n": "line 1: expected `{`, found the end of the line",
    GRAPH: "line 2: expected `}`, found the end of the text",
    GRAPH + "}\n}\n": "line 4: expected the end of the text",
    GRAPH + "} }\n": "line 3: expected the end of the line, found }",
    "graph net {\n}\n": "line 1: Graph lacks stage",
    "graph net {\n  stage = network\n  stage = loss\n}": "line 3: `stage` is given twice or in another way",
    "graph net {\n  stage = finished\n}": "line 1: `stage` of Graph cannot be finished",
    GRAPH + "  size = 3\n}": "line 1: Graph has no `size`, it has name, stage",
    GRAPH + "  nodes = []\n}": "line 3: `nodes` is given twice or in another way",
    GRAPH + "  batch = 2.0\n}": "line 1: `batch` of Graph cannot be 2.0",
    GRAPH + "  batch = true\n}": "line 1: `batch` of Graph cannot be true",
    GRAPH + "  batch =\n}": "line 3: expected a value, found the end of the line",
    GRAPH + "  batch 2\n}": "line 3: expected `=`, found 2",
    GRAPH + "  batch = 2 3\n}": "line 3: expected the end of the line, found 3",
    GRAPH + "  inputs = [a\n}": "line 3: expected `,`, found the end of the line",
    GRAPH + "  inputs = [a b]\n}": "line 3: expected `,`, found b",
    GRAPH + "  value x f32[] input\n}": "line 3: expected `:`, found f32",
    GRAPH + "  value x: f32 input\n}": "line 3: `type` of Value cannot be f32",
    GRAPH + "  value x: f33[] input\n}": "line 3: `f33` is no element type, there are f64",
    GRAPH + "  value x: f32[batch = a] input\n}": "line 3: the extent of `batch` cannot be a",
    GRAPH + "  value x: f32[] inputs\n}": "line 3: `kind` of Value cannot be inputs",
    GRAPH + "  value x: f32[] weight init = start(he)\n}": "line 3: `start` is no record, there are init",
    GRAPH + "  value x: f32[] weight init = init(he, he = 1)\n}": "line 3: Init has no `he`, it has kind",
    GRAPH + "  value x: f32[] weight init = init()\n}": "line 3: expected a value, found )",
    GRAPH + "  value x: f32[] weight init = init(he, value = 1.0, value = 2.0)\n}": "line 3: `value` is given twice",
    GRAPH + "  buffer x: f32[] input\n}": "line 3: expected `=`, found x",
    GRAPH + "  inputs = [é]\n}": "line 3: 'é]' is neither a word, a number, a text nor a sign",
    GRAPH + "  inputs = [\"a]\n}": "line 3: '\"a]' is neither",
    GRAPH + "  inputs = [\"\\q\"]\n}": 'line 3: "\\q" is no text',
    GRAPH + "  batch = 12x\n}": "line 3: '12x' is neither",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_it_refuses_and_where(text: str) -> None:
    with pytest.raises(TextError) as caught:
        from_text(text)
    assert str(caught.value).startswith(REFUSED[text])


def garbled(text: str, random: Random) -> str:
    """The text with a few characters replaced by a troublesome one."""
    at = random.randrange(len(text))
    return text[:at] + random.choice(["", "{", "}", "\n", '"', "=", " 1 ", "none "]) + text[at + random.randrange(9) :]


def line_refused(text: str) -> int:
    """The line of the error that a text is refused with; 0 where it is read."""
    try:
        from_text(text)
    except TextError as error:
        return error.line
    return 0


def test_a_garbled_text_is_refused_at_a_line_or_read() -> None:
    text, random = to_text(data_parallel()), Random(5)
    texts = [garbled(text, random) for _ in range(400)]
    lines = [line_refused(each) for each in texts]
    assert all(line <= each.count("\n") + 1 for line, each in zip(lines, texts, strict=True))
    assert sum(line > 0 for line in lines) > 200
