"""`dlc verify`: the parallel program against the serial one, step by step, both started by the serial program's state.

`dlc.measure` says how far apart the two may be. In exact mode (small integers, no rounding anywhere) they must be
equal bit by bit.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dlc.driver import (
    Compiled,
    Options,
    Source,
    compile_job,
    compile_spec,
    context_of,
    emit_files,
    from_plan,
    serial,
)
from dlc.folders import write_folder
from dlc.ir.request import Rule
from dlc.ir.training import Choice, RatePiece, Training
from dlc.launch import launch
from dlc.measure import BOUNDS, Step, judge

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dlc.ir.graph import Graph
    from passes.context import Context

    Tensors = dict[str, npt.NDArray[np.generic]]

Runner = Callable[..., None]
"""`(program, ranks, root, steps, record, *options)`: runs a program's folder and keeps a record of each step."""

CLIP_NORM = 1e-3  # far below the norm of any gradient that training begins with, so that clipping does act
LOSS_SCALE = 2.0**8
NOISE_SEEDS = ((1, 2), (3, 4, 5, 6, 7, 8))
"""The later ones are drawn where the earlier ones leave a tensor beyond its bound: two may happen to round alike, and a
unit in the last place near a kink falls to its other side in a few draws of many."""

EXACT_ALGORITHMS = ("direct", "im2col")


class VerificationError(Exception):
    """A program of the comparison did not run to its end; its own messages have been printed."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of training that is verified: an optimizer, with or without clipping."""

    name: str
    training: Training


@dataclass(frozen=True, slots=True)
class Verdict:
    """One variant on one number of ranks; `error` and `bound` are those of the tensor that is nearest to its bound."""

    variant: str
    ranks: int
    tensor: str
    error: float
    bound: float
    tensors: int
    failed: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every tensor was within its bound."""
        return not self.failed


def verify(
    source: Source,
    options: Options,
    ranks: tuple[int, ...],
    *,
    steps: int = 3,
    report: Callable[[Verdict], None] = lambda verdict: None,
    run: Runner | None = None,
) -> tuple[Verdict, ...]:
    """Compile for each number of ranks, run each variant for some steps, and compare losses, gradients and weights.

    `run` starts the programs, by default as users do. Errors: VerificationError where a program fails.
    """
    verdicts = list[Verdict]()
    for count in ranks:
        job, context = context_of(source, replace(options, ranks=count))
        if options.exact:
            context = without_rounding(context, job.graph)
        for variant in variants(context.training, exact=options.exact):
            compiled = compile_job(source, job, context.with_(training=variant.training), options)
            verdict = compare(compiled, emit_files(compiled), variant.name, steps, run=run or launched)
            report(verdict)
            verdicts.append(verdict)
    return tuple(verdicts)


def verify_folder(folder: str, *, steps: int = 3) -> Verdict:
    """An emitted folder as it stands against the serial program of the spec and plan that it was made from."""
    source, options, plan = from_plan(os.path.join(folder, "plan.json"))
    compiled = compile_spec(source, options, plan)
    return compare(compiled, _content(folder), "as compiled", steps)


def _content(folder: str) -> dict[str, bytes]:
    """File name -> bytes of everything in a folder but what running it left there."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as stream:
                found[os.path.relpath(path, folder)] = stream.read()
    return found


def variants(training: Training, *, exact: bool) -> Iterator[Variant]:
    """SGD and Adam, each with clipping and without, and any other optimizer as it is written.

    In exact mode SGD and any other one but Adam, without clipping, with rates that are powers of two. A dynamic loss
    scale is one at which steps are not skipped: in those there would be nothing to compare.
    """
    if training.precision.loss_scale == "dynamic":
        training = replace(training, precision=replace(training.precision, loss_scale=LOSS_SCALE))
    sgd = Choice("sgd", (("momentum", 0.5 if exact else 0.9), ("nesterov", False), ("weight_decay", 0.0)))
    adam = Choice("adam", (("beta1", 0.9), ("beta2", 0.999), ("eps", 1e-8), ("weight_decay", 0.0)))
    own = () if training.optimizer.kind in (sgd.kind, adam.kind) else (training.optimizer,)
    if exact:
        rates = (RatePiece("constant", (("rate", 0.125),), None),)
        for optimizer in (sgd, *own):
            plain = replace(training, optimizer=optimizer, rates=rates, clip=None, init=None)
            yield Variant(f"{optimizer.kind}, exact", plain)
        return
    for optimizer in (sgd, adam):
        for clip in (None, Choice("norm", (("kind", "norm"), ("bound", CLIP_NORM)))):
            name = f"{optimizer.kind}, {'clipped' if clip else 'not clipped'}"
            yield Variant(name, replace(training, optimizer=optimizer, clip=clip))
    for optimizer in own:
        yield Variant(f"{optimizer.kind}, as written", training)


