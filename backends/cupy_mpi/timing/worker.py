"""The process that times on a GPU: `python worker.py FOLDER time ROUNDS SECONDS BYTES`, run by process.py.

FOLDER has the files of an emitted program that its kernels need, and jobs.pickle; nothing of dlc is needed. Jobs whose
arrays have so many bytes take turns. A turn is several calls, captured as one CUDA graph where they can be, between two
events of the device. A line of JSON for each job has the seconds of a call in each round. With DLC_EMULATE the
processor stands for the GPU, and its clock for the events.

`python worker.py FOLDER properties` tells what the GPU is.
"""

from __future__ import annotations

import ctypes
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

AT_ONCE = 1e-3
"""Seconds that a turn lasts at least."""

MOST_CALLS = 200
FEWEST = 3
"""Rounds."""

CUBLAS_TYPES = {"f32": (0, 68), "tf32": (0, 77), "f64": (1, 70), "f16": (2, 68), "bf16": (14, 68)}
"""cudaDataType and cublasComputeType_t of products (library_types.h, cublas_api.h): f64 adds up in f64."""

BYTES = {"f32": 4, "tf32": 4, "f64": 8, "f16": 2, "bf16": 2}
NUMPY_TYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "u8": np.uint8}


class Ready(NamedTuple):
    """A call that can be made, of so many a turn; `turn` makes all of them."""

    turn: Callable[[], object]
    calls: int
    on_processor: bool


def main() -> None:
    """Times the jobs of a folder, or tells of the GPU."""
    folder, what, *told = sys.argv[1:]
    sys.path.insert(0, folder)
    device = import_module("runtime.device")
    try:
        device.begin(0)
    except Exception as error:  # the program's own, which says it in its form
        sys.exit(error.render() if hasattr(error, "render") else str(error))
    if what == "properties":
        print(json.dumps(properties(device)))
        return
    rounds, seconds, portion = int(told[0]), float(told[1]), int(told[2])
    jobs = pickle.loads(Path(folder, "jobs.pickle").read_bytes())
    timer = Timer(device)
    whole = sum(size for *_, size in jobs) or 1
    for several in portions(jobs, portion):
        share = seconds * max(sum(size for *_, size in several) / whole, len(several) / len(jobs))
        for line in timer.times([(kind, values) for kind, values, _ in several], rounds, share):
            print(json.dumps(line), flush=True)


def portions(jobs: Sequence[Any], most: int) -> Iterator[list[Any]]:
    """Jobs in a row whose arrays fit together."""
    held, size = list[Any](), 0
    for job in jobs:
        if held and size + job[2] > most:
            yield held
            held, size = [], 0
        held.append(job)
        size += job[2]
    if held:
        yield held


