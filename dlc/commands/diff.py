"""Compare two plans: what is decided otherwise, and what that changes in the prediction."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dlc.commands.answer import Answer
from dlc.folders import read_plan

EXAMPLES = """\
  dlc plan specs/lenet5.dlspec -o two.json
  dlc plan specs/lenet5.dlspec -n 4 -o four.json
  dlc diff two.json four.json"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("before", metavar="A.json", help="a plan that `dlc plan -o` wrote")
    parser.add_argument("after", metavar="B.json", help="another one")


def run(arguments: Namespace) -> Answer:
    """The differences; status 0 whether there are any or not."""
    from dlc.inspect.difference import difference_document, difference_text, differences

    before, after = read_plan(arguments.before), read_plan(arguments.after)
    found = differences(before, after)
    document = {"before": arguments.before, "after": arguments.after, **difference_document(found)}
    return Answer(difference_text(found, arguments.before, arguments.after), document)
