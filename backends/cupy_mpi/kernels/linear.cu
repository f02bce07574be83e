/* Each row of y, with the bias added. */
extern "C" __global__ void linear_forward_bias(const real *bias, real *y, i64 size, i64 columns)
{
    EACH(i, size)
        y[i] += bias[i % columns];
}

/* Sums over the rows of dy, by chunks of so many: of chunk blockIdx.y to row blockIdx.y of sums. Threads are 32 columns
by 8 rows; blocks stand for 32 columns. */
extern "C" __global__ void linear_dw_bias(const real *dy, real *sums, i64 rows, i64 columns, i64 chunk)
{
    __shared__ real of_threads[8][32];
    const i64 column = blockIdx.x * (i64)32 + threadIdx.x, first = blockIdx.y * chunk, end = least(first + chunk, rows);
    real sum = 0;
    if (column < columns)
        for (i64 row = first + threadIdx.y; row < end; row += 8)
            sum += dy[row * columns + column];
    of_threads[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < columns) {
        for (int i = 1; i < 8; i++)
            sum += of_threads[i][threadIdx.x];
        sums[blockIdx.y * columns + column] = sum;
    }
}
