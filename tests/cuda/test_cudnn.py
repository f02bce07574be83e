"""What cuDNN is told of convolutions, by a front end that does as its documentation says; and by cuDNN itself, for a
GPU that is not there, where it is installed (`pip install nvidia-cudnn-frontend nvidia-cudnn-cu13`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cupy_mpi.kernels import cudnn, gpu
from backends.cupy_mpi.kernels.calls import Kernels
from backends.cupy_mpi.kernels.choices import Choices
from backends.cupy_mpi.kernels.cudnn import Cudnn, Problem, UnavailableError, strides
from backends.cupy_mpi.kernels.engines import OnStandIns
from backends.cupy_mpi.runtime import emulated
from backends.cupy_mpi.source import whole_text
from dlc.ops.conv import CONV
from tests.cuda import places
from tests.cuda.calling import binding, launches, needs_compiler
from tests.cuda.convolving import compare_convolution, signal
from tests.cuda.front_end import FrontEnd
from tests.kernels.calling import Op, image, kernel

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 6), {"filters": 5, "window": 3, "pad": 1}),
    ((3, 5, 9, 8), {"filters": 7, "window": (3, 2), "stride": 2, "pad": ((0, 2), (1, 0)), "bias": False}),
    ((1, 4, 9, 10), {"filters": 6, "window": 3, "stride": (3, 2), "dilation": (2, 3), "groups": 2, "pad": 2}),
    ((1, 1, 1, 1), {"filters": 1, "window": 1}),
]


class Engine(OnStandIns):
    """The processor with a stand-in for cuDNN."""

    def __init__(self, source: str, dtype: type, made: Cudnn) -> None:
        super().__init__(source, dtype, places.stand_in())
        self.cudnn = made

    def library(self, call: Any) -> Callable[[], None] | None:  # type: ignore[override]
        """The stand-in's."""
        return self.cudnn.prepared(call)


def made(module: FrontEnd, tensor: bool = False, folder: Path | None = None) -> Cudnn:
    return Cudnn(module.cupy(), module, tensor, Choices(folder, "H200"))


def passes(shape: tuple[int, ...], layout: str, fused: bool = False, **args: Any) -> list[tuple[Any, ...]]:
    """(key, arrays, results among them, what they are told) of the passes of a convolution."""
    op = Op(CONV, (image("f64", *shape) if len(shape) == 4 else signal(*shape),), args, layout, "cudnn")
    rng = np.random.default_rng(sum(shape))
    drawn = {role: op.store(role, rng.normal(0, 1, op.types[role].shape)) for role in op.types}
    biased = ["bias"] * ("bias" in op.types)
    calls = {
        "forward": (["x", "weight", *biased], ["y"]),
        "dx": (["dy", "weight"], ["dx"]),
        "dw": (["dy", "x"], ["dweight", *["dbias"] * len(biased)]),
    }
    found = []
    for stage, (needs, gives) in calls.items():
        if fused and stage != "forward":
            continue
        results = [np.full_like(drawn[role], np.nan) for role in gives]
        workspaces = [np.full(each.type.shape, np.nan) for each in op.workspaces(stage)]
        told = dict(op.inferred.attrs) | op.layout_keyword()
        key = ("conv_relu" if fused else "conv", stage, "cudnn")
        found.append((key, [*(drawn[role] for role in needs), *results, *workspaces], len(needs), len(results), told))
    return found


def call(key: Any, arrays: list[Any], told: dict[str, Any], library: Cudnn, dtype: Any = np.float64) -> list[Any]:
    """What arrays hold behind a call of the bound kernel with this library."""
    names = sorted({each.kernel for each in launches(key, arrays, **told) or () if "<" in each.kernel})
    text = whole_text("conv_cudnn", {np.float32: "f32", np.float64: "f64"}[dtype], tuple(names))

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("the call is left to NumPy")

    refused.__name__ = binding(key).__name__
    given = [emulated.ndarray(np.ascontiguousarray(each, dtype)) for each in arrays]
    bound = Kernels(Engine(text, dtype, library)).replace(refused, binding(key))
    bound(*given, **told)
    return [each.get() for each in given]


@needs_compiler
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("shape", "args"), CASES)
@pytest.mark.parametrize("fused", [False, True])
def test_convolutions(shape: tuple[int, ...], args: dict[str, Any], layout: str, fused: bool) -> None:
    module = FrontEnd()
    library = made(module)
    for key, arrays, first, count, told in passes(shape, layout, fused, **args):
        expected = [each.copy() for each in arrays]
        kernel(*key)(*expected, **told)
        found = call(key, arrays, told, library)
        for at in range(first, first + count):
            np.testing.assert_allclose(found[at], expected[at], atol=1e-12, err_msg=f"array {at} of {key}")
        for at in range(first):
            assert np.array_equal(found[at], arrays[at])
    assert module.ran[-1] == "eng5_k2=1", "the fastest of the plans that give the same bits each time"


@needs_compiler
@pytest.mark.parametrize("shape", [(2, 3, 11), (1, 2, 4, 5, 3)])
def test_sequences_and_volumes(shape: tuple[int, ...]) -> None:
    for key, arrays, first, count, told in passes(shape, "NCHW", filters=3, window=3, stride=2, pad=1):
        expected = [each.copy() for each in arrays]
        kernel(*key)(*expected, **told)
        found = call(key, arrays, told, made(FrontEnd()))
        for at in range(first, first + count):
            np.testing.assert_allclose(found[at], expected[at], atol=1e-12)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("dtype", "shape", "args"), [*(("f32", *case) for case in CASES), ("f64", *CASES[1])])
