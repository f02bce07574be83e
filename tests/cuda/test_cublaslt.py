"""What cuBLASLt is told of linear maps, by a library that does as its documentation says; and its own descriptors and
header, where its wheel is installed (`pip install nvidia-cublas-cu12`): those need no GPU."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels import cublas, cublaslt, gpu
from backends.cupy_mpi.kernels.calls import Kernels
from backends.cupy_mpi.kernels.cublaslt import CublasLt, Finished, Heuristic, LtError
from backends.cupy_mpi.kernels.engines import OnStandIns
from backends.cupy_mpi.runtime import emulated
from backends.cupy_mpi.runtime.emulated import ndarray
from backends.cupy_mpi.source import whole_text
from tests.cuda import places
from tests.cuda.calling import Key, binding, drawn, empty, needs_compiler
from tests.cuda.lt_library import LtLibrary
from tests.kernels.calling import kernel

IN, OUT = 8, 16

STREAM = 7


def made(library: Any, rounding: str = "") -> CublasLt:
    stream = SimpleNamespace(ptr=STREAM)
    cp = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    return CublasLt(cp, ndarray(np.empty(64, np.uint8)), rounding, library)


class Engine(OnStandIns):
    """The processor with a stand-in for cuBLASLt."""

    def __init__(self, source: str, dtype: type, library: CublasLt) -> None:
        super().__init__(source, dtype, places.stand_in())
        self.cublaslt = library

    def library(self, call: Any) -> Callable[[], None] | None:  # type: ignore[override]
        """The stand-in's."""
        return self.cublaslt.prepared(call)


