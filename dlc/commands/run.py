"""Compile a spec and train its network or predict with it, or start a program that `dlc compile` wrote.

Progress and results are the program's own; with --json its last line is one JSON object.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from argparse import ArgumentParser, Namespace

from dlc import driver
from dlc.commands.answer import Answer, Status, UsageError, show
from dlc.commands.arguments import add_planning, add_tuning, parameters_of, steps
from dlc.commands.compile import compiled_file
from dlc.diagnostics import DiagnosticError
from dlc.folders import read_plan, write_folder
from dlc.messages.e07_run import E0703, E0705

EXAMPLES = """\
  dlc run specs/lenet5.dlspec
  dlc run specs/lenet5.dlspec -n 1 --steps 100 --save weights.npz
  dlc run specs/lenet5.dlspec --load weights.npz --predict outputs.npz
  dlc run specs/lenet5.dlspec --load weights.safetensors --predict outputs.npz --input images.npz
  dlc run build/lenet5 --json
  dlc run build/lenet5 --checkpoint ckpt --resume
  dlc run build/lenet5 --checkpoint ckpt --checkpoint-now
  dlc run build/lenet5 --hostfile hosts --dry-run"""

FILES = {"load": (".npz", ".safetensors"), "save": (".npz", ".safetensors"), "predict": (".npz",), "input": (".npz",)}
"""Options that name files of arrays -> how those are named."""

SHOWN_OPS = 40
"""Networks of at most so many ops are shown with their whole plan before they run."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE|build/", help="a .dlspec file, a plan.json, or a folder of `dlc compile`")
    add_planning(parser)
    add_tuning(parser)
    parser.add_argument("--steps", metavar="N", type=steps, help="train for N steps (0: none)")
    parser.add_argument("--load", metavar="W.npz", help="start from these weights, .npz or .safetensors")
    parser.add_argument("--save", metavar="W.npz", help="write the weights at the end, as .npz or .safetensors")
    parser.add_argument(
        "--predict",
        metavar="OUT.npz",
        help="write outputs for the test samples; with --load and without --steps, do not train",
    )
    parser.add_argument(
        "--input", metavar="IN.npz", help="predict on these samples: arrays named as the network's inputs"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint, if there is one")
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="write checkpoints there, not where the spec says: on SIGUSR1, on SIGTERM, which ends, and at the end",
    )
    parser.add_argument(
        "--checkpoint-now", action="store_true", help="run nothing, ask the run that is going on for a checkpoint"
    )
    parser.add_argument("--root", metavar="DIR", help="folder in which data paths begin (default: the spec's)")
    parser.add_argument("--profile", action="store_true", help="show the median time of each part of a step")
    parser.add_argument("--hostfile", metavar="F", help="start ranks on the machines that this file lists")
    parser.add_argument("--dry-run", action="store_true", help="show the command that would be run, and run nothing")


def run(arguments: Namespace) -> Answer:
    """Status 1 where the program does not come to its end; its own messages say why."""
    _refuse(arguments)
    if arguments.checkpoint_now:
        return _ask(arguments)
    if os.path.isdir(arguments.file):
        return _start(arguments.file, *_compiled_before(arguments), arguments)
    compiled = compiled_file(arguments)
    with tempfile.TemporaryDirectory(prefix="dlc-run-") as scratch:
        folder = os.path.join(scratch, compiled.plan.network)
        write_folder(driver.emit_files(compiled), folder)
        _introduce(compiled, arguments)
        return _start(folder, compiled.plan.ranks, compiled.source.spec.root, arguments)


def _refuse(arguments: Namespace) -> None:
    """Options that need a folder that stays, samples that nothing is predicted for, and files of other kinds."""
    for option, kinds in FILES.items():
        path = getattr(arguments, option)
        if path is not None and not path.endswith(kinds):
            raise UsageError(f"`--{option}` takes a file named {' or '.join(kinds)}, not `{path}`")
    if arguments.resume and arguments.load:
        raise UsageError("`--resume` goes on with the weights of its checkpoint: it does not go with `--load`")
    if arguments.input and not arguments.predict:
        raise UsageError("`--input` names samples to predict on: it goes with `--predict OUT.npz`")
    if not os.path.isdir(arguments.file) and (arguments.hostfile or arguments.dry_run):
        option = "--hostfile" if arguments.hostfile else "--dry-run"
        way = f"`dlc compile {arguments.file} -o build/` writes one"
        raise UsageError(f"`{option}` goes with a folder that stays: {way}")


