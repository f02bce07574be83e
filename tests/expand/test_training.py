"""Train blocks: every setting resolved, loss and metrics as nodes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import tensor
from dlc.ir.training import Choice, Length, Precision, RatePiece, Training
from dlc.ops.schedules import rate_at
from tests.expand.blocks import expanded, train


def training(folder: Path, **settings: str) -> Training:
    found = expanded(train(**settings), folder).job.training
    assert found is not None
    return found


def graph(folder: Path, **settings: str) -> Graph:
    return expanded(train(**settings), folder).job.graph


def appended(found: Graph) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """(address, op, stage, inputs) of the nodes behind the network."""
    return [(n.address, n.op, n.stage, n.inputs) for n in found.nodes if n.stage != "forward"]


def test_the_least_that_a_block_says(tmp_path: Path) -> None:
    data = Choice("digits", (("scale", 1), ("test", 0.2), ("shuffle", True), ("last", "drop")))
    optimizer = Choice("sgd", (("momentum", 0.0), ("nesterov", False), ("weight_decay", 0.0)))
    rates = (RatePiece("constant", (("rate", 0.1),), None),)
    assert training(tmp_path) == Training("tiny", data, optimizer, rates, Length(2, "epochs"))


def test_spans_tell_where_each_setting_stands(tmp_path: Path) -> None:
    found = training(tmp_path, seed="3")
    span = found.span("seed")
    assert span is not None
    assert (span.line, span.column) == (17, 3)
    assert found.span("clip") is None


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("clip", "norm(1)", Choice("norm", (("kind", "norm"), ("bound", 1.0)))),
        ("clip", "value(0.5)", Choice("value", (("kind", "value"), ("bound", 0.5)))),
        ("init", "pytorch", None),
        ("init", "he", Choice("he")),
        ("init", "constant(0.5)", Choice("constant", (("value", 0.5),))),
        ("init", "normal(0.02)", Choice("normal", (("value", 0.02),))),
        ("stop", "loss(below = 0.1)", Choice("loss", (("below", 0.1),))),
        ("stop", "patience(5 epochs)", Choice("patience", (("over", (5, "epochs")),))),
        ("accumulate", "4", 4),
        ("seed", "9007199254740991", 2**53 - 1),
        ("precision", "f64", Precision("f64", "f64")),
        ("precision", "tf32", Precision("tf32", "f32")),
        ("precision", "mixed(compute = f16)", Precision("f16", "f32", "dynamic")),
        ("precision", "mixed(compute = bf16)", Precision("bf16", "f32", None)),
        ("precision", "mixed(compute = f16, loss_scale = 1024)", Precision("f16", "f32", 1024.0)),
        ("precision", "mixed(compute = f16, loss_scale = none)", Precision("f16", "f32", None)),
        ("checkpoint", 'every(10 steps, to = "ckpt")', Choice("every", (("interval", (10, "steps")), ("to", "ckpt")))),
        ("update", "gossip", Choice("gossip", (("peers", 1),))),
        (
            "update",
            "parameter_server(staleness = unbounded)",
            Choice("parameter_server", (("shards", 2), ("staleness", "unbounded"), ("fetch", 1), ("push", 1))),
        ),
        ("compress", "none", Choice("none")),
        ("compress", "topk(0.01)", Choice("topk", (("share", 0.01), ("feedback", True)))),
        (
            "optimizer",
            "adamw(beta2 = 0.95)",
            Choice("adamw", (("beta1", 0.9), ("beta2", 0.95), ("eps", 1e-8), ("weight_decay", 0.01))),
        ),
        (
            "optimizer",
            "lars",
            Choice("lars", (("momentum", 0.9), ("trust", 0.001), ("weight_decay", 0.0), ("eps", 1e-8))),
        ),
    ],
)
def test_one_setting(key: str, text: str, expected: object, tmp_path: Path) -> None:
    assert getattr(training(tmp_path, **{key: text}), key) == expected


def test_arguments_of_a_data_set(tmp_path: Path) -> None:
    text = train(data='mnist("m", last = keep, pad = 2)').replace("height = 8, width = 8", "height = 32, width = 32")
    found = expanded(text, tmp_path).job.training
    assert found is not None
    assert found.data.kind == "mnist"
    assert dict(found.data.arguments).items() >= {"dir": "m", "pad": 2, "shuffle": True, "last": "keep"}.items()


def test_schedules_in_a_row(tmp_path: Path) -> None:
    lr = "warmup(to = 0.4, over = 5 epochs) then cosine(over = 20 steps) then constant(0.1)"
    pieces = training(tmp_path, lr=lr).rates
    assert pieces == (
        RatePiece("warmup", (("to", 0.4),), Length(5, "epochs")),
        RatePiece("cosine", (("to", 0.0), ("rate", None)), Length(20, "steps")),
        RatePiece("constant", (("rate", 0.1),), None),
    )
    assert [rate_at(pieces, step, 2) for step in (0, 9, 10, 20, 30)] == pytest.approx([0.04, 0.4, 0.4, 0.2, 0.1])


def test_a_schedule_that_needs_an_earlier_one(tmp_path: Path) -> None:
    assert training(tmp_path, lr="cosine(rate = 0.1, over = 5 steps)").rates[0].arguments == (
        ("to", 0.0),
        ("rate", 0.1),
    )
    error = expanded(train(lr="cosine(over = 5 steps)"), tmp_path).error
    assert (error.code, error.message) == ("E0601", "`cosine` as the first schedule needs the argument `rate`")


def test_loss_and_metrics_are_nodes(tmp_path: Path) -> None:
    found = graph(tmp_path, metrics="[accuracy(logits, data.label), accuracy(logits, data.label, top = 5)]")
    assert found.stage == "loss"
    assert appended(found) == [
        ("loss.cross_entropy", "cross_entropy", "loss", ("logits.linear", "label")),
        ("metrics.accuracy", "accuracy", "metric", ("logits.linear", "label")),
        ("metrics.accuracy_2", "accuracy", "metric", ("logits.linear", "label")),
    ]
    assert found.loss == "loss.cross_entropy"
    assert found.metrics == (("accuracy", "metrics.accuracy"), ("accuracy_top5", "metrics.accuracy_2"))
    assert found.fields == ("label",)
    assert (found.value("label").kind, found.type("label")) == ("field", tensor("i32", batch=32))
    assert found.type("loss.cross_entropy") == tensor("f32")
    assert found.value("loss.cross_entropy.probabilities").kind == "saved"
    assert found.producer("loss.cross_entropy.probabilities") == found.node("loss.cross_entropy")


@pytest.mark.parametrize(
    "loss",
    [
        "logits -> cross_entropy(data.label) as main",
        "cross_entropy(logits, data.label) as main",
        "cross_entropy(logits = logits, label = data.label) as main",
        "if strict then cross_entropy(logits, data.label) as main else logits",
    ],
)
def test_ways_to_write_a_loss(loss: str, tmp_path: Path) -> None:
    found = expanded("param strict = yes\n" + train(loss=loss), tmp_path).job.graph
    assert appended(found) == [("loss.main", "cross_entropy", "loss", ("logits.linear", "label"))]


def test_a_weighted_sum(tmp_path: Path) -> None:
    loss = "cross_entropy(logits, data.label) + share * cross_entropy(aux, data.label, smoothing = share / 3)"
    found = expanded("param share = 0.3\n" + train(loss=loss), tmp_path).job.graph
    assert appended(found) == [
        ("loss.cross_entropy", "cross_entropy", "loss", ("logits.linear", "label")),
        ("loss.cross_entropy_2", "cross_entropy", "loss", ("aux.linear", "label")),
        ("loss.mul", "mul", "loss", ("loss.cross_entropy_2",)),
        ("loss.add", "add", "loss", ("loss.cross_entropy", "loss.mul")),
    ]
    assert dict(found.node("loss.mul").attrs) == {"scalar": 0.3, "scalar_first": True}
    assert found.node("loss.cross_entropy_2").attr("smoothing") == pytest.approx(0.1)
    assert found.loss == "loss.add"


def test_differences_and_quotients(tmp_path: Path) -> None:
    loss = "-cross_entropy(logits, data.label) / 4 - mse(logits, aux)"
    found = graph(tmp_path, loss=loss)
    assert [(node[0], node[3]) for node in appended(found)][1:] == [
        ("loss.mul", ("loss.cross_entropy",)),
        ("loss.div", ("loss.mul",)),
        ("loss.mse", ("logits.linear", "aux.linear")),
        ("loss.sub", ("loss.div", "loss.mse")),
    ]
    assert dict(found.node("loss.div").attrs) == {"scalar": 4.0, "scalar_first": False}


def test_metrics_of_two_outputs_have_names_of_their_own(tmp_path: Path) -> None:
    found = graph(tmp_path, metrics="[accuracy(logits, data.label), accuracy(aux, data.label)]")
    assert [name for name, _ in found.metrics] == ["accuracy", "accuracy_2"]
    assert graph(tmp_path, metrics="accuracy(aux, data.label)").metrics == (("accuracy", "metrics.accuracy"),)


def test_addresses_make_room_for_a_statement_named_loss(tmp_path: Path) -> None:
    text = train(loss="mse(logits, data.target)", data='npz("d.npz")').replace(
        "  output", "  loss = logits -> relu as mse\n  output"
    )
    found = expanded(text.replace("output logits, aux", "output logits, aux, loss"), tmp_path).job.graph
    assert found.loss == "loss.mse_2"


def test_fields_of_a_file_take_the_type_of_their_use(tmp_path: Path) -> None:
    found = graph(
        tmp_path, data='npz("d.npz")', loss="mse(logits, data.target)", metrics="[accuracy(logits, data.kind)]"
    )
    assert found.fields == ("target", "kind")
    assert found.type("target") == tensor("f32", batch=32, feature=10)
    assert found.type("kind") == tensor("i32", batch=32)


def test_an_input_is_a_field_of_the_data(tmp_path: Path) -> None:
    """It is that input itself: nothing else is fed."""
    text = train(loss="mse(again, data.image)").replace(
        "output logits", "again = c1 -> conv(1, 3x3, pad = 2)\n  output again, logits"
    )
    found = expanded(text, tmp_path).job.graph
    assert appended(found) == [("loss.mse", "mse", "loss", ("again.conv", "image"))]
    assert (found.inputs, found.fields) == (("image",), ())
    misspelt = expanded(train(loss="cross_entropy(logits, data.imag)"), tmp_path).error
    assert (misspelt.code, misspelt.helps[0]) == ("E0612", "there is a field with a similar name: `image`")
    bare = expanded(train(loss="mse(logits, image)"), tmp_path).error
    assert bare.helps == ("what the data set feeds to it is `data.image`",)


def test_a_name_of_a_field_is_no_input_but_in_a_file(tmp_path: Path) -> None:
    renamed = train(loss="mse(logits, data.label)").replace("image", "label")
    assert expanded(renamed, tmp_path).codes == ["E0618"]
    text = (
        renamed.replace("digits()", 'npz("d.npz")')
        .replace("mse(", "reconstruction(")
        .replace("linear(10)", "linear(64)")
    )
    assert expanded(text, tmp_path).job.graph.node("loss.reconstruction").inputs == ("logits.linear", "label")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("l2(1e-4)", [("l2", 1e-4)]),
        ("[l2(1e-4)]", [("l2", 1e-4)]),
        ("[l2(1e-4), l1(strength = 0.1)]", [("l1", 0.1), ("l2", 1e-4)]),
        ("if yes then l1(1) else [l1(2), l2(3)]", [("l1", 1)]),
        ("[]", []),
    ],
)
def test_regularisers(text: str, expected: list[tuple[str, float]], tmp_path: Path) -> None:
    found = training(tmp_path, regularise=text).regularise
    assert [(choice.kind, choice.get("strength")) for choice in found] == expected


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("l3(1)", ["E0604"]),
        ("l1", ["E0601"]),
        ("l1(0)", ["E0606"]),
        ("l1(yes)", ["E0605"]),
        ("l1(1, rate = 2)", ["E0603"]),
        ("0.1", ["E0604"]),
        ("[l1(1), l2(1), l1(2)]", ["E0607"]),
        ("[l1(-1), l4(2)]", ["E0606", "E0604"]),
    ],
)
def test_regularisers_that_are_refused(text: str, codes: list[str], tmp_path: Path) -> None:
    assert expanded(train(regularise=text), tmp_path).codes == codes


def test_inner_values_and_unknown_names_are_told_apart(tmp_path: Path) -> None:
    assert expanded(train(loss="cross_entropy(c2, data.label)"), tmp_path).codes == ["E0611"]
    assert expanded(train(loss="cross_entropy(image, data.label)"), tmp_path).codes == ["E0611"]
    error = expanded(train(loss="cross_entropy(logit, data.label)"), tmp_path).error
    assert error.code == "E0201"
    assert error.helps == ("there is a name with a similar name: `logits`",)


@pytest.mark.parametrize(
    ("loss", "code"),
    [
        ("3", "E0610"),
        ("logits", "E0610"),
        ("logits + aux", "E0610"),
        ("cross_entropy(logits, data.label) * logits", "E0610"),
        ("cross_entropy(logits, data.label) * yes", "E0610"),
        ("cross_entropy(logits, data.label) @ 2", "E0610"),
        ("cross_entropy(logits, data.label) + 1", "E0610"),
        ("1 / cross_entropy(logits, data.label)", "E0610"),
        ("cross_entropy(logits, data.label) * mse(logits, aux)", "E0610"),
        ("(cross_entropy(logits, data.label) as a) + (mse(logits, aux) as a)", "E0217"),
        ("[cross_entropy(logits, data.label)]", "E0610"),
        ("relu(logits)", "E0604"),
        ("accuracy(logits, data.label)", "E0604"),
        ("huber(logits, aux, delta = 0)", "E0213"),
        ("kl(logits, aux, temperature = -1)", "E0213"),
        ("reconstruction(logits, data.label)", "E0305"),
        ("reconstruction(logits, data.image)", "E0301"),
        ("mse(logits, data.image)", "E0303"),
        ("mse(logits, data.imgae)", "E0612"),
        ("mse(logits, image)", "E0611"),
        ("cross_entropy(logits)", "E0204"),
        ("cross_entropy(logits, data.label, smooth = 1)", "E0206"),
        ("cross_entropy(logits, data.label, smoothing = 1)", "E0213"),
        ("cross_entropy(logits, 3)", "E0219"),
        ("cross_entropy(logits, aux)", "E0305"),
        ("mse(logits, data.label)", "E0305"),
        ("cross_entropy(logits, data.lable)", "E0612"),
        ("cross_entropy(logits, data)", "E0201"),
    ],
)
def test_losses_that_are_refused(loss: str, code: str, tmp_path: Path) -> None:
    assert expanded(train(loss=loss), tmp_path).codes == [code]


def test_classes_are_compared_once_for_each_place(tmp_path: Path) -> None:
    text = train(data="synthetic(classes = 7)", loss="cross_entropy(logits, data.label)")
    error = expanded(text, tmp_path).error
    assert (error.code, error.message) == ("E0308", "`logits` has 10 classes, the data set has 7")
    assert graph(tmp_path, data='npz("d.npz")').stage == "loss"


@pytest.mark.parametrize(
    ("data", "side", "message", "help_"),
    [
        ("digits()", 32, "f32[channel = 1, height = 8, width = 8]", "`scale = 4` gives samples of that shape"),
        ('mnist("m")', 32, "f32[channel = 1, height = 28, width = 28]", "`pad = 2` gives samples of that shape"),
        ('images("d")', 32, "f32[channel = 3, height = 224, width = 224]", None),
    ],
)
def test_samples_of_another_shape(data: str, side: int, message: str, help_: str | None, tmp_path: Path) -> None:
    text = train(data=data).replace("height = 8, width = 8", f"height = {side}, width = {side}")
    error = expanded(text, tmp_path).error
    assert error.code == "E0609"
    assert message in error.message
    assert error.helps == ((help_,) if help_ else ())


def test_a_block_with_many_mistakes(tmp_path: Path) -> None:
    text = train(data="", optimizer="sgdd", lr="constant(0.1) then constant(0.2)", epochs="", seed="-1", clip="norm(0)")
    codes = expanded(text, tmp_path).codes
    assert sorted(codes) == ["E0601", "E0601", "E0604", "E0606", "E0606", "E0608"]


def test_long_sums_do_not_nest(tmp_path: Path) -> None:
    loss = " + ".join(["cross_entropy(logits, data.label)"] * 40)
    found = graph(tmp_path, loss=loss)
    assert found.loss == "loss.add_39"
    nodes: list[Node] = [node for node in found.nodes if node.stage == "loss"]
    assert len(nodes) == 79
