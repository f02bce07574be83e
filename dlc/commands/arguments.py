"""Arguments that several commands share, and how they are read."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dlc.cluster.topology import KERNEL_FAMILIES
from dlc.commands.answer import UsageError
from dlc.diagnostics import similar

if TYPE_CHECKING:
    from dlc.driver import Options
    from passes.planning.search import Effort


TUNING_SECONDS = 60.0
"""How long kernels are measured by default."""


def add_format(parser: ArgumentParser) -> None:
    """`--format` and its short form."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to answer (default: text)")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="short for --format json")


def add_parameters(parser: ArgumentParser) -> None:
    """`-P name=value`, as often as needed."""
    parser.add_argument(
        "-P",
        dest="parameters",
        metavar="NAME=VALUE",
        type=parameter,
        action="append",
        default=[],
        help="override a param of the spec; repeat for several",
    )


def add_planning(parser: ArgumentParser) -> None:
    """What a command that plans asks for besides the file."""
    add_parameters(parser)
    parser.add_argument("-n", dest="ranks", metavar="RANKS", type=ranks, help="plan for so many ranks")
    parser.add_argument("--on", dest="cluster", metavar="CLUSTER", help="the cluster to plan for, by name")
    add_kernels(parser)
    parser.set_defaults(tune=False)  # of commands that measure nothing
    parser.add_argument("--dump-after", metavar="PASS", help="print the graph as it is after that pass")


def add_kernels(parser: ArgumentParser) -> None:
    """The family of kernels; UsageError where `$DLC_KERNELS` is none."""
    named = os.environ.get("DLC_KERNELS", "auto")
    if named not in KERNEL_FAMILIES:
        raise UsageError(f"`DLC_KERNELS={named}` is no family of kernels: there are {', '.join(KERNEL_FAMILIES)}")
    help_ = "what CPUs compute with, whatever the plan block says: c, compiled where the program runs, numpy, or auto"
    parser.add_argument("--kernels", choices=KERNEL_FAMILIES, help=help_)


def add_tuning(parser: ArgumentParser) -> None:
    """Whether kernels are measured first."""
    tuning = parser.add_argument_group("measuring")
    tuning.add_argument(
        "--tune",
        action="store_true",
        help="measure every kernel that may be chosen, on this machine; they are kept in $DLC_CACHE or ~/.cache/dlc",
    )
    tuning.add_argument(
        "--tune-budget",
        metavar="SECONDS",
        type=budget,
        default=TUNING_SECONDS,
        help=f"measure for so long at most (default: {TUNING_SECONDS:g})",
    )


def add_search(parser: ArgumentParser) -> None:
    """How far to search for the best plan."""
    searching = parser.add_argument_group("searching")
    searching.add_argument(
        "--gap",
        metavar="PERCENT",
        type=percent,
        default=0.0,
        help="stop at a plan that is proved to be within so many percent of the best (default: 0)",
    )
    until = searching.add_mutually_exclusive_group()
    until.add_argument("--budget", metavar="SECONDS", type=budget, help="take the best plan found in so many seconds")
    until.add_argument(
        "--budget-nodes",
        metavar="N",
        type=strategies,
        help="take the best plan of so many strategies that are solved: the same on every machine",
    )


def parameter(text: str) -> tuple[str, str]:
    """`batch=64` as its two halves."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise ArgumentTypeError(f"`{text}` is not of the form NAME=VALUE, such as batch=64")
    return name.strip(), value.strip()


def ranks(text: str) -> int:
    """A number of ranks."""
    return whole(text, "a number of ranks", 1)


def strategies(text: str) -> int:
    """A number of strategies."""
    return whole(text, "a number of strategies", 1)


def percent(text: str) -> float:
    """`0.5` or `0.5%` as a share."""
    found = _number(text.removesuffix("%"))
    if found is None or found >= 100:
        raise ArgumentTypeError(f"`{text}` is not a percentage: a number from 0 to 100, such as 0.5")
    return found / 100


def budget(text: str) -> float:
    """`2.5` or `2.5s`: seconds."""
    found = _number(text.removesuffix("s"))
    if found is None:
        raise ArgumentTypeError(f"`{text}` is not a number of seconds, such as 2.5")
    return found


def _number(text: str) -> float | None:
    """A number of at least zero; None for any other text."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found < float("inf") else None


