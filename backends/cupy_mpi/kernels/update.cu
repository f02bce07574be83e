/* Weights that one launch updates: of so many rows the arrays (weight, gradient, states), how many elements they have, and
the number of the first chunk of each, of MANY_CHUNK elements. As in launch.py. */
enum { MANY_ROWS = 80, MANY_CHUNK = 2048 };

struct ManyRows {
    real *arrays[4][MANY_ROWS];
    i64 sizes[MANY_ROWS], begins[MANY_ROWS];
};

/* step(arrays of a row, its element) for all elements of all rows, chunk by chunk. */
template <typename Step> __device__ void over_rows(const ManyRows &rows, i64 count, i64 chunks, Step step)
{
    for (i64 chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        int row = 0;
        for (int by = 64; by; by /= 2)
            if (row + by < count && rows.begins[row + by] <= chunk)
                row += by;
        real *const w = rows.arrays[0][row], *const one = rows.arrays[2][row], *const two = rows.arrays[3][row];
        const real *const g = rows.arrays[1][row];
        const i64 begin = (chunk - rows.begins[row]) * MANY_CHUNK, end = least(begin + MANY_CHUNK, rows.sizes[row]);
        for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x)
            step(w, g, one, two, i);
    }
}

/* w -= lr (g + decay w). */
__device__ void sgd_plain_step(real *w, const real *g, i64 i, real lr, real decay)
{
    w[i] -= lr * (g[i] + decay * w[i]);
}

/* v = momentum v + g; w -= lr v, or with Nesterov's momentum lr (g + momentum v); g has the decay. */
__device__ void sgd_step(
    real *w, const real *g, real *v, i64 i, real lr, real momentum, i64 nesterov, real decay)
{
    const real slope = g[i] + decay * w[i], speed = momentum * v[i] + slope;
    v[i] = speed;
    w[i] -= lr * (nesterov ? slope + momentum * speed : speed);
}

/* a += g^2; w -= lr g / (sqrt(a) + eps). */
__device__ void adagrad_step(real *w, const real *g, real *a, i64 i, real lr, real eps, real decay)
{
    const real slope = g[i] + decay * w[i];
    a[i] += slope * slope;
    w[i] -= lr * slope / (sqrt(a[i]) + eps);
}

/* a = alpha a + (1 - alpha) g^2; u = g / (sqrt(a) + eps). */
__device__ real rms_step(const real *w, const real *g, real *a, i64 i, real alpha, real rest, real eps, real decay)
{
    const real slope = g[i] + decay * w[i];
    a[i] = alpha * a[i] + rest * (slope * slope);
    return slope / (sqrt(a[i]) + eps);
}

/* v = momentum v + u; w -= lr v. */
__device__ void rms_speed_step(real *w, real *v, i64 i, real u, real lr, real momentum)
{
    v[i] = momentum * v[i] + u;
    w[i] -= lr * v[i];
}

/* What Adam is told: rate and root correct for the averages' beginning at zero, kept is what AdamW leaves of the weight.
These change from step to step, and are read from memory, as all rates are. */
struct AdamNumbers {
    real rate, root, beta1, rest1, beta2, rest2, eps, decay, kept;
};

/* m1 = beta1 m1 + (1 - beta1) g; m2 = beta2 m2 + (1 - beta2) g^2; w = kept w - rate m1 / (root sqrt(m2) + eps). */
__device__ void adam_step(real *w, const real *g, real *m1, real *m2, i64 i, const AdamNumbers &told)
{
    const real slope = g[i] + told.decay * w[i];
    m1[i] = told.beta1 * m1[i] + told.rest1 * slope;
    m2[i] = told.beta2 * m2[i] + told.rest2 * (slope * slope);
    w[i] = told.kept * w[i] - told.rate * m1[i] / (sqrt(m2[i]) * told.root + told.eps);
}

/* Of one weight. */
extern "C" __global__ void sgd_update_plain(real *w, const real *g, i64 size, const real *rate, real decay)
{
    const real lr = *rate;
    EACH(i, size)
        sgd_plain_step(w, g, i, lr, decay);
}

