"""What makes emitted programs short: rows with several names, tables of blocks, bundles, loops, scratch by ranges."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.mesh import bodies, listing, scratch
from backends.numpy_mpi.mesh.bundles import Bundles
from backends.numpy_mpi.mesh.modes import merged
from backends.numpy_mpi.mesh.statements import INFERENCE, TRAINING, Key, Ref, Statement, Value
from backends.numpy_mpi.runtime import Array, Arrays, Bucket, Place, Serial, Temporary, View, Weight
from backends.numpy_mpi.runtime.tables import tables
from dlc.driver import Options, compile_spec, emit_files, read
from tests.specs.reduced import REDUCED

SPECS = Path(__file__).parents[2] / "specs"
BLOCK = ("stage", 1)


def row(path: tuple[str | int, ...], name: str, kind: str = "Temporary", said: str = '"4"') -> Statement:
    return Statement((Key(path, name, "a"), f": {kind}"), ((said,),), tail=",")


def call(number: int) -> Statement:
    """`block(a.stage[number], a.stage[number - 1].relu)`."""
    own, before = Ref("a", ("stage", number)), Ref("a", ("stage", number - 1), "relu")
    return Statement(("block",), ((own,), (before,)), calls="block")


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "transformer_encoder"])
def test_no_table_has_a_row_twice(name: str) -> None:
    """In a dictionary the later of two equal keys would take the other's place."""
    parameters = {key: str(value).replace(" ", "") for key, value in REDUCED[name].items()}
    compiled = compile_spec(read(str(SPECS / f"{name}.dlspec"), parameters), Options(ranks=2, parameters=parameters))
    for node in ast.walk(ast.parse(emit_files(compiled)["train.py"])):
        if isinstance(node, ast.Dict):
            keys = [word for key in node.keys if isinstance(key, ast.Constant) for word in _names(str(key.value))]
            assert len(keys) == len(set(keys))


def _names(key: str) -> list[str]:
    first, *others = key.split()
    return [first, *(f"{first.rpartition('.')[0]}.{name}" for name in others)]


def test_rows_that_say_the_same_are_one() -> None:
    rows = [row(BLOCK, "x"), row(BLOCK, "y"), row(BLOCK, "z", said='"5"'), row((), "x"), row(BLOCK, "k", "Member")]
    assert listing.lines(rows, BLOCK, 0)[0] == '"a.x y": Temporary("4"),'


def test_rows_of_a_bundle_keep_their_order() -> None:
    rows = [row(BLOCK, "c"), row(BLOCK, "b_1", said='"5"'), row(BLOCK, "b_2")]
    assert len(listing.lines(rows, BLOCK, 0)) == 3  # b_2 does not move before b_1


def test_a_block_with_many_rows_has_a_table_unless_it_names_arrays_of_others() -> None:
    rows = [row((*BLOCK, "main"), name, said=f'"{name}"') for name in "abcdefgh"]
    assert listing.lines(rows, BLOCK, 0)[0] == '"main": {'
    outside = Statement((Key((*BLOCK, "main"), "v", "a"), ": View"), ((Key(BLOCK, "x"),),), tail=",")
    assert listing.lines([*rows, outside], BLOCK, 0)[0] == '"a.main.a": Temporary("a"),'


def test_the_runtime_reads_what_is_listed() -> None:
    nested = {
        "g.bucket0": Bucket("**"),
        "stage[0]": {"a.x y": Temporary("4"), "main": {"conv.weight": Weight("2 3", 1.0), "a.v": View("u", "4")}},
        "a.stage[0].u": Array("4"),
    }
    found = tables(nested, ("velocity",), {"stage[0:2].main.conv other": "forward 3; dw 4*2"})
    assert set(found.activations) == {
        *("stage[0].x", "stage[0].y", "stage[0].main.v", "stage[0].u"),
        *("stage[0].main.conv_scratch", "stage[1].main.conv_scratch", "other_scratch"),
    }
    assert set(found.states) == {"stage[0].main.conv_weight_velocity"}
    view = found.activations["stage[0].main.v"]
    assert isinstance(view, View)
    assert view.of == "stage[0].u"


def test_arrays_called_alike_but_for_a_word_stand_together() -> None:
    place = Place(Serial(), {"data": 1}, batch=1)
    table = {name: Array("2") for name in ("b.bn_scale", "b.bn_shift", "b.bn_part_scale", "b.conv", "b.conv_grad")}
    a = Arrays(table, place, np.float32).at()
    assert [each is other for each, other in zip(a.b.bn, (a.b.bn_scale, a.b.bn_shift), strict=True)] == [True, True]
    assert isinstance(a.b.conv, np.ndarray)  # an array's own name is its own


def test_bundles_are_those_of_the_runtime() -> None:
    refs = [Ref("w", BLOCK, name) for name in ("bn_scale", "bn_shift", "bn_part_scale", "conv", "conv_grad")]
    bundles = Bundles(refs)
    whole = Statement(("bn",), ((Ref("a", BLOCK, "x"),), (refs[0],), (refs[1],)))
    assert bundles.together(whole).lines(BLOCK, 0) == ["bn(a.x, *w.bn)"]
    turned = Statement(("bn",), ((refs[1],), (refs[0],)))
    assert bundles.together(turned).lines(BLOCK, 0) == ["bn(w.bn_shift, w.bn_scale)"]


def test_calls_for_neighbours_are_a_loop() -> None:
    assert bodies.lines([call(1), call(2), call(3)], (), 0) == [
        "for i in range(1, 4):",
        "    block(a.stage[i], a.stage[i - 1].relu)",
    ]
    assert bodies.lines([call(3), call(2), call(1)], (), 0)[0] == "for i in reversed(range(1, 4)):"
    assert bodies.lines([call(1), call(3), call(4)], (), 0) == [
        f"block(a.stage[{number}], a.stage[{number - 1}].relu)" for number in (1, 3, 4)
    ]


def test_training_and_inference_are_one_function() -> None:
    both, one, other = (Statement((name,), ((Value("1", "x"),),)) for name in ("both", "one", "other"))
    located = merged([((), both), ((), both), ((), one)], [((), both), ((), both), ((), other)])
    assert [each.mode for _, each in located] == ["", "", TRAINING, INFERENCE]
    assert bodies.lines([each for _, each in located], (), 0)[2:] == [
        "if training:",
        "    one(1)",
        "else:",
        "    other(1)",
    ]
    assert merged([((), one)], [((), other)]) == []


def test_ranges_of_scratch() -> None:
    paths = [("stem",), ("stage", 0, "conv"), ("stage", 1, "conv"), ("stage", 3, "conv")]
    assert scratch.lines({("x", *path): "dw 4" for path in paths}) == [
        '    "x.stem x.stage[0:2].conv x.stage[3].conv": "dw 4",'
    ]
