"""Ranks of MPI that are started once and run one program's folder after the other: a start takes longer than a step.

A program runs over MPI in them as under its own mpiexec, with the modules of its folder; what it does about failures
(its guard, its supervisors) is left out, and has tests of its own. Whatever is raised on a rank ends all of them, and
the next program gets new ones.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from dlc.launch import find_mpiexec, mpi_flags
from dlc.verification import VerificationError
from tests.oracle.programs import EmittedProgram

ROOT = Path(__file__).parents[2]
SECONDS = 90.0
"""How long a program may run."""

PROGRAMS = 100
"""That one set of ranks runs: MPI has numbers for some thousand communicators, which no program gives back."""


class Ranks:
    """So many processes under one mpiexec, which wait for programs without computing; they end with this process."""

    def __init__(self, count: int) -> None:
        mpiexec = find_mpiexec()
        assert mpiexec is not None, "there is no mpiexec"
        flags, variables = mpi_flags(mpiexec)
        self.left = PROGRAMS
        self._folder = tempfile.TemporaryDirectory(prefix="dlc-ranks-")
        places = [Path(self._folder.name) / str(rank) for rank in range(count)]
        for place in places:
            os.mkfifo(place)
        self._orders = [os.open(place, os.O_RDWR) for place in places]  # for writing alone it would wait for a reader
        self._said = Path(self._folder.name) / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [mpiexec, *flags, "-n", str(count), sys.executable, "-m", __name__, self._folder.name],
                env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=ROOT,
            )
        atexit.register(self.end)

    def run(self, program: str, root: str, options: dict[str, Any]) -> None:
        """main() of a folder on all ranks. VerificationError with what they printed where one of them fails."""
        self.left -= 1
        order = json.dumps([program, str(Path(root).absolute()), options]).encode() + b"\n"
        for place in self._orders:
            os.write(place, order)
        answers = self._process.stdout
        assert answers is not None
        ready, _, _ = select.select([answers], [], [], SECONDS)
        if not ready or answers.readline() != b"done\n":
            self.end()
            raise VerificationError(self._words if ready else f"not done in {SECONDS:g} seconds\n{self._words}")

    def end(self) -> None:
        """All of them, and what belongs to them."""
        if self.left < 0:
            return
        self.left = -1
        for place in self._orders:
            os.close(place)
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words = self._said.read_text(errors="replace")
        self._folder.cleanup()
        atexit.unregister(self.end)


_STARTED: dict[int, Ranks] = {}


def started(program: str, ranks: int, root: str, steps: int, record: str, *options: str) -> None:
    """The runner of a comparison: a program of one rank in this process, one of several on ranks that are kept."""
    given: dict[str, Any] = dict(zip((name.removeprefix("--") for name in options[::2]), options[1::2], strict=True))
    if "perturb" in given:
        given["perturb"] = int(given["perturb"])
    given |= {"steps": steps, "record": record}
    if ranks == 1:
        EmittedProgram(Path(program), root).run(**given)
        return
    if ranks not in _STARTED or _STARTED[ranks].left <= 0:
        if ranks in _STARTED:
            _STARTED.pop(ranks).end()
        _STARTED[ranks] = Ranks(ranks)
    _STARTED[ranks].run(program, root, given)


def _serve(folder: str) -> None:
    """The life of a rank: programs as they are named, until nobody is there to name one."""
    from mpi4py import MPI

    rank = MPI.COMM_WORLD.Get_rank()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a program prints is no answer
    with open(Path(folder) / str(rank), encoding="utf-8") as orders:
        for order in orders:
            program, root, options = json.loads(order)
            try:
                EmittedProgram(Path(program), root).run_as_rank(SECONDS / 2, **options)
            except BaseException:
                traceback.print_exc()
                MPI.COMM_WORLD.Abort(1)
                os._exit(1)  # MPICH may come back from Abort before its launcher has ended the rank
            if rank == 0:
                print("done", file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
