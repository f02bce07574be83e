"""Convolution in C: drawn shapes against the NumPy kernels, for every target that this processor runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import conv_blocked, conv_blocked_dw, conv_chwn, conv_direct, conv_dw, conv_dw_packed
from backends.numpy_mpi.c.conv import Conv
from backends.numpy_mpi.c.source import CFunction
from backends.numpy_mpi.c.target import AVX2, AVX512, Target
from backends.numpy_mpi.kernels.conv_im2col import conv_im2col_dw, conv_im2col_dx, conv_im2col_forward
from tests.c.building import JUNK, build, call, each_target, runnable, threads

Array = np.ndarray[Any, Any]
Make = Callable[..., CFunction]

PASSES: dict[str, Make] = {"forward": conv_direct.forward, "dx": conv_direct.dx, "dw": conv_dw.dw}
IN_SAMPLES: dict[str, Make] = {"forward": conv_chwn.forward, "dx": conv_chwn.dx, "dw": conv_chwn.dw}
IN_BLOCKS: dict[str, Make] = {"forward": conv_blocked.forward, "dx": conv_blocked.dx, "dw": conv_blocked_dw.dw}
LAYOUTS = {"NHWC": PASSES, "CHWN": IN_SAMPLES, "packed": {"dw": conv_dw_packed.dw}}
"""With `packed` what a pass copies is put in order first; images are in NHWC."""
IMAGES = ("x", "y", "dx", "dy")

BOUNDS = {"f32": 2e-6, "f64": 1e-14}
"""Relative errors against float64, those of the NumPy kernels' tests."""

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

DTYPES = {"f32": np.float32, "f64": np.float64}

NAMED = (
    Conv(3, 20, 19, 21, (7, 7), (2, 2), ((3, 3), (3, 3)), bias=True),
    Conv(40, 36, 5, 29, (1, 1), bias=True),
    Conv(33, 16, 9, 7, (1, 1), (2, 2)),
    Conv(16, 16, 15, 15, (3, 3), (1, 1), ((1, 1), (1, 1)), bias=True),
    Conv(24, 8, 8, 8, (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), groups=4),
    Conv(4, 6, 5, 5, (5, 5), bias=True),
    Conv(1024, 20, 2, 15, (1, 1)),
    Conv(512, 12, 5, 9, (1, 1), (2, 2)),
    Conv(256, 9, 7, 13, (3, 3), (4, 4), ((1, 1), (1, 1)), bias=True),
    Conv(512, 18, 6, 5, (2, 3), (1, 4), ((1, 1), (1, 1)), groups=2),
    Conv(5, 17, 12, 11, (2, 3), (3, 2), ((0, 2), (1, 0)), (1, 3)),
    Conv(20, 40, 9, 21, (3, 3), (2, 1), ((1, 1), (1, 1)), bias=True),
)
"""First layers, 1x1, strides, dilation, groups, windows as large as images, pixels a page apart, pads that differ,
several blocks of channels and of filters."""


def draw(rng: np.random.Generator) -> Conv:
    groups = int(rng.choice([1, 1, 2, 3]))

    def pair(low: int, high: int) -> tuple[int, int]:
        first, second = rng.integers(low, high, 2)
        return (int(first), int(second))

    return Conv(
        channels=int(rng.integers(1, 12)) * groups,
        filters=int(rng.integers(1, 40)) * groups,
        height=int(rng.integers(7, 20)),
        width=int(rng.integers(7, 34)),
        window=pair(1, 4),
        stride=pair(1, 4),
        pad=(pair(0, 3), pair(0, 3)),
        dilation=pair(1, 4),
        groups=groups,
        bias=bool(rng.integers(2)),
        dtype=str(rng.choice(["f32", "f32", "f64"])),
    )


def cases() -> list[Conv]:
    rng = np.random.default_rng(6)
    return [*NAMED, *(draw(rng) for _ in range(4))]


