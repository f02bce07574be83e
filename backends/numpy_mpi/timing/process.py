"""Times cases in processes whose number of threads is set before NumPy is loaded."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

from backends.numpy_mpi.timing.cases import Case, folder_of
from backends.numpy_mpi.timing.reference import COPIED_BYTES, Reading
from dlc.ir.tensor import DTYPE_BYTES

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MOST_BYTES = 2**30
"""Arrays of cases that take turns have so many bytes at most."""

LEAST = 3
"""Rounds that are made however long they take."""

WAITED = 0.05
"""The share of a call's time that its threads may wait for a core. It counts if they did not wait longer: on a machine
that does nothing else 98 of 100 calls wait for nothing, beside one other program 3 of 100."""

PATIENCE = 3
"""So many times the rounds and seconds are spent where calls that count are few, since others hold the cores."""

AROUND = 3
"""A call is put beside the reading before it and so many on either side, a fifth of a second: one is noise itself."""

CACHED = 2**21
"""Bytes from which on a core's own caches hold little of what a call goes over."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a case took: the median of its rounds in seconds, and how far these lie apart.

    `spread` is half of the distance between the quartiles over the median; `cold` the median of those calls that find
    the caches as other kernels leave them. One thread's seconds are the processor's, those of several the clock's, of
    rounds in which threads did not wait for a core; `held` if there were too few, as others held the cores: then these
    are the seconds of all rounds.
    """

    case: Case
    seconds: float
    spread: float
    rounds: int
    best: float  # of all rounds: what it takes where nothing else runs
    cold: float = 0.0
    held: bool = False


def time_kernels(cases: Sequence[Case], threads: int = 1, *, rounds: int = 9, seconds: float = 1.0) -> Iterator[Timing]:
    """Time cases that take turns, in the order given; those of one family and element type share a process.

    At most so many rounds are made, and at least 3; between them a process ends when its `seconds` are over, for
    arrays of a gigabyte at most. Of several threads while others hold the cores: 3 times as many and as long at most.
    NoKernelError before anything is timed where a case has no kernel; OSError or RuntimeError where a process fails.
    """
    for each in turns_of(cases, threads):
        with each:
            begin = time.perf_counter()
            for made in range(PATIENCE * rounds):
                more = 1 if each.settled else PATIENCE
                if made >= LEAST and (made >= more * rounds or time.perf_counter() > begin + more * seconds):
                    break
                each.turn()
            found = each.timings()
        yield from found


def turns_of(cases: Sequence[Case], threads: int = 1) -> list[Turns]:
    """The processes that cases are timed in, in the order given. NoKernelError where a case has no kernel."""
    for case in cases:
        case.kernel  # noqa: B018  it is looked for here
    return [Turns(group, threads) for _, several in groupby(cases, _family) for group in _portions(tuple(several))]


class Turns:
    """Cases of one process, which makes a round whenever it is asked: `with` begins and ends it.

    OSError or RuntimeError where it fails.
    """

    def __init__(self, cases: Sequence[Case], threads: int = 1) -> None:
        self.cases, self._threads = tuple(cases), threads
        self.rounds = list[Round]()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="dlc-timing-")))
            _write(self.cases, folder)
            worker = str(Path(__file__).with_name("worker.py"))
            self._wrong = opened.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            self._process = opened.enter_context(
                subprocess.Popen(
                    [sys.executable, "-I", worker, str(folder), str(self._threads)],
                    env={**os.environ, **dict.fromkeys(THREADS, str(self._threads))},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._wrong,
                    text=True,
                    start_new_session=True,  # an interrupt is for whoever asks; without him it reads nothing and ends
                )
            )
            opened.callback(self._process.kill)
            self._answer()
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # of a process that has ended: who asked it was told why
            self._open.close()

    def turn(self) -> None:
        """A round over all cases."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        rows, readings = self._answer()
        self.rounds.append(Round(tuple(Row(*each) for each in rows), tuple(Reading(*each) for each in readings)))

    def timings(self, usual: Reading | None = None) -> list[Timing]:
        """What the rounds say by now, nothing before the first: as they were, or as they are where the machine is as
        fast as usual."""
        columns = zip(*(each.seconds(self.cases, usual) for each in self.rounds), strict=True)
        return [
            _timing(case, column, self._counting(at))
            for at, (case, column) in enumerate(zip(self.cases, columns, strict=False))
        ]

    @property
    def settled(self) -> bool:
        """Whether enough rounds count of each case."""
        return all(len(self._counting(at)) >= LEAST for at in range(len(self.cases)))

    def _counting(self, at: int) -> list[int]:
        """The rounds in which the threads of a case had their cores."""
        return [number for number, each in enumerate(self.rounds) if each.rows[at].waited <= WAITED]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._wrong.seek(0)
            said = self._wrong.read().strip().splitlines()
            raise RuntimeError(f"timing kernels failed: {(said or ['no message'])[-1]}")
        return json.loads(line)


