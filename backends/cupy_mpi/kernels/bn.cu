// needs sums
/* Moments of the parts of each channel: [part, channel]. Also of bn_sums, bn_squares, bn_relu_forward,
bn_add_relu_forward. */
extern "C" __global__ void bn_forward_moments(const real *x, Moments *parts, RUNS)
{
    Counting counting;
    EACH_OF_RUNS(place)
        counting.add(x[place]);
    const Moments known = over_threads(counting.found());
    if (threadIdx.x == 0)
        parts[blockIdx.y * (i64)gridDim.x + blockIdx.x] = known;
}

/* The same of rows. Also of bn_sums, bn_squares, bn_relu_forward, bn_add_relu_forward. */
extern "C" __global__ void bn_forward_moments_rows(const real *x, Moments *parts, i64 rows, i64 channels)
{
    Counting counting;
    EACH_OF_ROWS(place)
        counting.add(x[place]);
    const Moments known = over_warps(counting.found());
    if (threadIdx.x < 32 && channel < channels)
        parts[blockIdx.y * channels + channel] = known;
}

/* mean and 1/sqrt(variance + eps) of each channel. Also of bn_relu_forward, bn_add_relu_forward. */
extern "C" __global__ void bn_forward_finish(const Moments *parts, real *mean, real *rstd, i64 count, real eps)
{
    const Moments known = all_of(parts, count);
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = known.mean;
        rstd[blockIdx.x] = 1 / sqrt(known.squares / known.count + eps);
    }
}

/* The sum of each channel. */
extern "C" __global__ void bn_sums_finish(const Moments *parts, real *sums, i64 count)
{
    const Moments known = all_of(parts, count);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = known.mean * known.count;
}

/* The sum of the squares around the mean of the whole group, sums/values. */
extern "C" __global__ void bn_squares_finish(const Moments *parts, const real *sums, real *squares, i64 count,
                                             real values)
{
    const Moments known = all_of(parts, count);
    if (threadIdx.x == 0) {
        const real off = known.mean - sums[blockIdx.x] / values;
        squares[blockIdx.x] = known.squares + known.count * off * off;
    }
}

/* mean and 1/sqrt(variance + eps) of whole sums. Also of bn_relu_apply, bn_add_relu_apply. */
extern "C" __global__ void bn_apply_finish(const real *sums, const real *squares, real *mean, real *rstd, i64 channels,
                                           real values, real eps)
{
    EACH(c, channels) {
        mean[c] = sums[c] / values;
        rstd[c] = 1 / sqrt(squares[c] / values + eps);
    }
}

/* 1/sqrt(variance + eps). Also of bn_relu_inference, bn_add_relu_inference. */
extern "C" __global__ void bn_inference_finish(const real *variance, real *rstd, i64 channels, real eps)
{
    EACH(c, channels)
        rstd[c] = 1 / sqrt(variance[c] + eps);
}

/* Tables begin with zeros. Also of bn_sums, bn_squares, bn_apply, bn_relu_forward, bn_add_relu_forward, bn_relu_apply,
bn_add_relu_apply, bn_dx, bn_relu_dx, bn_grad_sums, bn_grad_apply, bn_statistics. */
extern "C" __global__ void bn_forward_zero(real *table, i64 size)
{
    EACH(i, size)
        table[i] = 0;
}

/* Where an element of the samples at hand is, and its channel: they are [.., channel, `inner`], and a row of `whole`
has `length` of them. */
#define PLACES i64 length, i64 whole, i64 by_length, i64 channels, i64 by_inner, i64 by_channels
#define AT(i)                                                                                 \
    const unsigned row_ = quotient((unsigned)(i), by_length);                                 \
    const unsigned of_ = quotient((unsigned)(i), by_inner);                                   \
    const int c = of_ - quotient(of_, by_channels) * (unsigned)channels;                      \
    const i64 at = row_ * whole + ((i) - row_ * length)

/* y = (x - mean) rstd scale + shift, [+ added], [0 where that is below 0]. Also of bn_apply, bn_inference,
bn_relu_forward, bn_relu_apply, bn_relu_inference, bn_add_relu_forward, bn_add_relu_apply, bn_add_relu_inference. */
extern "C" __global__ void bn_forward_values(const real *x, const real *mean, const real *rstd, const real *scale,
                                             const real *shift, const real *added, real *y, i64 size, PLACES, i64 relu)
{
    EACH(i, size) {
        AT(i);
        real value = (x[at] - mean[c]) * (rstd[c] * scale[c]) + shift[c];
        if (added)
            value += added[at];
        y[at] = relu && value < 0 ? 0 : value;
    }
}

