"""Arguments in, exit status out: finds the command, reads its arguments, shows its answer.

Only the module of the command that is asked for is imported, so that `dlc check` starts quickly.
"""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from keyword import iskeyword
from types import ModuleType
from typing import NoReturn

import dlc
from dlc.commands.answer import Answer, Status, UsageError, print_json, refusal, show
from dlc.commands.arguments import add_format, nearest
from dlc.diagnostics import DiagnosticError

COMMANDS: Mapping[str, str] = {
    "check": "parse, expand and check a spec",
    "inspect": "the ops of a network: shapes, parameters, multiply-adds; pictures and timelines",
    "plan": "choose algorithms, layouts and communication, and predict a step's time and memory",
    "explain": "every candidate for an op with its cost, or what an error code means",
    "diff": "compare two plans",
    "compile": "write the program as a folder of readable Python",
    "run": "compile and train, on as many ranks as the plan has",
    "rehearse": "run all ranks in one process, for clusters one does not own",
    "verify": "compare the parallel program with the serial one, step by step",
    "calibrate": "measure this machine into a profile that plans rest on",
    "validate": "compare predicted with measured step times and memory on this machine",
    "import": "make a spec and weights of an ONNX model",
    "export": "make an ONNX model of a network and its weights",
    "fmt": "put specs into the house style",
    "doctor": "check this machine for all that dlc needs",
}
"""The commands, each a module of `dlc.commands`, in the order of their use."""

LATER_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "run": ("--emulate",),
    "inspect": ("--html",),
}
"""Options of the language that this version does not have, by command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dlc` with these words (by default the process's own) and return its exit status."""
    if argv is None:
        _end_tidily()
        gc.set_threshold(500_000)  # nearly all objects stay: to look through them is 5 % of `dlc check` and `dlc plan`
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 must not end the command
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except UsageError as error:
        command = f"dlc {words[0]}" if words and words[0] in COMMANDS else "dlc"
        print(f"{command}: {error}\ntry `{command} --help`", file=sys.stderr)
        return Status.USAGE
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except _TerminatedError as end:
        return 128 + end.number
    except BrokenPipeError:
        # The reader has gone; nothing may be written any more, not even by the interpreter's own flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.BROKEN_PIPE
    return status


class _TerminatedError(BaseException):
    """The process was asked to end by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end_tidily() -> None:
    """Let SIGTERM and SIGHUP unwind like an interrupt, so that programs and temporary folders end with this process."""
    import signal

    def end(number: int, frame: object) -> None:
        raise _TerminatedError(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, end)


def _dispatch(words: Sequence[str]) -> int:
    first = words[0] if words else ""
    if first in ("-h", "--help", "help"):
        print(overview())
        return Status.DONE
    if first == "--version":
        print(f"dlc {dlc.__version__}")
        return Status.DONE
    if not first:
        print(overview(), file=sys.stderr)
        return Status.USAGE
    if first not in COMMANDS:
        what = "option" if first.startswith("-") else "command"
        raise UsageError(f"there is no {what} `{first}`{nearest(first, COMMANDS)}")
    return _run(first, words)


def _run(name: str, words: Sequence[str]) -> int:
    """Run one command; every error but a wrong usage becomes its answer."""
    module = command(name)
    try:
        arguments = _parse(name, module, words[1:])
    except SystemExit as end:  # argparse has printed the help
        return int(end.code or 0)
    as_json = arguments.format == "json"
    try:
        answer: Answer = module.run(arguments)
    except DiagnosticError as error:
        answer = refusal(error.diagnostics, getattr(error, "sources", {}))
    except (UsageError, BrokenPipeError):
        raise
    except Exception as error:
        return _internal_error(error, words, as_json=as_json)
    show(answer, as_json=as_json)
    return answer.status


# --- reading words -------------------------------------------------------------------------------------------------


def command(name: str) -> ModuleType:
    """The module of a command; a name that Python keeps for itself has a `_` behind it."""
    return import_module(f"dlc.commands.{name}_" if iskeyword(name) else f"dlc.commands.{name}")


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors as exceptions."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parser_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """The parser of one command; its help is the module's docstring and its EXAMPLES."""
    parser = _Parser(
        prog=f"dlc {name}",
        description=module.__doc__,
        epilog=f"examples:\n{module.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    add_format(parser)
    return parser


def _parse(name: str, module: ModuleType, words: Sequence[str]) -> argparse.Namespace:
    parser = parser_of(name, module)
    arguments, extra = parser.parse_known_args(words)
    if not extra:
        return arguments
    option = extra[0].partition("=")[0]
    if option in LATER_OPTIONS.get(name, ()):
        raise UsageError(f"this version of dlc does not have `{option}` yet")
    if option.startswith("-"):
        raise UsageError(f"there is no option `{option}`{nearest(option, parser._option_string_actions)}")
    raise UsageError(f"`{extra[0]}` is one argument too many")


def overview() -> str:
    """The help of `dlc` itself."""
    lines = [f"  {name:<9} {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            f"dlc {dlc.__version__}: a declarative compiler for parallel deep learning",
            "",
            "usage: dlc COMMAND ... [--format text|json]",
            "",
            *lines,
            "",
            "`dlc COMMAND --help` has each command's options and examples. A first run:",
            "",
            "  dlc check specs/lenet5.dlspec",
            "  dlc run specs/lenet5.dlspec -n 2",
            "",
            "exit status: 0 done, 1 mistakes in the input, 2 wrong usage, 3 no feasible plan, 4 internal error",
        ]
    )


# --- defects of dlc ------------------------------------------------------------------------------------------------


def _internal_error(error: Exception, words: Sequence[str], *, as_json: bool) -> int:
    """Say where dlc itself failed and how to show it to its authors; the traceback only with DLC_DEBUG=1."""
    if os.environ.get("DLC_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    sentence = f"internal error in {_where(error)}: {type(error).__name__}: {error}"
    command = shlex.join(["dlc", *words])
    if as_json:
        print_json({"internal_error": sentence, "reproduce": command, "diagnostics": []})
    print(sentence, file=sys.stderr)
    print("  = note: this is a defect of dlc, the input is not to blame", file=sys.stderr)
    print(f"  = help: report it with the spec and the output of `DLC_DEBUG=1 {command}`", file=sys.stderr)
    return Status.INTERNAL


def _where(error: Exception) -> str:
    """The pass that failed, or the module of dlc where no pass was running."""
    modules = []
    trace = error.__traceback__
    while trace is not None:
        modules.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    passes = [module for module in modules if module.startswith("passes.")]
    if passes:
        return f"pass {passes[0].removeprefix('passes.')}"
    own = [module for module in modules if module.split(".")[0] in ("dlc", "grammar", "backends")]
    return own[-1] if own else "dlc"
