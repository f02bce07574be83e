"""Products and convolutions of arrays in half precision: their numbers, what libraries are told, and whole programs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels.calls import Kernels
from backends.cupy_mpi.kernels.cublas import Cublas
from backends.cupy_mpi.kernels.engines import OnStandIns
from backends.cupy_mpi.runtime.emulated import ndarray
from backends.cupy_mpi.source import whole_text
from backends.numpy_mpi.kernels import KERNELS
from dlc.driver import Compiled, Options, compile_spec, emit_files, emitted_program, read
from dlc.folders import write_folder
from dlc.ir.program import Compute, Program
from dlc.ops import halves
from dlc.proof import check
from tests.cuda import places
from tests.cuda.calling import Key, binding, launches, needs_compiler
from tests.cuda.front_end import FrontEnd
from tests.cuda.lt_library import LtLibrary, matrix, put, values
from tests.cuda.running import trained
from tests.cuda.test_cublaslt import made as finishing
from tests.cuda.test_cudnn import made as convolving
from tests.kernels.calling import kernel

TYPES = {"f16": np.float16, "bf16": np.uint16}
DIGITS = {"f16": 11, "bf16": 8}

CONV = {"filters": 8, "window": (3, 3), "stride": (2, 1), "pad": ((1, 1), (0, 1)), "dilation": (1, 1), "groups": 2}
X, W, Y = (3, 6, 9, 8), (8, 3, 3, 3), (3, 8, 5, 7)

CALLS: dict[str, tuple[Key, tuple[tuple[int, ...], ...], int, dict[str, Any]]] = {
    "linear": (("linear_halves", "forward", ""), ((5, 3, 40), (24, 40), (24,), (5, 3, 24)), 1, {}),
    "linear, turned": (("linear_halves", "forward", ""), ((15, 40), (40, 24), (15, 24)), 1, {"transposed": True}),
    "linear dx": (("linear_halves", "dx", ""), ((5, 3, 24), (24, 40), (5, 3, 40)), 1, {}),
    "linear dw": (("linear_halves", "dw", ""), ((300, 24), (300, 40), (24, 40), (24,)), 2, {}),
    "linear dw, turned": (
        ("linear_halves", "dw", ""), ((300, 24), (300, 40), (40, 24), (24,)), 2, {"transposed": True},
    ),
    "matmul": (("matmul_halves", "forward", ""), ((2, 3, 5, 7), (2, 3, 7, 4), (2, 3, 5, 4)), 1, {}),
    "matmul dx": (
        ("matmul_halves", "dx", ""), ((2, 5, 4), (2, 5, 7), (2, 7, 4), (2, 5, 7), (2, 7, 4)), 2, {},
    ),
    "conv": (("conv_halves", "forward", "cudnn"), (X, W, (8,), Y, (999,)), 1, {**CONV, "bias": True}),
    "conv dx": (("conv_halves", "dx", "cudnn"), (Y, W, X, (999,)), 1, CONV),
}  # fmt: skip
"""Kernel, shapes of operands and results, how many are results, and what it is told. A workspace comes last."""


def held(array: Any, dtype: Any) -> Any:
    """Rounded to halves."""
    found = np.empty(array.shape, dtype)
    put(found, array)
    return found


def drawn(name: str, half: str) -> tuple[list[Any], range]:
    """Arrays of a call, and which are results: f32 of gradients of weights."""
    key, shapes, results, _ = CALLS[name]
    rng, behind = np.random.default_rng(len(name)), int("conv" in name)
    last = len(shapes) - behind
    kinds = [TYPES[half]] * len(shapes)
    if key[1] == "dw":
        kinds[last - results : last] = [np.float32] * results
    if behind:
        kinds[-1] = np.float32
    found = [held(rng.standard_normal(shape), kind) for shape, kind in zip(shapes, kinds, strict=True)]
    return found, range(last - results, last)


def exact(name: str, arrays: list[Any]) -> list[Any]:
    """What the call without halves gives in double precision."""
    (op, stage, algorithm), _, _, told = CALLS[name]
    wide = [values(each) for each in arrays]
    kernel(op.removesuffix("_halves"), stage, algorithm)(*wide, **told)
    return wide


@pytest.mark.parametrize("half", TYPES)
@pytest.mark.parametrize("name", CALLS)
def test_twins_round_once(name: str, half: str) -> None:
    """A sum in f32, rounded to nearest: within half a unit in the last place, and what f32 has lost of the sum."""
    arrays, results = drawn(name, half)
    wanted = exact(name, arrays)
    key, _, _, told = CALLS[name]
    kernel(*key)(*arrays, **told)
    for at in results:
        lost = 400 * 2.0**-24 * np.abs(wanted[at]).max()
        narrow = 0 if arrays[at].dtype == np.float32 else 2.0 ** -DIGITS[half] * np.abs(wanted[at])
        assert np.all(np.abs(values(arrays[at]) - wanted[at]) <= narrow + lost)


class Engine(OnStandIns):
    """The processor with stand-ins for libraries, cuBLAS's included."""

    def __init__(self, source: str, cudnn: Any, cublaslt: Any, cublas: Any) -> None:
        super().__init__(source, np.float32, places.stand_in())
        self._conv, self._finish, self._cublas = cudnn, cublaslt, cublas

    def library(self, call: Any) -> Callable[[], None] | None:  # type: ignore[override]
        """The stand-ins'."""
        one = self._finish if type(call).__name__ == "Finished" else self._conv
        found: Callable[[], None] | None = one.prepared(call) if one is not None else None
        return found

    def product(self, *told: Any) -> None:
        """By cuBLAS's stand-in."""
        if self._cublas is None:
            super().product(*told)
        else:
            self._cublas.product(*told)


