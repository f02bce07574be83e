"""Casts to half precision and back in CUDA: the bits are those of NumPy's kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels.calls import Kernels
from dlc.driver import Options, compile_spec, emit_files, read
from tests.cuda import places
from tests.cuda.calling import binding, engine, needs_compiler
from tests.kernels.calling import kernel

pytestmark = needs_compiler

KEY = ("cast", "forward", "")


def call(*arrays: Any) -> list[Any]:
    """What arrays hold behind a call of the kernel in CUDA."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("the call is left to NumPy")

    refused.__name__ = "cast"
    memory = [places.put(array.copy()) for array in arrays]
    Kernels(engine("cast", "f32")).replace(refused, binding(KEY))(*memory)
    return [places.get(each) for each in memory]


def numbers() -> Any:
    """Of all sizes: at, above and below the middle between two halves, subnormal, too large, and no numbers."""
    halves = np.arange(2**16, dtype=np.uint16)
    of_f16, of_bf16 = halves.view(np.float16).astype(np.float32), (halves.astype(np.uint32) << 16).view(np.float32)
    known = np.concatenate([of_f16, of_bf16])
    with np.errstate(all="ignore"):
        middle = (of_f16[:-1] + of_f16[1:]) / 2
        found = [known, middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))]
    bits = (np.arange(2**16, dtype=np.uint32) << 16) + 0x8000
    found += [bits.view(np.float32), (bits + 1).view(np.float32), (bits - 1).view(np.float32)]
    return np.concatenate([*found, np.array([65519.99, 65520, 65504, 1e38, 2.0**-25, 2.0**-24], np.float32)])


@pytest.mark.parametrize("half", [np.float16, np.uint16])
def test_every_half_and_what_lies_between(half: Any) -> None:
    x = numbers()
    wanted, back = np.empty(x.size, half), np.empty_like(x)
    with np.errstate(all="ignore"):
        kernel(*KEY)(x, wanted)
    _, narrow = call(x, np.empty(x.size, half))
    same = narrow.view(np.uint16) == wanted.view(np.uint16)
    assert np.all(same | (np.isnan(x) & np.isnan(widened(narrow))))
    kernel(*KEY)(wanted, back)
    _, wide = call(wanted, np.empty_like(x))
    assert np.array_equal(wide, back, equal_nan=True)
    assert np.array_equal(np.signbit(wide[~np.isnan(wide)]), np.signbit(back[~np.isnan(back)]))


def widened(half: Any) -> Any:
    found = np.empty(half.size, np.float32)
    kernel(*KEY)(half, found)
    return found


def test_several_at_a_time() -> None:
    given = [np.array(1.5, np.float32), np.arange(6, dtype=np.float16).reshape(2, 3), np.zeros((0, 2), np.float32)]
    targets = [np.zeros((), np.uint16), np.zeros((2, 3), np.float32), np.zeros((0, 2), np.uint16)]
    found = call(*given, *targets)[3:]
    kernel(*KEY)(*given, *targets)
    assert all(map(np.array_equal, found, targets))


@pytest.mark.parametrize("precision", ["f32", "tf32", "mixed(compute = bf16)"])
def test_programs_say_what_products_may_round_to(precision: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "specs" / "mlp.dlspec").read_text(encoding="utf-8")
    text = text.replace("optimizer", f"precision = {precision}\n  optimizer", 1)
    (tmp_path / "mlp.dlspec").write_text(text, encoding="utf-8")
    files = emit_files(compile_spec(read(str(tmp_path / "mlp.dlspec")), Options(ranks=1, kernels="numpy")), "cupy")
    made = files["compiled.py"].decode()
    name = precision.removeprefix("mixed(compute = ").removesuffix(")")
    assert (f'rounding="{name}"' in made) is (name != "f32")
    assert ("cast = KERNELS.replace" in made) is (name == "bf16")
