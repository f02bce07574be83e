"""The command line of an emitted program, and how it starts: as one process or as a rank of many."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from . import device
from .clock import Clock
from .failures import ProgramError
from .files import Files, require_place
from .footprint import Footprint
from .guard import Guard, Unsupervised, fail
from .rehearsal import rehearse
from .requests import SUSPENDED, Suspended, listen_to
from .star import Limits, show
from .supervisor import supervise
from .world import Serial, World

STALL_VARIABLE = "DLC_STALL_SECONDS"
SILENCE_VARIABLE = "DLC_SILENCE_SECONDS"
START_VARIABLE = "DLC_START_SECONDS"

# How launchers tell a process its place: (rank, number of ranks).
_LAUNCHERS = (("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMIX_RANK", "PMIX_SIZE"))


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. None and "" where nothing was given; `steps` wins over `epochs`."""

    steps: int | None = None
    epochs: int | None = None
    load: str | None = None
    save: str | None = None
    predict: str | None = None
    input: str | None = None
    json: bool = False
    profile: bool = False
    quiet: bool = False
    root: str = "."
    record: str | None = None
    replay: str | None = None
    perturb: int | None = None
    resume: bool = False
    checkpoint: str | None = None
    rehearse: bool = False
    stall_seconds: float = 300.0
    emulate: str | None = None  # of programs on GPUs

    @property
    def predicts_only(self) -> bool:
        """Whether nothing is trained: weights are given, outputs asked for, and no length of training."""
        return bool(self.load and self.predict) and self.steps is None and self.epochs is None

    def length(self, steps: int, epoch: int) -> int:
        """How many steps are made where the program says so many; an epoch has `epoch`."""
        if self.predicts_only:
            return 0
        usual = steps if self.epochs is None else self.epochs * epoch
        return usual if self.steps is None else self.steps


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to: the same on all ranks, so that rank 0 can report it. `profile`: seconds by segment.

    `memory` is that of the rank whose process grew most.
    """

    steps: int
    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    step_seconds: float = 0.0
    profile: Mapping[str, float] = field(default_factory=dict)
    memory: Footprint | None = None

    def to_json(self) -> str:
        """One line; numbers that JSON has no word for become null."""
        values: dict[str, Any] = {
            "schema": 1,
            "steps": self.steps,
            "loss": _number(self.loss),
            "metrics": {name: _number(value) for name, value in self.metrics.items()},
            "step_seconds": _number(self.step_seconds),
        }
        if self.profile:
            values["profile"] = {name: _number(value) for name, value in self.profile.items()}
        if self.memory is not None:
            values["memory"] = asdict(self.memory)
        return json.dumps(values)


Main = Callable[[World, Clock, Files, Options], Result]


def run(main: Main, *, name: str, ranks: int, description: str = "", arguments: Sequence[str] | None = None) -> int:
    """Runs main(world, clock, files, options) on the rank that this process is; the exit status.

    `ranks` is the number that the program was compiled for. Failures never leave this function: they are printed and
    end all ranks. It must be called before anything else starts MPI, and with more than one rank the process that
    calls it becomes the rank's supervisor, while a forked child returns.
    """
    options = parse(name, ranks, description, arguments)
    if options.rehearse:
        return _rehearse(main, ranks, options)
    if ranks == 1 and _launched()[1] == 1:
        return _run_rank(main, ranks, options, Unsupervised(), lambda guard: Serial(guard.position))
    limits = Limits(_setting(START_VARIABLE, 60.0), options.stall_seconds, _setting(SILENCE_VARIABLE, 15.0))
    guard = supervise(limits) if hasattr(os, "fork") and "mpi4py.MPI" not in sys.modules else Unsupervised()
    return _run_rank(main, ranks, options, guard, lambda guard: _connect(guard, options))


def parse(name: str, ranks: int, description: str, arguments: Sequence[str] | None) -> Options:
    """Reads the command line; argparse ends the process on --help and on mistakes (exit status 2)."""
    parser = _Parser(
        prog="train.py" if ranks == 1 else f"mpiexec -n {ranks} python train.py",
        description=description or name,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=_count, metavar="N", help="train for N steps (0: none)")
    length.add_argument("--epochs", type=_count, metavar="N", help="train for N epochs")
    add("--load", metavar="W.npz", help="start from these weights, .npz or .safetensors")
    add("--save", metavar="W.npz", help="write the weights at the end, as .npz or .safetensors")
    add("--predict", metavar="OUT.npz", help="write outputs for the test samples; with --load, do not train")
    add("--input", metavar="IN.npz", help="predict on these samples: arrays named as the network's inputs")
    add("--resume", action="store_true", help="go on from the last whole checkpoint, where there is one")
    add("--checkpoint", metavar="DIR", help="write checkpoints to DIR: on SIGUSR1, on SIGTERM, which ends, at the end")
    add("--json", action="store_true", help="print the result as one JSON object on the last line")
    add("--profile", action="store_true", help="print the median time of each part of a step, and the memory")
    add("--quiet", action="store_true", help="print no progress")
    add("--root", default=".", metavar="DIR", help="folder in which data paths begin (default: the current one)")
    add("--record", metavar="DIR", help="write the state, loss and gradients of each step (for `dlc verify`)")
    add("--replay", metavar="DIR", help="start each step from the state recorded there (for `dlc verify`)")
    add("--perturb", type=int, metavar="SEED", help="add rounding noise to weights and order (for `dlc verify`)")
    add("--rehearse", action="store_true", help="run all ranks in this one process, by turns, without MPI")
    add(
        "--stall-seconds",
        type=_seconds,
        default=_setting(STALL_VARIABLE, 300.0),
        metavar="S",
        help="end the job when a rank waits that long for others (default: 300, or DLC_STALL_SECONDS)",
    )
    device.add_arguments(parser)
    options = Options(**vars(parser.parse_args(arguments)))
    if options.input and not options.predict:
        parser.error("--input goes with --predict OUT.npz")
    if options.resume and options.load:
        parser.error("--resume goes on with the weights of its checkpoint: it does not go with --load")
    return options


class _Parser(argparse.ArgumentParser):
    """Help and usage are printed by one rank only."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if _launched()[0] == 0:
            super()._print_message(message, file)


