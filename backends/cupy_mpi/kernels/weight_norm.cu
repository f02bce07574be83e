/* y = magnitude direction/its norm: a block a row. */
extern "C" __global__ void weight_norm_forward(const real *direction, const real *magnitude, real *y, i64 width)
{
    direction += blockIdx.x * width, y += blockIdx.x * width;
    real squares = 0;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        squares += direction[i] * direction[i];
    const real factor = magnitude[blockIdx.x] / sqrt(block_sum(squares));
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        y[i] = direction[i] * factor;
}

/* dmagnitude = the sum of dy u, u = direction/its norm; ddirection = magnitude/norm (dy - u dmagnitude): a block a row. */
extern "C" __global__ void weight_norm_dw(const real *dy, const real *direction, const real *magnitude, real *ddirection,
                                          real *dmagnitude, i64 width)
{
    dy += blockIdx.x * width, direction += blockIdx.x * width, ddirection += blockIdx.x * width;
    real squares = 0, products = 0;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        squares += direction[i] * direction[i], products += dy[i] * direction[i];
    const real norm = sqrt(block_sum(squares)), slope = block_sum(products) / norm;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        ddirection[i] = (dy[i] - direction[i] / norm * slope) * (magnitude[blockIdx.x] / norm);
    if (threadIdx.x == 0)
        dmagnitude[blockIdx.x] = slope;
}
