"""Losses and metrics of logits in C. Each row's loss stands by itself first; they are added up in order."""

from __future__ import annotations

from functools import partial

from .elementwise import ALONE, Functions
from .softmax import rows
from .source import CFunction, fill
from .target import Target


def _function(
    name: str, text: str, arguments: tuple[str, ...], numbers: tuple[str, ...], target: Target, dtype: str
) -> CFunction:
    filled = fill(text, name=f"{name}_{dtype}", dtype=dtype, alone=ALONE)
    return CFunction(f"{name}_{dtype}", filled, arguments, numbers, shared=rows(dtype))


CROSS_ENTROPY_FORWARD = """\
/* -log softmax(logits) at the label, the smoothed target being (1 - s) there and s/classes everywhere. */
void $name(const $dtype *logits, const int *label, $dtype *loss, $dtype *probabilities, $dtype *losses,
           long rows, long classes, double divisor, double smoothing)
{
    #pragma omp parallel for schedule(static) if (rows * classes > $alone)
    for (long row = 0; row < rows; row++) {
        const $dtype *x = logits + row * classes, largest = ${dtype}_largest(x, classes);
        const double picked = x[label[row]] - largest;
        const double mean = smoothing ? ${dtype}_total(x, classes) / classes - largest : 0;
        $dtype *y = probabilities + row * classes;
        const $dtype total = ${dtype}_exponentials(x, largest, y, classes);
        #pragma omp simd
        for (long j = 0; j < classes; j++)
            y[j] /= total;
        losses[row] = log(total) - (1 - smoothing) * picked - smoothing * mean;
    }
    double sum = 0;
    for (long row = 0; row < rows; row++)
        sum += losses[row];
    *loss = sum / divisor;
}
"""

CROSS_ENTROPY_DX = """\
/* (probabilities - target) dy/divisor. */
void $name(const $dtype *dy, const $dtype *probabilities, const int *label, $dtype *dlogits,
           long rows, long classes, double divisor, double smoothing)
{
    const $dtype factor = *dy / divisor, everywhere = smoothing / classes;
    #pragma omp parallel for schedule(static) if (rows * classes > $alone)
    for (long row = 0; row < rows; row++) {
        const $dtype *p = probabilities + row * classes;
        $dtype *to = dlogits + row * classes;
        const $dtype at_label = p[label[row]] - everywhere - ($dtype)(1 - smoothing);
        #pragma omp simd
        for (long j = 0; j < classes; j++)
            to[j] = (p[j] - everywhere) * factor;
        to[label[row]] = at_label * factor;
    }
}
"""

ACCURACY = """\
/* How many labels are among their row's `top` largest logits; equal ones count in order of class, nan is never less. */
void $name(const $dtype *logits, const int *label, $dtype *correct,
           long rows, long classes, long top, double divisor)
{
    long found = 0;
    #pragma omp parallel for schedule(static) reduction(+ : found) if (rows * classes > $alone)
    for (long row = 0; row < rows; row++) {
        const $dtype *x = logits + row * classes, chosen = x[label[row]];
        long before = 0;
        #pragma omp simd reduction(+ : before)
        for (long j = 0; j < classes; j++)
            before += (!(x[j] <= chosen)) | ((x[j] == chosen) & (j < label[row]));
        found += before < top;
    }
    *correct = found / divisor;
}
"""

PERPLEXITY = """\
/* The sum over the samples of their mean of -log softmax(logits) at the label. */
void $name(const $dtype *logits, const int *label, $dtype *total, $dtype *losses,
           long rows, long classes, double divisor)
{
    #pragma omp parallel for schedule(static) if (rows * classes > $alone)
    for (long row = 0; row < rows; row++) {
        const $dtype *x = logits + row * classes, largest = ${dtype}_largest(x, classes);
        losses[row] = log(${dtype}_mass(x, largest, classes)) - (x[label[row]] - largest);
    }
    double sum = 0;
    for (long row = 0; row < rows; row++)
        sum += losses[row];
    *total = sum / divisor;
}
"""

LABELS = ("rows", "classes")

FUNCTIONS: Functions = {
    ("cross_entropy", "forward", ""): partial(
        _function,
        "cross_entropy_forward",
        CROSS_ENTROPY_FORWARD,
        ("logits", "label", "loss", "probabilities", "losses"),
        (*LABELS, "double divisor", "double smoothing"),
    ),
    ("cross_entropy", "dx", ""): partial(
        _function,
        "cross_entropy_dx",
        CROSS_ENTROPY_DX,
        ("dy", "probabilities", "label", "dlogits"),
        (*LABELS, "double divisor", "double smoothing"),
    ),
    ("accuracy", "forward", ""): partial(
        _function, "accuracy_forward", ACCURACY, ("logits", "label", "correct"), (*LABELS, "top", "double divisor")
    ),
    ("perplexity", "forward", ""): partial(
        _function,
        "perplexity_forward",
        PERPLEXITY,
        ("logits", "label", "total", "losses"),
        (*LABELS, "double divisor"),
    ),
}
"""(op, pass, variant) -> the generator of its function."""