def _run_rank(
    main: Main,
    ranks: int,
    options: Options,
    guard: Guard,
    connect: Callable[[Guard], World],
) -> int:
    """The life of one rank."""
    rank: int | None = None
    try:
        world = connect(guard)
        rank = world.rank
        if world.size != ranks:
            _refuse(world, ranks)
            guard.done(rank, 1)
            return 1
        guard.join(world)
        listen_to(world.position)
        _begin_on_device(rank, options, world)
        if rank == 0:
            for path in filter(None, (options.save, options.predict)):
                require_place(path)
        result = main(world, Clock(), Files(Path(options.root)), options)
        world.barrier("the end of the program")
        if rank == 0:
            _show_result(result, options)
        sys.stdout.flush()
        guard.position.end()
        guard.done(rank, 0)
    except Suspended as end:  # on all ranks alike
        if rank == 0:
            show(end.text)
        guard.position.end()
        guard.done(rank or 0, SUSPENDED)
        return SUSPENDED
    except BaseException as failure:  # sys.exit and interrupts too: nothing may end one rank alone
        fail(guard, rank, failure)
    return 0


def _rehearse(main: Main, ranks: int, options: Options) -> int:
    """All ranks here."""
    guard = Unsupervised()
    try:
        _begin_on_device(0, options)
        result = rehearse(main, Path(main.__code__.co_filename).parent, ranks, options)
        _show_result(result, options)
        sys.stdout.flush()
        guard.done(0, 0)
    except BaseException as failure:
        fail(guard, None, failure)
    return 0


def _begin_on_device(rank: int, options: Options, world: World | None = None) -> None:
    about = device.begin(rank, world)
    if about and rank == 0 and not options.quiet and not options.json:
        print(about)


def _connect(guard: Guard, options: Options) -> World:
    try:
        module = importlib.import_module(".mpi_world", __package__)
    except (ImportError, RuntimeError) as cause:
        raise ProgramError(
            f"mpi4py cannot be used: {cause}",
            help="`pip install mpi4py mpich` installs it and an MPI; one of your own serves too",
        ) from cause
    world: World = module.MpiWorld(guard.position, stall_seconds=options.stall_seconds, parent=guard.parent)
    return world


def _refuse(world: World, ranks: int) -> None:
    """E0703, printed once."""
    rank, launched = _launched()
    alone = world.size == 1 and launched > 1
    if world.rank or (alone and rank):
        return
    start = f"`mpiexec -n {ranks}`" if ranks > 1 else "`python -I train.py`"
    again = f"or compile again with `dlc compile FILE -n {world.size}`"
    started = launched if alone and launched != ranks else world.size
    error = ProgramError(
        f"this program was compiled for {ranks} rank{'s' * (ranks != 1)}, mpiexec started {started}",
        code="E0703",
        notes=("each process sees itself alone: mpiexec and mpi4py use different MPIs",) if alone else (),
        help="use the mpiexec of the MPI that mpi4py was built for" if alone else f"start it with {start}, {again}",
    )
    show(error.render())


def _launched() -> tuple[int, int]:
    """(rank, number of ranks) as the launcher has put it into the environment; (0, 1) without one."""
    for rank, size in _LAUNCHERS:
        if size in os.environ:
            return int(os.environ.get(rank, "0")), int(os.environ[size])
    return 0, 1


def _show_result(result: Result, options: Options) -> None:
    if options.profile and not options.json:
        total = sum(result.profile.values())
        for segment, seconds in result.profile.items():
            print(f"{segment:>16} {seconds * 1e3:10.3f} ms {seconds / total if total else 0:6.1%}")
        if result.memory is not None:
            print(result.memory)
    if options.json:
        print((result if options.profile else replace(result, profile={})).to_json())


def _setting(variable: str, default: float) -> float:
    """A number of seconds from the environment; the default where it holds none."""
    try:
        return float(os.environ.get(variable, default))
    except ValueError:
        show(f"warning: {variable} is no number of seconds, {default:g} is used")
        return default


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"`{text}` is not a whole number from 0 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number of seconds above 0")
    return value
