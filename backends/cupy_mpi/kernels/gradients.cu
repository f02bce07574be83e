/* total = a + b. Also of add_gradients. */
extern "C" __global__ void sum_gradients(const real *a, const real *b, real *total, i64 size)
{
    EACH(i, size)
        total[i] = a[i] + b[i];
}

/* total = a. */
extern "C" __global__ void sum_gradients_one(const real *a, real *total, i64 size)
{
    EACH(i, size)
        total[i] = a[i];
}

/* Zeros. */
extern "C" __global__ void zero(real *x, i64 size)
{
    EACH(i, size)
        x[i] = 0;
}

/* g += l2 w + l1 sign(w); the sign of 0 is 0. */
extern "C" __global__ void regularise(const real *w, real *g, i64 size, real l1, real l2)
{
    EACH(i, size)
        g[i] += l2 * w[i] + l1 * ((w[i] > 0) - (w[i] < 0));
}

/* Each element to bound at most, either way; what is no number stays that. */
extern "C" __global__ void clip_value(real *g, i64 size, real bound)
{
    EACH(i, size)
        g[i] = g[i] > bound ? bound : g[i] < -bound ? -bound : g[i];
}

/* Sums of squares, over a divisor: that of block b's elements to sums[at + b]. Also of clip_squares. */
extern "C" __global__ void clip_parts(const real *g, real *sums, i64 size, i64 at, real divisor)
{
    real sum = 0;
    EACH(i, size)
        sum += g[i] * g[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        sums[at + blockIdx.x] = sum / divisor;
}

/* The sum of all sums, by one block. Also of clip_squares. */
extern "C" __global__ void clip_total(const real *sums, real *total, i64 size)
{
    real sum = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x)
        sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *total = sum;
}

/* g times min(1, bound/(norm + 1e-6)), whose square is given. */
extern "C" __global__ void clip_scale(real *g, const real *squares, i64 size, real bound)
{
    const real allowed = bound / (sqrt(*squares) + (real)1e-6), factor = allowed < 1 ? allowed : 1;
    EACH(i, size)
        g[i] *= factor;
}