class Products:
    """Stands for cuBLAS: products whose operands have the types that it is told, with sums in f32."""

    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []

    def cublasGemmStridedBatchedEx(self, _: Any, ta: int, tb: int, m: int, n: int, k: int, *told: Any) -> int:  # noqa: N802
        one, a, type_a, lda, by_a, b, type_b, ldb, by_b, zero, c, type_c, ldc, by_c, count, compute, which = told
        assert (compute, which, one._obj.value, zero._obj.value, type_a) == (68, -1, 1, 0, type_b)
        assert type(one._obj) is ctypes.c_float
        self.told.append((type_a, type_c))
        kinds = {0: np.float32, 2: np.float16, 14: np.uint16}
        assert (type_a, type_c) in ((2, 2), (14, 14), (2, 0), (14, 0))
        for i in range(count):
            left, right, out = (
                matrix(at.value + i * by.value * np.dtype(kinds[kind]).itemsize, kinds[kind], leading, *shape)
                for at, by, kind, leading, shape in (
                    (a, by_a, type_a, lda, (k, m) if ta else (m, k)),
                    (b, by_b, type_b, ldb, (n, k) if tb else (k, n)),
                    (c, by_c, type_c, ldc, (m, n)),
                )
            )
            left, right = (values(each.T if turn else each) for each, turn in ((left, ta), (right, tb)))
            put(out, left @ right)
        return 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_: 0


def cublas() -> tuple[Cublas, Products]:
    cuda, library = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=7)), Products()
    cp = SimpleNamespace(cuda=cuda, empty=lambda size, dtype: ndarray(np.empty(8, dtype)))
    return Cublas(cp, library), library


def called(name: str, arrays: list[Any], *libraries: Any) -> list[Any]:
    """What arrays hold behind the bound call, with (cuDNN, cuBLASLt, cuBLAS), None where there is none."""
    key, _, _, told = CALLS[name]
    instances = {each.kernel for each in launches(key, arrays, **told) or () if "<" in each.kernel}
    text = whole_text(KERNELS[key].module, "f32", tuple(sorted(instances)))

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("the call is left to NumPy")

    refused.__name__ = binding(key).__name__
    given = [ndarray(each.copy()) for each in arrays]
    Kernels(Engine(text, *libraries)).replace(refused, binding(key))(*given, **told)
    return [each.get() for each in given]


def close(name: str, half: str, arrays: list[Any], results: range, found: list[Any]) -> None:
    """As twins: to a unit in the last place, as sums are added up in another order."""
    expected = [each.copy() for each in arrays]
    key, _, _, told = CALLS[name]
    kernel(*key)(*expected, **told)
    for at in results:
        right, digits = values(expected[at]), 20 if expected[at].dtype == np.float32 else DIGITS[half] - 1
        lost = 400 * 2.0**-24 * np.abs(right).max()
        assert np.all(np.abs(values(found[at]) - right) <= 2.0**-digits * np.abs(right) + lost)
    for at in range(results[0]):
        assert np.array_equal(found[at], arrays[at])


@needs_compiler
@pytest.mark.parametrize("half", TYPES)
@pytest.mark.parametrize("name", CALLS)
def test_without_libraries_kernels_round_once(name: str, half: str) -> None:
    arrays, results = drawn(name, half)
    close(name, half, arrays, results, called(name, arrays, None, None, None))


@needs_compiler
@pytest.mark.parametrize("half", TYPES)
@pytest.mark.parametrize("name", CALLS)
def test_libraries_are_given_halves(name: str, half: str) -> None:
    arrays, results = drawn(name, half)
    front, lt, (products, gemm) = FrontEnd(), LtLibrary(), cublas()
    found = called(name, arrays, convolving(front), finishing(lt, half), products)
    close(name, half, arrays, results, found)
    kind = {"f16": 2, "bf16": 14}[half]
    if "conv" in name:
        (graph,) = front.graphs
        data = {each.data_type.name for each in graph.tensors if each.uid > 0 or each.output}
        assert data == {{"f16": "HALF", "bf16": "BFLOAT16"}[half]}
        assert front.ran
    elif name in ("linear", "linear dw", "linear dw, turned"):
        (ran,) = lt.ran
        assert (ran["compute"], ran["scale"]) == (68, 0)
        assert not gemm.told
    else:
        assert set(gemm.told) == {(kind, kind)}


