"""Train blocks: data, optimizer, rates, length and the rest; loss and metrics are appended to the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dlc.data_sets import DATA_SETS, DataSet, data_set
from dlc.diagnostics import Diagnostics, Label
from dlc.expand.evaluate import Scope
from dlc.expand.fields import Field, field_of
from dlc.expand.losses import Objective
from dlc.expand.rates import expand_rates
from dlc.expand.settings import Reader, Wording
from dlc.ir.graph import Graph
from dlc.ir.tensor import TensorType
from dlc.ir.training import Argument, Choice, Length, Precision, RatePiece, Training
from dlc.messages import e06_train as messages
from dlc.ops import OPTIMIZERS
from dlc.syntax import ast

WORDING = Wording(
    unknown=messages.UNKNOWN_SETTING,
    missing=messages.MISSING_SETTING,
    twice=messages.SET_TWICE,
    kind=messages.WRONG_KIND,
    choice=messages.UNKNOWN_CHOICE,
    range=messages.OUT_OF_RANGE,
    outside=messages.OUTSIDE_ROOT,
)

Schemas = Mapping[str, Sequence[Field]]

DATA: Schemas = {kind.name: tuple(map(field_of, kind.parameters)) for kind in DATA_SETS}

OPTIMIZER: Schemas = {rule.name: tuple(map(field_of, rule.parameters)) for rule in OPTIMIZERS}

_STRENGTH = Field("strength", "number", required=True, above=0)

REGULARISE: Schemas = {"l1": (_STRENGTH,), "l2": (_STRENGTH,)}
"""Penalties on all trained weights; several may stand in a list."""

CLIP: Schemas = {
    "norm": (Field("bound", "number", required=True, above=0),),
    "value": (Field("bound", "number", required=True, above=0),),
}

INIT: Schemas = {
    "pytorch": (),
    "he": (),
    "glorot": (),
    "constant": (Field("value", "number", required=True),),
    "normal": (Field("value", "number", required=True, minimum=0),),
}
"""`pytorch` is the default; `normal(0.02)` has that standard deviation."""

STOP: Schemas = {
    "loss": (Field("below", "number", required=True),),
    "patience": (Field("over", "length", required=True, minimum=1),),
}
"""Stop at a loss below a bound, or where it has not improved for so long."""

CHECKPOINT: Schemas = {
    "every": (Field("interval", "length", required=True, minimum=1), Field("to", "path", required=True)),
}

PRECISION: Schemas = {
    "f32": (),
    "f64": (),
    "tf32": (),
    "mixed": (
        Field("compute", "word", required=True, choices=("f16", "bf16")),
        Field("master", "word", "f32", choices=("f32",)),
        Field("loss_scale", "number", choices=("dynamic", "none"), above=0),
    ),
}

UPDATE: Schemas = {
    "synchronous": (),
    "parameter_server": (
        Field("shards", "count", 2, minimum=1),
        Field("staleness", "count", 0, choices=("unbounded",), minimum=0),
        Field("fetch", "count", 1, minimum=1),
        Field("push", "count", 1, minimum=1),
    ),
    "hogwild": (),
    "elastic_average": (Field("every", "count", 4, minimum=1), Field("alpha", "number", 0.1, above=0, maximum=1)),
    "average": (Field("every", "count", required=True, minimum=1),),
    "gossip": (Field("peers", "count", 1, minimum=1),),
    "neighbour_average": (),
    "krum": (Field("faulty", "count", 1, minimum=0),),
    "backup": (Field("workers", "count", 1, minimum=0),),
}

_FEEDBACK = Field("feedback", "flag", True)

COMPRESS: Schemas = {
    "none": (),
    "f16": (_FEEDBACK,),
    "quantize": (Field("bits", "count", 4, minimum=1, maximum=16), _FEEDBACK),
    "onebit": (_FEEDBACK,),
    "ternary": (_FEEDBACK,),
    "topk": (Field("share", "number", required=True, above=0, maximum=1), _FEEDBACK),
    "threshold": (Field("bound", "number", required=True, above=0), _FEEDBACK),
    "powersgd": (Field("rank", "count", 2, minimum=1), _FEEDBACK),
}

COUNTS = (
    Field("epochs", "count", minimum=1),
    Field("steps", "count", minimum=1),
    Field("accumulate", "count", 1, minimum=1),
    Field("seed", "count", 0, minimum=0),
)

CHOICES: Mapping[str, tuple[str, Schemas]] = {
    "data": ("a data set", DATA),
    "optimizer": ("an optimizer", OPTIMIZER),
    "clip": ("a way to clip gradients", CLIP),
    "init": ("an initialisation", INIT),
    "stop": ("a reason to stop", STOP),
    "checkpoint": ("a rhythm of checkpoints", CHECKPOINT),
    "precision": ("a precision", PRECISION),
    "update": ("a way to update", UPDATE),
    "compress": ("a compression", COMPRESS),
}
"""Settings that take a choice: how messages call it, and the choices."""

LISTS: Mapping[str, tuple[str, Schemas]] = {"regularise": ("a regulariser", REGULARISE)}
"""Settings that take a choice or a list of different ones."""

KEYS = ("data", "loss", "metrics", "optimizer", "lr", *(f.key for f in COUNTS), *tuple(CHOICES)[2:], *LISTS)
REQUIRED = ("data", "loss", "optimizer", "lr")


def expand_training(
    item: ast.Train, graph: Graph, scope: Scope, diagnostics: Diagnostics
) -> tuple[Graph, Training] | None:
    """The graph with loss and metrics (stage `loss`), and the rest of the block; None where it has mistakes.

    `graph` is the network that the block names, of stage `network`.
    """
    before = len(diagnostics.errors)
    reader = Reader(scope, diagnostics, WORDING)
    where = f"the train block of `{item.network}`"
    given = reader.collect(item.settings, KEYS, where)
    _check_required(item, given, where, diagnostics)
    choices = {
        key: reader.choice(what, given[key].value, schemas) for key, (what, schemas) in CHOICES.items() if key in given
    }
    lists = {key: _choices(reader, key, given[key].value, *LISTS[key]) for key in LISTS if key in given}
    written = {field.key: given[field.key].value for field in COUNTS if field.key in given}
    counts = reader.fill(COUNTS, written, where, item.network_span)
    rates = expand_rates(given["lr"].value, reader) if "lr" in given else None
    data = choices.get("data")
    if data is not None:
        _check_sample(data, graph, diagnostics)
    objective = Objective(graph, data, Scope(where, {}, scope), diagnostics)
    if "loss" in given:
        objective.set_loss(given["loss"].value)
    if "metrics" in given:
        objective.set_metrics(given["metrics"].value)
    if len(diagnostics.errors) > before or data is None or rates is None or counts is None:
        return None
    spans = tuple((key, setting.span) for key, setting in given.items())
    training = _training(item.network, choices, dict(counts), rates)
    return objective.graph, replace(training, regularise=lists.get("regularise", ()), spans=spans)


def _choices(reader: Reader, key: str, expr: ast.Expr, what: str, schemas: Schemas) -> tuple[Choice, ...]:
    """A choice or a list of choices, in the order of the schemas; no two may be of one kind."""
    taken = reader.taken(expr)
    found: dict[str, Choice] = {}
    if isinstance(taken, ast.Binary):
        helps = (f"a list holds several: `{key} = [{', '.join(f'{kind}(…)' for kind in schemas)}]`",)
        sum_ = f"what `{taken.operator}` makes"
        reader.diagnostics.add(messages.UNKNOWN_CHOICE.at(taken.span, found=sum_, what=what, helps=helps))
        return ()
    for item in taken.items if isinstance(taken, ast.ListOf) else (expr,) if taken is not None else ():
        choice = reader.choice(what, item, schemas)
        if choice is not None and choice.kind in found:
            first, again = found[choice.kind].span, choice.span
            secondary = (Label(first, "first here"),) if first else ()
            message = messages.SET_TWICE.at(again, secondary=secondary, key=choice.kind, where=f"`{key}`")
            reader.diagnostics.add(message)
        elif choice is not None:
            found[choice.kind] = choice
    return tuple(found[kind] for kind in schemas if kind in found)


def _check_required(item: ast.Train, given: Mapping[str, ast.Setting], where: str, diagnostics: Diagnostics) -> None:
    """What must be given, and that the length is given once."""
    missing = [key for key in REQUIRED if key not in given]
    if "epochs" not in given and "steps" not in given:
        missing.append("epochs` or `steps")
    for key in missing:
        message = messages.MISSING_SETTING.at(item.network_span, where=where, what="setting", key=key)
        diagnostics.add(message)
    if "epochs" in given and "steps" in given:
        label = Label(given["epochs"].span, "the one length")
        diagnostics.add(messages.TWO_LENGTHS.at(given["steps"].span, "the other length", secondary=(label,)))


def _training(
    network: str, choices: Mapping[str, Choice | None], counts: Mapping[str, Argument], rates: tuple[RatePiece, ...]
) -> Training:
    """The block resolved, after everything in it was found right."""
    data, optimizer = choices["data"], choices["optimizer"]
    unit = "epochs" if counts["epochs"] is not None else "steps"
    length, accumulate, seed = counts[unit], counts["accumulate"], counts["seed"]
    if data is None or optimizer is None:
        raise ValueError("a train block without data or optimizer was let through")
    if not (isinstance(length, int) and isinstance(accumulate, int) and isinstance(seed, int)):
        raise ValueError("a count of the train block is no integer")
    return Training(
        network,
        data,
        optimizer,
        rates,
        Length(length, unit),
        clip=_clip(choices.get("clip")),
        init=_init(choices.get("init")),
        stop=choices.get("stop"),
        accumulate=accumulate,
        seed=seed,
        precision=_precision(choices.get("precision")),
        checkpoint=choices.get("checkpoint"),
        update=choices.get("update") or Choice("synchronous"),
        compress=choices.get("compress") or Choice("none"),
    )


def _clip(choice: Choice | None) -> Choice | None:
    """With its kind among the arguments, as the operator `clip` takes them."""
    return None if choice is None else replace(choice, arguments=(("kind", choice.kind), *choice.arguments))


def _init(choice: Choice | None) -> Choice | None:
    """PyTorch's is what the operators ask for themselves."""
    return None if choice is None or choice.kind == "pytorch" else choice