def call(key: Key, arrays: list[Any], told: dict[str, Any], library: CublasLt, dtype: Any = np.float32) -> list[Any]:
    """What arrays hold behind a call of the bound kernel with this library."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("the call is left to NumPy")

    refused.__name__ = binding(key).__name__
    module = "linear_fused" if "_" in key[0] else "linear"
    text = whole_text(module, {np.float32: "f32", np.float64: "f64"}[dtype])
    given = [emulated.ndarray(np.ascontiguousarray(each, dtype)) for each in arrays]
    Kernels(Engine(text, dtype, library)).replace(refused, binding(key))(*given, **told)
    return [each.get() for each in given]


TANH = {"approximate": "tanh"}

CALLS: dict[str, tuple[Key, str, dict[str, Any], int]] = {
    "bias": (("linear", "forward", ""), "x w b -> y", {}, 4),
    "relu": (("linear_relu", "forward", ""), "x w b -> y", {}, 6),
    "relu alone": (("linear_relu", "forward", ""), "x w -> y", {}, 2),
    "gelu": (("linear_gelu", "forward", ""), "x w b -> y", TANH, 36),
    "gelu alone": (("linear_gelu", "forward", ""), "x w -> y", TANH, 32),
    "gelu kept": (("linear_gelu_kept", "forward", ""), "x w b -> y y", TANH, 164),
    "gelu kept alone": (("linear_gelu_kept", "forward", ""), "x w -> y y", TANH, 160),
    "slope": (("linear_gelu", "dx", ""), "y w x -> x", TANH, 192),
    "sums": (("linear", "dw", ""), "y x -> w b", {}, 512),
}
"""Name -> kernel, operands and results by shape, what it is told, and the epilogue that NVIDIA documents for it."""


def arrays_of(letters: str, transposed: bool, rows: tuple[int, ...] = (3, 5)) -> tuple[list[Any], int]:
    """Operands, and results that hold nothing yet; how many are operands."""
    shapes = {"x": (*rows, IN), "y": (*rows, OUT), "w": (IN, OUT) if transposed else (OUT, IN), "b": (OUT,)}
    given, results = (side.split() for side in letters.split("->"))
    rng = np.random.default_rng(5)
    operands = [rng.standard_normal(shapes[each]).astype(np.float32).astype(float) for each in given]
    return [*operands, *(empty(*shapes[each]) for each in results)], len(given)


def finished(name: str, transposed: bool, library: LtLibrary) -> dict[str, Any]:
    """Call the kernel and compare with its twin; what the library ran last."""
    key, letters, told, _ = CALLS[name]
    arrays, first = arrays_of(letters, transposed)
    told = told | {"transposed": transposed}
    found = call(key, arrays, told, made(library))
    expected = [each.copy() for each in arrays]
    kernel(*key)(*expected, **told)
    for at in range(first, len(arrays)):
        np.testing.assert_allclose(found[at], expected[at], atol=3e-6 * np.abs(expected[at]).max())
    for at in range(first):
        np.testing.assert_array_equal(found[at], arrays[at])
    return library.ran[-1] if library.ran else {}


@needs_compiler
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_what_is_finished_is_what_the_twin_computes(name: str, transposed: bool) -> None:
    library = LtLibrary()
    ran = finished(name, transposed, library)
    assert ran["stream"] == STREAM
    assert ran[7] == (256 if name == "sums" and transposed else CALLS[name][3])
    assert ran["compute"] == 68
    assert library.asked[0]["limits"][1] == cublas.WORKSPACE


@needs_compiler
@pytest.mark.parametrize("name", CALLS)
def test_without_an_algorithm_kernels_finish_a_product(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not finished(name, False, LtLibrary(lacks=(CALLS[name][3],)))
    assert "cuBLASLt has nothing for a product of" in capsys.readouterr().err


@needs_compiler
@pytest.mark.parametrize("name", ["gelu", "gelu kept"])
def test_exact_gelu_is_the_kernels(name: str) -> None:
    """cuBLASLt's is the approximation."""
    key, letters, _, _ = CALLS[name]
    arrays, first = arrays_of(letters, False)
    library = LtLibrary()
    found = call(key, arrays, {"approximate": "none"}, made(library))
    expected = [each.copy() for each in arrays]
    kernel(*key)(*expected, approximate="none")
    for at in range(first, len(arrays)):
        np.testing.assert_allclose(found[at], expected[at], atol=3e-6)
    assert not library.asked


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "operation of A": ("bias", {"TRANSPOSED_A": 4, "TRANSPOSED_B": 3}),
    "bias": ("bias", {"EPILOGUES": cublaslt.EPILOGUES | {"bias": 1}}),
    "activation": ("gelu", {"EPILOGUES": cublaslt.EPILOGUES | {"gelu bias": 6}}),
    "what is kept": ("gelu kept", {"EPILOGUES": cublaslt.EPILOGUES | {"gelu kept bias": 36}}),
    "where it is kept": ("gelu kept", {"KEPT": 8}),
    "slope": ("slope", {"EPILOGUES": cublaslt.EPILOGUES | {"gelu slope": 160}}),
    "which sums": ("sums", {"EPILOGUES": cublaslt.EPILOGUES | {"sums of left": 256}}),
    "elements": ("bias", {"TYPES": cublaslt.TYPES | {"float32": 2}}),
    "computation": ("bias", {"COMPUTE": {"": 64}}),
    "limit": ("bias", {"MOST_WORKSPACE": 5}),
}


