"""Compare the parallel program with the serial one, step by step, for SGD and Adam, clipped and not.

An optimizer of the spec that is neither is compared as it is written. Both start each step from the serial program's
state. A tensor's error is ‖a − b‖/‖b‖; its bound is 1e-12 in f64, 1e-5 in f32, or 8 times what rounding alone moves the
serial program by. With --exact all numbers are small integers, and the two programs must agree bit by bit.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from dlc import driver
from dlc.commands.answer import Answer, Status, UsageError
from dlc.commands.arguments import add_kernels, add_parameters, parameters_of, rank_list, steps

if TYPE_CHECKING:
    from dlc.verification import Verdict

EXAMPLES = """\
  dlc verify specs/lenet5.dlspec -n 1,2,4 --precision f64
  dlc verify specs/lenet5.dlspec -n 3 -P batch=10          # shards of 4, 3 and 3 samples
  dlc verify specs/lenet5.dlspec -n 2 --exact
  dlc verify build/lenet5"""

STEPS, EXACT_STEPS = 3, 2
"""How many are compared by default. Each exact update adds binary digits to the weights: where several linear layers
follow one another, the third step may need more than the 53 of float64."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE|build/", help="a .dlspec file, or a folder that `dlc compile` wrote")
    add_parameters(parser)
    parser.add_argument("-n", dest="ranks", metavar="N,N,...", type=rank_list, help="numbers of ranks, such as 1,2,4")
    parser.add_argument("--on", dest="cluster", metavar="CLUSTER", help="the cluster to plan for, by name")
    add_kernels(parser)
    parser.add_argument("--precision", choices=("f64", "f32"), help="element type (default: the spec's)")
    parser.add_argument("--exact", action="store_true", help="small integers only: bit by bit the same")
    parser.add_argument(
        "--steps", metavar="N", type=steps, help=f"steps to compare (default: {STEPS}, exact: {EXACT_STEPS})"
    )


def run(arguments: Namespace) -> Answer:
    """Status 1 where a tensor is beyond its bound, or a program fails."""
    from dlc.verification import VerificationError

    if arguments.steps is None:
        arguments.steps = EXACT_STEPS if arguments.exact else STEPS
    if arguments.steps < 1:
        raise UsageError("`--steps` must be 1 or more: there is nothing to compare before the first step")
    try:
        verdicts = _folder(arguments) if os.path.isdir(arguments.file) else _spec(arguments)
    except VerificationError as error:
        print(f"error: {error}", file=sys.stderr)
        return Answer("", {"passed": False, "problem": str(error), "verdicts": []}, Status.MISTAKES)
    passed = all(verdict.passed for verdict in verdicts)
    text = "all within their bounds" if passed else "the programs differ by more than rounding explains"
    document = {"passed": passed, "verdicts": [_document(verdict) for verdict in verdicts]}
    return Answer(text, document, Status.DONE if passed else Status.MISTAKES)


def _folder(arguments: Namespace) -> tuple[Verdict, ...]:
    from dlc.verification import verify_folder

    if arguments.parameters or arguments.ranks or arguments.cluster or arguments.precision or arguments.exact:
        raise UsageError("a compiled program is verified as it stands: the other options go with a .dlspec file")
    verdict = verify_folder(arguments.file, steps=arguments.steps)
    _print(verdict, arguments)
    return (verdict,)


def _spec(arguments: Namespace) -> tuple[Verdict, ...]:
    from dlc.verification import verify

    options = driver.Options(
        parameters=parameters_of(arguments),
        cluster=arguments.cluster,
        precision=arguments.precision,
        exact=arguments.exact,
        kernels=arguments.kernels,
    )
    source = driver.read(arguments.file, options.parameters)
    counts = arguments.ranks or (driver.context_of(source, replace(options, ranks=None))[1].ranks,)
    return verify(source, options, counts, steps=arguments.steps, report=lambda verdict: _print(verdict, arguments))


def _print(verdict: Verdict, arguments: Namespace) -> None:
    """One line as soon as a comparison is done: they take a while."""
    if arguments.format == "json":
        return
    worst = f"at worst {verdict.error:.1e} of {verdict.bound:.1e} ({verdict.tensor})"
    said = "equal" if verdict.passed and arguments.exact else worst
    ranks = f"{verdict.ranks} rank{'' if verdict.ranks == 1 else 's'}"
    print(f"{'OK    ' if verdict.passed else 'FAILED'}  {ranks}, {verdict.variant}: {verdict.tensors} tensors, {said}")
    for tensor in verdict.failed[:5]:
        print(f"        {tensor}")
    sys.stdout.flush()


def _document(verdict: Verdict) -> dict[str, object]:
    return {
        "variant": verdict.variant,
        "ranks": verdict.ranks,
        "passed": verdict.passed,
        "tensor": verdict.tensor,
        "error": verdict.error if verdict.error < float("inf") else None,
        "bound": verdict.bound,
        "tensors": verdict.tensors,
        "failed": list(verdict.failed),
    }
