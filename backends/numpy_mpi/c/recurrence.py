"""Recurrent networks in C: all elements of the sequence, all layers and both directions in one call.

Arrays lie as in `kernels.recurrence`, the history too. The projections of the input are products for the whole
sequence; at each element tiles of the product with the state, for which the weights lie packed, go straight into the
gates. Arrays come as a table of addresses, for their number depends on layers and directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .columns import columns
from .exponentials import exponentials
from .gemm import gemm, rows, width
from .source import CFunction, fill, indented
from .target import Target


@dataclass(frozen=True, slots=True)
class Cell:
    """What is computed at one element, for unit `q` of a sample.

    Forward `gate0[q]`… are the projections of the input with their biases, `product0[q]`… those of the state; the
    gates, what is `kept` and the `state` are to be set. Back `dstate` is known; the gradients of the projections
    `dgate0[q]`… are to be set. `own_product` is the gate whose projections are not just added, -1 for none: its bias
    is `other[q]`, and the gradient of the state's projection goes to `dproduct[q]`.
    """

    gates: int
    kept: int
    own_product: int
    forward: str
    backward: str


CELLS = {
    "lstm": Cell(
        4,
        1,
        -1,
        """\
const $dtype i = ${dtype}_sigmoid(gate0[q] + product0[q]), f = ${dtype}_sigmoid(gate1[q] + product1[q]);
const $dtype g = ${dtype}_tanh(gate2[q] + product2[q]), o = ${dtype}_sigmoid(gate3[q] + product3[q]);
const $dtype cell = i * g + f * kept_before[q];
gate0[q] = i, gate1[q] = f, gate2[q] = g, gate3[q] = o, kept[q] = cell;
state[q] = o * ${dtype}_tanh(cell);
""",
        """\
const $dtype i = gate0[q], f = gate1[q], g = gate2[q], o = gate3[q];
const $dtype shine = ${dtype}_tanh(kept[q]), dcell = carried[q] + dstate[q] * o * (1 - shine * shine);
dgate0[q] = (1 - i) * i * g * dcell, dgate1[q] = (1 - f) * f * kept_before[q] * dcell;
dgate2[q] = (1 - g * g) * i * dcell, dgate3[q] = (1 - o) * o * shine * dstate[q];
carried[q] = stops ? 0 : dcell * f;
""",
    ),
    "gru": Cell(
        3,
        1,
        2,
        """\
const $dtype sum = product2[q] + other[q];
const $dtype r = ${dtype}_sigmoid(gate0[q] + product0[q]), z = ${dtype}_sigmoid(gate1[q] + product1[q]);
const $dtype n = ${dtype}_tanh(gate2[q] + r * sum);
gate0[q] = r, gate1[q] = z, gate2[q] = n, kept[q] = sum;
state[q] = n + z * (before[q] - n);
""",
        """\
const $dtype r = gate0[q], z = gate1[q], n = gate2[q], through = dstate[q] * z;
const $dtype dn = (dstate[q] - through) * (1 - n * n), reset = dn * r;
dgate0[q] = (1 - r) * kept[q] * reset, dgate1[q] = (before[q] - n) * (1 - z) * through;
dgate2[q] = dn, dproduct[q] = reset;
dbefore[q] += through;
""",
    ),
    "rnn": Cell(
        1,
        0,
        -1,
        """\
