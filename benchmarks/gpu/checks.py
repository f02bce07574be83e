"""What a GPU must compute rightly: every kernel, gradients, LeNet-5 to its accuracy, two ranks on one GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.networks import SAMPLES, compiled, write_program
from dlc.driver import Compiled
from dlc.launch import command_line
from dlc.ops.schedules import rate_at
from dlc.weights import first_weights

ROOT = Path(__file__).resolve().parents[2]
ACCURACY = 0.95
"""LeNet-5's on the digits that are kept for tests, after its 20 epochs; NumPy's program reaches 0.97."""

GRADIENT_ERROR = 1e-6
"""Relative, of a derivative in double precision along a direction, by central differences of DIFFERENCE."""

DIFFERENCE = 1e-5

PRECISIONS = {"f32": 1e-5, "bf16": 5e-2}
"""Precision -> the norm of how far a gradient is off the one in double precision, over that one's norm, at most."""

RATE = 1024.0
"""Of the one step by which gradients in different precisions are compared."""

DTYPES = {"f64": np.float64, "f32": np.float32, "bf16": np.float32}
"""Of weights, as programs save them."""

RANKS_ERROR = 1e-4
"""Relative, of the loss on one rank and on two, which add in another order, after RANKS_STEPS steps."""

RANKS_STEPS = 20


class CheckError(Exception):
    """What does not compute what it should; the text says what."""


def kernels(emulate: bool) -> dict[str, Any]:
    """tests/cuda with the kernels on the device, on numbers that are drawn afresh; the seed draws them again."""
    seed = secrets.randbelow(2**31)
    own = sorted((ROOT / "tests" / "cuda").glob("test_*.py"))
    files = [file for file in own if re.search(r"import .*\bcompare", file.read_text(encoding="utf-8"))]
    if emulate:
        files = [file for file in files if file.stem == "test_softmax"]
    side_by_side = ["-n", "6"] if importlib.util.find_spec("xdist") and not emulate else []
    command = [sys.executable, "-m", "pytest", "-v", "-rfE", "-p", "no:cacheprovider", *side_by_side, *map(str, files)]
    told = {"DLC_CUDA_DEVICE": "emulated" if emulate else "gpu", "DLC_CUDA_SEED": str(seed)}
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **told}, stdin=subprocess.DEVNULL
    )
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+.*)$", ran.stdout, re.MULTILINE)
    counted = re.search(r"(\d+) passed", ran.stdout)
    passed = int(counted.group(1)) if counted else 0
    if not failed and (ran.returncode or not passed):
        raise CheckError(f"pytest ended with status {ran.returncode}: {_last(ran.stderr or ran.stdout)}")
    if failed:
        raise CheckError(
            f"{len(failed)} tests of kernels fail with the seed {seed}, {passed} pass: {'; '.join(failed)}"
        )
    return {"files": len(files), "seed": seed, "passed": passed}


def gradients(emulate: bool) -> dict[str, Any]:
    """Derivatives along a direction beside differences of losses, of whole networks in double precision."""
    errors = {name: _gradient_error(name, emulate) for name in ("lenet5", "gpt2_small", "lstm")}
    if not max(errors.values()) <= GRADIENT_ERROR:
        raise CheckError(f"derivatives differ from differences by more than {GRADIENT_ERROR:g}: {errors}")
    off = {name: _gradients_off(name, emulate) for name in ("lenet5", "gpt2_small", "lstm")}
    for precision, bound in PRECISIONS.items():
        if not max(each[precision] for each in off.values()) <= bound:
            raise CheckError(f"gradients in {precision} are off those in f64 by more than {bound:g}: {off}")
    return {"errors": errors, "off": off}


def _gradients_off(name: str, emulate: bool) -> dict[str, float]:
    """How far the gradients of a network are off those in double precision, from the same weights and samples."""
    exact = compiled(name, emulate=True, precision="f64", plain=True)
    begin = {
        key: np.asarray(value, np.float32)
        for key, value in first_weights(exact.graph, exact.context.training.seed).items()
    }
    right = _gradient(name, "f64", begin, emulate)
    size = _norm(right.values())
    found = {precision: _gradient(name, precision, begin, emulate) for precision in PRECISIONS}
    return {
        precision: float(_norm(each[key] - right[key] for key in right) / size) for precision, each in found.items()
    }


