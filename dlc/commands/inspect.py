"""Show a network: its statements or ops with shapes, parameters and work; a picture of it; a step's timeline.

Given a plan.json that `dlc plan -o` wrote, show that plan.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from dlc import driver
from dlc.commands.answer import Answer, UsageError
from dlc.commands.arguments import add_parameters, parameters_of
from dlc.commands.progress import progress
from dlc.folders import read_plan, write_parts

if TYPE_CHECKING:
    from dlc.expand.spec import Job
    from dlc.ir.graph import Graph
    from dlc.ir.plan import Plan

EXAMPLES = """\
  dlc inspect specs/resnet50.dlspec                  # one line a statement
  dlc inspect specs/lenet5.dlspec --ops              # one line an op
  dlc inspect specs/resnet50.dlspec --select 'stage1[0].**.conv where window == 3x3'
  dlc inspect specs/lenet5.dlspec --dot | dot -Tsvg > lenet5.svg
  dlc inspect specs/lenet5.dlspec --timeline step.json     # open in https://ui.perfetto.dev
  dlc inspect plan.json                              # and --dot: coloured by algorithm and layout"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE|plan.json", help="a .dlspec file, or a plan")
    add_parameters(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--ops", action="store_true", help="every op, not only every statement")
    shown.add_argument(
        "--dot", action="store_true", help="the network as Graphviz text; of a plan.json, coloured by what is planned"
    )
    shown.add_argument("--timeline", metavar="T.json", help="write a step's predicted timeline as a Chrome trace")
    parser.add_argument("--select", metavar="SELECTOR", help="only the ops that a selector reaches")


def run(arguments: Namespace) -> Answer:
    """A plan's table for a plan.json, else the network's."""
    if arguments.timeline:
        return _timeline(arguments)
    if arguments.dot:
        return _dot(arguments)
    if arguments.file.endswith(".json"):
        return _plan(arguments)
    from dlc.inspect.network import network_document, network_text, op_rows, ops_text

    source = driver.read(arguments.file, parameters_of(arguments))
    graph = _job(source, arguments.file).graph
    selected = None if arguments.select is None else _selected(arguments.select, graph)
    rows = op_rows(graph)
    by_op = arguments.ops or selected is not None
    text = ops_text(graph, rows, selected) if by_op else network_text(graph, rows)
    document = network_document(graph, rows, selected)
    return Answer(text, document, diagnostics=source.spec.warnings, sources=source.texts)


def _job(source: driver.Source, path: str) -> Job:
    """The network that is trained, the last where there are several; else the last one of the file."""
    jobs = source.spec.jobs
    if not jobs:
        raise UsageError(f"there is no network in {path}")
    return next((job for job in reversed(jobs) if job.training is not None), jobs[-1])


def _selected(text: str, graph: Graph) -> tuple[str, ...]:
    """The addresses of the ops that a selector reaches; UsageError where it reaches none."""
    from dlc.commands.selection import select

    found = select(text, graph)
    if not found:
        raise UsageError(f"no op of `{graph.name}` is reached by `{text}`")
    return found


def _plan(arguments: Namespace) -> Answer:
    from dlc.inspect.plan_table import plan_document, plan_text

    if arguments.select or arguments.parameters:
        raise UsageError("`--select` and `-P` go with a .dlspec file, a plan.json is shown as it is")
    plan = read_plan(arguments.file)
    return Answer(plan_text(plan), plan_document(plan))


def _dot(arguments: Namespace) -> Answer:
    """A picture of a plan.json's network, or of a spec's."""
    from dlc.inspect.dot import dot_text

    if arguments.format == "json":
        raise UsageError("`--dot` is text: leave `--json` away")
    if arguments.file.endswith(".json"):
        source, _, plan = driver.from_plan(arguments.file)
        return Answer(dot_text(_job(source, arguments.file).graph, plan, _handed_on(arguments.file, plan)))
    source = driver.read(arguments.file, parameters_of(arguments))
    return Answer(dot_text(_job(source, arguments.file).graph))


def _handed_on(path: str, plan: Plan) -> frozenset[tuple[str, str]]:
    """The pairs of ops that are one call in the Program of a plan."""
    from dlc.commands.plan import chains_of
    from dlc.inspect.fusions import handed_on

    return handed_on(chains_of(driver.plan_file(path, driver.Options())))


def _timeline(arguments: Namespace) -> Answer:
    """Plan, simulate one training step, write the trace, and sum it up by stream."""
    from dlc.cost.trace import trace_lines
    from dlc.inspect.step_timeline import step_timeline
    from dlc.inspect.timeline_summary import timeline_document, timeline_text

    with progress(f"planning {arguments.file}"):
        compiled = driver.plan_file(arguments.file, driver.Options(parameters_of(arguments)))
    timeline = step_timeline(compiled.program, compiled.context)
    write_parts(arguments.timeline, (line.encode() for line in trace_lines(timeline)))
    document = {"trace": arguments.timeline, **timeline_document(timeline)}
    text = f"{timeline_text(timeline)}\n\nwrote {arguments.timeline}: open it in https://ui.perfetto.dev"
    return Answer(text, document, diagnostics=compiled.warnings, sources=compiled.source.texts)