def attrs(conv: Conv, pad: tuple[int, int]) -> dict[str, Any]:
    return {
        "window": conv.window,
        "stride": conv.stride,
        "pad": (pad, conv.pad[1]),
        "dilation": conv.dilation,
        "groups": conv.groups,
        "bias": conv.bias,
        "layout": "NHWC",
    }


def draw_arrays(conv: Conv, n: int, rows: int, pad: tuple[int, int], rng: np.random.Generator) -> dict[str, Array]:
    out = (rows + sum(pad) - conv.reach[0]) // conv.stride[0] + 1
    shapes = {
        "x": (n, rows, conv.width, conv.channels),
        "weight": (conv.filters, conv.group_channels, *conv.window),
        "bias": (conv.filters,),
        "dy": (n, out, conv.outputs[1], conv.filters),
    }
    return {name: rng.standard_normal(shape).astype(DTYPES[conv.dtype]) for name, shape in shapes.items()}


def expected(conv: Conv, known: dict[str, Array], pad: tuple[int, int]) -> dict[str, Array]:
    """Results of the NumPy kernels in float64."""
    wide = {name: array.astype(np.float64) for name, array in known.items()}
    y, dx, dw, db = (np.empty_like(wide[name]) for name in ("dy", "x", "weight", "bias"))
    n, rows, columns = y.shape[:3]
    size = max(1, n * rows * columns) * conv.taps * conv.channels
    room = [np.empty(size * 4 + 8 * known["x"].size + known["weight"].size + 10_000) for _ in range(4)]
    padded, bias = (attrs(conv, pad)["pad"] != ((0, 0), (0, 0))), [wide["bias"]] * conv.bias
    packed = room[:1]
    before = room[1:2] if padded else []
    plain = conv.taps == 1 and conv.stride == (1, 1) and not padded
    conv_im2col_forward(
        wide["x"], wide["weight"], *bias, y, *packed, *([] if plain else [*before, room[2]]), **attrs(conv, pad)
    )
    conv_im2col_dx(wide["dy"], wide["weight"], dx, *packed, *([] if plain else [room[2]]), **attrs(conv, pad))
    dbias = [db] * conv.bias
    conv_im2col_dw(
        wide["dy"], wide["x"], dw, *dbias, *(room[:1] if plain else [*before, *room[2:]]), **attrs(conv, pad)
    )
    return {"y": y, "dx": dx, "dweight": dw, "dbias": db}


def run(
    library: Any, function: CFunction, known: dict[str, Array], numbers: tuple[int, ...], layout: str = "NHWC"
) -> dict[str, Array]:
    """Results in NHWC of a function that has images in a layout."""
    if layout == "CHWN":
        turned = {name: np.array(known[name].transpose(3, 1, 2, 0), order="C") for name in ("x", "dy")}
        found = run(library, function, known | turned, numbers)
        return {name: array.transpose(3, 1, 2, 0) if name in IMAGES else array for name, array in found.items()}
    like = {"y": "dy", "dx": "x", "dweight": "weight", "dbias": "bias"}
    known = known | {name: np.full_like(known[of], JUNK) for name, of in like.items()}
    call(library, function, [known[name] for name in function.arguments], numbers)
    return {name: known[name] for name in function.arguments if name in like}