/* Sums of dy and of dy (x - mean) of the parts of each channel; where y is given dy counts where y > 0. Also of
bn_grad_sums, bn_relu_dx. */
extern "C" __global__ void bn_dx_sums(const real *dy, const real *y, const real *x, const real *mean, Pair *parts, RUNS)
{
    const real middle = mean[blockIdx.x];
    Pair sums = {0, 0};
    EACH_OF_RUNS(place) {
        const real slope = y && !(y[place] > 0) ? 0 : dy[place];
        sums.first += slope, sums.second += slope * (x[place] - middle);
    }
    sums = over_threads(sums);
    if (threadIdx.x == 0)
        parts[blockIdx.y * (i64)gridDim.x + blockIdx.x] = sums;
}

/* The same of rows. Also of bn_grad_sums, bn_relu_dx. */
extern "C" __global__ void bn_dx_sums_rows(const real *dy, const real *y, const real *x, const real *mean, Pair *parts,
                                           i64 rows, i64 channels)
{
    Pair sums = {0, 0};
    EACH_OF_ROWS(place) {
        const real slope = y && !(y[place] > 0) ? 0 : dy[place];
        sums.first += slope, sums.second += slope * (x[place] - mean[channel]);
    }
    sums = over_warps(sums);
    if (threadIdx.x < 32 && channel < channels)
        parts[blockIdx.y * channels + channel] = sums;
}

/* Sums of dy and of dy (x - mean) rstd of each channel. Also of bn_grad_sums, bn_relu_dx. */
extern "C" __global__ void bn_dx_finish(const Pair *parts, const real *rstd, real *dy_sums, real *dyx_sums, i64 count)
{
    const Pair sums = all_of(parts, count);
    if (threadIdx.x == 0) {
        dy_sums[blockIdx.x] = sums.first;
        dyx_sums[blockIdx.x] = sums.second * rstd[blockIdx.x];
    }
}

/* dscale and dshift: those of this group, added to those before unless it is the first. Also of bn_grad_apply,
bn_relu_dx. */
extern "C" __global__ void bn_dx_shares(const real *dy_sums, const real *dyx_sums, real *dscale, real *dshift,
                                        i64 channels, i64 adds, real share)
{
    EACH(c, channels) {
        dscale[c] = (adds ? dscale[c] : 0) + share * dyx_sums[c];
        dshift[c] = (adds ? dshift[c] : 0) + share * dy_sums[c];
    }
}

/* dx = scale rstd (dy - mean(dy) - x' mean(dy x')), x' = (x - mean) rstd, the means
taken by `share` = 1/values. Also of bn_grad_apply, bn_relu_dx. */
extern "C" __global__ void bn_dx_values(const real *dy, const real *y, const real *x, const real *scale,
                                        const real *mean, const real *rstd, const real *dy_sums, const real *dyx_sums,
                                        real *dx, i64 size, PLACES, real share)
{
    EACH(i, size) {
        AT(i);
        const real slope = y && !(y[at] > 0) ? 0 : dy[at];
        const real pull = (x[at] - mean[c]) * (rstd[c] * dyx_sums[c] * share);
        dx[at] = (slope - dy_sums[c] * share - pull) * (scale[c] * rstd[c]);
    }
}

/* This group's share of the step's mean and unbiased variance. */
extern "C" __global__ void bn_statistics(const real *batch_mean, const real *batch_rstd, real *mean_sum,
                                         real *variance_sum, i64 channels, i64 adds, real groups, real unbiased,
                                         real eps)
{
    EACH(c, channels) {
        const real variance = (1 / (batch_rstd[c] * batch_rstd[c]) - eps) * unbiased;
        mean_sum[c] = (adds ? mean_sum[c] : 0) + batch_mean[c] / groups;
        variance_sum[c] = (adds ? variance_sum[c] : 0) + variance / groups;
    }
}

/* The running averages move towards this step's. */
extern "C" __global__ void bn_update(real *mean, real *variance, const real *mean_sum, const real *variance_sum,
                                     i64 channels, real momentum)
{
    EACH(c, channels) {
        mean[c] = mean[c] * (1 - momentum) + momentum * mean_sum[c];
        variance[c] = variance[c] * (1 - momentum) + momentum * variance_sum[c];
    }
}
