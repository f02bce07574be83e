"""Compare two plans: what is decided otherwise, and what that changes in the prediction."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dlc import driver
from dlc.commands.answer import Answer
from dlc.diagnostics import DiagnosticError
from dlc.folders import read_plan

EXAMPLES = """\
  dlc plan specs/lenet5.dlspec -o two.json
  dlc plan specs/lenet5.dlspec -n 4 -o four.json
  dlc diff two.json four.json"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("before", metavar="A.json", help="a plan that `dlc plan -o` wrote")
    parser.add_argument("after", metavar="B.json", help="another one")


def _fused(*paths: str) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """What is fused in either plan's Program, where the specs of both are at hand and as they were."""
    from dlc.commands.plan import chains_of
    from dlc.inspect.fusions import one_call

    try:
        one, other = (one_call(chains_of(driver.plan_file(path, driver.Options()))) for path in paths)
    except DiagnosticError:
        return {}, {}
    return one, other


def run(arguments: Namespace) -> Answer:
    """The differences; status 0 whether there are any or not."""
    from dlc.inspect.difference import difference_document, difference_text, differences

    before, after = read_plan(arguments.before), read_plan(arguments.after)
    found = differences(before, after, _fused(arguments.before, arguments.after))
    document = {"before": arguments.before, "after": arguments.after, **difference_document(found)}
    return Answer(difference_text(found, arguments.before, arguments.after), document)
