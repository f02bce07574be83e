// needs elementwise, philox
/* Activations by number; what they go by besides their operand is `parameter`: a slope, or a limit. */
enum Activation { RELU, LEAKY_RELU, ELU, TANH, SIGMOID, GELU, GELU_TANH, SILU, HARD_SWISH };

/* Those that are differentiated from their results. */
__device__ __forceinline__ real activated(i64 kind, real x, real parameter)
{
    if (kind == TANH)
        return tanh(x);
    if (kind == SIGMOID)
        return sigmoid(x);
    if (kind == RELU)
        return x < 0 ? 0 : x;
    return x > 0 ? x : parameter * (kind == ELU ? expm1(x) : x);
}

/* The slope at what is kept: the result, or for the last four the operand. */
__device__ __forceinline__ real slope_at(i64 kind, real kept, real parameter)
{
    if (kind == RELU || kind == LEAKY_RELU)
        return kept > 0 ? 1 : kind == RELU ? 0 : parameter;
    if (kind == ELU)
        return kept > 0 ? 1 : kept + parameter;
    if (kind == TANH)
        return 1 - kept * kept;
    if (kind == SIGMOID)
        return (1 - kept) * kept;
    if (kind == GELU)
        return normal(kept) + kept * ((real)0.3989422804014327 * exp((real)-0.5 * kept * kept));
    if (kind == GELU_TANH) {
        const real below = about_normal(kept);
        const real steep = (real)1.5957691216057308 * (1 + (real)0.134145 * kept * kept);
        return below + kept * (below * (1 - below) * steep);
    }
    if (kind == SILU) {
        const real s = sigmoid(kept);
        return s * (1 + kept * (1 - s));
    }
    return kept <= -3 ? 0 : kept >= 3 ? 1 : (2 * kept + 3) / 6;
}

/* An activation of a + b. Also of add_leaky_relu_forward, add_elu_forward, add_tanh_forward, add_sigmoid_forward. */
extern "C" __global__ void add_relu_forward(const real *a, const real *b, real *y, i64 size, i64 kind, real parameter)
{
    EACH(i, size)
        y[i] = activated(kind, a[i] + b[i], parameter);
}

/* dx = (a + b) times the slope. Also of sum_leaky_relu_dx, sum_elu_dx, sum_tanh_dx, sum_sigmoid_dx, sum_gelu_dx,
sum_silu_dx, sum_hard_swish_dx. */
extern "C" __global__ void sum_relu_dx(const real *a, const real *b, const real *kept, real *dx, i64 size, i64 kind,
                                       real parameter)
{
    EACH(i, size)
        dx[i] = (a[i] + b[i]) * slope_at(kind, kept[i], parameter);
}

/* dy times the slope, added to another gradient. Also of leaky_relu_sum, elu_sum, tanh_sum, sigmoid_sum, gelu_sum,
silu_sum, hard_swish_sum. */
extern "C" __global__ void relu_sum(const real *dy, const real *kept, const real *added, real *total, i64 size,
                                    i64 kind, real parameter)
{
    EACH(i, size)
        total[i] = dy[i] * slope_at(kind, kept[i], parameter) + added[i];
}

/* dx = dy mask scale times the slope. Also of dropout_tanh_dx, dropout_sigmoid_dx, dropout_silu_dx,
dropout_hard_swish_dx. */
extern "C" __global__ void dropout_relu_dx(const real *dy, const unsigned char *mask, const real *kept, real *dx,
                                           i64 size, i64 kind, real scale)
{
    EACH(i, size)
        dx[i] = dy[i] * mask[i] * scale * slope_at(kind, kept[i], 0);
}

/* y = x mask scale + added; an element is kept where its number, of 24 bits, is not below the threshold. */
extern "C" __global__ void dropout_add_forward(
    const real *x, const real *added, real *y, unsigned char *mask, i64 size, i64 columns, i64 first, const i64 *now,
    i64 k0, i64 k1, i64 threshold, real scale)
{
    const i64 step = *now;
    EACH(i, size) {
        const unsigned word = random_word(step, first + i / columns, i % columns, k0, k1);
        const bool kept = (word >> 8) >= threshold;
        mask[i] = kept;
        y[i] = x[i] * (kept ? 1 : 0) * scale + added[i];
    }
}
