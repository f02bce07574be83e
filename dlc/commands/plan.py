"""Choose algorithm and layout of every op, the ranks' shares and the communication, and predict a step.

The table shows each decision with its reason, what it costs by the model, and what the plan is compared with.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace

from dlc import driver
from dlc.commands.answer import Answer
from dlc.commands.arguments import add_planning, options_of
from dlc.folders import write_plan

EXAMPLES = """\
  dlc plan specs/lenet5.dlspec
  dlc plan specs/lenet5.dlspec -n 4 -P batch=128
  dlc plan specs/lenet5.dlspec -o plan.json           # dlc compile plan.json applies it exactly
  dlc plan specs/lenet5.dlspec --json"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="a .dlspec file with a train block")
    add_planning(parser)
    parser.add_argument("-o", dest="out", metavar="plan.json", help="write the plan to that file as well")


def run(arguments: Namespace) -> Answer:
    """The plan; status 3 where none keeps the limits."""
    from dlc.inspect.plan_table import plan_document, plan_text

    source = driver.read(arguments.file, dict(options_of(arguments).parameters))
    begin = time.perf_counter()
    compiled = driver.compile_spec(source, options_of(arguments))
    searched = time.perf_counter() - begin
    request = compiled.context.request
    text = plan_text(compiled.plan, request)
    if arguments.out:
        write_plan(compiled.plan, arguments.out)
        text += f"\n\nwrote {arguments.out}"
    document = {**plan_document(compiled.plan, request), "search_seconds": searched}
    return Answer(text, document, diagnostics=compiled.warnings, sources=source.texts)