const $dtype sum = gate0[q] + product0[q];
gate0[q] = sum;
state[q] = relu ? (sum < 0 ? 0 : sum) : ${dtype}_tanh(sum);
""",
        "dgate0[q] = dstate[q] * (relu ? (state[q] > 0 ? ($dtype)1 : ($dtype)0) : 1 - state[q] * state[q]);\n",
    ),
}


def forward(op: str, target: Target, dtype: str) -> CFunction:
    """Table of x, weights, y, history; scratch and extents."""
    return _function(FORWARD, f"{op}_forward_{dtype}", CELLS[op], target, dtype)


def backward(op: str, target: Target, dtype: str) -> CFunction:
    """Table of dy, x, weights, history, dx, gradients of the weights; scratch and extents."""
    return _function(BACKWARD, f"{op}_dx_{dtype}", CELLS[op], target, dtype)


FUNCTIONS: dict[tuple[str, str, str], Callable[[Target, str], CFunction]] = {
    (op, stage, ""): partial(make, op) for op in CELLS for stage, make in (("forward", forward), ("dx", backward))
}
"""(op, pass, variant) -> the generator of its function."""

NUMBERS = ("table", "batch", "seq", "inputs", "hidden", "layers", "ways", "biased", "last", "truncate", "relu")

POINTERS = {
    "gate#": "$place *gate# = way.slots + # * all + at",
    "product#": "const $dtype *product# = product + (# * $rows + p) * $width",
    "dgate#": "$dtype *dgate# = dinputs + # * all + at",
    "dproduct": "$dtype *dproduct = dproducts + at",
    "kept": "$place *kept = way.slots + $gates * all + at",
    "kept_before": "const $dtype *kept_before = s ? way.slots + $gates * all + at + back * hidden : zeros",
    "state": "$place *state = way.states + row * pitch + block",
    "before": "const $dtype *before = s ? way.states + (row + back) * pitch + block : zeros",
    "dstate": "const $dtype *dstate = dstates + row * pitch",
    "dbefore": "$dtype *dbefore = stops ? carried : dstates + (row + back) * pitch",
    "carried": "$dtype *carried = dcells + p * hidden",
    "other": "const $dtype *other = biases + block",
}
"""Where a cell's arrays begin, for a sample at an element of the sequence; # is a gate."""


def _function(template: str, name: str, cell: Cell, target: Target, dtype: str) -> CFunction:
    statements = cell.forward if template is FORWARD else cell.backward
    own = cell.own_product
    text = fill(
        template,
        name=name,
        dtype=dtype,
        pointers=indented(_pointers(statements, cell), 5 if template is FORWARD else 3),
        place="$dtype" if template is FORWARD else "const $dtype",
        statements=indented(statements, 6 if template is FORWARD else 4),
        gates=cell.gates,
        own=own,
        added=own if own >= 0 else cell.gates,
        slots=cell.gates + cell.kept,
        rows=rows(target),
        width=width(target, dtype),
        lanes=target.lanes(dtype),
    )
    shared = (exponentials(dtype), gemm(target, dtype), columns(dtype), fill(WAYS, dtype=dtype))
    return CFunction(name, text, ("scratch",), NUMBERS, shared=shared)


def _pointers(statements: str, cell: Cell) -> str:
    """Declarations of the arrays that the statements of a cell name."""
    numbered = [
        (name.replace("#", str(g)), text.replace("#", str(g)))
        for name, text in POINTERS.items()
        for g in range(cell.gates if "#" in name else 1)
    ]
    needed = {"carried"} if "dbefore[" in statements else set[str]()
    named = needed | set(re.findall(r"(\w+)\[q\]", statements))
    order = sorted(numbered, key=lambda each: each[0] != "carried")
    return "".join(f"{text};\n" for name, text in order if name in named)


WAYS = """\
/* One direction of a layer: weights [gate][hidden][inputs or hidden], and what the history holds of it. */
typedef struct {
    $dtype *weight_ih, *weight_hh, *bias_ih, *bias_hh, *slots, *states;
} ${dtype}_way;

/* Direction `side` of layer `layer`; its weights, or their gradients, begin at `weights`. */
static ${dtype}_way ${dtype}_way_of($dtype *const *weights, $dtype *history, long layer, long side, long ways,
                                    long biased, long slots, long all, long hidden)
{
    $dtype *const *own = weights + (layer * ways + side) * (2 + 2 * biased);
    $dtype *room = history + layer * ways * (slots + 1) * all;
    return (${dtype}_way){own[0], own[1], biased ? own[2] : 0, biased ? own[3] : 0,
                          room + side * slots * all, room + ways * slots * all + side * hidden};
}

/* [outer][inner][width] to [inner][outer][width]. */
static void ${dtype}_swap(const $dtype *restrict from, $dtype *restrict to, long outer, long inner, long width)
{
    #pragma omp for schedule(static)
    for (long i = 0; i < outer; i++)
        for (long j = 0; j < inner; j++)
            memcpy(to + (j * outer + i) * width, from + (i * inner + j) * width, width * sizeof($dtype));
}
"""

