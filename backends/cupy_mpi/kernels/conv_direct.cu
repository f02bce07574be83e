// needs conv_parts
/* result = source * weights + bias: a thread a place and FILTERS of its filters, whose sums it keeps in registers. DEPTH,
HEIGHT and WIDTH are the taps that the walk has. Weights of the block's filters come to shared memory for some channels at
a time, the taps' offsets are known when the loops are unrolled. blockIdx.y counts FILTERS of all groups. */
template <int FILTERS, int DEPTH, int HEIGHT, int WIDTH, bool TURNED>
__device__ void convolve(
    const real *source, const real *weight, const real *bias, const real *mask, real *result, const Walk &w)
{
    const int TAPS = DEPTH * HEIGHT * WIDTH, ROOM = 3072 / (TAPS * FILTERS), SOME = ROOM ? ROOM : 1;
    __shared__ real weights[SOME][TAPS][FILTERS];
    const int blocks = (w.results + FILTERS - 1) / FILTERS, group = blockIdx.y / blocks;
    const int first = blockIdx.y % blocks * FILTERS, window = window_of(w);
    const i64 number = blockIdx.x * (i64)blockDim.x + threadIdx.x, places = (i64)w.n * positions(w);
    const ConvPlace place(w, least(number, places - 1));
    real sums[FILTERS] = {};
    source += place.n * (i64)w.source_n + (i64)group * w.channels * w.source_c;
    for (int begin = 0; begin < w.channels; begin += SOME) {
        const int some = least(SOME, w.channels - begin);
        __syncthreads(); /* nobody reads the weights before these */
        for (int i = threadIdx.x; i < some * TAPS * FILTERS; i += blockDim.x) {
            const int filter = first + i % FILTERS, tap = i / FILTERS % TAPS, channel = begin + i / FILTERS / TAPS;
            const i64 row = TURNED ? ((i64)group * w.channels + channel) * w.results + filter
                                   : ((i64)group * w.results + filter) * w.channels + channel;
            weights[i / FILTERS / TAPS][tap][i % FILTERS] =
                filter < w.results ? weight[row * window + ConvTap(w, tap).weight(w)] : 0;
        }
        __syncthreads();
        for (int channel = 0; channel < some; channel++) {
            const real *from = source + (i64)(begin + channel) * w.source_c;
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                const int at[3] = {tap / (HEIGHT * WIDTH), tap / WIDTH % HEIGHT, tap % WIDTH};
                bool inside = true;
                i64 offset = 0;
#pragma unroll
                for (int a = 0; a < 3; a++) {
                    const int i = w.axes[a].start + place.at[a] * w.axes[a].step + at[a] * w.axes[a].apart;
                    inside = inside && 0 <= i && i < w.axes[a].extent;
                    offset += i * (i64)w.source_at[a];
                }
                const real value = inside ? from[offset] : 0;
#pragma unroll
                for (int f = 0; f < FILTERS; f++)
                    sums[f] += value * weights[channel][tap][f];
            }
        }
    }
    if (number >= places)
        return;
    for (int f = 0; f < FILTERS && first + f < w.results; f++) {
        const int channel = group * w.results + first + f;
        const i64 at = place.result(w) + (i64)channel * w.result_c;
        result[at] = finished(w, sums[f] + (bias ? bias[channel] : 0), mask, at);
    }
}

/* y = x * weight + bias. */
template <int FILTERS, int DEPTH, int HEIGHT, int WIDTH>
__global__ void __launch_bounds__(256) conv_direct_forward(
    const real *x, const real *weight, const real *bias, const real *mask, real *y, const Walk w)
{
    convolve<FILTERS, DEPTH, HEIGHT, WIDTH, false>(x, weight, bias, mask, y, w);
}

/* Elements of dx, a stride apart, from the dy that has read them. */
template <int FILTERS, int DEPTH, int HEIGHT, int WIDTH>
__global__ void __launch_bounds__(256) conv_direct_dx(
    const real *dy, const real *weight, const real *bias, const real *mask, real *dx, const Walk w)
{
    convolve<FILTERS, DEPTH, HEIGHT, WIDTH, true>(dy, weight, bias, mask, dx, w);
}

/* dx where no window meets it: 0, or the bias. */
extern "C" __global__ void conv_direct_dx_unmet(const real *bias, const real *mask, real *dx, const Walk w)
{
    EACH(i, (i64)w.n * positions(w)) {
        const i64 place = ConvPlace(w, i).result(w);
        for (int channel = 0; channel < w.groups * w.results; channel++) {
            const i64 at = place + (i64)channel * w.result_c;
            dx[at] = finished(w, bias ? bias[channel] : 0, mask, at);
        }
    }
}

/* parts[part, filter, channel of its group, tap] = sum over a part of the places of dy[filter] · x[channel, what they read]:
a block FILTERS filters of a group (blockIdx.x), a channel and a line of taps, WIDTH of them (blockIdx.y), and a part
(blockIdx.z). Threads go through the places; their sums are added up in order. */
template <int FILTERS, int WIDTH>
__global__ void __launch_bounds__(256) conv_direct_dw(
    const real *dy, const real *x, real *parts, const Walk w, i64 chunk)
{
    __shared__ real of_warps[8][FILTERS * WIDTH];
    const int blocks = (w.results + FILTERS - 1) / FILTERS, group = blockIdx.x / blocks;
    const int first = blockIdx.x % blocks * FILTERS, lines = w.window[0] * w.window[1];
    const int channel = blockIdx.y / lines, line = blockIdx.y % lines;
    const i64 begin = blockIdx.z * chunk, end = least((i64)w.n * positions(w), begin + chunk);
    real sums[FILTERS][WIDTH] = {};
    dy += (group * w.results + first) * (i64)w.result_c;
    x += (group * w.channels + channel) * (i64)w.source_c;
    for (i64 number = begin + threadIdx.x; number < end; number += 256) {
        const ConvPlace place(w, number);
        const real *from = dy + place.result(w);
        real of_dy[FILTERS];
#pragma unroll
        for (int f = 0; f < FILTERS; f++)
            of_dy[f] = first + f < w.results ? from[f * (i64)w.result_c] : 0;
#pragma unroll
        for (int tap = 0; tap < WIDTH; tap++) {
            ConvTap at;
            at.at[0] = line / w.window[1], at.at[1] = line % w.window[1], at.at[2] = tap;
            const i64 offset = reads(w, place, at);
            const real value = offset < 0 ? 0 : x[offset];
#pragma unroll
            for (int f = 0; f < FILTERS; f++)
                sums[f][tap] += of_dy[f] * value;
        }
    }
#pragma unroll
    for (int f = 0; f < FILTERS; f++)
#pragma unroll
        for (int tap = 0; tap < WIDTH; tap++) {
            for (int apart = 16; apart; apart /= 2)
                sums[f][tap] += __shfl_xor_sync(0xffffffff, sums[f][tap], apart);
            if (threadIdx.x % 32 == 0)
                of_warps[threadIdx.x / 32][f * WIDTH + tap] = sums[f][tap];
        }
    __syncthreads();
    for (int i = threadIdx.x; i < FILTERS * WIDTH; i += 256) {
        const int filter = first + i / WIDTH;
        if (filter >= w.results)
            continue;
        real sum = 0;
        for (int warp = 0; warp < 8; warp++)
            sum += of_warps[warp][i];
        const i64 row = ((i64)blockIdx.z * w.groups + group) * w.results + filter;
        parts[((row * w.channels + channel) * lines + line) * WIDTH + i % WIDTH] = sum;
    }
}
