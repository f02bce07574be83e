// needs sums
/* y = (x - mean) rstd scale + shift of each row: a block a row. The variance is taken around the mean. */
extern "C" __global__ void layernorm_forward(const real *x, const real *scale, const real *shift, real *y, real *mean,
                                             real *rstd, i64 width, real eps)
{
    x += blockIdx.x * width, y += blockIdx.x * width;
    real sum = 0, squares = 0;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        sum += x[i];
    const real middle = block_sum(sum) / width;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        squares += (x[i] - middle) * (x[i] - middle);
    const real factor = 1 / sqrt(block_sum(squares) / width + eps);
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        y[i] = (x[i] - middle) * factor * scale[i] + shift[i];
    if (threadIdx.x == 0)
        mean[blockIdx.x] = middle, rstd[blockIdx.x] = factor;
}

/* dx = rstd (g - mean(g) - x' mean(g x')), g = dy scale and x' = (x - mean) rstd: a block a row. */
extern "C" __global__ void layernorm_dx(const real *dy, const real *x, const real *scale, const real *mean,
                                        const real *rstd, real *dx, i64 width)
{
    dy += blockIdx.x * width, x += blockIdx.x * width, dx += blockIdx.x * width;
    const real middle = mean[blockIdx.x], factor = rstd[blockIdx.x];
    real sum = 0, products = 0;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
        const real slope = dy[i] * scale[i];
        sum += slope, products += slope * ((x[i] - middle) * factor);
    }
    sum = block_sum(sum) / width, products = block_sum(products) / width;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        dx[i] = factor * (dy[i] * scale[i] - sum - (x[i] - middle) * factor * products);
}

/* Sums of dy and of dy x' of the parts of each column, x' = (x - mean) rstd; a mean that is not given is 0. Also of
rmsnorm_dw. */
extern "C" __global__ void layernorm_dw_sums(const real *dy, const real *x, const real *mean, const real *rstd,
                                             Pair *parts, i64 rows, i64 channels)
{
    Pair sums = {0, 0};
    EACH_OF_ROWS(place) {
        sums.first += dy[place];
        sums.second += dy[place] * ((x[place] - (mean ? mean[i_] : 0)) * rstd[i_]);
    }
    sums = over_warps(sums);
    if (threadIdx.x < 32 && channel < channels)
        parts[blockIdx.y * channels + channel] = sums;
}

/* dscale and, where it is asked for, dshift: a warp a column. Also of rmsnorm_dw. */
extern "C" __global__ void layernorm_dw_finish(const Pair *parts, real *dscale, real *dshift, i64 count)
{
    const Pair sums = all_of(parts, count);
    if (threadIdx.x == 0) {
        dscale[blockIdx.x] = sums.second;
        if (dshift)
            dshift[blockIdx.x] = sums.first;
    }
}

/* y = x rstd scale, rstd = 1/sqrt(mean(x^2) + eps) of each row: a block a row. */
extern "C" __global__ void rmsnorm_forward(const real *x, const real *scale, real *y, real *rstd, i64 width, real eps)
{
    x += blockIdx.x * width, y += blockIdx.x * width;
    real squares = 0;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        squares += x[i] * x[i];
    const real factor = 1 / sqrt(block_sum(squares) / width + eps);
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        y[i] = x[i] * factor * scale[i];
    if (threadIdx.x == 0)
        rstd[blockIdx.x] = factor;
}

/* dx = rstd (g - x' mean(g x')), g = dy scale and x' = x rstd: a block a row. */
extern "C" __global__ void rmsnorm_dx(const real *dy, const real *x, const real *scale, const real *rstd, real *dx,
                                      i64 width)
{
    dy += blockIdx.x * width, x += blockIdx.x * width, dx += blockIdx.x * width;
    const real factor = rstd[blockIdx.x];
    real products = 0;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        products += dy[i] * scale[i] * (x[i] * factor);
    products = block_sum(products) / width;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
        dx[i] = factor * (dy[i] * scale[i] - x[i] * factor * products);
}

/* How the elements of a sample's group of channels lie: they are `together` pixels of a channel, or where channels are
the last axis so many channels of a pixel, `inner` apart; the next ones are `outer` apart. */
struct Grouped {
    int groups, channels, together, outer, inner, sample, group, channels_last;
};

/* Where an element of this block's row, [sample, group], is, and which channel it belongs to. */
struct Element {
    i64 at;
    int channel;
    __device__ Element(const Grouped &lie, i64 by_together, unsigned i)
    {
        const i64 sample = blockIdx.x / lie.groups, group = blockIdx.x % lie.groups;
        const unsigned next = quotient(i, by_together), number = i - next * lie.together;
        at = sample * lie.sample + group * lie.group + (i64)next * lie.outer + (i64)number * lie.inner;
        channel = group * lie.channels + (lie.channels_last ? number : next);
    }
};

/* The elements at hand of a block's row. */
#define GROUPED Grouped lie, i64 by_together, i64 here
#define EACH_ELEMENT(e)                                          \
    for (unsigned i_ = threadIdx.x; i_ < here; i_ += blockDim.x) \
        if (const Element e(lie, by_together, i_); true)

__device__ __forceinline__ real row_sum(const real *x, GROUPED)
{
    real sum = 0;
    EACH_ELEMENT(e)
        sum += x[e.at];
    return block_sum(sum);
}

/* Of the squares around a mean. */
__device__ __forceinline__ real row_squares(const real *x, real mean, GROUPED)
{
    real sum = 0;
    EACH_ELEMENT(e)
        sum += (x[e.at] - mean) * (x[e.at] - mean);
    return block_sum(sum);
}

