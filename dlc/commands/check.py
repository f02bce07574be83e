"""Parse, expand and check a spec, and say all that is wrong with it, with file, line and column."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dlc import driver
from dlc.commands.answer import Answer, Status
from dlc.commands.arguments import add_parameters, parameters_of

EXAMPLES = """\
  dlc check specs/lenet5.dlspec
  dlc check specs/resnet50.dlspec -P batch=256 -P blocks=[3,4,23,3]
  dlc check specs/gpt2.dlspec --json"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="a .dlspec file")
    add_parameters(parser)


def run(arguments: Namespace) -> Answer:
    """Status 0 where there is no error; warnings do not count."""
    diagnostics, sources = driver.check_file(arguments.file, parameters_of(arguments))
    failed = any(diagnostic.is_error for diagnostic in diagnostics)
    text = "" if failed else f"{arguments.file}: no mistakes"
    status = Status.MISTAKES if failed else Status.DONE
    return Answer(text, {"file": arguments.file, "ok": not failed}, status, diagnostics, sources)
