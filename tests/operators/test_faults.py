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
    Fault("elementwise", "tanh_dx", "np.subtract(1, slope,", "np.subtract(1.00001, slope,", "tanh"),
    Fault("elementwise", "sigmoid_dx", "np.multiply(slope, y_, out=slope)", "pass", "sigmoid"),
    Fault("elementwise", "relu_dx", "dy, y > 0", "dy, y >= 0", "relu"),
    Fault("softmax", "softmax_dx", "np.subtract(dy, total, out=dx)", "np.copyto(dx, dy)", "softmax"),
    Fault("linear", "linear_dw", "np.add.reduce(rows, axis=0, out=dbias[0])", "dbias[0][...] = rows[0]", "linear"),
    Fault("pool", "avgpool_dx", "pad, count_pad)", "pad, True)", "avgpool"),
    Fault("pool", "global_maxpool_dx", "indices.reshape", "0 * indices.reshape", "global_maxpool"),
    Fault("upsample", "_collect", "middle * source", "source", "upsample"),
    Fault("conv_depthwise", "depthwise_conv_dw", "np.add(total,", "np.add(0 * total,", "depthwise_conv"),
    Fault("conv_transpose", "_dw", "dw(x, dy, dweight", "dw(x, 2 * dy, dweight", "conv_transpose"),
    Fault("local_conv", "local_conv_dx", "np.add(target,", "np.add(0 * target,", "local_conv"),
    Fault("pool", "maxpool_dx", "np.add(target,", "np.add(0 * target,", "maxpool"),
    Fault("conv_im2col", "_add_taps", "np.add(target,", "np.add(0 * target,", "conv"),
    Fault("conv_im2col", "conv_im2col_dw", "np.add(target, product, out=target)", "np.copyto(target, product)", "conv"),
    Fault("bn", "bn_grad_apply", "np.add(part, dy[span.samples], out=part)", "np.copyto(part, dy[span.samples])", "bn"),
    Fault("bn", "bn_grad_apply", "/ span.values, x)", "/ (span.values - 1), x)", "bn"),
    Fault("philox", "dropout_dx", "_scale(dy, mask, dx, p)", "np.multiply(dy, mask, out=dx)", "dropout"),
    Fault("losses", "cross_entropy_dx", "label, 1 - smoothing,", "label, 1,", "cross_entropy"),
    Fault("norms", "normalise_dx", "dx.mean(axis=reduced(x, mean), keepdims=True)", "0", "layernorm"),
    Fault("norms", "layernorm_dw", "standardised(x, mean, rstd)", "x", "layernorm"),
    Fault(
        "norms",
        "rmsnorm_dx",
        "_project(dx, x * rstd[..., None], rstd)",
        "np.multiply(dx, rstd[..., None], out=dx)",
        "rmsnorm",
    ),
    Fault("norms", "groupnorm_dw", "standardised(x, mean, rstd)", "x", "groupnorm"),
    Fault("lrn", "_part_dx", "behind=True", "behind=False", "lrn"),
    Fault("lrn", "_part_dx", "np.divide(pulls, base, out=pulls)", "pass", "lrn"),
    Fault("weight_norm", "weight_norm_dw", "unit * dmagnitude", "direction * dmagnitude", "weight_norm"),
    Fault("embedding", "embedding_dw", "dweight[ordered[places]] +=", "dweight[ordered[places]] =", "embedding"),
    Fault("attention", "attend_dx", "np.matmul(dscores.swapaxes(-1, -2), q)", "np.matmul(dscores, q)", "attention"),
    Fault("attention", "_weigh_dx", "np.multiply(dscores, 1 / sqrt(width), out=dscores)", "pass", "attention"),
    Fault("attention", "causal_mask_dx", "np.copyto(dx, 0, where=later(dy, origin))", "pass", "causal_mask"),
    Fault("distances", "mse_dx", "2 * dy", "dy", "mse"),
    Fault("distances", "huber_dx", "-delta, delta", "-1, 1", "huber"),
    Fault("losses", "hinge_dx", "-dlogits.sum(axis=-1, keepdims=True)", "-1", "hinge"),
    Fault("losses", "kl_dx", "temperature * dy", "dy", "kl"),
    Fault("arithmetic", "div_dx", "-a / (b * b)", "a / (b * b)", "div"),
    Fault("arithmetic", "sub_dx", "place or scalar_first", "scalar_first", "sub"),
    Fault("arithmetic", "gather", "np.add.reduce(", "np.mean(", "add"),
    Fault("elementwise", "gelu_dx", "np.add(slope, below, out=slope)", "np.copyto(slope, below)", "gelu"),
    Fault("elementwise", "_density", "1 + 3 * CUBIC", "1 + CUBIC", "gelu"),
    Fault("elementwise", "elu_dx", "np.add(slope, alpha, out=slope)", "np.add(slope, 1, out=slope)", "elu"),
    Fault("elementwise", "hard_swish_dx", "np.add(slope, x_ >= 3, out=slope)", "pass", "hard_swish"),
    Fault("softmax", "log_softmax_dx", "np.exp(y, out=dx)", "np.copyto(dx, y)", "log_softmax"),
    Fault("matmul", "matmul_dx", "_product(a.swapaxes(-1, -2), dy, db)", "db.fill(0)", "matmul"),
    Fault("matmul", "_product", "gather(left @ right, found)", "np.copyto(found, left @ right)", "matmul"),
    Fault("recurrence", "layer_back", "if way.backwards else", "if not way.backwards else", "lstm"),
    Fault("recurrence", "layer_back", "(dinputs, dproducts), strict", "(dinputs, dinputs), strict", "gru"),
    Fault("recurrence", "arriving", "way.read(way.columns(dstates))", "way.columns(dstates)", "rnn"),
    Fault("shapes", "concat_dx", "zip(dxs, _parts(", "zip(dxs[::-1], _parts(", "concat"),
    Fault("shapes", "split_dx", "np.copyto(parts[index], dy)", "np.copyto(parts[index - 1], dy)", "split"),
    Fault("shapes", "slice_dx", "dx.fill(0)", "dx.fill(1)", "slice"),
    Fault("shapes", "pad_dx", "np.add(source, margin, out=source)", "np.copyto(source, margin)", "pad"),
    Fault("shapes", "_add_to_edge", "margin.sum(axis=axis, keepdims=True)", "margin", "pad"),
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
