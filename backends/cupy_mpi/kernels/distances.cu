/* Kinds of distances between x and t. */
enum Kind { SQUARE, ABSOLUTE, HUBER, LOGISTIC };

/* (x - t)^2; |x - t|; d^2/2 up to delta and a line from there; max(x, 0) - x t + log(1 + e^-|x|). */
__device__ __forceinline__ real distance_of(i64 kind, real x, real t, real delta)
{
    const real apart = x < t ? t - x : x - t;
    if (kind == SQUARE)
        return apart * apart;
    if (kind == ABSOLUTE)
        return apart;
    if (kind == HUBER) {
        const real limited = apart > delta ? delta : apart;
        return limited * (apart - limited / 2);
    }
    return (x < 0 ? 0 : x) - x * t + log1p(exp(x < 0 ? x : -x));
}

/* Its slope by x; that of a square is halved. */
__device__ __forceinline__ real slope_of(i64 kind, real x, real t, real delta)
{
    const real apart = x - t;
    if (kind == SQUARE)
        return apart;
    if (kind == ABSOLUTE)
        return apart != apart ? apart : (real)((apart > 0) - (apart < 0));
    if (kind == HUBER)
        return apart > delta ? delta : apart < -delta ? -delta : apart;
    return 1 / (1 + exp(-x)) - t;
}

/* Sums of the distances of each block's elements. Also of half_mse_forward, reconstruction_forward, l1_forward,
huber_forward, bce_forward. */
extern "C" __global__ void mse_forward_parts(const real *x, const real *t, real *parts, i64 size, i64 kind, real delta)
{
    real sum = 0;
    EACH(i, size)
        sum += distance_of(kind, x[i], t[i], delta);
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

/* The sum of all parts over a divisor, by one block. Also of half_mse_forward, reconstruction_forward, l1_forward,
huber_forward, bce_forward. */
extern "C" __global__ void mse_forward_total(const real *parts, real *loss, i64 size, real divisor)
{
    real sum = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x)
        sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *loss = sum / divisor;
}

/* The slope times dy over a divisor. Also of half_mse_dx, reconstruction_dx, l1_dx, huber_dx, bce_dx, mse_dt,
half_mse_dt, reconstruction_dt, l1_dt, huber_dt. */
extern "C" __global__ void mse_dx(const real *dy, const real *x, const real *t, real *dx, i64 size, i64 kind,
                                  real delta, real divisor)
{
    const real factor = *dy / divisor;
    EACH(i, size)
        dx[i] = slope_of(kind, x[i], t[i], delta) * factor;
}

/* -x dy over a divisor. */
extern "C" __global__ void bce_dt(const real *dy, const real *x, real *dt, i64 size, real divisor)
{
    const real factor = -*dy / divisor;
    EACH(i, size)
        dt[i] = x[i] * factor;
}
