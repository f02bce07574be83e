"""What every command shares: help, versions, wrong usage, exit statuses, colours, interrupts and defects."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

import dlc as package
from dlc import driver
from dlc.cli import COMMANDS, LATER_OPTIONS, command, main, parser_of
from dlc.commands.answer import Answer, refusal, style_of
from dlc.diagnostics import COLOURED, PLAIN, DiagnosticError, render
from dlc.messages.e05_plan import NO_FIT
from tests.cli.conftest import Dlc


def test_version(dlc: Dlc) -> None:
    said = dlc("--version")
    assert (said.status, said.out) == (0, f"dlc {package.__version__}\n")


def test_help_lists_every_command(dlc: Dlc) -> None:
    said = dlc("--help")
    assert said.status == 0
    assert all(f"  {name} " in said.out for name in COMMANDS)


def test_no_command_is_wrong_usage(dlc: Dlc) -> None:
    said = dlc()
    assert said.status == 2
    assert "usage: dlc COMMAND" in said.err
    assert said.out == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_examples(dlc: Dlc, name: str) -> None:
    said = dlc(name, "--help")
    assert said.status == 0
    assert f"usage: dlc {name}" in said.out
    assert f"examples:\n  dlc {name}" in said.out or f"  dlc {name}" in said.out.partition("examples:")[2]
    assert "--json" in said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_use_options_that_exist(name: str) -> None:
    module = command(name)
    options = parser_of(name, module)._option_string_actions
    for line in module.EXAMPLES.splitlines():
        words = line.partition("#")[0].split("|")[0].split()
        if words[:2] == ["dlc", name]:
            assert all(word in options for word in words if word.startswith("-") and len(word) > 1), line


@pytest.mark.parametrize(("typed", "meant"), [("chek", "check"), ("expalin", "explain"), ("Run", "run")])
def test_misspelt_command(dlc: Dlc, typed: str, meant: str) -> None:
    said = dlc(typed)
    assert said.status == 2
    assert f"there is no command `{typed}`" in said.err
    assert f"`{meant}`" in said.err


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, all_ in LATER_OPTIONS.items() for option in all_]
)
def test_later_options_say_so(dlc: Dlc, lenet5: Path, name: str, option: str) -> None:
    said = dlc(name, lenet5, f"{option}=1")
    assert said.status == 2
    assert f"this version of dlc does not have `{option}` yet" in said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("check",), "the following arguments are required: FILE"),
        (("check", "a", "--jsn"), "there is no option `--jsn`, there is one with a similar name: `--json`"),
        (("check", "a", "b"), "`b` is one argument too many"),
        (("check", "a", "-P", "batch"), "`batch` is not of the form NAME=VALUE, such as batch=64"),
        (("check", "a", "-P", "b=1", "-P", "b=2"), "`-P b=…` is given twice"),
        (("plan", "a", "-n", "0"), "`0` is not a number of ranks: a whole number, 1 or more"),
        (("plan", "a", "-n", "two"), "`two` is not a number of ranks: a whole number, 1 or more"),
        (("verify", "a", "-n", "1,,2"), "`` is not a number of ranks"),
        (("verify", "a", "--steps", "0"), "`--steps` must be 1 or more"),
        (("plan", "a", "--dump-after", "differentiat"), "there is one with a similar name: `differentiate`"),
        (("compile", "a", "-o", "b", "--backend", "cupy", "--kernels", "c"), "the backend `cupy` has kernels in CUDA"),
        (("compile", "a", "-o", "b", "--backend", "nump"), "there is one with a similar name: `numpy`"),
        (("compile", "a"), "the following arguments are required: -o"),
        (("compile", "plan.json", "-o", "b", "-n", "2"), "a plan.json is applied exactly"),
        (("compile", "plan.json", "-o", "b", "--kernels", "c"), "a plan.json is applied exactly"),
        (("explain", "E9999"), "is no file, no code of a message and no operator"),
        (("inspect", "a", "--ops", "--dot"), "not allowed with argument"),
        (("check", "a", "--format", "xml"), "text"),
    ],
)
def test_wrong_usage(dlc: Dlc, words: tuple[str, ...], sentence: str) -> None:
    said = dlc(*words)
    assert said.status == 2
    assert sentence in said.err
    assert said.err.endswith(f"try `dlc {words[0]} --help`\n")
    assert said.out == ""


def test_no_feasible_plan_has_a_status_of_its_own() -> None:
    unfit = NO_FIT.at(None, limit="1 GiB", needed="2 GiB")
    assert refusal((unfit,), {}).status == 3
    with pytest.raises(DiagnosticError) as mistake:
        driver.read("nothing.dlspec")
    assert refusal((unfit, *mistake.value.diagnostics), {}).status == 1


def test_status_3_reaches_the_caller(dlc: Dlc, lenet5: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.dlspec"
    text = lenet5.read_text(encoding="utf-8")
    file.write_text(
        text.replace("  strategy  = data\n", "  strategy  = data\n  limit memory <= 64 KiB\n"), encoding="utf-8"
    )
    said = dlc("plan", file)
    assert said.status == 3
    assert "no plan fits 64 KiB per device" in said.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert style_of(Terminal()) is COLOURED
    assert style_of(io.StringIO()) is PLAIN
    monkeypatch.setenv("TERM", "dumb")
    assert style_of(Terminal()) is PLAIN


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch, wrong: Path) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert style_of(Terminal()) is COLOURED, "an empty NO_COLOR does not count"
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["check", str(wrong)]) == 1
    assert "error[" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_interrupt_ends_quietly(dlc: Dlc, lenet5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "check_file", interrupted)
    said = dlc("check", lenet5)
    assert (said.status, said.out, said.err) == (130, "", "")


def test_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlc", "explain"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(20) == 141


def fail(*_: object) -> None:
    raise ValueError("a planted defect")


def test_defect_is_one_line_and_how_to_show_it(dlc: Dlc, lenet5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dlc("plan", lenet5)  # so that the pass is imported
    monkeypatch.delenv("DLC_DEBUG", raising=False)
    monkeypatch.setattr(sys.modules["passes.differentiate"], "roles", fail)
    said = dlc("plan", lenet5)
    assert said.status == 4
    assert said.err.splitlines()[0] == "internal error in pass differentiate: ValueError: a planted defect"
    assert f"DLC_DEBUG=1 dlc plan {lenet5}" in said.err
    assert "Traceback" not in said.err


def test_defect_with_traceback_on_demand(dlc: Dlc, lenet5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_DEBUG", "1")
    monkeypatch.setattr(driver, "check_file", fail)
    said = dlc("check", lenet5)
    assert said.status == 4
    assert "Traceback" in said.err


def test_defect_in_json(dlc: Dlc, lenet5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "check_file", fail)
    said = dlc("check", lenet5, "--json")
    assert said.status == 4
    assert "a planted defect" in said.document["internal_error"]


def test_answers_without_a_document_print_nothing_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    from dlc.commands.answer import show

    show(Answer("text"), as_json=True)
    assert capsys.readouterr().out == ""


def test_labels_of_json_point_where_the_text_does(dlc: Dlc, wrong: Path) -> None:
    (found,) = [d for d in dlc("check", wrong, "--json").document["diagnostics"] if d["severity"] == "error"]
    (diagnostic,) = [d for d in driver.check_file(str(wrong))[0] if d.is_error]
    span = found["span"]
    assert f"{span['file']}:{span['line']}:{span['column']}" in render(diagnostic, {})
