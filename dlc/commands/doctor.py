"""Check this machine for all that dlc needs, and say what to do about what is missing."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from dlc.commands.answer import Answer, Status

EXAMPLES = """\
  dlc doctor
  dlc doctor --json"""


def configure(parser: ArgumentParser) -> None:
    """There are no arguments of its own."""


def run(arguments: Namespace) -> Answer:
    """One line a finding; status 1 where something that is needed is missing."""
    from dlc.doctor import Finding, examine
    from dlc.inspect.tables import table

    def verdict(finding: Finding) -> str:
        return "OK" if finding.ok else "MISSING" if finding.needed else "note"

    findings = examine()
    rows = [(verdict(f), f.name, f.found, "" if f.ok else f.help) for f in findings]
    failed = any(finding.needed and not finding.ok for finding in findings)
    document = {"ok": not failed, "findings": [asdict(finding) for finding in findings]}
    text = table(("", "what", "found", "what to do"), rows)
    closing = "something is missing, see the last column" if failed else "all that dlc needs is here"
    return Answer(f"{text}\n\n{closing}", document, Status.MISTAKES if failed else Status.DONE)