def _precision(choice: Choice | None) -> Precision:
    """tf32 computes with weights in f32; f16 without a given loss scale adapts one."""
    if choice is None:
        return Precision()
    if choice.kind != "mixed":
        return Precision(choice.kind, "f32" if choice.kind == "tf32" else choice.kind)
    compute, scale = str(choice.get("compute")), choice.get("loss_scale")
    if scale is None and compute == "f16":
        scale = "dynamic"
    return Precision(compute, str(choice.get("master")), scale if isinstance(scale, float) else _word(scale))


def _word(scale: Argument) -> str | None:
    return "dynamic" if scale == "dynamic" else None


# --- data and network --------------------------------------------------------------------------------------------


def _check_sample(data: Choice, graph: Graph, diagnostics: Diagnostics) -> None:
    """E0610 where the data set's samples are not what the network's input takes."""
    kind = data_set(data.kind)
    arguments = dict(data.arguments)
    sample = None if kind is None else kind.sample(arguments)
    if kind is None or sample is None:
        return
    for position, name in enumerate(graph.inputs):
        type_ = graph.type(name)
        if position:
            notes = (f"it feeds the input `{graph.inputs[0]}`, an npz file feeds any number of them",)
            message = messages.MORE_INPUTS.at(data.span, data=data.kind, network=graph.name, input=name, notes=notes)
            diagnostics.add(message)
        elif not kind.feeds(type_, arguments):
            wanted = TensorType(type_.dtype, type_.axes[1:])
            message = messages.WRONG_SAMPLE.at(
                data.span,
                helps=_fitting(kind, arguments, type_),
                input=name,
                wanted=wanted,
                data=data.kind,
                given=sample,
            )
            diagnostics.add(message)


def _fitting(kind: DataSet, arguments: Mapping[str, Argument], input_: TensorType) -> tuple[str, ...]:
    """The one argument whose change would make the samples fit, where there is one."""
    for parameter in kind.parameters:
        candidates = (1, *input_.shape[1:], *(extent // 8 for extent in input_.shape[1:]))
        candidates += tuple((extent - 28) // 2 for extent in input_.shape[1:])
        for value in candidates if parameter.kind == "int" else ():
            if value >= (parameter.minimum or 0) and kind.feeds(input_, {**arguments, parameter.name: value}):
                return (f"`{parameter.name} = {value}` gives samples of that shape",)
    return ()
