"""Decide how every op is computed and divided among the ranks, and predict a step's time and memory.

The plan is the best of all that were searched: algorithm, layout and partition of every op, the mesh of ranks,
pipeline stages and their schedule, recomputation, and what is communicated. The tables show each decision with its
reason, what it costs by the model, lower bounds that no plan can beat, and the plans that it is compared with.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from dlc import driver
from dlc.commands.answer import Answer, UsageError
from dlc.commands.arguments import add_planning, add_search, add_tuning, effort_of, options_of, sizes, what_if
from dlc.commands.progress import progress
from dlc.commands.tuning import tuned
from dlc.folders import write_plan

if TYPE_CHECKING:
    from dlc.inspect.background import Background
    from dlc.inspect.fusions import Chain
    from dlc.inspect.packs import Pack

EXAMPLES = """\
  dlc plan specs/lenet5.dlspec
  dlc plan specs/lenet5.dlspec -n 4 -P batch=128
  dlc plan specs/lenet5.dlspec -o plan.json           # dlc compile plan.json applies it exactly
  dlc plan specs/gpt2_xl.dlspec --gap 1 --budget 10   # good enough, and soon
  dlc plan specs/lenet5.dlspec --tune                 # with kernels measured on this machine
  dlc plan specs/alexnet.dlspec --devices 2..16       # how far does it scale?
  dlc plan specs/alexnet.dlspec --what-if link.pcie.bandwidth=12GB/s --what-if device.gtx580.memory=6GiB
  dlc plan specs/lenet5.dlspec --json"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="a .dlspec file with a train block")
    add_planning(parser)
    add_search(parser)
    add_tuning(parser)
    asked = parser.add_argument_group("comparing")
    asked.add_argument(
        "--devices",
        metavar="8..1024",
        type=sizes,
        help="plan for other sizes of the cluster: powers of two from 8 to 1024, or a list such as 8,16,24",
    )
    asked.add_argument(
        "--what-if",
        metavar="PATH=VALUE",
        type=what_if,
        action="append",
        default=[],
        help="plan for other hardware: link.NAME.SETTING=VALUE or device.NAME.SETTING=VALUE; "
        "several at once with commas, one after another by repeating the option",
    )
    parser.add_argument("-o", dest="out", metavar="plan.json", help="write the plan to that file as well")


def run(arguments: Namespace) -> Answer:
    """The plan; status 3 where none keeps the limits."""
    if arguments.devices or arguments.what_if:
        return _compared(arguments)
    from dlc.inspect.plan_table import plan_document, plan_text

    options, effort = options_of(arguments), effort_of(arguments)
    source = driver.read(arguments.file, dict(options.parameters))
    options = tuned(source, options, arguments, effort)
    begin = time.perf_counter()
    with progress(f"planning {arguments.file}"):
        compiled = driver.plan_spec(source, options, effort)
        searched = time.perf_counter() - begin
        known = background(compiled)
    text = plan_text(compiled.plan, known.request, known)
    if arguments.out:
        write_plan(compiled.plan, arguments.out)
        text += f"\n\nwrote {arguments.out}"
    document = {**plan_document(compiled.plan, known.request, known), "search_seconds": searched}
    return Answer(text, document, diagnostics=compiled.warnings, sources=source.texts)


def background(compiled: driver.Compiled) -> Background:
    """What the tables show besides the plan itself."""
    from backends.numpy_mpi.kernels.native import find_compiler
    from dlc.cost.price import default_price
    from dlc.inspect.background import Background
    from dlc.inspect.communication import exchanges
    from dlc.inspect.in_place import takeovers

    context, program = compiled.context, compiled.program
    price = default_price(program, context.cluster, context.profile)
    return Background(
        context.request,
        context.cluster,
        context.memory.bytes,
        exchanges(program, price),
        None if compiled.planned is None else compiled.planned.record,
        chains_of(compiled),
        compiler=context.cluster.device_of(0).kind != "cpu" or bool(find_compiler()),
        takeovers=takeovers(program),
        packs=packs_of(compiled),
    )


def packs_of(compiled: driver.Compiled) -> tuple[Pack, ...]:
    """The weights of a Program with kernels in C that are packed once for several microbatches, and the others."""
    from dlc.cost.price import default_price
    from dlc.inspect.packs import packs

    context, plan = compiled.context, compiled.plan
    if plan.kernels != "c" or context.pack is None:
        return ()
    price = default_price(compiled.program, context.cluster, context.profile)
    return packs(compiled.program, price, plan.threads, context)


def chains_of(compiled: driver.Compiled) -> tuple[Chain, ...]:
    """What is fused in a Program with kernels that gain by it, and what is not; () with NumPy's."""
    from dlc.cost.price import default_price
    from dlc.inspect.fusions import chains
    from passes.lowering.program import gains

    plan, context = compiled.plan, compiled.context
    if not gains(plan, context):
        return ()
    price = default_price(compiled.program, context.cluster, context.profile)
    return chains(compiled.program, price, plan.kernels == "c")


def _compared(arguments: Namespace) -> Answer:
    """A table of the plans for other machines."""
    from dlc.commands.machines import scaling, sensitivity

    for given, name in (
        (arguments.out, "-o"),
        (arguments.dump_after, "--dump-after"),
        (arguments.tune or None, "--tune"),
    ):
        if given is not None:
            raise UsageError(f"`{name}` is about one plan, `--devices` and `--what-if` make several")
    if arguments.devices and arguments.what_if:
        raise UsageError("`--devices` and `--what-if` are two tables: ask for one after the other")
    if arguments.devices and arguments.ranks is not None:
        raise UsageError("`-n` and `--devices` both say how many devices: leave one away")
    return scaling(arguments) if arguments.devices else sensitivity(arguments)
