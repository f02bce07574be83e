"""C kernels: built where the program runs, kept in a cache, called with NumPy's arrays.

`kernels.c` stands beside the program as readable source, and no binary is ever shipped. Its first run on a machine
compiles it with the machine's own C compiler for the machine's own processor; later runs, and the other ranks of the
node, find the library in the cache. The name of a library there is a digest of all that it depends on: the source, the
compiler and its version, the flags, and the features of the processor. A library gets its name by one atomic rename
when it is whole; of ranks that start together one compiles and the others wait.

A source is compiled in parts, as many at once as the process has cores: a line `/* ---- NAME ---- */` begins a part,
and what stands above the first of them belongs to each.

The compiler is `$CC`, or the first of cc, gcc and clang that there is, or Python's ziglang package. The cache is
`$DLC_CACHE`, or `$XDG_CACHE_HOME/dlc`, or `~/.cache/dlc`; where that cannot be written, a folder for this run alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Self

FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
"""The compiler's flags, but for the processor's."""

NATIVE = ("-march=native", "-mtune=generic", "-mprefer-vector-width=512")
"""Flags for the processor at hand: its instructions, but not its tuning. Tuned for AMD's, gcc reads an operand from
memory for each product in place of once into a register, where registers are few: 1.2 to 1.9 times as long."""

SPARED = (NATIVE[1:], (*NATIVE[1:], "-fopenmp"))
"""Flags that a compiler may not know: where it fails, it is asked without the first, then without the others. Without
OpenMP's library (Apple's clang, zig) one thread computes all."""

WAITING = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}
"""How long threads that have nothing to do keep their cores, for the OpenMP of gcc and of clang: about as long as it
takes to wake one, some 50 us. By themselves they would wait for milliseconds, while others need the core."""

TRIAL = """\
#ifdef _OPENMP
#include <omp.h>
int trial(void) { return omp_get_max_threads(); }
#endif
"""
"""What a compiler is asked with."""

PARTS = 4
"""So many for each core: some take longer than their length tells."""

SILENT = 4.0
"""Seconds that compiling may take before it is told of where nobody may be reading."""


class Numbers(NamedTuple):
    """What a C function is told besides its arrays: whole numbers as `long`, others as `double`, in its order.

    `scratch` elements of the program's dtype are passed as the last array where that is not 0. The first `arrays` of
    the call's arrays are passed, all unless given; `name` is that of the function where shapes have one of their own.
    """

    values: tuple[int | float, ...]
    scratch: int = 0
    arrays: int | None = None
    name: str = ""


class NoCompilerError(Exception):
    """There is no C compiler here, or it does not compile the kernels; the text says which."""


@dataclass(frozen=True, slots=True)
class Library:
    """The built kernels."""

    path: Path
    handle: ctypes.CDLL
    known: dict[str, Callable[..., None]] = field(default_factory=dict)

    def function(self, name: str) -> Callable[..., None]:
        """A function of the library, always the same object; it takes what ctypes takes."""
        if name not in self.known:
            function = self.handle[name]
            function.restype = None
            self.known[name] = function
        return self.known[name]


def load(source: Path, flags: tuple[str, ...] = ()) -> Library:
    """The library of a C source, built unless the cache has it; NoCompilerError where it cannot be built."""
    compiler = find_compiler()
    if not compiler:
        raise NoCompilerError("there is no C compiler: neither $CC nor cc, gcc, clang or Python's ziglang package")
    flags = (*FLAGS, *NATIVE, *flags)
    name = f"{source.stem}-{_digest(source, compiler, flags)}.so"
    folder = cache_folder()
    path = folder / name
    if not path.is_file():
        with _alone_with(source):  # ranks of a node that find it built meanwhile need not build it
            if not path.is_file():
                _build(compiler, flags, source, path)
    if "OMP_WAIT_POLICY" not in os.environ:  # OpenMP's library reads these when it is loaded
        for variable, value in WAITING.items():
            os.environ.setdefault(variable, value)
    return Library(path, ctypes.CDLL(str(path)))


@contextmanager
def _alone_with(source: Path) -> Iterator[None]:
    """While no other process is in here; file systems without locks let several in, which does no harm."""
    opened = os.open(source, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def find_compiler() -> tuple[str, ...]:
    """The words that start a C compiler; none where there is none."""
    if named := os.environ.get("CC", ""):
        return tuple(shlex.split(named))
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return (found,)
    return (sys.executable, "-m", "ziglang", "cc") if find_spec("ziglang") else ()


def cache_folder() -> Path:
    """Where libraries are kept: a folder that exists and can be written."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    wanted = Path(os.environ.get("DLC_CACHE") or f"{base}/dlc").expanduser()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="dlc-kernels-"))
    return wanted if os.access(wanted, os.W_OK) else Path(tempfile.mkdtemp(prefix="dlc-kernels-"))