FORWARD = """\
/* Along the sequence: gates, kept numbers and states of one direction of a layer, whose gates hold the projections. */
static void ${name}_walk(${dtype}_way way, const $dtype *biases, $dtype *packed, $dtype *panels, const $dtype *zeros,
                         long batch, long seq, long hidden, long ways, long backwards, long relu)
{
    const long all = seq * batch * hidden, pitch = ways * hidden;
    const long rows = most(1, raised(batch, most(1, raised(batch, $rows)))), back = backwards ? batch : -batch;
    #pragma omp for collapse(2) schedule(static)
    for (long block = 0; block < hidden; block += $width)
        for (long g = 0; g < $gates; g++)
            ${dtype}_panel(way.weight_hh + (g * hidden + block) * hidden, hidden, 1, hidden - block, hidden, $width,
                           packed + (block * $gates + g * $width) * hidden);
    for (long s = 0; s < seq; s++) {
        const long t = backwards ? seq - 1 - s : s;
        if (s) {
            #pragma omp for schedule(static)
            for (long i = 0; i < batch; i += rows)
                ${dtype}_panel(way.states + (t * batch + back + i) * pitch, pitch, 1, batch - i, hidden, rows,
                               panels + i * (hidden + $lanes));
        }
        #pragma omp for collapse(2) schedule(static)
        for (long block = 0; block < hidden; block += $width)
            for (long i = 0; i < batch; i += rows) {
                const long count = least(rows, batch - i), columns = least($width, hidden - block);
                $dtype product[$gates * $rows * $width];
                if (s)
                    for (long g = 0; g < $gates; g++)
                        ${dtype}_tile(rows, panels + i * (hidden + $lanes),
                                      packed + (block * $gates + g * $width) * hidden, hidden, 0, 0,
                                      product + g * $rows * $width, $width, rows, $width);
                else
                    memset(product, 0, sizeof product);
                for (long p = 0; p < count; p++) {
                    const long row = t * batch + i + p, at = row * hidden + block;
$pointers                    #pragma omp simd
                    for (long q = 0; q < columns; q++) {
$statements                    }
                }
            }
    }
}

void $name($dtype *scratch, long table, long batch, long seq, long inputs, long hidden, long layers, long ways,
           long biased, long last, long truncate, long relu)
{
    $dtype *const *arrays = ($dtype *const *)table, *const *weights = arrays + 1;
    $dtype *y = arrays[1 + layers * ways * (2 + 2 * biased)], *history = arrays[2 + layers * ways * (2 + 2 * biased)];
    const long all = seq * batch * hidden, padded = raised(hidden, $width) * $width;
    $dtype *below = scratch, *zeros = below + seq * batch * inputs, *bias = zeros + hidden;
    $dtype *packed = bias + $gates * hidden, *panels = packed + $gates * padded * hidden;
    $dtype *room = panels + (batch + $rows) * (hidden + $lanes);
    if (!all)
        return;
    #pragma omp parallel
    {
        #pragma omp for
        for (long j = 0; j < hidden; j++)
            zeros[j] = 0;
        ${dtype}_swap(arrays[0], below, batch, seq, inputs);
        for (long layer = 0; layer < layers; layer++) {
            const $dtype *source = layer ? history + layer * ways * ($slots + 1) * all - ways * all : below;
            const long width = layer ? ways * hidden : inputs;
            for (long side = 0; side < ways; side++) {
                const ${dtype}_way way =
                    ${dtype}_way_of(weights, history, layer, side, ways, biased, $slots, all, hidden);
                #pragma omp for
                for (long j = 0; j < $gates * hidden; j++)
                    bias[j] = biased ? way.bias_ih[j] + (j < $added * hidden ? way.bias_hh[j] : 0) : 0;
                for (long g = 0; g < $gates; g++)
                    ${dtype}_gemm(seq * batch, hidden, width, source, width, 1, way.weight_ih + g * hidden * width, 1,
                                  width, bias + g * hidden, 0, way.slots + g * all, hidden, room);
                ${name}_walk(way, biased ? way.bias_hh + $added * hidden : zeros, packed, panels, zeros, batch, seq,
                             hidden, ways, side, relu);
                if (last) {
                    const long end = side ? 0 : seq - 1;
                    #pragma omp for
                    for (long i = 0; i < batch; i++)
                        memcpy(y + (i * ways + side) * hidden, way.states + (end * batch + i) * ways * hidden,
                               hidden * sizeof($dtype));
                }
            }
        }
        if (!last)
            ${dtype}_swap(history + layers * ways * ($slots + 1) * all - ways * all, y, seq, batch, ways * hidden);
    }
}
"""

