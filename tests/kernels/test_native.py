"""Building and calling kernels of C: the cache, compilers that are missing or fail, processes that build at once."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi.c.general import GENERAL
from backends.numpy_mpi.c.source import file_text
from backends.numpy_mpi.c.target import PLAIN
from backends.numpy_mpi.kernels.dispatch import kernels_of
from backends.numpy_mpi.kernels.native import WAITING, NoCompilerError, Numbers, find_compiler, load, parts

SOURCE = """
void add(const float *x, const float *y, float *sum, long n) {
  for (long i = 0; i < n; i++) sum[i] = x[i] + y[i];
}
"""
LOADED = """
import sys
from pathlib import Path
from backends.numpy_mpi.kernels.native import load
print(load(Path(sys.argv[1])).path)
"""

SET = """
import os, sys
from pathlib import Path
from backends.numpy_mpi.kernels.native import WAITING, load
load(Path(sys.argv[1]))
print(*(os.environ.get(name) for name in WAITING))
"""

ALONE = """
import ctypes
import numpy as np
from backends.numpy_mpi.kernels import blas
from backends.numpy_mpi.kernels.dispatch import kernels_of

def threads():
    for path in blas._loaded():
        library = ctypes.CDLL(path)
        for name in blas.SETTERS:
            if hasattr(library, name.replace("_set_", "_get_")):
                return library[name.replace("_set_", "_get_")]()

before = threads()
kernels_of(Path(sys.argv[1]), np.float32)
print(bool(blas._loaded()), before, threads())
"""

needs_compiler = pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "kernels.c"
    path.write_text(SOURCE)
    return path


def kernel(source: Path) -> Callable[..., None]:
    """`add` of the source, of any arrays of float32."""
    return kernels_of(source, np.float32).replace(add, lambda x, *_: Numbers((x.size,), name="add"))


def add(*arrays: object) -> None:
    raise AssertionError("NumPy's kernel is called")


@needs_compiler
def test_a_kernel_computes_on_arrays(source: Path) -> None:
    x, y = np.arange(5, dtype=np.float32), np.ones(5, np.float32)
    total = np.zeros(5, np.float32)
    kernel(source)(x, y, total)
    assert total.tolist() == [1, 2, 3, 4, 5]


@needs_compiler
def test_a_library_is_built_once_and_again_when_its_source_changes(source: Path) -> None:
    first = load(source).path
    built = first.stat().st_mtime_ns
    assert load(source).path == first
    assert first.stat().st_mtime_ns == built
    source.write_text(SOURCE.replace("+ y", "- y"))
    second = load(source)
    assert second.path != first
    total = np.zeros(1, np.float32)
    kernel(source)(np.ones(1, np.float32), np.ones(1, np.float32), total)
    assert total[0] == 0
    assert {path.name for path in first.parent.iterdir()} == {first.name, second.path.name}, (
        "nothing unfinished is left"
    )


@needs_compiler
def test_processes_that_build_at_the_same_time_get_one_library(source: Path) -> None:
    root = str(Path(__file__).parents[2])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOADED, str(source)],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in started}) == 1
    assert all(process.returncode == 0 for process in started)


@needs_compiler
def test_an_error_of_the_compiler_is_told(source: Path) -> None:
    source.write_text("void add(\n")
    with pytest.raises(NoCompilerError, match=r"does not compile kernels\.c: .*error"):
        load(source)
    assert not list((source.parent / "cache").iterdir())


def test_a_compiler_that_is_not_there_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc --fast")
    with pytest.raises(NoCompilerError, match="`/nowhere/cc` cannot be started"):
        load(source)


def test_no_compiler_at_all_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(source.parent))
    monkeypatch.setattr("backends.numpy_mpi.kernels.native.find_spec", lambda name: None)
    with pytest.raises(NoCompilerError, match="there is no C compiler"):
        load(source)


@needs_compiler
def test_a_cache_that_cannot_be_made_is_replaced(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE", str(source / "no folder"))
    assert load(source).path.is_file()


@needs_compiler
def test_a_compiler_without_openmp_builds_for_one_thread(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Apple's clang and zig do: they fail where OpenMP is asked for."""
    stub = source.with_name("stub")
    compiler = " ".join(find_compiler())
    stub.write_text(
        f'#!/bin/sh\ncase " $* " in *" -fopenmp "*) echo "error: no omp.h" >&2; exit 1;; esac\n{compiler} "$@"\n'
    )
    stub.chmod(0o755)
    monkeypatch.setenv("CC", str(stub))
    source.write_text(
        "#ifdef _OPENMP\n#error with threads\n#endif\nvoid add(const float *x, const float *y, float *sum, long n) {}\n"
    )
    assert load(source).path.is_file()


