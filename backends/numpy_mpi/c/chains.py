"""Element-wise ops one after the other in C: one pass over memory, in which short strips go from op to op.

A strip lies in the innermost cache. Each op's loop over it is that of the op alone, so that results are the same bit by
bit: in one expression compilers would round a product and a sum once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from backends.numpy_mpi.kernels import ACTIVATIONS, OF_RESULTS, WITHOUT_ATTRIBUTES

from .arithmetic import FORMULAS as ARITHMETIC
from .dropout import DX, added
from .elementwise import ALONE, CHUNK, Formula, Functions, array, told
from .elementwise import FORMULAS as ACTIVATED
from .exponentials import exponentials
from .gradients import total_of
from .source import CFunction, fill, indented
from .target import Target

STRIP = 2**9
"""Elements of a strip: whole vectors."""

BETWEEN = "between[i - from]"

LOOP = """\
/* $first Then: $last */
void $name($parameters)
{
    #pragma omp parallel for schedule(static) if (size > $alone)
    for (long start = 0; start < size; start += $chunk)
        for (long from = start; from < size && from < start + $chunk; from += $strip) {
            const long stop = least(from + $strip, size);
            $dtype between[$strip];
            #pragma omp simd
            for (long i = from; i < stop; i++) {
$begin            }
            #pragma omp simd
            for (long i = from; i < stop; i++) {
$end            }
        }
}
"""


def chain(name: str, first: Formula, last: Formula, target: Target, dtype: str) -> CFunction:
    """`NAME_DTYPE(arrays…, size, numbers…)`: the last formula of the first one's result, which it reads first.

    The arrays are those that the first one reads, then what the last one reads besides, and its results.
    """
    (result,), (operand, *others) = first.writes, last.reads
    begin, end = first.statements.replace(f"{result}[i]", BETWEEN), last.statements.replace(f"{operand}[i]", BETWEEN)
    numbers = tuple(each if " " in each else f"double {each}" for each in (*first.numbers, *last.numbers))
    arrays = (*first.reads, *others, *last.writes)
    parameters = [("" if each in last.writes else "const ") + array(each, dtype) for each in arrays]
    text = fill(
        LOOP,
        first=first.says,
        last=last.says,
        name=f"{name}_{dtype}",
        parameters=", ".join((*parameters, "long size", *numbers)),
        alone=ALONE,
        chunk=CHUNK,
        strip=STRIP,
        begin=indented(begin.strip() + "\n", 4),
        end=indented(end.strip() + "\n", 4),
        dtype=dtype,
        f="f" if dtype == "f32" else "",
    )
    shared = (exponentials(dtype),) if f"{dtype}_" in text.partition("{")[2] else ()
    return CFunction(f"{name}_{dtype}", text, arrays, ("size", *told(numbers)), shared=shared)


def _of_activation(first: str, op: str, stage: str, last: str, target: Target, dtype: str) -> CFunction:
    """The chain of an activation, with those of its variants above it: what stands before it, or a sum behind."""
    variants = {variant: formula for (*key, variant), formula in ACTIVATED.items() if key == [op, stage]}
    made = {}
    for variant, formula in variants.items():
        name = f"{first}{op}_{last or stage}_{variant}".rstrip("_")
        before = {"add_": ARITHMETIC["add", "forward", ""], "sum_": total_of(2), "dropout_": DX}.get(first)
        one, two = (formula, total_of(2)) if before is None else (before, formula)
        made[variant] = chain(name, one, two, target, dtype)
    needed = (text for each in made.values() for text in each.shared)
    others = (each.text for variant, each in made.items() if variant)
    return replace(made[""], shared=(*dict.fromkeys(needed), *others))


FUNCTIONS: Functions = {
    ("dropout_add", "forward", ""): added,
    **{(f"add_{op}", "forward", ""): partial(_of_activation, "add_", op, "forward", "") for op in OF_RESULTS},
    **{(f"sum_{op}", "dx", ""): partial(_of_activation, "sum_", op, "dx", "") for op in ACTIVATIONS},
    **{(f"{op}_sum", "sum", ""): partial(_of_activation, "", op, "dx", "sum") for op in ACTIVATIONS},
    **{(f"dropout_{op}", "dx", ""): partial(_of_activation, "dropout_", op, "dx", "") for op in WITHOUT_ATTRIBUTES},
}
"""(op, pass, "") -> the generator of its function."""
