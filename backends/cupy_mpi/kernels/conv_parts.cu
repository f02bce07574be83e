/* One axis that windows slide over. Result i reads for its tap j the element start + i step + j apart of the source, if
that is from 0 to extent - 1. In memory it is element first + i every, and the tap the weights' tap + j every_tap. */
struct ConvAxis {
    int extent, results, taps, start, step, apart, first, every, tap, every_tap;
};

/* What a correlation reads and gives: of `n` samples from `sample` on, for each of the groups so many channels of the
source and of the result. Numbers named `_n`, `_c` and `_at` are how many elements apart samples, channels and positions
along the axes lie. Weights are [group, filter, channel, tap] of a convolution from x to y. */
struct Walk {
    int sample, n, groups, channels, results;
    int source_n, source_c, result_n, result_c;
    int source_at[3], result_at[3], window[3];
    ConvAxis axes[3];
    int inner; /* what lies together in memory: 0 positions, 1 channels, 2 samples */
    int relu;  /* whether results pass a ReLU; with `mask` they count where that is above 0 */
};

__device__ int positions(const Walk &w) { return w.axes[0].results * w.axes[1].results * w.axes[2].results; }
__device__ int taps_of(const Walk &w) { return w.axes[0].taps * w.axes[1].taps * w.axes[2].taps; }
__device__ int window_of(const Walk &w) { return w.window[0] * w.window[1] * w.window[2]; }

/* A result: its sample and its number along each axis. */
struct ConvPlace {
    int n, at[3];

    ConvPlace() = default;

    __device__ ConvPlace(const Walk &w, unsigned rest)
    {
        if (w.inner == 2)
            n = rest % (unsigned)w.n, rest /= w.n;
        for (int a = 2; a >= 0; a--)
            at[a] = rest % (unsigned)w.axes[a].results, rest /= w.axes[a].results;
        if (w.inner != 2)
            n = rest;
        n += w.sample;
    }

    /* The place so many further on, where samples do not lie together. */
    __device__ void advance(const Walk &w, int by)
    {
        at[2] += by;
        while (at[2] >= w.axes[2].results) {
            at[2] -= w.axes[2].results;
            if (++at[1] == w.axes[1].results) {
                at[1] = 0;
                if (++at[0] == w.axes[0].results)
                    at[0] = 0, n++;
            }
        }
    }

    /* Where the result lies, but for its channel. */
    __device__ i64 result(const Walk &w) const
    {
        i64 found = n * (i64)w.result_n;
        for (int a = 0; a < 3; a++)
            found += (w.axes[a].first + at[a] * w.axes[a].every) * (i64)w.result_at[a];
        return found;
    }
};

/* A tap of a window: its number along each axis. */
struct ConvTap {
    int at[3];

    ConvTap() = default;

    __device__ ConvTap(const Walk &w, int number)
    {
        for (int a = 2; a >= 0; a--)
            at[a] = number % w.axes[a].taps, number /= w.axes[a].taps;
    }

    /* Its number among the weights. */
    __device__ int weight(const Walk &w) const
    {
        int found = 0;
        for (int a = 0; a < 3; a++)
            found = found * w.window[a] + w.axes[a].tap + at[a] * w.axes[a].every_tap;
        return found;
    }
};

/* Where a place's tap reads the source, but for the channel; -1 beside it. */
__device__ i64 reads(const Walk &w, const ConvPlace &place, const ConvTap &tap)
{
    i64 found = place.n * (i64)w.source_n;
    bool inside = true;
    for (int a = 0; a < 3; a++) {
        const int at = w.axes[a].start + place.at[a] * w.axes[a].step + tap.at[a] * w.axes[a].apart;
        inside = inside && 0 <= at && at < w.axes[a].extent;
        found += at * (i64)w.source_at[a];
    }
    return inside ? found : -1;
}

/* A result as it is stored. */
__device__ real finished(const Walk &w, real value, const real *mask, i64 at)
{
    if (w.relu && !(value > 0))
        value = value != value ? value : 0;
    return mask && !(mask[at] > 0) ? 0 * value : value;
}

/* Weights [group, filter, channel, tap] -> [group, tap, channel, filter], or with `turned` [group, tap, filter, channel]. */
extern "C" __global__ void conv_pack(
    const real *weight, real *packed, i64 size, i64 filters, i64 channels, i64 taps, i64 turned)
{
    const unsigned inner = turned ? channels : filters, outer = turned ? filters : channels;
    EACH(i, size) {
        const unsigned number = i, row = number / inner, block = row / outer;
        const int in = number % inner, out = row % outer, tap = block % (unsigned)taps, group = block / (unsigned)taps;
        const int filter = turned ? out : in, channel = turned ? in : out;
        packed[i] = weight[((group * filters + filter) * channels + channel) * taps + tap];
    }
}

/* dweight [group, filter, channel, tap] = the sum over parts of [part, group, filter, tap, channel]. */
extern "C" __global__ void conv_unpack(
    const real *parts, real *dweight, i64 size, i64 channels, i64 taps, i64 number)
{
    EACH(i, size) {
        const i64 tap = i % taps, channel = i / taps % channels, from = (i / taps / channels * taps + tap) * channels + channel;
        real sum = 0;
        for (i64 part = 0; part < number; part++)
            sum += parts[part * size + from];
        dweight[i] = sum;
    }
}

/* The sum of so many parts, each of so many elements. */
extern "C" __global__ void conv_sum(const real *parts, real *total, i64 size, i64 number)
{
    EACH(i, size) {
        real sum = 0;
        for (i64 part = 0; part < number; part++)
            sum += parts[part * size + i];
        total[i] = sum;
    }
}

/* Sums of dy, [outer, channel, inner], over a part of outer for each channel: parts [part, channel]. A block a channel
and part; those of dy with long rows, where threads go along them. */
extern "C" __global__ void conv_bias_gradient_rows(
    const real *dy, real *parts, i64 outer, i64 channels, i64 inner, i64 chunk)
{
    const i64 channel = blockIdx.x, first = blockIdx.y * chunk, last = least(outer, first + chunk);
    real sum = 0;
    for (i64 row = first; row < last; row++)
        for (i64 i = threadIdx.x; i < inner; i += blockDim.x)
            sum += dy[(row * channels + channel) * inner + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.y * channels + channel] = sum;
}

/* The same of dy, [outer, channel]: a block 32 channels and a part of outer, threads along the channels. */
extern "C" __global__ void conv_bias_gradient_columns(const real *dy, real *parts, i64 outer, i64 channels, i64 chunk)
{
    __shared__ real sums[8][32];
    const int lane = threadIdx.x % 32, line = threadIdx.x / 32;
    const i64 channel = blockIdx.x * 32 + lane, first = blockIdx.y * chunk, last = least(outer, first + chunk);
    real sum = 0;
    if (channel < channels)
        for (i64 row = first + line; row < last; row += 8)
            sum += dy[row * channels + channel];
    sums[line][lane] = sum;
    __syncthreads();
    if (line == 0 && channel < channels) {
        for (int other = 1; other < 8; other++)
            sum += sums[other][lane];
        parts[blockIdx.y * channels + channel] = sum;
    }
}
