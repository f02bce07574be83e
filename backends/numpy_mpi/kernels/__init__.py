"""The NumPy kernels: real functions that are tested here and copied into emitted programs as they stand.

A kernel is called `kernel(*inputs, *outputs, *workspaces, **attributes, **runtime values)`. All arrays are given, of
exactly the extent at hand and contiguous; outputs are written in full, nothing is returned. Workspaces may be larger
than needed, and hold anything. `layout` tells how images lie in memory; weights always lie as PyTorch's.

A kernel computes a part of its op's iteration space as it does the whole. What it cannot see of its arrays it is told:

* `origin`: where the arrays begin in the whole, and how long that is (`layout.Origin`), in the order of the call;
* `pad`: the pads of the part, those of the whole at the outer borders;
* `count`, `position`, `first`: the samples of the whole batch, the numbers in it of the first sample at hand and of the
  microbatch's; `pixels`: how many pixels a whole image has, where rows of images are split;
* tables, behind the inputs, of sums over all parts: kernels of the op `sums` fill a part's. Those of
  `("sums", "cross_entropy", "forward0")` are not added up: the largest number of all parts counts.

Updates, regularisers, clipping and sums take views whose elements do not lie together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kernel:
    """Where a kernel stands: a module of this package and a function in it."""

    module: str
    function: str


Kernels = dict[tuple[str, str, str], Kernel]
"""(op, pass, algorithm or "") -> kernel. The passes are those of the graph; losses and metrics are `forward` too.
Batch norm has `inference` and, where groups span ranks, phases."""

CONV_ALGORITHMS = {
    "direct": ("conv_direct", "direct"),
    "im2col": ("conv_im2col", "im2col"),
    "fft": ("conv_fft", "fft"),
    "fft_tiled": ("conv_fft", "fft_tiled"),
    "winograd(2)": ("conv_winograd", "winograd2"),
    "winograd(4)": ("conv_winograd", "winograd4"),
    "implicit_gemm": ("conv_implicit", "implicit_gemm"),
    "cudnn": ("conv_cudnn", "cudnn"),
}
"""Algorithm -> module, and its name in function names."""

IN_REGISTERS = ("direct", "winograd(2)", "winograd(4)")
"""Algorithms whose C functions may change sums before they store them."""

IN_TILES = (*IN_REGISTERS, "implicit_gemm")
"""Those of which kernels on devices may."""

DISTANCES = ("mse", "half_mse", "l1", "huber", "bce", "reconstruction")
"""Losses that compare two values element by element."""

OF_RESULTS = ("relu", "leaky_relu", "elu", "sigmoid", "tanh")
"""Activations that are differentiated from their results; all others are from their operands."""

WITHOUT_ATTRIBUTES = ("relu", "tanh", "sigmoid", "silu", "hard_swish")
"""Activations that are told nothing."""

ACTIVATIONS = (*OF_RESULTS, "gelu", "silu", "hard_swish")

SHAPES = ("concat", "split", "slice", "pad", "transpose")
"""Operators that put the elements of their operands in other places."""

ELEMENT_RULES = ("sgd", "adagrad", "rmsprop", "adam", "adamw")
"""Optimizers of which one call may update any number of weights."""

UPDATE_RULES = (*ELEMENT_RULES, "lars", "lamb")

INITIALISE = Kernel("initial", "initialise")
KEY = Kernel("philox", "key")
IN_PARTS = Kernel("parts", "in_parts")
"""`initialise(weight, kind=…, key=key(SEED, ADDRESS), fan_in=…, …)` fills a weight.
`in_parts(kernel, parts, inputs, arrays, *workspaces, samples=…, …)` runs a kernel on some samples at a time."""


def _pair(op: str, module: str) -> Kernels:
    """`OP_forward` and `OP_dx`."""
    return {(op, stage, ""): Kernel(module, f"{op}_{stage}") for stage in ("forward", "dx")}


def _loss(op: str, module: str) -> Kernels:
    """`OP_forward`, `OP_dx` and, for the gradient by the target, `OP_dt`."""
    return {(op, stage, ""): Kernel(module, f"{op}_{stage}") for stage in ("forward", "dx", "dt")}


def _kernels(module: str, op: str, *stages: str) -> Kernels:
    """`OP_STAGE` for each of the stages."""
    return {(op, stage, ""): Kernel(module, f"{op}_{stage}") for stage in stages}


def _conv() -> Kernels:
    return {
        ("conv", stage, algorithm): Kernel(module, f"conv_{name}_{stage}")
        for algorithm, (module, name) in CONV_ALGORITHMS.items()
        for stage in ("forward", "dx", "dw")
    }


KERNELS: Kernels = {
    **_conv(),
    **{
        ("conv_transpose", stage, name): Kernel("conv_transpose", f"conv_transpose_{name}_{stage}")
        for name in ("direct", "im2col")
        for stage in ("forward", "dx", "dw")
    },
    **{
        (op, stage, ""): Kernel(module, f"{op}_{stage}")
        for op, module in (("depthwise_conv", "conv_depthwise"), ("local_conv", "local_conv"))
        for stage in ("forward", "dx", "dw")
    },
    **_pair("upsample", "upsample"),
    **_pair("linear", "linear"),
    ("linear", "dw", ""): Kernel("linear", "linear_dw"),
    **_pair("maxpool", "pool"),
    **_pair("avgpool", "pool"),
    **_pair("global_avgpool", "pool"),
    **_pair("global_maxpool", "pool"),
    **{key: kernel for op in ACTIVATIONS for key, kernel in _pair(op, "elementwise").items()},
    **_pair("softmax", "softmax"),
    **_pair("log_softmax", "softmax"),
    **_pair("dropout", "philox"),
    **_pair("add", "arithmetic"),
    **_pair("sub", "arithmetic"),
    **_pair("mul", "arithmetic"),
    **_pair("div", "arithmetic"),
    **_pair("matmul", "matmul"),
    **{key: kernel for op in SHAPES for key, kernel in _pair(op, "shapes").items()},
    **_pair("bn", "bn"),
    ("bn", "sums", ""): Kernel("bn", "bn_sums"),
    ("bn", "squares", ""): Kernel("bn", "bn_squares"),
    ("bn", "apply", ""): Kernel("bn", "bn_apply"),
    ("bn", "grad_sums", ""): Kernel("bn", "bn_grad_sums"),
    ("bn", "grad_apply", ""): Kernel("bn", "bn_grad_apply"),
    ("bn", "inference", ""): Kernel("bn", "bn_inference"),
    ("bn", "statistics", ""): Kernel("bn", "bn_statistics"),
    ("bn", "update", ""): Kernel("bn", "bn_update"),
    **{
        ("conv_relu", stage, name): Kernel("conv_fused", f"conv_relu_{CONV_ALGORITHMS[name][1]}_{stage}")
        for name in IN_TILES
        for stage in ("forward", "dx")
    },
    ("conv_relu", "forward", "cudnn"): Kernel("conv_cudnn", "conv_relu_cudnn_forward"),
    **{
        ("conv_halves", stage, "cudnn"): Kernel("conv_halves", f"conv_cudnn_halves_{stage}")
        for stage in ("forward", "dx")
    },
    **_kernels("halves", "linear_halves", "forward", "dx", "dw"),
    **_kernels("halves", "matmul_halves", "forward", "dx"),
    **_kernels("linear_fused", "linear_relu", "forward"),
    **_kernels("linear_fused", "linear_gelu", "forward", "dx"),
    **_kernels("linear_fused", "linear_gelu_kept", "forward"),
    ("dropout_add", "forward", ""): Kernel("chains", "dropout_add_forward"),
    **{(f"add_{op}", "forward", ""): Kernel("chains", f"add_{op}_forward") for op in OF_RESULTS},
    **{(f"sum_{op}", "dx", ""): Kernel("chains", f"sum_{op}_dx") for op in ACTIVATIONS},
    **{(f"dropout_{op}", "dx", ""): Kernel("chains", f"dropout_{op}_dx") for op in WITHOUT_ATTRIBUTES},
    **{(f"{op}_sum", "sum", ""): Kernel("chains", f"{op}_sum") for op in ACTIVATIONS},
    **_kernels("bn_fused", "bn_relu", "forward", "apply", "inference", "dx"),
    **_kernels("bn_fused", "bn_add_relu", "forward", "apply", "inference"),
    **_kernels("norms", "layernorm", "forward", "dx", "dw"),
    **_kernels("norms", "rmsnorm", "forward", "dx", "dw"),
    **_kernels("norms", "groupnorm", "forward", "dx", "dw"),
    **_kernels("lrn", "lrn", "forward", "dx"),
    **_kernels("weight_norm", "weight_norm", "forward", "dw"),
    **_kernels("embedding", "embedding", "forward", "dw"),
    **_kernels("embedding", "position_embedding", "forward", "dw"),
    **_kernels("parameter", "parameter", "forward", "dw"),
    **_pair("split_heads", "attention"),
    **_pair("merge_heads", "attention"),
    **_pair("causal_mask", "attention"),
    **_pair("attention", "attention"),
    **_pair("rnn", "rnn"),
    **_pair("lstm", "lstm"),
    **_pair("gru", "gru"),
    **_pair("cross_entropy", "losses"),
    **_pair("hinge", "losses"),
    **_loss("kl", "losses"),
    **{key: kernel for op in DISTANCES for key, kernel in _loss(op, "distances").items()},
    **{(op, "forward", ""): Kernel("losses", f"{op}_forward") for op in ("accuracy", "perplexity")},
    ("convert", "forward", ""): Kernel("layout", "convert"),
    ("sum", "sum", ""): Kernel("gradients", "sum_gradients"),
    ("sum", "add", ""): Kernel("gradients", "add_gradients"),
    ("zero", "forward", ""): Kernel("gradients", "zero"),
    ("totals", "forward", ""): Kernel("totals", "totals_forward"),
    **{("totals", finish, ""): Kernel("totals", finish) for finish in ("mean", "exp")},
    ("cast", "forward", ""): Kernel("cast", "cast"),
    ("cast", "update", ""): Kernel("cast", "cast"),
    ("unscale", "unscale", ""): Kernel("scale", "unscale_gradients"),
    ("sums", "unscale", ""): Kernel("scale", "not_finite"),
    ("regularise", "regularise", ""): Kernel("gradients", "regularise"),
    ("clip", "clip", ""): Kernel("gradients", "clip"),
    ("sums", "clip", ""): Kernel("gradients", "clip_squares"),
    ("sums", "lars", ""): Kernel("update", "lars_squares"),
    ("sums", "lamb", ""): Kernel("update", "lamb_squares"),
    ("sums", "cross_entropy", "forward0"): Kernel("losses", "cross_entropy_largest"),
    ("sums", "cross_entropy", "forward1"): Kernel("losses", "cross_entropy_exponentials"),
    ("sums", "groupnorm", "forward0"): Kernel("norms", "groupnorm_sums"),
    ("sums", "groupnorm", "forward1"): Kernel("norms", "groupnorm_squares"),
    ("sums", "groupnorm", "dx0"): Kernel("norms", "groupnorm_slopes"),
    **{(rule, "update", ""): Kernel("update", f"{rule}_update") for rule in UPDATE_RULES},
    **{(rule, "updates", ""): Kernel("update", f"{rule}_updates") for rule in ELEMENT_RULES},
    ("lbfgs", "update", ""): Kernel("lbfgs", "lbfgs_update"),
}


PACKING: Kernels = {
    (f"conv_{stage}", "pack", name): Kernel("packed", f"conv_{CONV_ALGORITHMS[name][1]}_{stage}_pack")
    for name in IN_REGISTERS
    for stage in ("forward", "dx")
} | {(f"linear_{stage}", "pack", ""): Kernel("packed", f"linear_{stage}_pack") for stage in ("forward", "dx")}
"""What packs weights for kernels in C: (op and pass that read them, "pack", algorithm)."""

PACKED: Kernels = {
    (op, stage, name): Kernel("packed", f"{op}_{CONV_ALGORITHMS[name][1]}_{stage}_packed")
    for op in ("conv", "conv_relu")
    for name in IN_REGISTERS
    for stage in ("forward", "dx")
} | {("linear", stage, ""): Kernel("packed", f"linear_{stage}_packed") for stage in ("forward", "dx")}
"""The kernels that read what was packed, which they take in front of their other arrays."""


def _exact(op: str, *stages: str) -> Kernels:
    return {(op, stage, ""): Kernel("exact", f"{op}_{stage}") for stage in stages}


def _exact_conv(op: str, *stages: str) -> Kernels:
    return {(op, stage, ""): Kernel("exact_conv", f"{op}_{stage}") for stage in stages}


EXACT: Kernels = {
    **_exact("relu", "forward"),
    **_exact("tanh", "forward"),
    **_exact("sigmoid", "forward"),
    ("leaky_relu", "forward", ""): Kernel("exact_elementwise", "leaky_relu_forward"),
    ("elu", "forward", ""): Kernel("exact_elementwise", "leaky_relu_forward"),
    **{(op, "forward", ""): Kernel("exact_elementwise", "gelu_forward") for op in ("gelu", "silu", "hard_swish")},
    **{(op, "dx", ""): Kernel("exact", "activation_dx") for op in ACTIVATIONS},
    **_exact("softmax", "forward", "dx"),
    **_pair("log_softmax", "exact_elementwise"),
    ("add", "forward", ""): Kernel("exact_elementwise", "add_forward"),
    ("sub", "forward", ""): Kernel("exact_elementwise", "sub_forward"),
    **_pair("mul", "exact_elementwise"),
    ("div", "forward", ""): Kernel("exact_elementwise", "mul_forward"),
    ("div", "dx", ""): Kernel("exact_elementwise", "mul_dx"),
    ("pad", "forward", ""): Kernel("exact_elementwise", "pad_forward"),
    **_exact_conv("avgpool", "forward", "dx"),
    **_exact_conv("global_avgpool", "forward", "dx"),
    **_exact_conv("upsample", "forward", "dx"),
    **_exact("dropout", "forward", "dx"),
    **_exact("bn", "forward", "squares", "apply", "inference", "dx", "grad_apply", "statistics", "update"),
    **_pair("matmul", "exact_elementwise"),
    **_kernels("exact_norms", "layernorm", "forward", "dx", "dw"),
    **_kernels("exact_norms", "rmsnorm", "forward", "dx", "dw"),
    **_kernels("exact_norms", "groupnorm", "forward", "dx", "dw"),
    **_kernels("exact_norms", "lrn", "forward", "dx"),
    **_kernels("exact_norms", "attention", "forward", "dx"),
    **_kernels("exact_norms", "weight_norm", "forward", "dw"),
    **_kernels("exact_norms", "causal_mask", "forward"),
    **{key: kernel for op in ("rnn", "lstm", "gru") for key, kernel in _pair(op, "exact_recurrence").items()},
    **_pair("cross_entropy", "exact_losses"),
    **_pair("hinge", "exact_losses"),
    **{(op, "forward", ""): Kernel("exact_losses", f"{op}_forward") for op in ("accuracy", "perplexity")},
    **_loss("kl", "exact_losses"),
    **_loss("reconstruction", "exact_losses"),
    **{(op, "forward", ""): Kernel("exact_losses", "mse_forward") for op in ("mse", "half_mse", "bce")},
    **{(op, "forward", ""): Kernel("exact_losses", "l1_forward") for op in ("l1", "huber")},
    **{
        (op, stage, ""): Kernel("exact_losses", f"mse_{stage}")
        for op in ("mse", "half_mse", "bce", "l1", "huber")
        for stage in ("dx", "dt")
    },
    ("clip", "clip", ""): Kernel("exact", "clip"),
    ("sums", "clip", ""): Kernel("exact", "clip_squares"),
    **{("sums", rule, ""): Kernel("exact_updates", f"{rule}_squares") for rule in ("lars", "lamb")},
    ("sums", "cross_entropy", "forward1"): Kernel("exact_losses", "cross_entropy_sums"),
    ("sums", "groupnorm", "forward1"): Kernel("exact_norms", "groupnorm_squares"),
    ("sums", "groupnorm", "dx0"): Kernel("exact_norms", "groupnorm_slopes"),
    ("regularise", "regularise", ""): Kernel("exact_updates", "regularise"),
    **{(rule, "update", ""): Kernel("exact_updates", f"{rule}_update") for rule in (*UPDATE_RULES, "lbfgs")},
}
"""Integer stand-ins of `dlc verify --exact`: they take the place of `KERNELS`' entries."""

EXACT_SHARE = Kernel("exact_elementwise", "passed_on_dx")
"""Stands for the gradients of values without a batch, whose shares the ranks add up: it is linear, `EXACT`'s fold."""

EXACT_INITIALISE = Kernel("exact", "initialise")
