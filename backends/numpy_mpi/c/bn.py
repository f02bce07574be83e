"""Batch normalisation in C over groups of samples, in every layout, with the phases of groups that span ranks.

Where channels lie innermost, sums run over rows of channels: segments of rows, their number known from the shape, are
shared out to the threads and added in order, so that no result depends on how many threads there are. In the other
layouts a channel is the work of one thread.
"""

from __future__ import annotations

from .bn_backward import dx, grad_apply, grad_sums
from .bn_forward import apply, forward, inference
from .bn_groups import GROUPS, SPAN, STATISTIC, Make
from .bn_sums import SPAN_SUMS, SUMS, Sums, phase
from .source import CFunction, fill
from .target import Target

SUMS_BODY = """\
        ${sums}_span(x, NULL, sums + at, scratch, span, n, channels, pixels, order, segments);
"""

SQUARES_BODY = """\
        $real *mean = scratch + segments * channels;
        for (long c = 0; c < channels; c++)
            mean[c] = sums[at + c] / ($real)span.values;
        ${sums}_span(x, mean, squares + at, scratch, span, n, channels, pixels, order, segments);
"""

STATISTICS = """\
/* The means and unbiased variances of the groups begun here, over the number of groups of the global batch. */
void $name(const $real *restrict x, const $real *restrict batch_mean, const $real *restrict batch_rstd,
    $real *restrict mean_sum, $real *restrict variance_sum, long n, long channels, long pixels, long order, long group,
    long count, long position, long first, long whole, long groups, double eps)
{
    memset(mean_sum, 0, channels * sizeof *mean_sum);
    memset(variance_sum, 0, channels * sizeof *variance_sum);
    for (long from = 0; from < n;) {
        const struct bn_span span = bn_span(from, n, group, count, position, first, whole);
        const $real *mean = batch_mean + span.row * channels, *rstd = batch_rstd + span.row * channels;
        const $real unbiased = ($real)((double)span.values / most(1, span.values - 1)), share = ($real)groups;
        from = span.to;
        for (long c = 0; c < channels && span.begins; c++) {
            mean_sum[c] += mean[c] / share;
            variance_sum[c] += (1 / (rstd[c] * rstd[c]) - ($real)eps) * unbiased / share;
        }
    }
}
"""

UPDATE = """\
/* The running averages move towards those of this step by the share `momentum`, in place. */
void $name($real *restrict mean, $real *restrict variance, const $real *restrict mean_sum,
    const $real *restrict variance_sum, long channels, double momentum)
{
    const $real kept = ($real)(1 - momentum), taken = ($real)momentum;
    for (long c = 0; c < channels; c++) {
        mean[c] = mean[c] * kept + taken * mean_sum[c];
        variance[c] = variance[c] * kept + taken * variance_sum[c];
    }
}
"""

TOTALS = Sums("bn_total", "Values of x", ("x",), ("x[i]",), ("sums",))
SQUARES = Sums("bn_square", "Squares of x - mean", ("x",), ("(x[i] - $mean) * (x[i] - $mean)",), ("squares",))


def statistics(target: Target, real: str) -> CFunction:
    """x, batch_mean, batch_rstd -> mean_sum, variance_sum."""
    text = fill(STATISTICS, real=real, name=f"bn_statistics_{real}")
    arguments = ("x", *STATISTIC, "mean_sum", "variance_sum")
    return CFunction(f"bn_statistics_{real}", text, arguments, (*GROUPS, "groups", "double eps"), shared=(SPAN,))


def update(target: Target, real: str) -> CFunction:
    """mean_sum, variance_sum -> mean, variance in place."""
    text = fill(UPDATE, real=real, name=f"bn_update_{real}")
    arguments = ("mean", "variance", "mean_sum", "variance_sum")
    return CFunction(f"bn_update_{real}", text, arguments, ("channels", "double momentum"))


FUNCTIONS: dict[tuple[str, str, str], Make] = {
    ("bn", "forward", ""): forward(),
    ("bn", "inference", ""): inference(),
    ("bn", "sums", ""): phase("bn_sums", "Sums of x.", TOTALS, SUMS_BODY, ("x",), ("sums",), SUMS, SPAN_SUMS),
    ("bn", "squares", ""): phase(
        "bn_squares", "Sums of (x - mean)².", SQUARES, SQUARES_BODY, ("x", "sums"), ("squares",), SUMS, SPAN_SUMS
    ),
    ("bn", "apply", ""): apply(),
    ("bn", "dx", ""): dx(),
    ("bn", "grad_sums", ""): grad_sums(),
    ("bn", "grad_apply", ""): grad_apply(),
    ("bn", "statistics", ""): statistics,
    ("bn", "update", ""): update,
}
"""(op, pass, algorithm) -> its generator for a target and a dtype."""
