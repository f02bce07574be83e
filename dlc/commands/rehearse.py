"""Run the program of any number of ranks in this one process: the same text, real numbers, a predicted clock.

For clusters that one does not own: every rank is a virtual one, and they take turns. Messages wait for their receivers,
so a program that would hang says at once which rank waits for what. Times are those that the plan predicts. All ranks
share this machine's memory: `-P` reduces a network that is too large for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace

from dlc import driver
from dlc.commands.answer import Answer, show
from dlc.commands.arguments import add_planning, steps
from dlc.commands.compile import compiled_file
from dlc.diagnostics import DiagnosticError
from dlc.folders import write_folder

EXAMPLES = """\
  dlc rehearse specs/lenet5.dlspec -n 8
  dlc rehearse specs/lenet5.dlspec -n 2 --steps 90 --profile
  dlc rehearse plan.json --steps 2"""

STEPS = 3
"""How many steps are rehearsed by default."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE|plan.json", help="a .dlspec file with a train block, or a plan of one")
    add_planning(parser)
    parser.add_argument("--steps", metavar="N", type=steps, default=STEPS, help=f"train for N steps (default: {STEPS})")
    parser.add_argument("--load", metavar="W.npz", help="start from these weights, .npz or .safetensors")
    parser.add_argument("--save", metavar="W.npz", help="write the weights at the end, as .npz or .safetensors")
    parser.add_argument("--root", metavar="DIR", help="folder in which data paths begin (default: the spec's)")
    parser.add_argument("--profile", action="store_true", help="show the predicted time of each part of a step")


def run(arguments: Namespace) -> Answer:
    """Status 1 where the program does not come to its end; its own messages say why."""
    from dlc.inspect.plan_table import summary
    from dlc.launch import ended

    compiled = compiled_file(arguments)
    shown = "" if arguments.format == "json" else f"{summary(compiled.plan)}\n"
    show(Answer(shown, diagnostics=compiled.warnings, sources=compiled.source.texts), as_json=False)
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="dlc-rehearse-") as folder:
        write_folder({**driver.emit_files(compiled), "seconds.json": driver.predicted_seconds(compiled)}, folder)
        status = subprocess.run(_command(folder, compiled, arguments), check=False).returncode
    if status:
        raise DiagnosticError((ended(status),))
    return Answer()


def _command(folder: str, compiled: driver.Compiled, arguments: Namespace) -> list[str]:
    root = arguments.root or compiled.source.spec.root or os.curdir
    words = ["--rehearse", "--steps", str(arguments.steps), "--root", root]
    for option in ("load", "save"):
        value = getattr(arguments, option)
        words += [f"--{option}", value] if value is not None else []
    words += ["--profile"] if arguments.profile else []
    words += ["--json"] if arguments.format == "json" else []
    return [sys.executable, "-I", os.path.join(folder, "train.py"), *words]