PARTED = """
static long twice(long x) { return 2 * x; }

/* ---- one ---- */
static long first(void) { return 1; }
void one(long *y, long n) { *y = twice(n) + first(); }

/* ---- two ---- */
static long second(void) { return 2; }
void two(long *y, long n) { *y = twice(n) + second(); }

/* ---- three ---- */
void three(long *y, long n) { *y = twice(n) + 3; }
"""


@needs_compiler
@pytest.mark.parametrize("most", [1, 2, 5])
def test_parts_are_compiled_apart_and_linked(source: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("backends.numpy_mpi.kernels.native.os.sched_getaffinity", lambda _: range(most))
    monkeypatch.setattr("backends.numpy_mpi.kernels.native.PARTS", 1)
    source.write_text(PARTED)
    library, y = load(source), np.zeros(1, np.int64)
    for number, name in enumerate(("one", "two", "three"), start=1):
        library.function(name)(ctypes.c_void_p(y.ctypes.data), ctypes.c_long(10))
        assert y[0] == 20 + number
    assert len(parts(PARTED, most)) == min(most, 3)


@needs_compiler
def test_compiling_that_takes_long_is_told(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(source)
    assert not capsys.readouterr().err
    monkeypatch.setattr("backends.numpy_mpi.kernels.native.SILENT", 0.0)
    source.write_text(PARTED)
    load(source)
    assert "compiling kernels.c: 1 of 3 parts" in capsys.readouterr().err


@needs_compiler
def test_what_is_called_from_outside_begins_a_part() -> None:
    """Also the functions that others bring with them: no two parts have one."""
    made = [GENERAL["mul", stage, ""](PLAIN, "f32") for stage in ("forward", "dx")]
    found = parts(file_text(PLAIN, ("f32",), made), 99)
    assert len(found) == 4
    assert [part.count("void ") - found[0].count("static inline void ") for part in found] == [1] * 4


@needs_compiler
def test_idle_threads_leave_the_cores_soon(source: Path) -> None:
    """Unless somebody has said otherwise."""
    unset = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", *WAITING)}
    expected = {
        (): " ".join(WAITING.values()),
        (("GOMP_SPINCOUNT", "7"),): "7 0",
        (("OMP_WAIT_POLICY", "active"),): "None None",
    }
    for given, answer in expected.items():
        command = [sys.executable, "-c", SET, str(source)]
        done = subprocess.run(command, env={**unset, **dict(given)}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == answer


@needs_compiler
def test_blas_works_alone_beside_kernels_in_c(source: Path) -> None:
    """Where it can be told so: its threads and those of the kernels would take the cores from each other."""
    script = LOADED.partition("print")[0] + ALONE
    environment = {**os.environ, **{f"{name}_NUM_THREADS": "2" for name in ("OMP", "OPENBLAS", "MKL")}}
    done = subprocess.run(
        [sys.executable, "-c", script, str(source)], env=environment, capture_output=True, text=True, check=True
    )
    told, before, after = done.stdout.split()
    if (told, before) != ("True", "2"):
        pytest.skip("NumPy's BLAS cannot be asked, or has one thread")
    assert after == "1"
