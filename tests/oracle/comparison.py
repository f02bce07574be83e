"""Emitted programs against PyTorch: training steps that each begin with PyTorch's state, and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlc.driver import Compiled, Options, Source, compile_job, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.ir.training import Choice
from dlc.measure import BOUNDS, Judgement, Step, judge
from passes.set_precision import set_precision
from tests.oracle.programs import Arrays, EmittedProgram, recorded
from tests.oracle.torch_graph import DTYPES, TorchNetwork, TorchTraining

STEPS = 5
NOISE_SEEDS = (1, 2)
REFERENCED = ("sgd", "adam", "adamw")
SGD = Choice("sgd", (("momentum", 0.9), ("nesterov", False), ("weight_decay", 0.0)))


@dataclass(frozen=True, slots=True)
class Found:
    """How training compares step by step, and the worst relative error of a predicted output with its bound."""

    training: Judgement
    prediction: float
    bound: float


def compiled_for(source: Source, precision: str, optimizer: Choice | None = None) -> Compiled:
    """The serial program; where PyTorch has no such optimizer, SGD takes its place."""
    options = Options(ranks=1, precision=precision)
    job, context = context_of(source, options)
    if optimizer is not None or context.training.optimizer.kind not in REFERENCED:
        context = context.with_(training=replace(context.training, optimizer=optimizer or SGD))
    return compile_job(source, job, context, options)


def compare(
    path: str | Path, folder: Path, precision: str = "f64", optimizer: Choice | None = None, **parameters: Any
) -> Found:
    """Compile a spec, train some steps in both, and predict with the weights of the last one."""
    source = read(str(path), {name: _spelt(value) for name, value in parameters.items()})
    compiled = compiled_for(source, precision, optimizer)
    write_folder(emit_files(compiled), str(folder / "program"))
    program = EmittedProgram(folder / "program", source.spec.root)
    free, theirs, ours, out = (folder / name for name in ("free", "torch", "dlc", "out.npz"))
    for made in (free, theirs, ours):
        made.mkdir()
    program.run(steps=STEPS, record=str(free))
    module, batches = program.module, program.loaded[:STEPS]
    training = _training(compiled, dict(module.NAMES))
    state = {name[7:]: array for name, array in recorded(free, 0).items() if name.startswith("before.")}
    references, noisy = [], []
    for step, batch in enumerate(batches):
        rate = module.learning_rate(step, program.steps_per_epoch)
        record = training.step(state, batch, step, rate)
        noisy.append(tuple(_perturbed(training, state, batch, step, rate, seed, module) for seed in NOISE_SEEDS))
        references.append(record)
        after = state | {name[6:]: array for name, array in record.items() if name.startswith("after.")}
        before = {f"before.{name}": array for name, array in state.items()}
        np.savez(theirs / f"step{step:06}.npz", **before, **record)
        state = after
    program.run(steps=STEPS, replay=str(theirs), record=str(ours), predict=str(out))
    tested = [_results(recorded(ours, step)) for step in range(STEPS)]
    steps = [
        Step(_common(a, b), _common(b, a), tuple(_common(n, b) for n in ns))
        for a, b, ns in zip(references, tested, noisy, strict=True)
    ]
    judgement = judge(steps, BOUNDS[precision])
    return Found(judgement, *_prediction(training, module, program.loaded, _last(ours), out, precision))


def _spelt(value: Any) -> str:
    return str(value).replace("True", "yes").replace("False", "no") if not isinstance(value, str) else value


def _training(compiled: Compiled, names: dict[str, str]) -> TorchTraining:
    context = compiled.context
    settings = context.training
    graph = set_precision(compiled.job.graph, context)
    network = TorchNetwork(graph, settings.seed, context.compute)
    clip = None if settings.clip is None else dict(settings.clip.arguments)
    return TorchTraining(network, settings.optimizer.kind, dict(settings.optimizer.arguments), clip, names)


def _perturbed(
    training: TorchTraining, state: Arrays, batch: Arrays, step: int, rate: float, seed: int, module: Any
) -> Arrays:
    """The same step of PyTorch with weights moved by at most one unit in the last place, and samples in another order
    where nothing tells them apart."""
    noise = np.random.default_rng([seed, step])
    moved = dict(state)
    for name, array in state.items():
        if name.startswith("w.") and array.dtype.kind == "f":
            moved[name] = np.where(noise.random(array.shape) < 0.5, array, np.nextafter(array, np.inf))
    size, run = len(next(iter(batch.values()))), module.INTERCHANGEABLE
    order = np.concatenate([start + noise.permutation(min(run, size - start)) for start in range(0, size, run)])
    return dict(training.step(moved, {name: array[order] for name, array in batch.items()}, step, rate))


def _results(record: Mapping[str, Any]) -> Arrays:
    return {name: array for name, array in record.items() if not name.startswith("before.")}


def _common(record: Arrays, other: Arrays) -> Arrays:
    """Without constants, which are no weights: both must have all the rest."""
    return {name: array for name, array in record.items() if not name.startswith("after.w.") or name in other}


def _last(folder: Path) -> Arrays:
    record = recorded(folder, STEPS - 1)
    return {name[6:]: array for name, array in record.items() if name.startswith("after.")}


def _prediction(
    training: TorchTraining, module: Any, loaded: list[Arrays], state: Arrays, out: Path, precision: str
) -> tuple[float, float]:
    """The largest relative error of an output in inference, and what it may be."""
    graph, dtype = training.network.graph, DTYPES[precision]
    batches = [batch for batch in loaded if set(batch) == set(graph.inputs)][-_batches(out, graph.batch) :]
    expected: dict[str, list[np.ndarray]] = {name: [] for name, _ in graph.outputs}
    spread: dict[str, list[np.ndarray]] = {name: [] for name, _ in graph.outputs}
    rng = np.random.default_rng(3)
    for noisy, rows in ((False, expected), (True, spread)):
        weights = {}
        for name, address in training.names.items():
            array = state[f"w.{name}"]
            array = np.where(rng.random(array.shape) < 0.5, array, np.nextafter(array, np.inf)) if noisy else array
            weights[address] = torch.tensor(array, dtype=dtype)
        for batch in batches:
            inputs = {name: torch.tensor(batch[name]) for name in graph.inputs}
            with torch.no_grad():
                values = training.network.forward({**inputs, **weights}, training=False)
            for name, value in graph.outputs:
                rows[name].append(values[value].numpy())
    worst, allowed = 0.0, BOUNDS[precision]
    with np.load(out) as found:
        for name, parts in expected.items():
            whole = np.concatenate(parts)
            assert found[name].shape == whole.shape
            scale = float(np.linalg.norm(whole)) or 1.0
            worst = max(worst, float(np.linalg.norm(found[name] - whole)) / scale)
            allowed = max(allowed, 8 * float(np.linalg.norm(np.concatenate(spread[name]) - whole)) / scale)
    return worst, allowed


def _batches(out: Path, batch: int) -> int:
    with np.load(out) as found:
        return -(-len(found[found.files[0]]) // batch)