def error(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / (np.linalg.norm(wanted) or 1.0))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", each_target())
def test_every_pass_gives_what_numpy_gives_whatever_the_number_of_threads(
    target: Target, layout: str, tmp_path: Path
) -> None:
    """Drawn convolutions, float32 and float64; batches of many samples, of one and of none."""
    made = {
        (number, stage): make(conv, target, f"conv{number}_{stage}")
        for number, conv in enumerate(cases())
        for stage, make in LAYOUTS[layout].items()
    }
    library = build(list(made.values()), target, ("f32", "f64"), tmp_path)
    rng = np.random.default_rng(1)
    for (number, stage), function in made.items():
        conv = cases()[number]
        for n in (5 if layout == "NHWC" else 35, 1, 0):
            known = draw_arrays(conv, n, conv.height, conv.pad[0], rng)
            numbers = (n, conv.height, *conv.pad[0])
            threads(library, 1)
            found = run(library, function, known, numbers, layout)
            threads(library, 2)
            again = run(library, function, known, numbers, layout)
            wanted = expected(conv, known, conv.pad[0]) if n else {name: 0 * array for name, array in found.items()}
            for name, array in found.items():
                assert error(array, wanted[name]) < BOUNDS[conv.dtype], (conv, stage, n, name)
                assert np.array_equal(array, again[name]), (conv, stage, n, name)


def parts_of(conv: Conv, cut: int) -> list[tuple[slice, slice]]:
    """(rows of y, rows of x that these read) of the two parts of an image."""
    out, stride, top = conv.outputs[0], conv.stride[0], conv.pad[0][0]
    found = []
    for y in (slice(0, cut), slice(cut, out)):
        first, last = y.start * stride - top, (y.stop - 1) * stride - top + conv.reach[0]
        found.append((y, slice(max(0, first), min(conv.height, last))))
    return found


