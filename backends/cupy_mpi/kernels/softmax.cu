/* Row blockIdx.x of [outer, extent, inner], elements `inner` apart: a block a row. */
#define ROW(inner, extent) ((blockIdx.x / (inner)) * (extent) * (inner) + blockIdx.x % (inner))
#define EACH_IN(i, extent) for (i64 i = threadIdx.x; i < (extent); i += blockDim.x)

/* The largest element of a row. */
__device__ __forceinline__ real row_largest(const real *x, i64 extent, i64 inner)
{
    real largest = -INFINITE;
    EACH_IN(i, extent)
        largest = Largest()(largest, x[i * inner]);
    return block_largest(largest);
}

/* The sum of e^(x - largest) of a row. */
__device__ __forceinline__ real row_exponentials(const real *x, real largest, i64 extent, i64 inner)
{
    real sum = 0;
    EACH_IN(i, extent)
        sum += exp(x[i * inner] - largest);
    return block_sum(sum);
}

/* y = e^x over its sum, the largest x subtracted first. */
extern "C" __global__ void softmax_forward(const real *x, real *y, i64 extent, i64 inner)
{
    x += ROW(inner, extent), y += ROW(inner, extent);
    const real largest = row_largest(x, extent, inner);
    const real share = 1 / row_exponentials(x, largest, extent, inner);
    EACH_IN(i, extent)
        y[i * inner] = exp(x[i * inner] - largest) * share;
}

/* dx = y (dy - the sum of dy y). */
extern "C" __global__ void softmax_dx(const real *dy, const real *y, real *dx, i64 extent, i64 inner)
{
    dy += ROW(inner, extent), y += ROW(inner, extent), dx += ROW(inner, extent);
    real sum = 0;
    EACH_IN(i, extent)
        sum += dy[i * inner] * y[i * inner];
    sum = block_sum(sum);
    EACH_IN(i, extent)
        dx[i * inner] = y[i * inner] * (dy[i * inner] - sum);
}

/* y = x less the logarithm of the sum of e^x. */
extern "C" __global__ void log_softmax_forward(const real *x, real *y, i64 extent, i64 inner)
{
    x += ROW(inner, extent), y += ROW(inner, extent);
    const real largest = row_largest(x, extent, inner);
    const real total = log(row_exponentials(x, largest, extent, inner));
    EACH_IN(i, extent)
        y[i * inner] = x[i * inner] - largest - total;
}

/* dx = dy less e^y times the sum of dy. */
extern "C" __global__ void log_softmax_dx(const real *dy, const real *y, real *dx, i64 extent, i64 inner)
{
    dy += ROW(inner, extent), y += ROW(inner, extent), dx += ROW(inner, extent);
    real sum = 0;
    EACH_IN(i, extent)
        sum += dy[i * inner];
    sum = block_sum(sum);
    EACH_IN(i, extent)
        dx[i * inner] = dy[i * inner] - exp(y[i * inner]) * sum;
}

/* Columns of [outer, extent, inner] where elements of a row are far apart: a thread a row, so that threads side by side
read what lies together. */
extern "C" __global__ void softmax_forward_columns(const real *x, real *y, i64 size, i64 extent, i64 inner)
{
    EACH(row, size) {
        const i64 at = row / inner * extent * inner + row % inner;
        real largest = -INFINITE, sum = 0;
        for (i64 i = 0; i < extent; i++)
            largest = Largest()(largest, x[at + i * inner]);
        for (i64 i = 0; i < extent; i++)
            sum += exp(x[at + i * inner] - largest);
        for (i64 i = 0; i < extent; i++)
            y[at + i * inner] = exp(x[at + i * inner] - largest) / sum;
    }
}

/* The same of the gradient. */
extern "C" __global__ void softmax_dx_columns(const real *dy, const real *y, real *dx, i64 size, i64 extent, i64 inner)
{
    EACH(row, size) {
        const i64 at = row / inner * extent * inner + row % inner;
        real sum = 0;
        for (i64 i = 0; i < extent; i++)
            sum += dy[at + i * inner] * y[at + i * inner];
        for (i64 i = 0; i < extent; i++)
            dx[at + i * inner] = y[at + i * inner] * (dy[at + i * inner] - sum);
    }
}