@needs_compiler
def test_without_a_library_the_own_kernels_compute(
    dtype: str, shape: tuple[int, ...], args: dict[str, Any], layout: str
) -> None:
    compare_convolution(CONV, "cudnn", dtype, shape, layout, **args)


@needs_compiler
@pytest.mark.parametrize(("shape", "args"), CASES[:2])
def test_without_a_library_the_own_kernel_is_fused_too(shape: tuple[int, ...], args: dict[str, Any]) -> None:
    ((key, arrays, first, _, told),) = passes(shape, "NHWC", True, **args)
    expected = [each.copy() for each in arrays]
    kernel(*key)(*expected, **told)
    found = call(key, arrays, told, made(FrontEnd(plans={})))
    np.testing.assert_allclose(found[first], expected[first], atol=1e-12)


# --- plans ---------------------------------------------------------------------------------------------------------


@needs_compiler
def test_full_precision_unless_tensor_cores_are_allowed() -> None:
    (key, arrays, first, _, told), *_ = passes((2, 3, 7, 6), "NHWC", filters=5, window=3, bias=False)
    right = [each.copy() for each in arrays]
    kernel(*key)(*right, **told)
    errors = []
    for tensor, plan in ((False, "eng0_k2=0"), (True, "eng5_k2=1")):
        module = FrontEnd()
        found = call(key, arrays, told, made(module, tensor), np.float32)
        assert module.ran[-1] == plan
        errors.append(float(np.abs(found[first] - right[first]).max()))
    assert errors[0] < 1e-5 < errors[1] < 1e-1


@needs_compiler
def test_a_plan_is_timed_once_and_its_choice_kept(tmp_path: Path) -> None:
    (key, arrays, *_, told), *_ = passes((2, 3, 7, 6), "NHWC", filters=5, window=3, bias=False)
    module = FrontEnd()
    library = made(module, folder=tmp_path / "choices")
    call(key, arrays, told, library)
    timed, graphs = len(module.ran), len(module.graphs)
    call(key, arrays, told, library)
    assert len(module.ran) == timed + 1, "it is timed again"
    assert len(module.graphs) == graphs, "it is built again"
    (file,) = (tmp_path / "choices").iterdir()
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["chosen"] == "eng5_k2=1"
    assert kept["milliseconds"] == {"eng5_k2=1": 0.1, "eng0_k2=0": 0.4, "eng1_k2=2": 0.5}
    file.write_text(json.dumps(kept | {"chosen": "eng1_k2=2"}), encoding="utf-8")
    other = FrontEnd()
    call(key, arrays, told, made(other, folder=tmp_path / "choices"))
    assert other.ran == ["eng1_k2=2"], "another run, or rank, takes what was chosen, and times nothing"


def test_who_is_first_decides(tmp_path: Path) -> None:
    one, two = (Choices(tmp_path / "choices", "H200") for _ in range(2))
    assert one.get("q") == two.get("q") == ""
    assert one.keep("q", "a", {"a": 1.0}) == "a"
    assert two.keep("q", "b", {"b": 0.5}) == two.get("q") == "a"
    assert Choices(tmp_path / "choices", "H100").get("q") == ""
    assert [file.suffix for file in (tmp_path / "choices").iterdir()] == [".json"]


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert Choices(tmp_path / "file" / "choices", "H200").keep("q", "a", {}) == "a"


# --- without it ----------------------------------------------------------------------------------------------------


def test_a_module_that_is_missing_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(cudnn, "import_module", missing)
    with pytest.raises(UnavailableError, match="pip install nvidia-cudnn-frontend nvidia-cudnn-cu13"):
        cudnn.load()
    runs = gpu.Gpu("", np.float32, places.stand_in())
    asked = cudnn.Convolution(Problem("forward", "float32", (), (), (), False, (), (), (), ()), (), None)
    assert runs.library(asked) is runs.library(asked) is None
    said = capsys.readouterr().err
    assert said.count("cuDNN cannot be used (No module named 'cudnn')") == 1
    assert "the program's own" in said


# --- cuDNN itself --------------------------------------------------------------------------------------------------

PROPERTIES = Path(__file__).with_name("h200_properties.json")


def library() -> Any:
    """cuDNN, and an H200's properties as it takes them; skipped where it is not."""
    try:
        module = cudnn.load()
        return module, module.create_device_properties(PROPERTIES.read_text(encoding="utf-8"))
    except (UnavailableError, RuntimeError, AttributeError) as error:
        pytest.skip(f"there is no cuDNN of 9.8 or later to ask: {error}")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16"])
@pytest.mark.parametrize("stage", ["forward", "dx", "dw"])
def test_cudnn_has_plans_for_an_h200(stage: str, dtype: str, layout: str) -> None:
    module, properties = library()
    last = layout == "NHWC"
    x, weight, y = (8, 16, 14, 14), (32, 16, 3, 3), (8, 32, 7, 7)
    one, fused = (1, 1), stage == "forward"
    problem = Problem(stage, dtype, x, weight, y, last, (0, 0), one, (2, 2), one, bias=fused, relu=fused)
    asked = Cudnn(None, module, properties=properties)
    limit = 4 * (8 * 16 * 14**2 + 8 * 32 * 7**2 + 32 * 16 * 9 + 2**16)
    for tensor in (False, True) if dtype == "float32" else (False,):
        graph = asked.graph(problem._replace(tensor=tensor), limit)
        count = graph.get_execution_plan_count()
        assert asked._built(graph, range(count)), f"{count} plans, none of which is for a call as programs make them"


def test_strides() -> None:
    assert strides((2, 3, 5, 7), False) == [105, 35, 7, 1]
    assert strides((2, 3, 5, 7), True) == [105, 1, 21, 3]
    assert strides((2, 3, 4, 5, 7), True) == [420, 1, 105, 21, 3]
