// needs sums
/* y [outer, inner, width] = x [inner, outer, width], and another that lies as x added where there is one. Also of
gru_forward, rnn_forward, lstm_dx, gru_dx, rnn_dx. */
extern "C" __global__ void lstm_forward_turned(const real *x, const real *also, real *y, i64 size, i64 outer, i64 inner,
                                               i64 width, i64 by_inner, i64 by_width)
{
    EACH(i, size) {
        const unsigned row = quotient((unsigned)i, by_width), out = quotient(row, by_inner), in = row - out * inner;
        const i64 from = (in * outer + out) * width + (i - row * width);
        y[i] = x[from] + (also ? also[from] : 0);
    }
}

/* The last state of a direction: rows of `hidden` numbers, `between` apart. Also of gru_forward, rnn_forward. */
extern "C" __global__ void lstm_forward_last(const real *states, real *y, i64 size, i64 hidden, i64 by_hidden,
                                             i64 between)
{
    EACH(i, size) {
        const unsigned sample = quotient((unsigned)i, by_hidden);
        const i64 at = sample * between + (i - sample * hidden);
        y[at] = states[at];
    }
}

/* What a cell is given at one element of the sequence. `inputs` has all projections of the input [element, sample, gate,
hidden], this element's from `at` on; `product` that of the state before [sample, gate, hidden], none at the first.
`gates` [gate, .., sample, hidden] are `apart`, rows of states `between`. */
#define CELL                                                                                                         \
    const real *inputs, i64 at, const real *product, const real *bias_ih, const real *bias_hh, const real *before,   \
        real *gates, real *kept, real *states, i64 size, i64 hidden, i64 by_hidden, i64 apart, i64 between

/* Where hidden number j of a sample is: among those with their gates side by side, and in the states. */
#define HIDDEN(i, count)                                                                                       \
    const unsigned sample = quotient((unsigned)(i), by_hidden), j = (unsigned)(i) - sample * (unsigned)hidden; \
    const i64 row = sample * (count) * hidden + j
#define STATE (sample * between + j)

/* The projection of the input for a gate, and that of the state. */
#define INPUT(gate) (inputs[at + row + (gate) * hidden] + (bias_ih ? bias_ih[(gate) * hidden + j] : 0))
#define PRODUCT(gate)                                                                        \
    ((product ? product[row + (gate) * hidden] : 0) + (bias_hh ? bias_hh[(gate) * hidden + j] : 0))

__device__ __forceinline__ real logistic(real x) { return 1 / (1 + exp(-x)); }

/* i, f, o = sigmoids, g = tanh; c = f c' + i g and the state o tanh c. `before` is c', `kept` c. */
extern "C" __global__ void lstm_forward_cell(CELL)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 4);
        const real i = logistic(INPUT(0) + PRODUCT(0)), f = logistic(INPUT(1) + PRODUCT(1));
        const real g = tanh(INPUT(2) + PRODUCT(2)), o = logistic(INPUT(3) + PRODUCT(3));
        const real c = i * g + (before ? f * before[at_i] : 0);
        gates[at_i] = i, gates[at_i + apart] = f, gates[at_i + 2 * apart] = g, gates[at_i + 3 * apart] = o;
        kept[at_i] = c;
        states[STATE] = o * tanh(c);
    }
}

/* r, z = sigmoids, n = tanh(W x + b + r (U h' + b')); the state n + z (h' - n). `before` is h', `kept` U h' + b'. */
extern "C" __global__ void gru_forward_cell(CELL)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 3);
        const real r = logistic(INPUT(0) + PRODUCT(0)), z = logistic(INPUT(1) + PRODUCT(1)), sum = PRODUCT(2);
        const real n = tanh(INPUT(2) + r * sum);
        gates[at_i] = r, gates[at_i + apart] = z, gates[at_i + 2 * apart] = n;
        kept[at_i] = sum;
        states[STATE] = n + z * ((before ? before[STATE] : 0) - n);
    }
}

/* The state tanh(W x + b + U h' + b'), whose argument is kept as a gate. */
extern "C" __global__ void rnn_forward_cell(CELL)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 1);
        const real sum = INPUT(0) + PRODUCT(0);
        gates[at_i] = sum;
        states[STATE] = tanh(sum);
    }
}

