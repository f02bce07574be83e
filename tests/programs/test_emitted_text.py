"""Emitted folders: the same bytes every time, in ruff's style, without anything of dlc in them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.numpy_mpi.kernels.philox import key
from backends.numpy_mpi.runtime.collectives import ALGORITHMS, scratch_elements
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.ir.storage import collective_scratch
from passes.streams import stream_key
from tests.slices import first
from tests.specs.reduced import REDUCED

BACKEND = Path(__file__).parents[2] / "backends" / "numpy_mpi"
COPIED = (BACKEND / "kernels", BACKEND / "runtime")
LENET = str(Path(__file__).parents[2] / "specs" / "lenet5.dlspec")
ONCE = f"""
import sys, hashlib
from backends.numpy_mpi.kernels.philox import key
from backends.numpy_mpi.runtime.collectives import ALGORITHMS, scratch_elements
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.ir.storage import collective_scratch
from passes.streams import stream_key
files = emit_files(compile_spec(read({LENET!r}), Options(ranks=3)))
print(hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return emit_files(compile_spec(read(LENET), Options()))


def test_bytes_do_not_depend_on_the_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", ONCE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(digests) == 1


SPECS = ("lenet5", "resnet18", "googlenet")


@pytest.mark.parametrize(
    ("name", "kernels"), [(name, "c") for name in SPECS] + first(1, [(name, "numpy") for name in SPECS])
)
def test_text_is_in_ruffs_style(name: str, kernels: str, tmp_path: Path) -> None:
    """Blocks that are functions and loops, tables of kernels in C."""
    parameters = {key: str(value) for key, value in REDUCED[name].items()}
    path = str(Path(LENET).with_name(f"{name}.dlspec"))
    options = Options(parameters=parameters, ranks=2, kernels=kernels)
    check_style(emit_files(compile_spec(read(path, parameters), options)), tmp_path)


def test_blocks_are_not_named_like_what_is_imported() -> None:
    """The spec's block `bn_relu` beside the kernel of the fused batch norm and ReLU."""
    path = str(Path(LENET).with_name("mobilenet_v1.dlspec"))
    parameters = {key: str(value) for key, value in REDUCED["mobilenet_v1"].items()}
    module = ast.parse(emit_files(compile_spec(read(path, parameters), Options(ranks=1, kernels="numpy")))["train.py"])
    imported = {alias.name for each in module.body if isinstance(each, ast.ImportFrom) for alias in each.names}
    defined = {each.name for each in module.body if isinstance(each, ast.FunctionDef)}
    assert "bn_relu_forward" in imported
    assert any(name.startswith("bn_relu_forward") for name in defined)
    assert not imported & defined


def test_every_kernel_and_the_runtime_are_in_that_style(files: dict[str, bytes], tmp_path: Path) -> None:
    every = {
        f"{folder.name}/{path.name}": path.read_bytes() for folder in COPIED for path in sorted(folder.glob("*.py"))
    }
    check_style(every | {"ruff.toml": files["ruff.toml"]}, tmp_path)


def check_style(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run([*ruff, *command, "."], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_imports_are_numpy_mpi4py_and_the_standard_library(files: dict[str, bytes]) -> None:
    own = {name.partition("/")[0].removesuffix(".py") for name in files}
    allowed = {*sys.stdlib_module_names, "numpy", "mpi4py", *own}
    for name, content in files.items():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, name
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").partition(".")[0] in allowed, name


def test_arrays_stand_under_the_addresses_of_their_ops_and_ops_with_their_reason(files: dict[str, bytes]) -> None:
    text = files["train.py"].decode()
    assert "# im2col in NCHW, pinned at" in text
    for array in ('"c1.conv.weight": Weight(', "*w.c5.conv", "a.c1.tanh", "a.s2.avgpool", "a.f6.linear"):
        assert array in text


def test_loops_over_shards_name_each_array(tmp_path: Path) -> None:
    spec = tmp_path / "lenet5.dlspec"
    spec.write_text(Path(LENET).read_text().replace("strategy  = data", "strategy  = data\n  shard = optimizer"))
    text = emit_files(compile_spec(read(str(spec)), Options()))["train.py"].decode()
    assert 'for weight, gradient, velocity in each((w, "_shard"), (g, "_shard"), (s, "_velocity")):' in text


def test_predicted_scratch_is_the_runtimes() -> None:
    for algorithm in ALGORITHMS:
        for ranks in (1, 2, 3, 8):
            for elements in (0, 1, 5, 1000, 10**6):
                assert collective_scratch(algorithm, ranks, elements) == scratch_elements(algorithm, ranks, elements)


def test_a_masks_key_is_the_kernels() -> None:
    for seed, address in ((0, "c1.dropout"), (4711, "stage1[0].main.dropout")):
        assert stream_key(seed, address) == key(seed, address)