@needs_compiler
@pytest.mark.parametrize("half", TYPES)
@pytest.mark.parametrize("name", ["linear", "linear dw"])
def test_sums_of_halves_are_f32_where_a_kernel_goes_on(name: str, half: str) -> None:
    """cuBLAS gives them in f32 where cuBLASLt has nothing."""
    arrays, results = drawn(name, half)
    products, gemm = cublas()
    found = called(name, arrays, None, finishing(LtLibrary(lacks=(4, 512))), products)
    close(name, half, arrays, results, found)
    assert gemm.told == [({"f16": 2, "bf16": 14}[half], 0)]


NETWORK = """dlspec 1
network tiny {
  input image: f32[batch = 16, channel = 1, height = 8, width = 8]
  c1     = image -> conv(4, 3x3, pad = 1) -> relu -> conv(4, 3x3) -> relu
  h1     = c1 -> flatten -> linear(16) -> relu
  logits = h1 -> linear(10)
  output logits
}
train tiny {
  data      = digits
  loss      = cross_entropy(logits, data.label)
  optimizer = sgd
  lr        = constant(0.1)
  epochs    = 1
  precision = mixed(compute = HALF)
}
cluster one {
  device gpu { kind = gpu, memory = 4 GiB, bandwidth = 4 TB/s, compute.f32 = 50 TFLOP/s, compute.HALF = 500 TFLOP/s }
  topology { gpu[1] }
}
plan tiny on one { pin **.conv { algorithm = cudnn } }
"""


def compiled(folder: Path, half: str) -> Compiled:
    path = folder / "tiny.dlspec"
    path.write_text(NETWORK.replace("HALF", half), encoding="utf-8")
    return compile_spec(read(str(path)), Options(ranks=1))


def written(job: Compiled, folder: Path) -> dict[str, Path]:
    """The program of each backend."""
    found = {backend: folder / backend / "program" for backend in ("numpy", "cupy")}
    for backend, each in found.items():
        write_folder(emit_files(job, backend), str(each))
    return found


def calls(program: Program) -> list[Compute]:
    segments = (each for role in program.roles for each in role.segments)
    return [made for each in segments for made in each.instructions if isinstance(made, Compute)]


@needs_compiler
@pytest.mark.parametrize("half", ["bf16", pytest.param("f16", marks=pytest.mark.slow)])
def test_casts_disappear_and_no_bit_changes(half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = compiled(tmp_path, half)
    program, folders = emitted_program(job), written(job, tmp_path / "halves")
    monkeypatch.setattr(halves, "KERNELS", frozenset())
    casting, apart = emitted_program(job), written(job, tmp_path / "casts")
    monkeypatch.undo()
    counts = [sum(made.kernel[0] == "cast" for made in calls(each)) for each in (program, casting)]
    as_they_are = [made for made in calls(program) if "halves" in dict(made.attrs)]
    assert counts[1] - counts[0] >= 2 * len(as_they_are) - 2, "one before and one behind a call, none behind dw"
    assert {made.kernel[:2] for made in as_they_are} == {key[:2] for key in halves.KERNELS if key[0] != "matmul"}
    assert not [made for made in calls(casting) if "halves" in dict(made.attrs)]
    known = trained(apart["numpy"])
    assert trained(folders["numpy"]).equals(known)
    assert trained(folders["cupy"], "--emulate").equals(known)
    found = trained(folders["cupy"], "--emulate", "cuda")
    assert found.result["loss"] == pytest.approx(known.result["loss"], rel=4 * 2.0 ** -DIGITS[half])


def test_programs_for_processors_cast(tmp_path: Path) -> None:
    path = tmp_path / "tiny.dlspec"
    text = NETWORK.replace("kind = gpu", "kind = cpu").replace(" pin **.conv { algorithm = cudnn } ", "")
    path.write_text(text.replace("HALF", "f16"), encoding="utf-8")
    program = emitted_program(compile_spec(read(str(path)), Options(ranks=1)))
    assert [made for made in calls(program) if made.kernel[0] == "cast"]
    assert not [made for made in calls(program) if "halves" in dict(made.attrs)]


def test_the_proof_knows_which_kernels_take_halves(tmp_path: Path) -> None:
    """One that does not is told so, one whose operand is f32, and one that is not marked."""
    job = compiled(tmp_path, "f16")
    program = emitted_program(job)
    assert check(program, job.graph) == ()
    (role,) = program.roles
    marked = next(made for made in calls(program) if made.kernel == ("linear", "forward", ""))
    plain = next(made for made in calls(program) if made.kernel == ("relu", "forward", ""))
    master = next(b.name for b in role.buffers if b.name == f"{marked.inputs[1]}@master")
    for made, changed in (
        (plain, replace(plain, attrs=(("halves", True),))),
        (marked, replace(marked, attrs=tuple(pair for pair in marked.attrs if pair[0] != "halves"))),
        (marked, replace(marked, inputs=(marked.inputs[0], master, marked.inputs[2]))),
    ):
        segments = tuple(
            replace(each, instructions=tuple(changed if one is made else one for one in each.instructions))
            for each in role.segments
        )
        faults = check(replace(program, roles=(replace(role, segments=segments),)), job.graph)
        assert any("half precision" in fault.sentence or "in f16" in fault.sentence for fault in faults)