class Row(NamedTuple):
    """Of a case in a round: its seconds, those of the first call, the number of the reading before it, and the share of
    the time that its threads waited for a core."""

    seconds: float
    first: float
    reading: int
    waited: float = 0.0


class Round(NamedTuple):
    """A round's row of each case, and its readings."""

    rows: tuple[Row, ...]
    readings: tuple[Reading, ...]

    def seconds(self, cases: Sequence[Case], usual: Reading | None) -> list[tuple[float, float]]:
        """Of each case the seconds, and those of the first call."""
        if usual is None or not self.readings:
            return [(each.seconds, each.first) for each in self.rows]
        copies = median(each.copies for each in self.readings)
        products = [
            median(each.products for each in self.readings[max(0, at - AROUND) : at + AROUND + 1])
            for at in range(len(self.readings))
        ]
        found = list[tuple[float, float]]()
        for case, row in zip(cases, self.rows, strict=True):
            now, moved = Reading(products[row.reading], copies, 0.0), _moved(case)
            found.append((at_usual(row.seconds, moved, now, usual), at_usual(row.first, moved, now, usual)))
        return found


def at_usual(seconds: float, moved: float, now: Reading, usual: Reading) -> float:
    """The seconds, taken when readings were those of `now`, of work that goes over so many bytes, at usual speed.

    Where no cache of a core holds the bytes, what a copy of as many takes is memory's share, which goes by copies; all
    the rest goes by matrix products.
    """
    waited = min(seconds, moved / COPIED_BYTES * now.copies) if moved > CACHED else 0.0
    return waited * usual.copies / now.copies + (seconds - waited) * usual.products / now.products


def _timing(case: Case, rounds: Sequence[tuple[float, float]], counting: Sequence[int]) -> Timing:
    held = len(counting) < min(LEAST, len(rounds))
    taken, first = zip(*(rounds if held else [rounds[number] for number in counting]), strict=True)
    return Timing(case, median(taken), _spread(taken), len(taken), min(taken), median(first), held)


def _family(case: Case) -> tuple[str, str]:
    return case.kernels, case.dtype


def _portions(cases: Sequence[Case]) -> Iterator[tuple[Case, ...]]:
    """Cases in a row whose arrays fit together."""
    held, size = list[Case](), 0
    for case in cases:
        own = _moved(case)
        if held and size + own > MOST_BYTES:
            yield tuple(held)
            held, size = [], 0
        held.append(case)
        size += own
    if held:
        yield tuple(held)


def _moved(case: Case) -> int:
    """Bytes of its operands."""
    return sum(t.elements * DTYPE_BYTES[t.dtype] for t in (*case.shapes.inputs, *case.shapes.outputs))


def _write(cases: Sequence[Case], folder: Path) -> None:
    made = folder_of(cases)
    calls = [(call.module, call.function, [tuple(a) for a in call.arrays], call.told) for call in made.calls]
    reference = Path(__file__).with_name("reference.py").read_bytes()
    for name, content in {**made.files, "calls.pickle": pickle.dumps(calls), "reference.py": reference}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _spread(taken: Sequence[float]) -> float:
    """Half of the distance between the quartiles, over the median."""
    ordered = sorted(taken)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    middle = median(ordered)
    return (high - low) / (2 * middle) if middle else 0.0