def _gradient(name: str, precision: str, begin: Mapping[str, Any], emulate: bool) -> dict[str, Any]:
    """What one step of SGD takes from each weight, at a rate at which rounding of the weights is nothing beside it."""
    made = compiled(name, emulate=True, precision=precision, plain=True, rate=RATE)
    weights = [value.name for value in made.graph.of_kind("weight")]
    with tempfile.TemporaryDirectory(prefix="dlc-gpu-") as temporary:
        folder, first = Path(temporary), Path(temporary) / "first.npz"
        write_program(made, folder / "program")
        np.savez(first, **{key: value.astype(DTYPES[precision]) for key, value in begin.items()})
        _run(made, folder / "program", ["--steps", "1", "--load", str(first), "--save", str(folder / "w.npz")], emulate)
        with np.load(first) as before, np.load(folder / "w.npz") as after:
            return {key: (before[key].astype(np.float64) - after[key]) for key in weights}


def _norm(arrays: Iterable[Any]) -> float:
    return float(np.sqrt(sum(float(np.vdot(each, each)) for each in arrays)))


def _gradient_error(name: str, emulate: bool) -> float:
    """One step of SGD is the gradient: its product with a direction is what the loss grows by there."""
    made = compiled(name, emulate=True, precision="f64", plain=True)
    with tempfile.TemporaryDirectory(prefix="dlc-gpu-") as temporary:
        folder = Path(temporary)
        write_program(made, folder / "program")
        begin = {
            key: np.asarray(value, np.float64)
            for key, value in first_weights(made.graph, made.context.training.seed).items()
        }
        rng = np.random.default_rng()
        weights = {value.name for value in made.graph.of_kind("weight")}
        way = {key: rng.standard_normal(value.shape) * (key in weights) for key, value in begin.items()}
        length = np.sqrt(sum(float(np.vdot(each, each)) for each in way.values()))

        def loss(at: float, *also: str) -> float:
            np.savez(folder / "at.npz", **{key: begin[key] + at / length * way[key] for key in begin})
            arguments = ["--steps", "1", "--load", str(folder / "at.npz"), *also]
            return float(_run(made, folder / "program", arguments, emulate)["loss"])

        loss(0.0, "--save", str(folder / "after.npz"))
        with np.load(folder / "after.npz") as after:
            moved = sum(float(np.vdot(begin[key] - after[key], way[key])) for key in weights)
        derivative = moved / rate_at(made.context.training.rates, 0, SAMPLES) / length
        difference = (loss(DIFFERENCE) - loss(-DIFFERENCE)) / (2 * DIFFERENCE)
    return float(abs(derivative - difference) / max(abs(difference), 1e-3))


def accuracy(emulate: bool) -> dict[str, Any]:
    """LeNet-5 on the digits that come with dlc."""
    made = compiled("lenet5", emulate, data=True)
    with tempfile.TemporaryDirectory(prefix="dlc-gpu-") as temporary:
        write_program(made, Path(temporary) / "program")
        told = _run(made, Path(temporary) / "program", ["--steps", "2"] if emulate else [], emulate)
    found = float(told["metrics"]["accuracy"])
    if not emulate and found < ACCURACY:
        raise CheckError(f"LeNet-5 comes to an accuracy of {found:.3f}, not {ACCURACY}")
    return {"accuracy": found, "loss": told["loss"], "steps": told["steps"]}


def two_ranks(emulate: bool) -> dict[str, Any]:
    """LeNet-5 on two ranks that share the GPU, beside one."""
    losses = []
    for ranks in (1, 2):
        made = compiled("lenet5", emulate, ranks=ranks, data=True)
        with tempfile.TemporaryDirectory(prefix="dlc-gpu-") as temporary:
            write_program(made, Path(temporary) / "program")
            told = _run(made, Path(temporary) / "program", ["--steps", str(RANKS_STEPS)], emulate, ranks)
        losses.append(float(told["loss"]))
    error = abs(losses[1] - losses[0]) / losses[0]
    if not error <= RANKS_ERROR:
        raise CheckError(f"the losses on one rank and on two differ by {error:.1e}: {losses}")
    return {"losses": losses, "error": error}


CHECKS = {"kernels": kernels, "gradients": gradients, "accuracy": accuracy, "two_ranks": two_ranks}


def _run(made: Compiled, folder: Path, arguments: list[str], emulate: bool, ranks: int = 1) -> Mapping[str, Any]:
    """What a program says at its end; CheckError where it fails."""
    given = [*arguments, "--json", "--root", made.source.spec.root, *["--emulate"] * emulate]
    command, variables = command_line(str(folder), ranks, given)
    command = [word for word in command if word != "-I"]  # CuPy may be where PYTHONPATH says
    ran = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, stdin=subprocess.DEVNULL
    )
    if ran.returncode:
        raise CheckError(f"the program of {made.graph.name} on {ranks} ranks fails: {_last(ran.stderr or ran.stdout)}")
    told: Mapping[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-3:])[:500] if lines else "it says nothing"
