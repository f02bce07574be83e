"""Each code has a file that earns it, CODE_what.dlspec, and the exact messages for it, CODE_what.err.

A file is checked; one with a comment line `# compile …` is compiled, with the options that follow, one with `# plan …`
is planned by the search over all strategies, `# plan -n 8` for so many ranks. A comment line
`# -P name=value` sets a parameter. `DLC_UPDATE_PAIRS=1 pytest tests/errors` writes the .err files anew; read the
difference before committing it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from dlc.diagnostics import Diagnostic, DiagnosticError, Sources, render_all
from dlc.driver import SourcedError
from dlc.messages import MESSAGES
from dlc.syntax.parser import parse
from dlc.syntax.source import read_source
from tests.slices import later

HERE = Path(__file__).parent
PAIRS = sorted(HERE.glob("*.dlspec"))
LONG = ("E0509_conflict", "E0509_limit", "E0509_pins")

SHOWN_ELSEWHERE = {
    "E0112": "tests/syntax/test_source.py",
    "E0113": "tests/syntax/test_source.py",
    "E0702": "tests/driver/test_folders.py",
    "E0703": "tests/runtime/test_guard.py",
    "E0704": "tests/runtime/test_launch.py",
    "E0705": "tests/driver/test_folders.py",
    "E0706": "tests/driver/test_plans.py",
    "E0707": "tests/driver/test_choices.py",
    "E0710": "tests/driver/test_running.py",
    "E0713": "tests/runtime/test_launch.py",
    "E0715": "tests/runtime/test_readers.py",
    "E0716": "tests/driver/test_running.py",
    "E0717": "tests/driver/test_running.py",
    "E0718": "tests/runtime/test_guard.py",
    "E0719": "tests/driver/test_plans.py",
    "E0720": "tests/programs/test_checkpoints.py",
    "E0801": "tests/frontends/test_import.py",
    "E0802": "tests/frontends/test_import.py",
    "E0803": "tests/frontends/test_import.py",
    "E0804": "tests/frontends/test_import.py",
    "E0805": "tests/frontends/test_export.py",
    "E0806": "tests/frontends/test_export.py",
    "E0807": "tests/frontends/test_import.py",
}
"""Codes that no file alone can earn (they need a missing file, a full disk or a running program), and their tests."""


def code_of(pair: Path) -> str:
    return pair.stem.partition("_")[0]


def messages(name: str) -> tuple[Sequence[Diagnostic], Sources]:
    """The messages that dlc shows for a file of the working folder; E01 needs no more than the parser."""
    if not name.startswith("E01"):
        from dlc.driver import check_file

        written = Path(name).read_text(encoding="utf-8")
        command = re.search(r"^# compile(.*)$", written, re.MULTILINE)
        if command is not None:
            return compiling(name, shlex.split(command[1]))
        planned = re.search(r"^# plan(?: -n (\d+))?$", written, re.MULTILINE)
        if planned is not None:
            return planning(name, None if planned[1] is None else int(planned[1]))
        return check_file(name, dict(re.findall(r"^# -P (\w+)=(.*)$", written, re.MULTILINE)))
    text = ""
    try:
        text = read_source(name)
        parse(text, name)
    except DiagnosticError as error:
        return error.diagnostics, {name: text}
    return (), {}


def compiling(name: str, words: Sequence[str]) -> tuple[Sequence[Diagnostic], Sources]:
    """The messages of `dlc compile` with these options; nothing is written."""
    from dlc.cli import parser_of
    from dlc.commands import compile as command

    arguments = parser_of("compile", command).parse_args([name, "-o", "unwritten", *words])
    try:
        compiled = command.compiled_file(arguments)
    except SourcedError as error:
        return error.diagnostics, error.sources
    return compiled.warnings, compiled.source.texts


def planning(name: str, ranks: int | None) -> tuple[Sequence[Diagnostic], Sources]:
    """The messages of planning a file for so many ranks, or for those of its cluster."""
    from dlc.driver import Options, plan_spec, read

    try:
        planned = plan_spec(read(name), Options(ranks=ranks))
    except SourcedError as error:
        return error.diagnostics, error.sources
    return planned.warnings, planned.source.texts


@pytest.mark.parametrize(
    "pair", [later(pair) if pair.stem in LONG else pair for pair in PAIRS], ids=lambda pair: pair.stem
)
def test_messages_are_those_of_the_pair(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    found, sources = messages(pair.name)
    shown = render_all(found, sources) + "\n"
    expected = pair.with_suffix(".err")
    if os.environ.get("DLC_UPDATE_PAIRS"):
        expected.write_text(shown, encoding="utf-8")
    assert shown == expected.read_text(encoding="utf-8")
    assert code_of(pair) in [message.code for message in found]


def test_every_code_has_a_pair_or_a_test_of_its_own() -> None:
    shown = {code_of(pair) for pair in PAIRS} | set(SHOWN_ELSEWHERE)
    assert sorted(set(MESSAGES) - shown) == []
    assert sorted(shown - set(MESSAGES)) == []


@pytest.mark.parametrize(("code", "test"), SHOWN_ELSEWHERE.items())
def test_tests_of_their_own_name_the_code(code: str, test: str) -> None:
    assert code in (HERE.parents[1] / test).read_text(encoding="utf-8")


def test_codes_have_no_pair_and_other_test_at_once() -> None:
    assert not {code_of(pair) for pair in PAIRS} & set(SHOWN_ELSEWHERE)


@pytest.mark.parametrize("expected", sorted(HERE.glob("*.err")), ids=lambda path: path.stem)
def test_no_expectation_stands_alone(expected: Path) -> None:
    assert expected.with_suffix(".dlspec") in PAIRS
