"""Convolutions in C whose weights are packed before: the bits of those that pack them in each call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import conv_blocked, conv_direct, conv_winograd, gemm, linear, linear_packed
from backends.numpy_mpi.c.conv import Conv
from backends.numpy_mpi.c.source import CFunction
from backends.numpy_mpi.c.target import Target
from backends.numpy_mpi.kernels import c_linear, c_packed
from tests.c.bound import DTYPES, Bound, bound
from tests.c.building import JUNK, build, each_target, runnable, threads
from tests.c.test_conv import NAMED, draw_arrays, in_blocks, run
from tests.c.test_linear import drawn

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

SQUARE = Conv(18, 50, 9, 14, (3, 3), pad=((1, 1), (1, 1)), bias=True)

Make = Callable[..., CFunction]

MAKERS: dict[str, dict[str, tuple[Make, Make]]] = {
    "direct": {
        "forward": (conv_direct.forward, conv_direct.pack_forward),
        "dx": (conv_direct.dx, conv_direct.pack_dx),
    },
    "blocked": {
        "forward": (conv_blocked.forward, conv_blocked.pack_forward),
        "dx": (conv_blocked.dx, conv_blocked.pack_dx),
    },
    **{
        f"winograd({m})": {
            "forward": (partial(conv_winograd.forward, m=m), partial(conv_winograd.pack_forward, m=m)),
            "dx": (partial(conv_winograd.dx, m=m), partial(conv_winograd.pack_dx, m=m)),
        }
        for m in (2, 4)
    },
    "winograd(2) blocked": {
        "forward": (
            partial(conv_winograd.forward, m=2, blocked=True),
            partial(conv_winograd.pack_forward, m=2, blocked=True),
        ),
        "dx": (partial(conv_winograd.dx, m=2, blocked=True), partial(conv_winograd.pack_dx, m=2, blocked=True)),
    },
}


def convolutions(algorithm: str, target: Target) -> list[Conv]:
    if algorithm == "direct":
        return [conv for conv in NAMED if conv.channels < 500]
    if algorithm == "winograd(2) blocked":
        return [in_blocks(SQUARE, target)]
    if algorithm == "blocked":
        return [in_blocks(SQUARE, target), in_blocks(NAMED[1], target)]
    return [SQUARE, replace(SQUARE, channels=33, filters=20, bias=False, relu=True)]


def packed_by(library: ctypes.CDLL, function: CFunction, known: dict[str, Any], dtype: Any) -> Any:
    """What a function that packs leaves; nothing behind it is touched."""
    room = np.full(function.packed + 16, JUNK, dtype)
    arrays = [room if name == "packed" else known[name] for name in function.arguments]
    getattr(library, function.name)(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))
    assert (room[-16:] == JUNK).all(), f"{function.name} wrote behind what it packs"
    return room


@pytest.mark.parametrize("algorithm", MAKERS)
@pytest.mark.parametrize("target", each_target())
def test_the_results_are_those_of_calls_that_pack(target: Target, algorithm: str, tmp_path: Path) -> None:
    """To the bit, for one thread and two, with nothing packed in the scratch; and the weight itself is not read."""
    made = {
        (conv, stage): (
            call(conv, target, f"whole{at}_{stage}"),
            pack(conv, target, f"pack{at}_{stage}"),
            call(replace(conv, packed=True), target, f"packed{at}_{stage}"),
        )
        for at, conv in enumerate(convolutions(algorithm, target))
        for stage, (call, pack) in MAKERS[algorithm].items()
        if not (conv.relu and stage == "dx")  # which reads what a ReLU gave as well
    }
    library = build([each for several in made.values() for each in several], target, ("f32", "f64"), tmp_path)
    rng = np.random.default_rng(5)
    for (conv, stage), (whole, pack, call) in made.items():
        known = draw_arrays(conv, 3, conv.height, conv.pad[0], rng)
        numbers = (3, conv.height, *conv.pad[0])
        assert whole.scratch(3, 2) - call.scratch(3, 2) == pack.packed, (conv, stage)
        for count in (1, 2):
            threads(library, count)
            wanted = run(library, whole, known, numbers)
            room = packed_by(library, pack, known, known["x"].dtype)
            lost = {name: np.full_like(known[name], np.nan) for name in ("weight", "bias")}
            found = run(library, call, known | lost | {"packed": room}, numbers)
            for name, array in wanted.items():
                assert np.array_equal(array, found[name]), (conv, stage, name)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bound, Bound]:
    """Linear maps that pack in each call, and those whose weight is packed before."""
    target, folder = runnable()[0], tmp_path_factory.mktemp
    return (
        bound(linear.FUNCTIONS, "c_linear", target, folder("linear")),
        bound(linear_packed.FUNCTIONS, "c_packed", target, folder("packed")),
    )


@pytest.mark.parametrize("shape", [(32, 1, 32), (70, 800, 96), (33, 40, 3000), (300, 96, 64), (9, 35, 64)])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_maps_of_packed_weights(
    maps: tuple[Bound, Bound], shape: tuple[int, int, int], transposed: bool
) -> None:
    """To the bit, for one thread and two; of few rows the weight is read as it lies."""
    plain, packed = maps
    rows, inputs, outputs = shape
    for dtype in DTYPES:
        known = drawn(shape, transposed, DTYPES[dtype])
        for stage, names in {"forward": ("x", "weight", "bias", "y"), "dx": ("dy", "weight", "dx")}.items():
            columns, depth = (outputs, inputs) if stage == "forward" else (inputs, outputs)
            room = np.full(gemm.panels(columns, depth, runnable()[0], dtype) + 16, JUNK, DTYPES[dtype])
            assert packed.call(
                (f"linear_{stage}", "pack", ""), dtype, [known["weight"], room[:-16]], transposed=transposed
            )
            assert (room[-16:] == JUNK).all()
            for count in (1, 2):
                for each in maps:
                    threads(each.library, count)
                arrays = [known[name].copy() for name in names]
                assert plain.call(("linear", stage, ""), dtype, arrays, transposed=transposed, threads=2)
                again = [known[name].copy() for name in names]
                if rows > c_linear.FEW:
                    again[1] = np.full_like(again[1], np.nan)
                    told = {"transposed": transposed, "threads": 2}
                    assert packed.call(("linear", stage, ""), dtype, [room[:-16], *again], **told)
                    assert np.array_equal(arrays[-1], again[-1])
                else:
                    numbers = c_packed.linear_forward_packed(room, *again, transposed=transposed, threads=2)
                    assert stage == "dx" or (numbers is not None and "few" in numbers.name)