def processor() -> str:
    """What tells processors apart for which a compiler makes other code: the features, in order."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    lines = (line.partition(":")[2] for line in text.splitlines() if line.startswith(("flags", "Features")))
    return f"{platform.machine()} {' '.join(sorted(next(lines, '').split()))}"


def _digest(source: Path, compiler: tuple[str, ...], flags: tuple[str, ...]) -> str:
    version = _run(*compiler, "--version").stdout
    parts = (source.read_text(encoding="utf-8"), " ".join(compiler), version, " ".join(flags), processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _build(compiler: tuple[str, ...], flags: tuple[str, ...], source: Path, path: Path) -> None:
    """Compile the parts to objects and these to one library beside its place, then rename."""
    number, unfinished = tempfile.mkstemp(suffix=".so", prefix=f".{path.stem}-", dir=path.parent)
    os.close(number)
    try:
        with tempfile.TemporaryDirectory(prefix="dlc-kernels-") as folder:
            flags = _known(compiler, flags, Path(folder))
            objects = _compile(compiler, flags, source, Path(folder))
            _checked(source, compiler, *flags, *map(str, objects), "-o", unfinished, "-lm")
        os.replace(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _known(compiler: tuple[str, ...], flags: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """The flags, without those that this compiler does not know."""
    (folder / "trial.c").write_text(TRIAL, encoding="utf-8")
    for spared in ((), *SPARED):
        known = tuple(flag for flag in flags if flag not in spared)
        if not _run(*compiler, *known, str(folder / "trial.c"), "-o", str(folder / "trial.so")).returncode:
            return known
    return flags


def _compile(compiler: tuple[str, ...], flags: tuple[str, ...], source: Path, folder: Path) -> list[Path]:
    """The objects of the parts of a source."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    texts = parts(source.read_text(encoding="utf-8"), PARTS * cores)

    def made(part: tuple[int, str]) -> Path:
        written = folder / f"{source.stem}{part[0]}.c"
        written.write_text(part[1], encoding="utf-8")
        _checked(source, compiler, *flags, "-c", str(written), "-o", str(written.with_suffix(".o")))
        return written.with_suffix(".o")

    begin, objects, told = time.monotonic(), list[Path](), Told(source.name, len(texts))
    with ThreadPoolExecutor(cores) as pool, told:
        waiting = [pool.submit(made, part) for part in enumerate(texts)]
        try:
            for done, each in enumerate(as_completed(waiting), start=1):
                each.result()
                told(done, time.monotonic() - begin)
        except NoCompilerError:
            pool.shutdown(cancel_futures=True)
            raise
        objects += [each.result() for each in waiting]
    return objects


def parts(text: str, most: int) -> list[str]:
    """A source as at most so many, about equally long; each begins with what all of them need."""
    shared, *functions = re.split(r"(?m)^(?=/\* ---- )", text)
    if not functions:
        return [text]
    found = [""] * min(most, len(functions))
    for each in sorted(functions, key=len, reverse=True):
        shortest = min(range(len(found)), key=lambda at: len(found[at]))
        found[shortest] += each
    return [shared + each for each in found]


class Told:
    """Tells a person how far compiling is: always on a terminal, and after some seconds anywhere."""

    def __init__(self, name: str, parts: int) -> None:
        self._name, self._parts, self._next = name, parts, SILENT
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, seconds: float) -> None:
        """So many parts are compiled after so many seconds."""
        text = f"compiling {self._name}: {done} of {self._parts} parts, {seconds:.0f} s"
        if self._terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif seconds > self._next:
            print(text, file=sys.stderr, flush=True)
            self._next = 2 * seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _checked(source: Path, compiler: tuple[str, ...], *arguments: str) -> None:
    done = _run(*compiler, *arguments)
    if done.returncode:
        told = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise NoCompilerError(f"`{' '.join(compiler)}` does not compile {source.name}: {told}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoCompilerError(f"`{command[0]}` cannot be started: {error.strerror}") from None
