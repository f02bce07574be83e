"""Faults planted in the gradients' own text: the comparison with central differences must see every one."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pytest

from tests.operators.cases import cases
from tests.operators.test_gradients import BOUND, largest_error

CASES = cases()
DRAWS = 12


@dataclass(frozen=True, slots=True)
class Fault:
    """In a function of a kernel module the text `sound` becomes `faulty`; `case` is where that must be seen."""

    module: str
    function: str
    sound: str
    faulty: str
    case: str


FAULTS = (
    Fault("elementwise", "tanh_dx", "np.subtract(1, dx, out=dx)", "np.subtract(1.00001, dx, out=dx)", "tanh"),
    Fault("elementwise", "sigmoid_dx", "np.multiply(dx, y, out=dx)", "pass", "sigmoid"),
    Fault("elementwise", "relu_dx", "y > 0", "y >= 0", "relu"),
    Fault("softmax", "softmax_dx", "np.subtract(dy, total, out=dx)", "np.copyto(dx, dy)", "softmax"),
    Fault("linear", "linear_dw", "np.add.reduce(rows, axis=0, out=dbias[0])", "dbias[0][...] = rows[0]", "linear"),
    Fault("pool", "_shares", "- pad[axis][0]", "- pad[axis][1]", "avgpool"),
    Fault("pool", "maxpool_dx", "np.add(target,", "np.add(0 * target,", "maxpool"),
    Fault("conv_im2col", "_add_taps", "np.add(target,", "np.add(0 * target,", "conv"),
    Fault("conv_im2col", "conv_im2col_dw", "np.add(target, product, out=target)", "np.copyto(target, product)", "conv"),
    Fault("bn", "bn_grad_apply", "np.add(part, dy[span.samples], out=part)", "np.copyto(part, dy[span.samples])", "bn"),
    Fault("bn", "bn_grad_apply", "/ span.values, x)", "/ (span.values - 1), x)", "bn"),
    Fault("philox", "dropout_dx", "_scale(dy, mask, dx, p)", "np.multiply(dy, mask, out=dx)", "dropout"),
    Fault("losses", "cross_entropy_dx", "-= 1 - smoothing", "-= 1", "cross_entropy"),
    Fault("losses", "mse_dx", "2 * dy", "dy", "mse"),
    Fault("arithmetic", "div_dx", "-a / (b * b)", "a / (b * b)", "div"),
    Fault("arithmetic", "sub_dx", "place or scalar_first", "scalar_first", "sub"),
    Fault(
        "shapes",
        "concat_dx",
        "zip(dxs, _parts(dy, dxs, axis, layout)",
        "zip(dxs[::-1], _parts(dy, dxs, axis, layout)",
        "concat",
    ),
)


def planted(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the faulty function in the sound one's place."""
    module = import_module(f"backends.numpy_mpi.kernels.{fault.module}")
    source = inspect.getsource(getattr(module, fault.function))
    assert fault.sound in source, "the kernel has changed: plant the fault anew"
    names = dict(vars(module))
    exec(compile(source.replace(fault.sound, fault.faulty, 1), fault.module, "exec"), names)
    monkeypatch.setattr(module, fault.function, names[fault.function])


def seen(case: str) -> bool:
    """Whether some configuration of an operator, in any of its variants, shows a wrong gradient or fails."""
    rng = np.random.default_rng(0)
    for name, draw in CASES.items():
        if name.partition("/")[0] != case:
            continue
        for _ in range(DRAWS):
            try:
                if largest_error(draw(rng), rng)[0] > BOUND:
                    return True
            except ValueError:  # shapes that do not fit
                return True
    return False


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.function}-{fault.faulty}")
def test_fault_is_seen(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(fault, monkeypatch)
    assert seen(fault.case)