/* The state max(W x + b + U h' + b', 0). */
extern "C" __global__ void rnn_forward_cell_relu(CELL)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 1);
        const real sum = INPUT(0) + PRODUCT(0);
        gates[at_i] = sum;
        states[STATE] = sum < 0 ? 0 : sum;
    }
}

/* What a cell is given on the way back. The gradient of its state comes from `above`, rows `above_stride` apart from
`above_at` on, from another array that lies so, from the product of the next element's gradients [sample, hidden], and, as
far as it passes by the product, in `carry`, where `carries` says so; what passes to the element before is left there. The
gradients of the projections are written from `at` on, [sample, gate, hidden]. */
#define CELL_BACK                                                                                                    \
    const real *above, const real *also, i64 above_at, i64 above_stride, const real *product, const real *gates,     \
        const real *kept, const real *before, const real *states, real *carry, real *dinputs, real *dproducts,       \
        i64 at, i64 size, i64 hidden, i64 by_hidden, i64 apart, i64 between, i64 carries

#define ARRIVED(i)                                                      \
    ((above ? above[above_at + sample * above_stride + j] : 0) +        \
     (also ? also[above_at + sample * above_stride + j] : 0) + (product ? product[i] : 0))

/* Of i, f, g and o; what passes by is the gradient of c'. */
extern "C" __global__ void lstm_dx_cell(CELL_BACK)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 4);
        const real i = gates[at_i], f = gates[at_i + apart], g = gates[at_i + 2 * apart], o = gates[at_i + 3 * apart];
        const real dstate = ARRIVED(at_i), shine = tanh(kept[at_i]);
        const real dc = (carries ? carry[at_i] : 0) + dstate * o * (1 - shine * shine);
        real *const slopes = dinputs + at + row;
        slopes[0] = dc * g * (i * (1 - i));
        slopes[hidden] = before ? dc * before[at_i] * (f * (1 - f)) : 0;
        slopes[2 * hidden] = dc * i * (1 - g * g);
        slopes[3 * hidden] = dstate * shine * (o * (1 - o));
        carry[at_i] = dc * f;
    }
}

/* Of r, z and n, which for the state's projection is r times that for the input's; what passes by is z dh. */
extern "C" __global__ void gru_dx_cell(CELL_BACK)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 3);
        const real r = gates[at_i], z = gates[at_i + apart], n = gates[at_i + 2 * apart];
        const real dstate = ARRIVED(at_i) + (carries ? carry[at_i] : 0), carried = dstate * z;
        const real dn = (dstate - carried) * (1 - n * n), dz = ((before ? before[STATE] : 0) - n) * (1 - z) * carried;
        const real dr = dn * r * kept[at_i] * (1 - r);
        real *const inputs = dinputs + at + row, *const products = dproducts + at + row;
        inputs[0] = products[0] = dr;
        inputs[hidden] = products[hidden] = dz;
        inputs[2 * hidden] = dn, products[2 * hidden] = dn * r;
        carry[at_i] = carried;
    }
}

/* Of the argument of tanh. */
extern "C" __global__ void rnn_dx_cell(CELL_BACK)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 1);
        dinputs[at + row] = ARRIVED(at_i) * (1 - states[STATE] * states[STATE]);
    }
}

/* Of the argument of max(.., 0). */
extern "C" __global__ void rnn_dx_cell_relu(CELL_BACK)
{
    EACH(at_i, size) {
        HIDDEN(at_i, 1);
        dinputs[at + row] = ARRIVED(at_i) * (states[STATE] > 0 ? 1 : 0);
    }
}

/* Sums of the gradients of both projections over parts of the rows. Also of gru_dx, rnn_dx. */
extern "C" __global__ void lstm_dx_bias(const real *dinputs, const real *dproducts, Pair *parts, i64 rows, i64 channels)
{
    Pair sums = {0, 0};
    EACH_OF_ROWS(place)
        sums.first += dinputs[place], sums.second += dproducts[place];
    sums = over_warps(sums);
    if (threadIdx.x < 32 && channel < channels)
        parts[blockIdx.y * channels + channel] = sums;
}

/* The gradients of both biases: a warp a number. Also of gru_dx, rnn_dx. */
extern "C" __global__ void lstm_dx_bias_finish(const Pair *parts, real *dbias_ih, real *dbias_hh, i64 count)
{
    const Pair sums = all_of(parts, count);
    if (threadIdx.x == 0)
        dbias_ih[blockIdx.x] = sums.first, dbias_hh[blockIdx.x] = sums.second;
}