@needs_compiler
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_word_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each constant that is taken for another one is refused, or gives other numbers."""
    which, changes = WRONG[name]
    for constant, value in changes.items():
        monkeypatch.setattr(cublaslt, constant, value)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        assert finished(which, False, LtLibrary())


@needs_compiler
def test_rows_that_gelu_cannot_keep_are_kept_by_the_kernel() -> None:
    x, w, b = drawn("f32", 4, 3), drawn("f32", 7, 3), drawn("f32", 7)
    library = LtLibrary()
    found = call(("linear_gelu_kept", "forward", ""), [x, w, b, empty(4, 7), empty(4, 7)], TANH, made(library))
    np.testing.assert_allclose(found[4], x @ w.T + b, atol=1e-5)
    assert not library.asked


@pytest.mark.parametrize(("rounding", "compute"), [("", 68), ("tf32", 77), ("f16", 74), ("bf16", 75)])
def test_precisions(rounding: str, compute: int) -> None:
    library = LtLibrary()
    x, w, b = (ndarray(drawn("f32", *shape).astype(np.float32)) for shape in ((4, 8), (8, 8), (8,)))
    out = ndarray(np.empty((4, 8), np.float32))
    assert made(library, rounding).prepared(Finished(x, w.T, out, "bias", b)) is not None
    assert library.asked[0]["compute"] == compute


@pytest.mark.parametrize("finish", ["relu bias", "gelu kept bias", "gelu slope", "sums of left", "sums of right"])
@pytest.mark.parametrize(("dtype", "bits"), [(np.float16, 11), (np.uint16, 8), (np.float64, 50)])
def test_other_elements(dtype: Any, bits: int, finish: str) -> None:
    """In f64, and in halves: operands and results of two bytes, which are rounded once, of sums in f32."""
    from tests.cuda.lt_library import gelu, put, slope, values

    def held(array: Any) -> Any:
        found = np.empty(array.shape, dtype)
        put(found, array)
        return found

    left, right, z = held(drawn("f64", 6, 40)), held(drawn("f64", 40, 16)), held(drawn("f64", 6, 16))
    count = 6 if finish == "sums of left" else 16
    out, bias = held(np.zeros((6, 16))), held(drawn("f64", count))
    kept = ndarray(z) if "slope" in finish or "kept" in finish else None
    run = made(LtLibrary()).prepared(
        Finished(
            ndarray(left), ndarray(right), ndarray(out), finish, None if "slope" in finish else ndarray(bias), kept
        )
    )
    known = values(left) @ values(right)
    known += 0 if "bias" not in finish else values(bias)
    before = values(z)
    assert run is not None
    run()
    if "kept" in finish:
        np.testing.assert_allclose(values(z), known, rtol=2.0**-bits)
    if "sums" in finish:
        wanted = values(left).sum(axis=1) if finish.endswith("left") else values(right).sum(axis=0)
        np.testing.assert_allclose(values(bias), wanted, rtol=2.0**-bits)
    if finish == "relu bias":
        known = np.maximum(known, 0)
    known = gelu(known) if "kept" in finish else known * slope(before) if "slope" in finish else known
    np.testing.assert_allclose(values(out), known, rtol=2.0**-bits, atol=2.0**-25 if bits == 11 else 1e-14)


def test_alignment_is_that_of_the_addresses() -> None:
    memory = np.zeros(4096 + 64, np.float32)
    begin = -memory.ctypes.data % 256 // 4
    x = ndarray(memory[begin + 4 : begin + 4 + 32].reshape(4, 8))
    w, b, y = (ndarray(np.zeros(shape, np.float32)) for shape in ((8, 8), (8,), (4, 8)))
    library = LtLibrary()
    made(library).prepared(Finished(x, w.T, y, "bias", b))
    limits = library.asked[0]["limits"]
    assert limits[6] == 16, "B is the left operand, of which outᵀ = rightᵀ · leftᵀ is made"
    assert limits[7] == limits[8]


def test_a_library_that_is_missing_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def missing() -> None:
        raise LtError("there is no cuBLASLt")

    monkeypatch.setattr(cublaslt, "load", missing)
    device = SimpleNamespace(cp=SimpleNamespace(empty=lambda size, dtype: np.empty(8, dtype)))
    engine = gpu.Gpu("", np.float32, device)
    x = ndarray(np.zeros((4, 4), np.float32))
    for _ in range(2):
        assert engine.library(Finished(x, x, x, "")) is None
    told = capsys.readouterr().err
    assert told.count("there is no cuBLASLt") == 1


def wheels() -> list[Path]:
    """Folders of NVIDIA's wheels of cuBLAS."""
    places = (Path(each) / "nvidia" / name for each in sys.path for name in ("cublas", "cu12", "cu13"))
    return [each for each in places if (each / "lib").is_dir() and list((each / "lib").glob("libcublasLt.so.*"))]