def without_rounding(context: Context, graph: Graph) -> Context:
    """Only the algorithms that add and multiply and nothing else: pins of others are lifted, others are forbidden."""
    convolutions = tuple(node.address for node in graph.forward if node.op == "conv")
    span = next((node.span for node in graph.forward if node.span is not None), None)
    assert span is not None
    rounding = ("implicit_gemm", "cudnn", "fft", "fft_tiled", "winograd(2)", "winograd(4)")
    forbids = tuple(Rule("algorithm", name, convolutions, "**", span, span) for name in rounding if convolutions)
    pins = tuple(pin for pin in context.request.pins if pin.key != "algorithm" or pin.value in EXACT_ALGORITHMS)
    return context.with_(request=replace(context.request, pins=pins, forbids=forbids), exact=True, compute="f64")


def launched(program: str, ranks: int, root: str, steps: int, record: str, *options: str) -> None:
    """A program in processes of its own, as users start it. Errors: VerificationError where it fails."""
    arguments = ["--steps", str(steps), "--quiet", "--root", root, "--record", record, *options]
    status = launch(program, ranks, arguments)
    if status:
        raise VerificationError(f"the program for {ranks} ranks ended with status {status}")


def compare(
    compiled: Compiled, parallel: Mapping[str, bytes], variant: str, steps: int, *, run: Runner = launched
) -> Verdict:
    """Run the serial program, the parallel one from its states, and the serial one under noise; compare.

    `parallel` holds the files of the parallel program. Errors: VerificationError where a program fails.
    """
    with tempfile.TemporaryDirectory(prefix="dlc-verify-") as folder:
        one, many = os.path.join(folder, "serial"), os.path.join(folder, "parallel")
        write_folder(emit_files(serial(compiled)), one)
        write_folder(parallel, many)
        root = compiled.source.spec.root
        reference, tested = os.path.join(folder, "reference"), os.path.join(folder, "tested")
        for record in (reference, tested):
            os.makedirs(record)
        run(one, 1, root, steps, reference)
        run(many, compiled.plan.ranks, root, steps, tested, "--replay", reference)

        def noise(seed: int) -> str:
            record = os.path.join(folder, f"noise{seed}")
            os.makedirs(record)
            run(one, 1, root, steps, record, "--replay", reference, "--perturb", str(seed))
            return record

        noisy = list[str]()
        for seeds in ((),) if compiled.context.exact else NOISE_SEEDS:
            noisy += [noise(seed) for seed in seeds]
            verdict = _verdict(compiled, variant, [_Step(reference, tested, noisy, step) for step in range(steps)])
            if verdict.passed:
                break
        return verdict


@dataclass(frozen=True, slots=True)
class _Step:
    """The records of one step: of the serial program, of the tested one, and of the serial one under noise."""

    reference: str
    tested: str
    noisy: list[str]
    number: int

    def load(self, folder: str) -> Tensors:
        """What the step came to, by name: its loss, gradients, and weights and state after it."""
        import numpy as np

        with np.load(os.path.join(folder, f"step{self.number:06}.npz"), allow_pickle=False) as record:
            return {name: record[name] for name in record.files if not name.startswith("before.")}


def _verdict(compiled: Compiled, variant: str, steps: list[_Step]) -> Verdict:
    loaded = (
        Step(step.load(step.reference), step.load(step.tested), tuple(step.load(folder) for folder in step.noisy))
        for step in steps
    )
    context = compiled.context
    try:
        found = judge(loaded, BOUNDS[context.compute], exact=context.exact)
    except ValueError as error:
        raise VerificationError(f"the serial and the parallel program recorded {error}") from None
    return Verdict(variant, compiled.plan.ranks, found.tensor, found.error, found.bound, found.tensors, found.failed)
