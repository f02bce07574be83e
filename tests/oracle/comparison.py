"""Emitted programs against PyTorch: training steps that each begin with PyTorch's state, and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlc.driver import Compiled, Options, Source, compile_job, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.ir.training import Choice
from dlc.measure import BOUNDS, SPREAD_FACTOR, Judgement, Step, judge_step, worst
from dlc.verification import without_rounding
from passes.set_precision import set_precision
from tests.oracle.programs import Arrays, EmittedProgram, Observed
from tests.oracle.torch_graph import DTYPES, REFERENCED, TorchNetwork, TorchTraining
from tests.specs.emittable import emittable

STEPS = 5
NOISE = {"f64": 3, "f32": 8}
"""How often PyTorch's own spread is drawn. In float32 a unit near a kink falls to its other side now and then, in a few
draws of many: the spread is known only once some have."""

SGD = Choice("sgd", (("momentum", 0.9), ("nesterov", False), ("weight_decay", 0.0)))


@dataclass(frozen=True, slots=True)
class Found:
    """How training compares step by step, and the worst relative error of a predicted output with its bound."""

    training: Judgement
    prediction: float
    bound: float


def compiled_for(source: Source, precision: str, optimizer: Choice | None = None) -> Compiled:
    """The serial program, convolutions by direct sums or im2col: the measure compares like algorithms, and Winograd's
    rounding is another one. Where PyTorch has no such optimizer, SGD takes its place."""
    options = Options(ranks=1, precision=precision)
    job, context = context_of(source, options)
    context = emittable(context, job.graph.batch)
    context = without_rounding(context, job.graph).with_(exact=False, compute=precision)
    if optimizer is not None or context.training.optimizer.kind not in REFERENCED:
        context = context.with_(training=replace(context.training, optimizer=optimizer or SGD))
    return compile_job(source, job, context, options)


def compare(
    path: str | Path,
    folder: Path,
    precision: str = "f64",
    *,
    optimizer: Choice | None = None,
    steps: int = STEPS,
    **parameters: Any,
) -> Found:
    """Compile a spec, train some steps in both, and predict with the weights of the last one."""
    beside = prepared(path, folder, precision, optimizer, parameters)
    beside.program.run(beside, steps=steps, predict=str(folder / "out.npz"))
    return Found(worst(beside.judgements), *_prediction(beside, folder / "out.npz", BOUNDS[precision]))


def curves(path: str | Path, folder: Path, precision: str = "f64", *, steps: int, **parameters: Any) -> np.ndarray:
    """The losses [step, (program, PyTorch)] from the same weights on the same batches, each going its own way."""
    beside = prepared(path, folder, precision, None, parameters)
    beside.free = True
    beside.program.run(beside, steps=steps)
    return np.array(beside.losses)


def prepared(
    path: str | Path, folder: Path, precision: str, optimizer: Choice | None, parameters: Mapping[str, Any]
) -> Beside:
    """A spec compiled for one rank, and its observer."""
    source = read(str(path), {name: str(value) for name, value in parameters.items()})
    compiled = compiled_for(source, precision, optimizer)
    write_folder(emit_files(compiled), str(folder / "program"))
    program = EmittedProgram(folder / "program", source.spec.root)
    return Beside(program, training_of(compiled), BOUNDS[precision])


def training_of(compiled: Compiled) -> TorchTraining:
    """The same training in PyTorch."""
    context, settings = compiled.context, compiled.context.training
    network = TorchNetwork(set_precision(compiled.job.graph, context), settings.seed, context.compute)
    clip = None if settings.clip is None else dict(settings.clip.arguments)
    penalties = tuple((choice.kind, float(str(choice.get("strength")))) for choice in settings.regularise)
    return TorchTraining(
        network, settings.optimizer.kind, dict(settings.optimizer.arguments), clip, regularise=penalties
    )


@dataclass
class Beside:
    """Observes a program: PyTorch takes each step from the same state and batch, and goes on from its own result.

    `free`: the program goes on from its own result too, and only the losses are kept.
    """

    program: EmittedProgram
    training: TorchTraining
    bound: float
    free: bool = False
    judgements: list[Judgement] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)  # of the program and of PyTorch, at each step

    def __call__(self, tensors: Any, stages: Any, options: Any, *, interchangeable: int) -> Beside:
        self.observed = Observed(tensors, dict(stages[0].tensors))
        self.state = {name: array.copy() for name, array in self.observed.state().items()}
        (stage,) = stages
        titles = {name: title for name, title in stage.tensors.items() if title.startswith("w.") and "@" not in name}
        self.training.names = {title[2:]: name for name, title in titles.items()}
        return self

    def before(self, step: int, indices: np.ndarray) -> np.ndarray:
        for name, array in () if self.free else self.observed.state().items():
            array[...] = self.state[name]
        return indices

    def gradients(self, step: int, loss: float) -> None:
        self.tested = {"loss": np.array(loss), **self.observed.gradients()}

    def after(self, step: int) -> None:
        batch, rate = self.program.loaded[-1], self.rate(step)
        reference = self.training.step(self.state, batch, step, rate)
        after = {f"after.{name}": array for name, array in self.observed.state().items()}
        tested = self.tested | {name: array for name, array in after.items() if name in reference}
        if not self.free:
            noisy = tuple(
                self._perturbed(batch, step, rate, seed) for seed in range(NOISE[self.training.network.compute])
            )
            self.judgements.append(judge_step(step, Step(reference, tested, noisy), self.bound))
        self.losses.append((float(tested["loss"]), float(reference["loss"])))
        self.state |= {name[6:]: array for name, array in reference.items() if name.startswith("after.")}

    def rate(self, step: int) -> float:
        return float(self.program.module.learning_rate(step, self.program.steps_per_epoch))

    def _perturbed(self, batch: Arrays, step: int, rate: float, seed: int) -> Arrays:
        """PyTorch's step with weights moved by at most one unit in the last place, and samples in another order within
        the groups of batch norms, each with its own dropout masks."""
        noise = np.random.default_rng([seed, step])
        moved = {name: nudged(array, noise) if name[:2] == "w." else array for name, array in self.state.items()}
        size = len(next(iter(batch.values())))
        run = gcd(size, *(node.attr("group") for node in self.training.network.graph.forward if node.op == "bn"))
        order = np.concatenate([start + noise.permutation(run) for start in range(0, size, run)])
        return self.training.step(moved, {name: array[order] for name, array in batch.items()}, step, rate, order)


def nudged(array: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """Each element moved up by one unit in the last place, or not."""
    return np.where(noise.random(array.shape) < 0.5, array, np.nextafter(array, np.array(np.inf, array.dtype)))


def _prediction(beside: Beside, out: Path, bound: float) -> tuple[float, float]:
    """The largest relative error of an output in inference, with the program's own last weights, and what it may be."""
    network, names = beside.training.network, beside.training.names
    weights = {name: beside.observed.state()[f"w.{name}"] for name in names}
    noise = np.random.default_rng(3)
    graph, loaded = network.graph, beside.program.loaded
    batches = [batch for batch in loaded if set(batch) == set(graph.inputs)] if graph.fields else loaded
    error = 0.0
    with np.load(out) as found:
        rows = len(found[found.files[0]])
        batches = batches[len(batches) - -(-rows // graph.batch) :]
        expected = _outputs(network, names, weights, batches)
        spread = _outputs(network, names, {name: nudged(array, noise) for name, array in weights.items()}, batches)
        for name, whole in expected.items():
            assert found[name].shape == whole.shape
            scale = float(np.linalg.norm(whole)) or 1.0
            error = max(error, float(np.linalg.norm(found[name] - whole)) / scale)
            bound = max(bound, SPREAD_FACTOR * float(np.linalg.norm(spread[name] - whole)) / scale)
    return error, bound


def _outputs(
    network: TorchNetwork, names: Mapping[str, str], weights: Mapping[str, np.ndarray], batches: list[Arrays]
) -> dict[str, np.ndarray]:
    """The outputs for all batches, in inference."""
    dtype, graph = DTYPES[network.compute], network.graph
    held = {address: torch.tensor(weights[name], dtype=dtype) for name, address in names.items()}
    rows: dict[str, list[np.ndarray]] = {name: [] for name, _ in graph.outputs}
    for batch in batches:
        inputs = {name: torch.tensor(batch[name]) for name in graph.inputs}
        with torch.no_grad():
            values = network.forward({**inputs, **held}, training=False)
        for name, value in graph.outputs:
            rows[name].append(values[value].numpy())
    return {name: np.concatenate(parts) for name, parts in rows.items()}
