"""Put specs into the house style: blanks, indentation and columns. Tokens, line breaks and comments stay."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dlc.commands.answer import Answer, Status, plural
from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.folders import write_text

EXAMPLES = """\
  dlc fmt specs/lenet5.dlspec
  dlc fmt --check specs/*.dlspec       # changes nothing, status 1 where something would change"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a .dlspec file")
    parser.add_argument("--check", action="store_true", help="write nothing, only say which files would change")


def run(arguments: Namespace) -> Answer:
    """Format every file that parses; status 1 where one does not, or where `--check` finds one to change."""
    from dlc.syntax.formatter import format_source
    from dlc.syntax.source import read_source

    mistakes: list[Diagnostic] = []
    sources: dict[str, str] = {}
    changed: list[str] = []
    for file in dict.fromkeys(arguments.files):
        try:
            sources[file] = read_source(file)
            formatted = format_source(sources[file], file)
        except DiagnosticError as error:
            mistakes.extend(error.diagnostics)
            continue
        if formatted != sources[file]:
            changed.append(file)
            if not arguments.check:
                write_text(file, formatted)
    failed = bool(mistakes) or (arguments.check and bool(changed))
    document = {"changed": changed, "written": not arguments.check}
    status = Status.MISTAKES if failed else Status.DONE
    return Answer(_text(arguments, changed, bool(mistakes)), document, status, tuple(mistakes), sources)


def _text(arguments: Namespace, changed: list[str], mistakes: bool) -> str:
    verb = "would change" if arguments.check else "formatted"
    if changed or mistakes:
        return "\n".join(f"{verb} {file}" for file in changed)
    return f"{plural(len(arguments.files), 'file')} in house style"