/* y = (x - mean) rstd scale + shift of a row. */
__device__ __forceinline__ void normalise_row(const real *x, const real *scale, const real *shift, real *y, real mean,
                                              real rstd, GROUPED)
{
    EACH_ELEMENT(e)
        y[e.at] = (x[e.at] - mean) * rstd * scale[e.channel] + shift[e.channel];
}

/* The sums of g and of g x' of a row, g = dy scale and x' = (x - mean) rstd. */
__device__ __forceinline__ Pair row_slopes(const real *dy, const real *x, const real *scale, real mean, real rstd,
                                           GROUPED)
{
    Pair sums = {0, 0};
    EACH_ELEMENT(e) {
        const real slope = dy[e.at] * scale[e.channel];
        sums.first += slope, sums.second += slope * ((x[e.at] - mean) * rstd);
    }
    return {block_sum(sums.first), block_sum(sums.second)};
}

/* dx = rstd (g - mean(g) - x' mean(g x')) of a row. */
__device__ __forceinline__ void row_dx(const real *dy, const real *x, const real *scale, real *dx, real mean, real rstd,
                                       Pair means, GROUPED)
{
    EACH_ELEMENT(e)
        dx[e.at] = rstd * (dy[e.at] * scale[e.channel] - means.first - (x[e.at] - mean) * rstd * means.second);
}

/* y, mean and rstd: a block a sample's group. */
extern "C" __global__ void groupnorm_forward(const real *x, const real *scale, const real *shift, real *y, real *mean,
                                             real *rstd, GROUPED, real eps)
{
    const real middle = row_sum(x, lie, by_together, here) / here;
    const real factor = 1 / sqrt(row_squares(x, middle, lie, by_together, here) / here + eps);
    normalise_row(x, scale, shift, y, middle, factor, lie, by_together, here);
    if (threadIdx.x == 0)
        mean[blockIdx.x] = middle, rstd[blockIdx.x] = factor;
}

/* The same of whole sums, over so many values. */
extern "C" __global__ void groupnorm_forward_apply(const real *x, const real *scale, const real *shift,
                                                   const real *sums, const real *squares, real *y, real *mean,
                                                   real *rstd, GROUPED, real values, real eps)
{
    const real middle = sums[blockIdx.x] / values, factor = 1 / sqrt(squares[blockIdx.x] / values + eps);
    normalise_row(x, scale, shift, y, middle, factor, lie, by_together, here);
    if (threadIdx.x == 0)
        mean[blockIdx.x] = middle, rstd[blockIdx.x] = factor;
}

/* The sum of x over the pixels at hand, for each sample and group. */
extern "C" __global__ void groupnorm_sums(const real *x, real *sums, GROUPED)
{
    const real sum = row_sum(x, lie, by_together, here);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

/* The sum of (x - mean)^2, the mean that of whole sums. */
extern "C" __global__ void groupnorm_squares(const real *x, const real *sums, real *squares, GROUPED, real values)
{
    const real sum = row_squares(x, sums[blockIdx.x] / values, lie, by_together, here);
    if (threadIdx.x == 0)
        squares[blockIdx.x] = sum;
}

/* Sums of g and of g x'. */
extern "C" __global__ void groupnorm_slopes(const real *dy, const real *x, const real *scale, const real *mean,
                                            const real *rstd, real *totals, real *slopes, GROUPED)
{
    const Pair sums = row_slopes(dy, x, scale, mean[blockIdx.x], rstd[blockIdx.x], lie, by_together, here);
    if (threadIdx.x == 0)
        totals[blockIdx.x] = sums.first, slopes[blockIdx.x] = sums.second;
}

/* A table may be longer than what is filled of it. Also of groupnorm_squares, groupnorm_slopes. */
extern "C" __global__ void groupnorm_sums_zero(real *table, i64 size)
{
    EACH(i, size)
        table[i] = 0;
}

/* dx: a block a sample's group. Sums are those of the row, or whole ones that are given. */
extern "C" __global__ void groupnorm_dx(const real *dy, const real *x, const real *scale, const real *mean,
                                        const real *rstd, const real *totals, const real *slopes, real *dx, GROUPED,
                                        real values)
{
    const real middle = mean[blockIdx.x], factor = rstd[blockIdx.x];
    Pair sums;
    if (totals)
        sums = {totals[blockIdx.x], slopes[blockIdx.x]};
    else
        sums = row_slopes(dy, x, scale, middle, factor, lie, by_together, here);
    row_dx(dy, x, scale, dx, middle, factor, {sums.first / values, sums.second / values}, lie, by_together, here);
}

/* How the elements of a channel lie: `together` of them `inner` apart, the next ones `outer` apart; which of both counts
the samples is told by `samples_last`. */
struct Channels {
    int groups, channels, together, outer, inner, channel, samples_last;
};

/* dscale, the sum of dy x', and dshift, that of dy: a block a channel. */
extern "C" __global__ void groupnorm_dw(const real *dy, const real *x, const real *mean, const real *rstd, real *dscale,
                                        real *dshift, Channels lie, i64 by_together, i64 values)
{
    Pair sums = {0, 0};
    const i64 group = blockIdx.x / lie.channels;
    for (unsigned i = threadIdx.x; i < values; i += blockDim.x) {
        const unsigned next = quotient(i, by_together), number = i - next * lie.together;
        const i64 row = (i64)(lie.samples_last ? number : next) * lie.groups + group;
        const i64 at = (i64)blockIdx.x * lie.channel + (i64)next * lie.outer + (i64)number * lie.inner;
        sums.first += dy[at], sums.second += dy[at] * ((x[at] - mean[row]) * rstd[row]);
    }
    sums = over_threads(sums);
    if (threadIdx.x == 0)
        dscale[blockIdx.x] = sums.second, dshift[blockIdx.x] = sums.first;
}