/* Of one weight. */
extern "C" __global__ void sgd_update(
    real *w, const real *g, real *v, i64 size, const real *rate, real momentum, i64 nesterov, real decay)
{
    const real lr = *rate;
    EACH(i, size)
        sgd_step(w, g, v, i, lr, momentum, nesterov, decay);
}

/* Of one weight. */
extern "C" __global__ void adagrad_update(real *w, const real *g, real *a, i64 size, const real *rate, real eps, real decay)
{
    const real lr = *rate;
    EACH(i, size)
        adagrad_step(w, g, a, i, lr, eps, decay);
}

/* Of one weight: w -= lr u. */
extern "C" __global__ void rmsprop_update_plain(
    real *w, const real *g, real *a, i64 size, const real *rate, real alpha, real rest, real eps, real decay)
{
    const real lr = *rate;
    EACH(i, size)
        w[i] -= lr * rms_step(w, g, a, i, alpha, rest, eps, decay);
}

/* Of one weight. */
extern "C" __global__ void rmsprop_update(
    real *w, const real *g, real *a, real *v, i64 size, const real *rate, real alpha, real rest, real eps, real decay,
    real momentum)
{
    const real lr = *rate;
    EACH(i, size)
        rms_speed_step(w, v, i, rms_step(w, g, a, i, alpha, rest, eps, decay), lr, momentum);
}

/* Of one weight. Also of adamw_update. */
extern "C" __global__ void adam_update(
    real *w, const real *g, real *m1, real *m2, i64 size, const real *now, real beta1, real rest1,
    real beta2, real rest2, real eps, real decay)
{
    const AdamNumbers told = {now[0], now[1], beta1, rest1, beta2, rest2, eps, decay, now[2]};
    EACH(i, size)
        adam_step(w, g, m1, m2, i, told);
}

/* Of many weights. */
extern "C" __global__ void sgd_updates_plain(
    const __grid_constant__ ManyRows rows, i64 count, i64 chunks, const real *rate, real decay)
{
    const real lr = *rate;
    over_rows(rows, count, chunks, [&](real *w, const real *g, real *, real *, i64 i) {
        sgd_plain_step(w, g, i, lr, decay);
    });
}

/* Of many weights. */
extern "C" __global__ void sgd_updates(
    const __grid_constant__ ManyRows rows, i64 count, i64 chunks, const real *rate, real momentum, i64 nesterov, real decay)
{
    const real lr = *rate;
    over_rows(rows, count, chunks, [&](real *w, const real *g, real *v, real *, i64 i) {
        sgd_step(w, g, v, i, lr, momentum, nesterov, decay);
    });
}

/* Of many weights. */
extern "C" __global__ void adagrad_updates(
    const __grid_constant__ ManyRows rows, i64 count, i64 chunks, const real *rate, real eps, real decay)
{
    const real lr = *rate;
    over_rows(rows, count, chunks, [&](real *w, const real *g, real *a, real *, i64 i) {
        adagrad_step(w, g, a, i, lr, eps, decay);
    });
}

/* Of many weights. */
extern "C" __global__ void rmsprop_updates_plain(
    const __grid_constant__ ManyRows rows, i64 count, i64 chunks, const real *rate, real alpha, real rest, real eps, real decay)
{
    const real lr = *rate;
    over_rows(rows, count, chunks, [&](real *w, const real *g, real *a, real *, i64 i) {
        w[i] -= lr * rms_step(w, g, a, i, alpha, rest, eps, decay);
    });
}

/* Of many weights. */
extern "C" __global__ void rmsprop_updates(
    const __grid_constant__ ManyRows rows, i64 count, i64 chunks, const real *rate, real alpha, real rest, real eps, real decay,
    real momentum)
{
    const real lr = *rate;
    over_rows(rows, count, chunks, [&](real *w, const real *g, real *a, real *v, i64 i) {
        rms_speed_step(w, v, i, rms_step(w, g, a, i, alpha, rest, eps, decay), lr, momentum);
    });
}

