/* How many elements are infinite or no number: those of block b's to counts[at + b]. */
extern "C" __global__ void not_finite_parts(const real *g, real *counts, i64 size, i64 at)
{
    real count = 0;
    EACH(i, size)
        count += !(g[i] - g[i] == 0);
    count = block_sum(count);
    if (threadIdx.x == 0)
        counts[at + blockIdx.x] = count;
}

/* The sum of all counts, by one block. */
extern "C" __global__ void not_finite_total(const real *counts, real *found, i64 size)
{
    real count = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x)
        count += counts[i];
    count = block_sum(count);
    if (threadIdx.x == 0)
        *found = count;
}

/* g over the scale, or zeros where any element is not finite. */
extern "C" __global__ void unscale_gradients(real *g, const real *scale, const real *found, i64 size)
{
    EACH(i, size)
        g[i] = *found == 0 ? g[i] / *scale : 0;
}

/* Good steps in a row, skipped ones in a row, and in all; the scale for the next step, where it is dynamic. */
extern "C" __global__ void unscale_gradients_steps(
    real *scale, real *steps, const real *found, i64 dynamic, i64 interval)
{
    if (*found == 0)
        steps[0] += 1, steps[1] = 0;
    else
        steps[0] = 0, steps[1] += 1, steps[2] += 1;
    if (dynamic && *found != 0)
        *scale /= 2;
    if (dynamic && steps[0] == interval)
        *scale *= 2, steps[0] = 0;
}