def _compiled_before(arguments: Namespace) -> tuple[int, str]:
    """The ranks of a program's folder, and the folder that its data paths start in: the spec's, where that is known."""
    if not os.path.isfile(os.path.join(arguments.file, "train.py")):
        raise DiagnosticError((E0705.at(None, path=arguments.file, what="folder that `dlc compile` wrote"),))
    if any((arguments.parameters, arguments.cluster, arguments.kernels, arguments.dump_after, arguments.tune)):
        options = "`-P`, `--on`, `--kernels`, `--tune` and `--dump-after`"
        raise UsageError(f"a compiled program is run as it stands: {options} go with a .dlspec file")
    plan = read_plan(os.path.join(arguments.file, "plan.json"))
    if arguments.ranks not in (None, plan.ranks):
        raise DiagnosticError((E0703.at(None, compiled=plan.ranks, started=arguments.ranks),))
    return plan.ranks, os.path.dirname(plan.spec) if os.path.isfile(plan.spec) else os.curdir


def _ask(arguments: Namespace) -> Answer:
    """Leaves word in the folder of checkpoints, where the run that is going on finds it."""
    folder = arguments.checkpoint or _checkpoints_of(arguments)
    if not os.path.isdir(folder):
        raise UsageError(f"no run writes checkpoints to `{folder}`: there is no such folder")
    with open(os.path.join(folder, "checkpoint-now"), "w", encoding="ascii"):
        pass
    text = f"asked for a checkpoint in {folder}: the run that is going on writes it at the end of a step"
    return Answer(text, {"folder": folder})


def _checkpoints_of(arguments: Namespace) -> str:
    """The folder of checkpoints that a spec names, or that of the spec that a program was compiled from."""
    source, parameters, root = arguments.file, parameters_of(arguments), None
    if os.path.isdir(source):
        _, root = _compiled_before(arguments)
        plan = read_plan(os.path.join(source, "plan.json"))
        source, parameters = plan.spec, dict(plan.parameters)
    spec = driver.read(source, parameters).spec
    named = [job.training.checkpoint for job in spec.jobs if job.training is not None and job.training.checkpoint]
    if len(named) != 1:
        raise UsageError(f"`{source}` does not say where checkpoints are written: `--checkpoint DIR` does")
    return os.path.join(arguments.root or root or spec.root or os.curdir, str(named[0].get("to")))


def _introduce(compiled: driver.Compiled, arguments: Namespace) -> None:
    """Warnings and the plan, before training begins; nothing of it goes to the standard output with --json."""
    from dlc.inspect.plan_table import plan_text, summary

    whole = len(compiled.plan.ops) <= SHOWN_OPS
    text = plan_text(compiled.plan, compiled.context.request) if whole else summary(compiled.plan)
    shown = "" if arguments.format == "json" else f"{text}\n"
    show(Answer(shown, diagnostics=compiled.warnings, sources=compiled.source.texts), as_json=False)
    sys.stdout.flush()


def _start(folder: str, ranks: int, root: str, arguments: Namespace) -> Answer:
    from dlc.launch import SUSPENDED, command_line, ended, launch

    words = ["--root", arguments.root or root or os.curdir]
    for option in ("steps", "load", "save", "predict", "input", "checkpoint"):
        value = getattr(arguments, option)
        if value is not None:
            words += [f"--{option}", str(value)]
    words += ["--resume"] if arguments.resume else []
    words += ["--profile"] if arguments.profile else []
    words += ["--json"] if arguments.format == "json" else []
    if arguments.dry_run:
        return _shown(*command_line(folder, ranks, words, hostfile=arguments.hostfile))
    status = launch(folder, ranks, words, hostfile=arguments.hostfile, requests=True)
    if status == SUSPENDED:
        return Answer(status=Status.SUSPENDED)
    if status:
        raise DiagnosticError((ended(status),))
    return Answer()


def _shown(command: list[str], variables: dict[str, str]) -> Answer:
    """A command as a shell takes it."""
    words = [*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(command)]
    return Answer(" ".join(words), {"command": command, "environment": variables})