def steps(text: str) -> int:
    """A number of steps; none are steps too."""
    return whole(text, "a number of steps", 0)


def rank_list(text: str) -> tuple[int, ...]:
    """`1,2,4`, each number once."""
    return tuple(dict.fromkeys(ranks(part) for part in text.split(",")))


def sizes(text: str) -> tuple[int, ...]:
    """`8..64` as 8, 16, 32, 64; `8,16,24` as it stands; each size once."""
    from dlc.cluster.topology import MAX_DEVICES

    first, dots, last = text.partition("..")
    listed = (ranks(first), ranks(last)) if dots else rank_list(text)
    if max(listed) > MAX_DEVICES:
        raise ArgumentTypeError(f"`{text}` goes beyond the {MAX_DEVICES:,} devices that a cluster may have")
    powers = (2**power for power in range(MAX_DEVICES.bit_length()))
    found = tuple(size for size in powers if listed[0] <= size <= listed[1]) if dots else listed
    if not found:
        raise ArgumentTypeError(f"`{text}` holds no power of two, a list such as 6,7 takes any number")
    return found


def what_if(text: str) -> tuple[tuple[str, str], ...]:
    """`link.ib.latency=1us,device.gpu.memory=80GiB` as pairs of path and value."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(path.strip() and value.strip() for path, _, value in pairs):
        raise ArgumentTypeError(
            f"`{text}` is not of the form PATH=VALUE, such as link.infiniband.bandwidth=400Gbit/s, joined by commas"
        )
    found = tuple((path.strip(), value.strip()) for path, _, value in pairs)
    if len(dict(found)) < len(found):
        raise ArgumentTypeError(f"`{text}` changes one setting twice: repeat the option for rows of their own")
    return found


def whole(text: str, what: str, least: int) -> int:
    """A whole number of at least `least`, as a type for argparse."""
    if not (text.strip().isascii() and text.strip().isdigit()) or len(text) > 9 or int(text) < least:
        raise ArgumentTypeError(f"`{text}` is not {what}: a whole number, {least} or more")
    return int(text)


def parameters_of(arguments: Namespace) -> dict[str, str]:
    """The `-P` overrides by name; UsageError where one is given twice."""
    found: dict[str, str] = {}
    for name, value in arguments.parameters:
        if name in found:
            raise UsageError(f"`-P {name}=…` is given twice")
        found[name] = value
    return found


def options_of(arguments: Namespace) -> Options:
    """The driver's options from a command that called `add_planning`."""
    import sys

    from dlc.driver import Options

    def dump(text: str) -> None:
        print(text, file=sys.stderr if arguments.format == "json" else sys.stdout)

    if arguments.dump_after is not None:
        _require_pass(arguments.dump_after)
    return Options(
        parameters=parameters_of(arguments),
        ranks=arguments.ranks,
        cluster=arguments.cluster,
        kernels=arguments.kernels,
        fused=getattr(arguments, "backend", "") == "cupy",
        dump_after=arguments.dump_after,
        dump=dump,
    )


def effort_of(arguments: Namespace) -> Effort:
    """How far to search, from a command that called `add_search`."""
    from passes.planning.search import Effort

    least = Effort()
    return Effort(
        arguments.gap,
        least.seconds if arguments.budget is None else arguments.budget,
        least.strategies if arguments.budget_nodes is None else arguments.budget_nodes,
    )


def _require_pass(name: str) -> None:
    from passes import PIPELINE

    names = [run.__name__ for run in PIPELINE]
    if name not in names:
        raise UsageError(f"there is no pass `{name}`{nearest(name, names)}; the passes are {listed(names)}")


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`, did …`: the half-sentence about a similar name, empty where there is none."""
    found = similar(name, candidates)
    return f", there is one with a similar name: `{found}`" if found else ""


def listed(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)
