"""The examples of the documents are true: specs are checked, commands are run and their output is compared."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from dlc import cli, driver
from dlc.diagnostics import render_all

from .blocks import DOCUMENTS, ROOT, Block, agrees, all_blocks, blocks, commands, complete

SPECS = [block for block in all_blocks("dlspec") if not block.words.startswith("mistaken")]
LONG = "command-line.md"
"""It runs every command there is."""

RUNNING = [document for document in DOCUMENTS if any(b.words == "runs" for b in blocks(document))]


@pytest.mark.parametrize("block", SPECS, ids=str)
def test_specs_have_no_mistakes(block: Block, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "specs", tmp_path, dirs_exist_ok=True)  # for imports
    path = tmp_path / "example.dlspec"
    path.write_text(complete(block), encoding="utf-8")
    assert render_all(*driver.check_file(str(path))) == ""


@pytest.mark.parametrize(
    "document",
    [pytest.param(d, marks=pytest.mark.slow if d.name == LONG else (), id=d.name) for d in RUNNING],
)
def test_commands_print_what_is_shown(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    monkeypatch.chdir(tmp_path)
    for block in blocks(document):
        if block.language == "dlspec" and block.words.endswith(".dlspec"):
            Path(block.words).write_text(block.text, encoding="utf-8")
        for command in commands(block) if block.words == "runs" else ():
            program, *words = shlex.split(command.line)
            assert program == "dlc", f"{block}: only dlc is run"
            cli.main(words)
            printed = "".join(capfd.readouterr())
            if command.expected.strip():
                assert agrees(command.expected, printed), f"{block}: `{command.line}` prints\n{printed}"


def _dlc_lines() -> list[tuple[Block, str]]:
    """Each command line of dlc in the documents, without what a shell does with its output."""
    return [
        (block, line)
        for block in all_blocks("sh")
        for line in re.findall(r"^(?:\$ )?(dlc .*)$", block.text, re.MULTILINE)
        if line.split()[1] in cli.COMMANDS
    ]


@pytest.mark.parametrize(("block", "line"), _dlc_lines(), ids=str)
def test_commands_exist_with_these_options(block: Block, line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    ends = [words.index(sign) for sign in ("|", ">", "&&") if sign in words]
    cli.parser_of(name, cli.command(name)).parse_args(words[: min(ends, default=len(words))])


LINKS = [
    (document, target)
    for document in DOCUMENTS
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("document", "target"), LINKS, ids=lambda value: getattr(value, "name", value))
def test_links_lead_somewhere(document: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    found = document if not path else (document.parent / path).resolve()
    assert found.exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in [_anchor(heading) for heading in headings]


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