PARTED = (
    Conv(6, 18, 17, 15, (3, 3), (1, 1), ((1, 1), (1, 1)), bias=True),
    Conv(5, 16, 18, 15, (5, 3), (2, 2), ((2, 1), (1, 1))),
    Conv(16, 8, 13, 9, (1, 1), (2, 2)),
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("conv", PARTED, ids=["3x3", "stride 2", "1x1, stride 2"])
def test_parts_of_split_images_give_what_the_whole_gives(conv: Conv, layout: str, tmp_path: Path) -> None:
    """One function serves every part: its rows and pads come at run time."""
    target, rng = runnable()[-1], np.random.default_rng(2)
    functions = {stage: make(conv, target, f"conv_{stage}") for stage, make in (PASSES | LAYOUTS[layout]).items()}
    library = build(list(functions.values()), target, (conv.dtype,), tmp_path)
    known = draw_arrays(conv, 2, conv.height, conv.pad[0], rng)
    whole: dict[str, Array] = {}
    for function in functions.values():
        whole |= run(library, function, known, (2, conv.height, *conv.pad[0]), layout)
    summed, cut = np.zeros_like(whole["dweight"]), 4
    gradient = np.zeros_like(whole["dx"])
    for y, x in parts_of(conv, cut):
        above = x.start - (y.start * conv.stride[0] - conv.pad[0][0])
        below = (y.stop - 1) * conv.stride[0] - conv.pad[0][0] + conv.reach[0] - x.stop
        part = known | {"x": known["x"][:, x].copy(), "dy": known["dy"][:, y].copy()}
        found: dict[str, Array] = {}
        for function in functions.values():
            found |= run(library, function, part, (2, x.stop - x.start, above, below), layout)
        assert np.array_equal(found["y"], whole["y"][:, y])
        gradient[:, x] += found["dx"]
        summed += found["dweight"]
    assert error(gradient, whole["dx"]) < 1e-6
    assert error(summed, whole["dweight"]) < 1e-6


@pytest.mark.parametrize("stage", [*PASSES, "packed"])
@pytest.mark.parametrize("tile", [(1, 1), (5, 1), (3, 2), (2, 4)], ids=str)
def test_every_tile_gives_the_same(stage: str, tile: tuple[int, int], tmp_path: Path) -> None:
    target, conv = runnable()[-1], NAMED[3]
    make = conv_dw_packed.dw if stage == "packed" else PASSES[stage]
    ways = [make(conv, target, "best"), make(conv, target, "tiled", tile)]
    library = build(ways, target, ("f32",), tmp_path)
    known = draw_arrays(conv, 2, conv.height, conv.pad[0], np.random.default_rng(3))
    best, tiled = (run(library, way, known, (2, conv.height, *conv.pad[0])) for way in ways)
    assert all(np.array_equal(best[name], tiled[name]) for name in best)


def in_blocks(conv: Conv, target: Target) -> Conv:
    """The same with as many more channels as fill blocks, two at least."""
    lanes = target.lanes(conv.dtype)
    channels, filters = (lanes * max(2, -(-count // lanes)) for count in (conv.channels, conv.filters))
    return replace(conv, channels=channels, filters=filters, groups=1)


def to_blocks(image: Array, lanes: int) -> Array:
    """From NHWC to [sample][block][row][column][lane]."""
    n, rows, columns, channels = image.shape
    return np.ascontiguousarray(np.moveaxis(image.reshape(n, rows, columns, channels // lanes, lanes), 3, 1))


def from_blocks(image: Array) -> Array:
    """The reverse."""
    n, blocks, rows, columns, lanes = image.shape
    return np.moveaxis(image, 1, 3).reshape(n, rows, columns, blocks * lanes)


@pytest.mark.parametrize("target", each_target())
def test_channels_in_blocks(target: Target, tmp_path: Path) -> None:
    """Against NumPy in float64, whatever the number of threads; a ReLU comes behind the sums."""
    convs = [conv for conv in (*NAMED, *cases()[-2:]) if conv.channels < 100]
    asked = [(in_blocks(conv, target), stage) for conv in convs for stage in IN_BLOCKS]
    made = [(conv, IN_BLOCKS[stage](conv, target, f"f{at}")) for at, (conv, stage) in enumerate(asked)]
    relu = [(conv, conv_blocked.forward(replace(conv, relu=True), target, f"r{at}")) for at, (conv, stage) in
            enumerate(asked) if stage == "forward"]  # fmt: skip
    assert all(conv_blocked.fits(conv, target, target.lanes(conv.dtype)) for conv, _ in made)
    library = build([function for _, function in (*made, *relu)], target, ("f32", "f64"), tmp_path)
    rng = np.random.default_rng(4)
    for conv, function in (*made, *relu):
        lanes, n = target.lanes(conv.dtype), 3
        known = draw_arrays(conv, n, conv.height, conv.pad[0], rng)
        wanted = expected(conv, known, conv.pad[0])
        turned = {name: to_blocks(known[name], lanes) for name in ("x", "dy")}
        found = []
        for count in (1, 2):
            threads(library, count)
            found.append(run(library, function, known | turned, (n, conv.height, *conv.pad[0])))
        for name, array in found[0].items():
            assert np.array_equal(array, found[1][name]), (conv, name)
            if name in IMAGES:
                array = from_blocks(array)
            value = np.maximum(wanted[name], 0) if (conv, function) in relu else wanted[name]
            assert error(array, value) < BOUNDS[conv.dtype], (conv, name)


def test_weight_gradients_are_packed_where_tiles_use_parts_of_lines() -> None:
    """Not where one block of filters is all of them, what is copied is used once, or a vector is a whole line."""
    wide, few = Conv(64, 64, 56, 56, (3, 3)), Conv(480, 16, 14, 14, (1, 1))
    thin, depthwise = Conv(4, 32, 56, 56, (1, 1)), Conv(64, 64, 28, 28, (3, 3), groups=64)
    assert conv_dw_packed.pays(wide, AVX2)
    assert conv_dw_packed.pays(Conv(3, 64, 224, 224, (7, 7), (2, 2)), AVX2)
    assert not any(conv_dw_packed.pays(conv, AVX2) for conv in (few, thin, depthwise))
    assert not conv_dw_packed.pays(wide, AVX512)
    assert "_gradient(" in conv_dw_packed.best(wide, AVX2, "f").text
    assert "_gradient(" not in conv_dw_packed.best(few, AVX2, "f").text
