"""Winograd's algorithms in C against the NumPy kernels' sum in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import conv_winograd, conv_winograd_dw
from backends.numpy_mpi.c.conv import Conv
from backends.numpy_mpi.c.source import CFunction
from backends.numpy_mpi.c.target import AVX2, Target
from tests.c.building import JUNK, build, call, each_target, runnable, threads
from tests.c.test_conv import (
    IMAGES,
    Array,
    draw_arrays,
    error,
    expected,
    from_blocks,
    in_blocks,
    run,
    to_blocks,
)
from tests.slices import first

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

PASSES: dict[str, Callable[..., CFunction]] = {
    "forward": conv_winograd.forward,
    "dx": conv_winograd.dx,
    "dw": conv_winograd_dw.dw,
}
BOUNDS = {("f32", 2): 2e-6, ("f32", 4): 2e-5, ("f64", 2): 1e-14, ("f64", 4): 1e-13}
"""Those of the NumPy kernels' tests in float32; F(4,3) loses about a digit to F(2,3)."""

CASES = (
    Conv(16, 16, 9, 14, (3, 3), pad=((1, 1), (1, 1)), bias=True),
    Conv(3, 20, 8, 7, (3, 3), pad=((1, 1), (1, 1)), bias=True),
    Conv(37, 33, 6, 5, (3, 3)),
    Conv(18, 50, 7, 11, (3, 3), pad=((0, 2), (2, 0))),
    Conv(5, 7, 30, 31, (3, 3), pad=((2, 2), (1, 1)), bias=True, dtype="f64"),
    Conv(1024, 16, 4, 4, (3, 3), pad=((1, 1), (1, 1))),
)
"""Whole tiles and cut ones, channels that fill vectors and that do not, pads that differ, several blocks of tiles."""


@pytest.mark.parametrize("m", first(1, [4, 2]))
@pytest.mark.parametrize("target", each_target())
def test_every_pass_gives_what_the_sum_gives(target: Target, m: int, tmp_path: Path) -> None:
    made = {
        (conv, stage): make(conv, target, f"conv{number}_{stage}", m)
        for number, conv in enumerate(CASES)
        for stage, make in PASSES.items()
    }
    library = build(list(made.values()), target, ("f32", "f64"), tmp_path)
    rng = np.random.default_rng(1)
    for (conv, stage), function in made.items():
        for n in (3, 1, 0):
            known = draw_arrays(conv, n, conv.height, conv.pad[0], rng)
            numbers = (n, conv.height, *conv.pad[0])
            threads(library, 1)
            found = run(library, function, known, numbers)
            threads(library, 2)
            again = run(library, function, known, numbers)
            wanted = expected(conv, known, conv.pad[0]) if n else {}
            for name, array in found.items():
                assert not n or error(array, wanted[name]) < BOUNDS[conv.dtype, m], (conv, stage, n)
                assert np.array_equal(array, again[name]), (conv, stage, n)


@pytest.mark.parametrize("target", each_target())
def test_channels_in_blocks(target: Target, tmp_path: Path) -> None:
    """Against NumPy in float64, whatever the number of threads; a ReLU comes behind the sums, or before those of dx."""
    made = []
    for number, given in enumerate(CASES[:5]):
        for (stage, make), m in product(PASSES.items(), (2, 4)):
            conv = replace(in_blocks(given, target), relu=stage != "dw" and (m == 2) == bool(number % 2))
            made.append((conv, m, make(conv, target, f"conv{number}_{stage}{m}", m, blocked=True)))
    library = build([function for *_, function in made], target, ("f32", "f64"), tmp_path)
    rng = np.random.default_rng(1)
    for conv, m, function in made:
        for n in (3, 1, 0):
            known = draw_arrays(conv, n, conv.height, conv.pad[0], rng)
            wanted = expected(conv, known, conv.pad[0]) if n else {}
            turned = {name: to_blocks(known[name], target.lanes(conv.dtype)) for name in ("x", "dy")}
            found = []
            for count in (1, 2):
                threads(library, count)
                found.append(results(library, function, known | turned, (n, conv.height, *conv.pad[0])))
            for name, array in found[0].items():
                assert np.array_equal(array, found[1][name]), (conv, function.name, n)
                told = from_blocks(array) if name in IMAGES else array
                assert not n or error(told, rectified(conv, known, name, wanted[name])) < BOUNDS[conv.dtype, m], (
                    conv,
                    function.name,
                    n,
                )


def results(library: Any, function: CFunction, known: dict[str, Array], numbers: tuple[int, ...]) -> dict[str, Array]:
    """What a function writes; where it reads what a ReLU gave, that is x."""
    like = {"y": "dy", "dx": "x", "dweight": "weight", "dbias": "bias"}
    *_, last = (name for name in function.arguments if name != "dbias")
    made = {name: np.full_like(known[like[name]], JUNK) for name in (last, "dbias")}
    given = known | {"y": known["x"]} | made
    call(library, function, [given[name] for name in function.arguments], numbers)
    return {name: made[name] for name in made if name in function.arguments}


def rectified(conv: Conv, known: dict[str, Array], name: str, result: Array) -> Array:
    """A result with what the ReLU of a convolution does to it."""
    if conv.relu and name == "y":
        return np.maximum(result, 0)
    return result * (known["x"] > 0) if conv.relu and name == "dx" else result


@pytest.mark.parametrize("stage", ["forward", "dx"])
def test_a_part_of_an_image_gives_what_the_whole_gives(stage: str, tmp_path: Path) -> None:
    """Rows 4 to 8 of the result, where tiles begin as they do in the whole: bit for bit."""
    target, conv = runnable()[-1], Conv(6, 9, 12, 10, (3, 3), pad=((1, 1), (1, 1)))
    function = PASSES[stage](conv, target, "conv", 4)
    library = build([function], target, ("f32",), tmp_path)
    known = draw_arrays(conv, 2, 12, (1, 1), np.random.default_rng(2))
    whole = run(library, function, known, (2, 12, 1, 1))
    if stage == "forward":
        part = known | {"x": known["x"][:, 3:9].copy(), "dy": known["dy"][:, 4:8].copy()}
        found = run(library, function, part, (2, 6, 0, 0))
        assert np.array_equal(found["y"], whole["y"][:, 4:8])
    else:
        part = known | {"x": known["x"][:, 4:8].copy(), "dy": known["dy"][:, 3:9].copy()}
        found = run(library, function, part, (2, 4, 2, 2))
        assert np.array_equal(found["dx"], whole["dx"][:, 4:8])


@pytest.mark.parametrize(
    "conv",
    [Conv(8, 8, 9, 9, (5, 5)), Conv(8, 8, 9, 9, (3, 3), (2, 2)), Conv(8, 8, 9, 9, (3, 3), groups=2)],
    ids=["5x5", "stride 2", "groups"],
)
def test_other_convolutions_are_refused(conv: Conv) -> None:
    assert not conv_winograd.fits(conv)
    for make in PASSES.values():
        with pytest.raises(ValueError, match="windows of 3x3"):
            make(conv, AVX2, "conv", 4)