/* Of many weights. Also of adamw_updates. */
extern "C" __global__ void adam_updates(
    const __grid_constant__ ManyRows rows, i64 count, i64 chunks, const real *now, real beta1, real rest1,
    real beta2, real rest2, real eps, real decay)
{
    const AdamNumbers told = {now[0], now[1], beta1, rest1, beta2, rest2, eps, decay, now[2]};
    over_rows(rows, count, chunks, [&](real *w, const real *g, real *m1, real *m2, i64 i) {
        adam_step(w, g, m1, m2, i, told);
    });
}

/* A block's sums of two values of its elements, to parts[block] of each half. */
__device__ void store_parts(real one, real two, real *parts)
{
    one = block_sum(one);
    two = block_sum(two);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = one, parts[gridDim.x + blockIdx.x] = two;
}

/* Two sums of such parts, a block each. Also of lars_update, lars_squares, lamb_update, lamb_squares. */
extern "C" __global__ void norms_total(const real *parts, real *squares, i64 count)
{
    real sum = 0;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x)
        sum += parts[blockIdx.x * count + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        squares[blockIdx.x] = sum;
}

/* w^2 and g^2. Also of lars_update. */
extern "C" __global__ void lars_squares_parts(const real *w, const real *g, real *parts, i64 size)
{
    real weights = 0, slopes = 0;
    EACH(i, size)
        weights += w[i] * w[i], slopes += g[i] * g[i];
    store_parts(weights, slopes, parts);
}

/* u = trust |w| / (|g| + decay |w| + eps) (g + decay w), the factor 1 where either norm is 0; v = momentum v + u, u = v;
w -= lr u. Without momentum there is no v. The squares of the norms are given. */
extern "C" __global__ void lars_update(
    real *w, const real *g, real *v, const real *squares, i64 size, const real *rate, real momentum, real trust, real decay,
    real eps)
{
    const real weight = sqrt(squares[0]), slope = sqrt(squares[1]), lr = *rate;
    const real trusted = weight != 0 && slope != 0 ? trust * weight / (slope + decay * weight + eps) : 1;
    EACH(i, size) {
        real u = trusted * (g[i] + decay * w[i]);
        if (v)
            u = v[i] = momentum * v[i] + u;
        w[i] -= lr * u;
    }
}

/* u = rate m1 / (root sqrt(m2) + eps) + decay w. */
__device__ real lamb_direction(real w, real m1, real m2, const AdamNumbers &told)
{
    return told.rate * m1 / (sqrt(m2) * told.root + told.eps) + told.decay * w;
}

/* The moments as Adam has them, stored where they are kept; w^2 and u^2. Also of lamb_squares. */
extern "C" __global__ void lamb_update_moments(
    const real *w, const real *g, real *m1, real *m2, real *parts, i64 size, i64 keeps, const real *now, real beta1,
    real rest1, real beta2, real rest2, real eps, real decay)
{
    const AdamNumbers told = {now[0], now[1], beta1, rest1, beta2, rest2, eps, decay, 1};
    real weights = 0, moves = 0;
    EACH(i, size) {
        const real mean = beta1 * m1[i] + rest1 * g[i], square = beta2 * m2[i] + rest2 * (g[i] * g[i]);
        const real u = lamb_direction(w[i], mean, square, told);
        if (keeps)
            m1[i] = mean, m2[i] = square;
        weights += w[i] * w[i], moves += u * u;
    }
    store_parts(weights, moves, parts);
}

/* w -= lr |w| / |u| u, the ratio 1 where either norm is 0, whose squares are given. */
extern "C" __global__ void lamb_update(
    real *w, const real *m1, const real *m2, const real *squares, i64 size, const real *rate, const real *now, real eps,
    real decay)
{
    const AdamNumbers told = {now[0], now[1], 0, 0, 0, 0, eps, decay, 1};
    const real weight = sqrt(squares[0]), move = sqrt(squares[1]);
    const real by = weight != 0 && move != 0 ? *rate * weight / move : *rate;
    EACH(i, size)
        w[i] -= by * lamb_direction(w[i], m1[i], m2[i], told);
}
