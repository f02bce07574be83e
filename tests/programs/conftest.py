"""Programs compiled once a session, and run as users run them: as processes, with a time-out."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from dlc.launch import command_line

SPECS = Path(__file__).parents[2] / "specs"
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: its status, the object on its last line (with --json), what it printed."""

    status: int
    result: dict[str, Any]
    output: str


@dataclass(frozen=True, slots=True)
class EmittedProgram:
    """A compiled folder and its number of ranks."""

    folder: Path
    ranks: int

    def run(self, *arguments: str, timeout: float = 90) -> Ran:
        """Run it to its end; a program that hangs fails the test."""
        command, environment = command_line(str(self.folder), self.ranks, [*arguments, "--json"])
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout, check=False
        )
        lines = done.stdout.strip().splitlines()
        result = json.loads(lines[-1]) if done.returncode == 0 else {}
        return Ran(done.returncode, result, done.stdout + done.stderr)


Compile = Callable[..., EmittedProgram]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """compiled("lenet5", ranks): a spec of specs/ or of this folder as a program, each made once."""
    made: dict[tuple[str, int], EmittedProgram] = {}

    def make(name: str, ranks: int) -> EmittedProgram:
        if (name, ranks) not in made:
            spec = next(path for path in (SPECS / f"{name}.dlspec", HERE / f"{name}.dlspec") if path.exists())
            folder = tmp_path_factory.mktemp(f"{name}_{ranks}") / "program"
            write_folder(emit_files(compile_spec(read(str(spec)), Options(ranks=ranks))), str(folder))
            made[name, ranks] = EmittedProgram(folder, ranks)
        return made[name, ranks]

    return make