installed = pytest.mark.skipif(not wheels(), reason="NVIDIA's wheel of cuBLAS is not installed")


class Real:
    """cuBLASLt's own library, but for its handle, which needs a device."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(next((wheels()[0] / "lib").glob("libcublasLt.so.*"))))
        self.operations: list[Any] = []

    def cublasLtCreate(self, _: Any) -> int:  # noqa: N802
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)


@installed
@pytest.mark.parametrize("finish", cublaslt.EPILOGUES)
def test_the_library_takes_what_it_is_told(finish: str) -> None:
    """Sizes of all attributes, and what they are then."""
    x, w, y = (ndarray(np.zeros(shape, np.float32)) for shape in ((24, 8), (16, 8), (24, 16)))
    bias, real = ndarray(np.zeros(24, np.float32)), Real()
    operation, a, b, c, preference = made(real).described(Finished(x, w.T, y, finish, bias, y))

    def read(function: str, of: Any, name: int, kind: Any) -> int:
        value, written = kind(), ctypes.c_size_t()
        assert getattr(real, function)(of, name, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)),
                                       ctypes.byref(written)) == 0  # fmt: skip
        return int(value.value)

    def told(name: int, kind: Any = ctypes.c_int32) -> int:
        return read("cublasLtMatmulDescGetAttribute", operation, name, kind)

    assert (told(0), told(1), told(3), told(4), told(7)) == (68, 0, 1, 0, cublaslt.EPILOGUES[finish])
    pointers = [told(name, ctypes.c_uint64) for name in (8, 11)]
    assert pointers == [bias.data.ptr, y.data.ptr]
    assert told(12, ctypes.c_int64) == 16
    for layout, shape, leading in ((a, (8, 16), 8), (b, (8, 24), 8), (c, (16, 24), 16)):
        found = [read("cublasLtMatrixLayoutGetAttribute", layout, name, ctypes.c_uint64) for name in (2, 3, 4)]
        assert found == [*shape, leading]
    assert read("cublasLtMatmulPreferenceGetAttribute", preference, 1, ctypes.c_uint64) == cublas.WORKSPACE


@installed
def test_numbers_are_those_of_the_header() -> None:
    text = (wheels()[0] / "include" / "cublasLt.h").read_text(encoding="utf-8")
    known: dict[str, int] = {}
    for name, value in re.findall(r"^  (CUBLASLT_(?:EPILOGUE|MATMUL_DESC|MATMUL_PREF)_\w+) = ([^,\n]+),", text, re.M):
        known[name] = eval(value, {"__builtins__": {}}, known)  # sums of names before
    words = {"sums of right": "BGRADA", "sums of left": "BGRADB", "gelu slope": "DGELU", "": "DEFAULT"}
    for finish, number in cublaslt.EPILOGUES.items():
        name = words.get(finish, finish.upper().replace("KEPT", "AUX").replace(" ", "_"))
        assert known[f"CUBLASLT_EPILOGUE_{name}"] == number
    for name, number in {
        "DESC_TRANSA": cublaslt.TRANSPOSED_A, "DESC_TRANSB": cublaslt.TRANSPOSED_B, "DESC_EPILOGUE": cublaslt.EPILOGUE,
        "DESC_BIAS_POINTER": cublaslt.BIAS, "DESC_EPILOGUE_AUX_POINTER": cublaslt.KEPT,
        "DESC_EPILOGUE_AUX_LD": cublaslt.LEADING_OF_KEPT, "PREF_MAX_WORKSPACE_BYTES": cublaslt.MOST_WORKSPACE,
        **{f"PREF_MIN_ALIGNMENT_{each}_BYTES": at for each, at in zip("ABCD", cublaslt.ALIGNMENTS, strict=True)},
    }.items():  # fmt: skip
        assert known[f"CUBLASLT_MATMUL_{name}"] == number
    assert ctypes.sizeof(Heuristic) == 64 + 8 + 4 + 4 + 16