BACKWARD = """\
/* Back along the sequence: the gradients of the projections of one direction of a layer; those of the states arrive in
   `dstates`, and are spoilt. */
static void ${name}_walk(${dtype}_way way, $dtype *dstates, $dtype *dinputs, $dtype *dproducts, $dtype *dcells,
                         $dtype *packed, $dtype *panels, const $dtype *zeros, long batch, long seq, long hidden,
                         long ways, long backwards, long truncate, long relu)
{
    const long all = seq * batch * hidden, pitch = ways * hidden, block = 0;
    const long rows = most(1, raised(batch, most(1, raised(batch, $rows)))), depth = $gates * hidden;
    const long back = backwards ? batch : -batch;  /* rows to the element that was read before */
    #pragma omp for schedule(static)
    for (long c = 0; c < hidden; c += 8 * $width)
        ${dtype}_panels(way.weight_hh + c, 1, hidden, least(8 * $width, hidden - c), depth, $width, packed + c * depth,
                        $width * depth);
    #pragma omp for schedule(static)
    for (long j = 0; j < batch * hidden; j++)
        dcells[j] = 0;
    for (long s = seq - 1; s >= 0; s--) {
        const long t = backwards ? seq - 1 - s : s;
        const long stops = s == 0 || (truncate > 0 && s % truncate == 0);
        #pragma omp for schedule(static)
        for (long p = 0; p < batch; p++) {
            const long row = t * batch + p, at = row * hidden + block;
$pointers            #pragma omp simd
            for (long q = 0; q < hidden; q++) {
$statements            }
        }
        if (stops)
            continue;
        #pragma omp for schedule(static)
        for (long i = 0; i < batch; i += rows)
            for (long g = 0; g < $gates; g++) {
                const $dtype *from = g == $own ? dproducts : dinputs + g * all;
                ${dtype}_panel(from + (t * batch + i) * hidden, hidden, 1, batch - i, hidden, rows,
                               panels + i * (depth + $lanes) + g * hidden * rows);
            }
        #pragma omp for collapse(2) schedule(static)
        for (long c = 0; c < hidden; c += $width)
            for (long i = 0; i < batch; i += rows) {
                $dtype *to = dstates + (t * batch + back + i) * pitch + c;
                ${dtype}_tile(rows, panels + i * (depth + $lanes), packed + c * depth, depth, to, pitch, to, pitch,
                              batch - i, hidden - c);
            }
    }
}

void $name($dtype *scratch, long table, long batch, long seq, long inputs, long hidden, long layers, long ways,
           long biased, long last, long truncate, long relu)
{
    const long count = layers * ways * (2 + 2 * biased), all = seq * batch * hidden, items = seq * batch;
    const long padded = raised(hidden, $width) * $width, pitch = ways * hidden, widest = most(inputs, pitch);
    $dtype *const *arrays = ($dtype *const *)table;
    $dtype *const *weights = arrays + 2, *const *gradients = arrays + 4 + count;
    $dtype *history = arrays[2 + count];
    $dtype *x = scratch, *zeros = x + items * inputs, *above = zeros + hidden, *under = above + items * widest;
    $dtype *dinputs = under + items * widest, *dproducts = dinputs + $gates * all, *dcells = dproducts + all;
    $dtype *packed = dcells + batch * hidden, *panels = packed + $gates * padded * hidden;
    $dtype *room = panels + (batch + $rows) * ($gates * hidden + $lanes);
    #pragma omp parallel
    {
        #pragma omp for
        for (long j = 0; j < hidden; j++)
            zeros[j] = 0;
        ${dtype}_swap(arrays[1], x, batch, seq, inputs);
        if (last) {
            #pragma omp for
            for (long i = 0; i < items; i++)
                for (long side = 0; side < ways; side++)
                    if (i / most(1, batch) == (side ? 0 : seq - 1))
                        memcpy(above + i * pitch + side * hidden, arrays[0] + i % batch * pitch + side * hidden,
                               hidden * sizeof($dtype));
                    else
                        memset(above + i * pitch + side * hidden, 0, hidden * sizeof($dtype));
        } else {
            ${dtype}_swap(arrays[0], above, batch, seq, pitch);
        }
        for (long layer = layers - 1; layer >= 0; layer--) {
            const $dtype *source = layer ? history + layer * ways * ($slots + 1) * all - ways * all : x;
            const long width = layer ? pitch : inputs, odd = (layers - 1 - layer) % 2;
            $dtype *from = odd ? under : above, *into = odd ? above : under;
            for (long side = 0; side < ways; side++) {
                const ${dtype}_way way =
                    ${dtype}_way_of(weights, history, layer, side, ways, biased, $slots, all, hidden);
                const ${dtype}_way asked =
                    ${dtype}_way_of(gradients, history, layer, side, ways, biased, $slots, all, hidden);
                ${name}_walk(way, from + side * hidden, dinputs, dproducts, dcells, packed, panels, zeros, batch, seq,
                             hidden, ways, side, truncate, relu);
                const long later = side ? 0 : batch * hidden;
                const $dtype *before = way.states + (side ? batch * pitch : 0);
                ${dtype}_gemms($gates, all, hidden * width, hidden, width, items, dinputs, 1, hidden, source, width, 1,
                               0, 0, asked.weight_ih, width, room);
                ${dtype}_gemms($added, all, hidden * hidden, hidden, hidden, items - batch, dinputs + later, 1, hidden,
                               before, pitch, 1, 0, 0, asked.weight_hh, hidden, room);
                if ($added < $gates)
                    ${dtype}_gemm(hidden, hidden, items - batch, dproducts + later, 1, hidden, before, pitch, 1, 0, 0,
                                  asked.weight_hh + $added * hidden * hidden, hidden, room);
                for (long g = 0; g < $gates; g++) {
                    ${dtype}_gemm(items, width, hidden, dinputs + g * all, hidden, 1, way.weight_ih
                                  + g * hidden * width, width, 1, side || g ? into : 0, width, into, width, room);
                    if (biased) {
                        ${dtype}_columns(dinputs + g * all, asked.bias_ih + g * hidden, items, hidden);
                        ${dtype}_columns(g == $own ? dproducts : dinputs + g * all, asked.bias_hh + g * hidden, items,
                                         hidden);
                    }
                }
            }
        }
        ${dtype}_swap(layers % 2 ? under : above, arrays[3 + count], seq, batch, inputs);
    }
}
"""