class Timer:
    """Times jobs on the device of a runtime's module `device`."""

    def __init__(self, device: Any) -> None:
        self.device, self.cp = device, device.cp
        self.kernels = import_module("compiled")
        self.fallen = 0
        self._cublas: Any = None
        self._rng = np.random.default_rng(0)
        engine = getattr(self.kernels.KERNELS, "engine", None)
        if engine is not None:
            engine.otherwise = self._watched(engine.otherwise)

    def _watched(self, otherwise: Callable[..., None]) -> Callable[..., None]:
        """What calls NumPy's kernels where CUDA has no code, and counts that."""

        def watched(*arguments: Any) -> None:
            self.fallen += 1
            otherwise(*arguments)

        return watched

    def times(self, jobs: Sequence[tuple[str, Any]], rounds: int, seconds: float) -> list[dict[str, Any]]:
        """For each job the seconds of a call in each round; what went wrong where it cannot be called."""
        ready = [self._ready(*job) for job in jobs]
        taken: list[list[float]] = [[] for _ in jobs]
        begin, made = time.perf_counter(), 0
        while made < rounds and (made < FEWEST or time.perf_counter() - begin < seconds):
            for each, found in zip(ready, taken, strict=True):
                if isinstance(each, Ready):
                    stop = self._watch()
                    each.turn()
                    found.append(stop() / each.calls)
            made += 1
        return [
            {"wrong": each} if isinstance(each, str) else {"seconds": found, "on_processor": each.on_processor}
            for each, found in zip(ready, taken, strict=True)
        ]

    def _ready(self, kind: str, values: Any) -> Ready | str:
        """A job with its arrays, called a few times; why it cannot be."""
        try:
            run, graph = getattr(self, f"_{kind}")(*values)
            self.fallen = 0
            run()
            run()
            stop = self._watch()
            run()
            count = max(1, min(MOST_CALLS, int(AT_ONCE / max(stop(), 1e-7))))
            fallen = self.fallen > 0
            captured = self._captured(run, count) if graph and not fallen else None
            if captured is not None:
                captured()
                return Ready(captured, count, fallen)
            return Ready(_again(run, count), count, fallen)
        except Exception as error:  # one call that fails leaves the others
            return f"{kind} {str(values)[:200]}: {type(error).__name__}: {error}"

    def _captured(self, run: Callable[[], object], count: int) -> Callable[[], object] | None:
        """So many calls as one graph; None where they are none."""
        if self.device.STAND_IN:
            return None
        stream = self.cp.cuda.get_current_stream()
        stream.begin_capture()
        try:
            _again(run, count)()
            graph = stream.end_capture()
        except self.cp.cuda.runtime.CUDARuntimeError:
            if stream.is_capturing():
                stream.end_capture()
            return None
        return lambda: graph.launch(stream)

    def _watch(self) -> Callable[[], float]:
        """Begins; what it gives waits for the device and tells the seconds since."""
        if self.device.STAND_IN:
            begin = time.perf_counter()
            return lambda: time.perf_counter() - begin
        first, last = self.cp.cuda.Event(), self.cp.cuda.Event()
        self.device.settle()
        first.record()

        def stop() -> float:
            last.record()
            last.synchronize()
            return float(self.cp.cuda.get_elapsed_time(first, last)) / 1e3

        return stop

    # --- jobs: what runs, and whether a graph can have it --------------------------------------------------------

    def _kernel(self, function: str, specs: Any, told: dict[str, Any]) -> tuple[Callable[[], object], bool]:
        kernel = getattr(self.kernels, function)
        arrays = [self._array(*spec) for spec in specs]
        return (lambda: kernel(*arrays, **told)), True

    def _launch(
        self, function: str, specs: Any, told: dict[str, Any], graph: bool
    ) -> tuple[Callable[[], object], bool]:
        return self._kernel(function, specs, told)[0], graph

    def _copy(self, way: str, size: int) -> tuple[Callable[[], object], bool]:
        there = self.device.zeros(size, np.uint8)
        if way == "inside":
            other = self.device.zeros(size, np.uint8)
            return (lambda: self.device.copy(other, there)), False
        pinned = self.device.staging(there)
        pinned[...] = 0
        pair = (there, pinned) if way == "to" else (pinned, there)
        return (lambda: self.device.copy(*pair)), False

    def _product(self, dtype: str, m: int, n: int, k: int) -> tuple[Callable[[], object], bool]:
        if self.device.STAND_IN:
            left, right, out = (np.ones(shape, np.float32) for shape in ((m, k), (k, n), (m, n)))
            return partial(np.matmul, left, right, out), True
        if self._cublas is None:
            self._cublas = Cublas(self.cp)
        left, right, out = (self._drawn(dtype, extents) for extents in ((m, k), (k, n), (m, n)))
        return (lambda: self._cublas.product(dtype, m, n, k, left, right, out)), True

    def _drawn(self, dtype: str, shape: tuple[int, int]) -> Any:
        """Normally distributed numbers of a type; of bf16 the upper halves of those in f32."""
        values = self._rng.standard_normal(shape, np.float32)
        if dtype == "bf16":
            return self.cp.asarray((values.view(np.uint32) >> 16).astype(np.uint16))
        return self.cp.asarray(values.astype({"f64": np.float64, "f16": np.float16}.get(dtype, np.float32)))

    def _array(self, dtype: str, shape: tuple[int, ...], kind: str, below: int) -> Any:
        if kind == "normal":
            values: Any = self._rng.standard_normal(shape, np.float32)
        elif kind == "above zero":
            values = self._rng.random(shape, np.float32) + np.float32(0.5)
        else:
            values = self._rng.integers(0, below, shape) if kind == "integers" and below > 1 else np.zeros(shape)
        return self.cp.asarray(values.astype(NUMPY_TYPES.get(dtype, np.float32)))


class Cublas:
    """Products of all types by cublasGemmEx; matrices lie row by row, so outᵀ = rightᵀ · leftᵀ is asked for."""

    WORKSPACE = 64 * 2**20

    def __init__(self, cp: Any, library: Any = None) -> None:
        names = import_module("kernels.cublas")
        self._library = library if library is not None else names._library()
        self._handle, self._workspace = ctypes.c_void_p(), cp.empty(self.WORKSPACE, "uint8")
        self._checked("cublasCreate_v2", ctypes.byref(self._handle))
        stream = ctypes.c_void_p(cp.cuda.get_current_stream().ptr)
        self._checked("cublasSetStream_v2", self._handle, stream)
        room = ctypes.c_void_p(self._workspace.data.ptr)
        self._checked("cublasSetWorkspace_v2", self._handle, room, ctypes.c_size_t(self.WORKSPACE))

    def product(self, dtype: str, m: int, n: int, k: int, left: Any, right: Any, out: Any) -> None:
        """out [m, n] = left [m, k] · right [k, n]."""
        type_, computed = CUBLAS_TYPES[dtype]
        real = ctypes.c_double if dtype == "f64" else ctypes.c_float
        one, zero = ctypes.byref(real(1)), ctypes.byref(real(0))
        a, b, c = (ctypes.c_void_p(each.data.ptr) for each in (right, left, out))
        operands = (one, a, type_, n, b, type_, k, zero, c, type_, n)
        self._checked("cublasGemmEx", self._handle, 0, 0, n, m, k, *operands, computed, -1)

    def _checked(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} ends with status {status}")


def properties(device: Any) -> dict[str, Any]:
    """What tells a GPU from others."""
    if device.STAND_IN:
        return {"gpu": "the processor stands for a GPU", "multiprocessors": 1, "memory": 0}
    runtime = device.cp.cuda.runtime
    found = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "gpu": found["name"].decode(),
        "capability": f"{found['major']}.{found['minor']}",
        "multiprocessors": found["multiProcessorCount"],
        "memory": found["totalGlobalMem"],
        "cache": found["l2CacheSize"],
        "driver": runtime.driverGetVersion(),
        "cupy": device.cp.__version__,
    }


def _again(run: Callable[[], object], count: int) -> Callable[[], object]:
    def calls() -> None:
        for _ in range(count):
            run()

    return calls


if __name__ == "__main__":
    main()
