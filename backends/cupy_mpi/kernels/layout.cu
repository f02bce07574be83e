/* An image in another layout: for each of gridDim.z matrices, y[column][row] = x[row][column], by tiles of 32 x 32 with
32 x 8 threads. The strides are those of matrices and of rows; columns lie together. */
extern "C" __global__ void convert(
    const real *x, real *y, i64 rows, i64 columns, i64 x_matrix, i64 x_row, i64 y_matrix, i64 y_row)
{
    __shared__ real tile[32][33]; /* one more, so that columns lie in different banks */
    const i64 left = blockIdx.x * (i64)32, top = blockIdx.y * (i64)32;
    x += blockIdx.z * x_matrix, y += blockIdx.z * y_matrix;
    for (int i = threadIdx.y; i < 32; i += 8)
        if (top + i < rows && left + threadIdx.x < columns)
            tile[i][threadIdx.x] = x[(top + i) * x_row + left + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8)
        if (left + i < columns && top + threadIdx.x < rows)
            y[(left + i) * y_row + top + threadIdx.x] = tile[threadIdx.x][i];
}
