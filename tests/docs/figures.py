"""The figures of docs/operators.md; `python -m tests.docs.figures` prints its tables.

Accuracy: 64 channels to 64 filters, 28x28, 3x3, `pad = same`, two samples, in NCHW. Numbers are drawn once in float32;
the reference is `direct` in float64 on the same numbers. The error of a tensor is ‖a - b‖/‖b‖ (Frobenius).

Scratch memory: what the algorithms declare for 64 channels to 64 filters, 56x56, 3x3, `pad = same`, eight samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.ops.conv import CONV
from tests.kernels.calling import Known, Op, image, relative_error

ALGORITHMS = ("direct", "im2col", "winograd(2)", "winograd(4)", "fft", "fft_tiled")
ARGUMENTS: dict[str, Any] = {"filters": 64, "window": 3, "pad": "same", "bias": False}
PASSES = {"forward": "y", "dx": "dx", "dw": "dweight"}


def op(algorithm: str, dtype: str, samples: int = 2, extent: int = 28) -> Op:
    return Op(CONV, (image(dtype, samples, 64, extent, extent),), ARGUMENTS, algorithm=algorithm)


def drawn(positive: bool) -> Known:
    """Images and gradients around zero, or images as they come out of a relu; weights as training starts with them."""
    rng = np.random.default_rng(1)
    known = op("direct", "f32").draw(rng)
    known["weight"] *= np.float32(1 / np.sqrt(64 * 9))
    known["dy"] = rng.standard_normal((2, 64, 28, 28)).astype(np.float32)
    return known | {"x": np.abs(known["x"])} if positive else known


def computed(algorithm: str, dtype: str, known: Known) -> Known:
    function = op(algorithm, dtype)
    cast = {role: array.astype({"f32": np.float32, "f64": np.float64}[dtype]) for role, array in known.items()}
    return function.backward(function.forward(cast))


def errors(positive: bool) -> dict[str, tuple[float, ...]]:
    """Algorithm -> the errors of forward, dx and dw."""
    known = drawn(positive)
    exact = computed("direct", "f64", known)
    found = {algorithm: computed(algorithm, "f32", known) for algorithm in ALGORITHMS}
    return {
        algorithm: tuple(relative_error(result[role], exact[role]) for role in PASSES.values())
        for algorithm, result in found.items()
    }


def spoilt() -> dict[str, float]:
    """Algorithm -> the share of a sample's outputs that one infinite pixel makes infinite or no number."""
    known = drawn(positive=False)
    known["x"][0, 5, 5, 5] = np.inf
    with np.errstate(all="ignore"):
        results = {algorithm: op(algorithm, "f32").forward(known)["y"][0] for algorithm in ALGORITHMS}
    return {algorithm: float(np.mean(~np.isfinite(y))) for algorithm, y in results.items()}


def accuracy_rows() -> list[str]:
    """Algorithm; errors of forward, dx and dw; of forward on positive images; what an infinite pixel spoils."""
    plain, positive, share = errors(positive=False), errors(positive=True), spoilt()
    return [
        row(algorithm, [*(f"{e:.1e}" for e in (*plain[algorithm], positive[algorithm][0])), f"{share[algorithm]:.1%}"])
        for algorithm in ALGORITHMS
    ]


def scratch_rows() -> list[str]:
    """Algorithm; MiB of scratch memory in forward, dx and dw."""
    found = []
    for algorithm in ALGORITHMS:
        conv = op(algorithm, "f32", samples=8, extent=56)
        sizes = [sum(workspace.type.bytes for workspace in conv.workspaces(stage)) for stage in PASSES]
        found.append(row(algorithm, [f"{size / 2**20:.1f}" for size in sizes]))
    return found


def row(algorithm: str, cells: list[str]) -> str:
    return f"| `{algorithm}` | {' | '.join(cells)} |".replace("e-0", "e-")


if __name__ == "__main__":
    print("\n".join(("", *accuracy_rows(), "", *scratch_rows())))
