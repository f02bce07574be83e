// needs conv_parts
/* y = x * weight + bias, each channel by itself: a thread a result, in the order of memory. A group is a channel of x, its
results follow each other. HEIGHT and WIDTH are the window's: their loops are unrolled. */
template <int DEPTH, int HEIGHT, int WIDTH>
__global__ void __launch_bounds__(256) depthwise_conv_forward(
    const real *x, const real *weight, const real *bias, real *y, i64 size, const Walk w)
{
    const unsigned all = w.groups * w.results, places = positions(w);
    EACH(number, size) {
        const unsigned i = number, rest = w.inner == 2 ? i / w.n : i;
        const int channel = w.inner == 1 ? i % all : w.inner == 0 ? i / places % all : rest / places;
        const int position = w.inner == 1 ? i / all % places : rest % places;
        const int n = w.inner == 2 ? i % w.n : i / places / all;
        const ConvPlace place(w, w.inner == 2 ? position * w.n + n : n * places + position);
        const real *from = x + channel / w.results * (i64)w.source_c;
        const real *filter = weight + (i64)channel * DEPTH * HEIGHT * WIDTH;
        real sum = 0;
#pragma unroll
        for (int tap = 0; tap < DEPTH * HEIGHT * WIDTH; tap++) {
            ConvTap at;
            at.at[0] = tap / (HEIGHT * WIDTH), at.at[1] = tap / WIDTH % HEIGHT, at.at[2] = tap % WIDTH;
            const i64 offset = reads(w, place, at);
            sum += offset < 0 ? 0 : from[offset] * filter[tap];
        }
        y[i] = sum + (bias ? bias[channel] : 0);
    }
}

/* Elements of dx, a stride apart, from the dy that has read them: a thread an element. */
template <int DEPTH, int HEIGHT, int WIDTH>
__global__ void __launch_bounds__(256) depthwise_conv_dx(
    const real *dy, const real *weight, real *dx, i64 size, i64 copies, const Walk w)
{
    const int LINE = WIDTH ? WIDTH : 1, PLANE = HEIGHT ? HEIGHT * LINE : LINE; /* a stride may leave no taps */
    const unsigned all = w.groups * w.results, places = positions(w), taps = window_of(w);
    EACH(number, size) {
        const unsigned i = number, rest = w.inner == 2 ? i / w.n : i;
        const int channel = w.inner == 1 ? i % all : w.inner == 0 ? i / places % all : rest / places;
        const int position = w.inner == 1 ? i / all % places : rest % places;
        const int n = w.inner == 2 ? i % w.n : i / places / all;
        const ConvPlace place(w, w.inner == 2 ? position * w.n + n : n * places + position);
        real sum = 0;
#pragma unroll
        for (int tap = 0; tap < DEPTH * HEIGHT * WIDTH; tap++) {
            ConvTap at;
            at.at[0] = tap / PLANE, at.at[1] = tap % PLANE / LINE, at.at[2] = tap % LINE;
            const i64 offset = reads(w, place, at);
            if (offset >= 0)
                for (i64 copy = channel * copies; copy < (channel + 1) * copies; copy++)
                    sum += dy[offset + copy * w.source_c] * weight[copy * taps + at.weight(w)];
        }
        dx[place.result(w) + channel * (i64)w.result_c] = sum;
    }
}

/* parts[part, filter, tap] = the sum over a part of the places of dy · what they read at the tap: a block LANES filters, a
line of WIDTH taps (blockIdx.y) and a part (blockIdx.z). Its threads go LANES side by side through the filters and the rest
through the places; their sums are added up in order. */
template <int LANES, int WIDTH>
__global__ void __launch_bounds__(256) depthwise_conv_dw(
    const real *dy, const real *x, real *parts, const Walk w, i64 chunk)
{
    __shared__ real sums[256];
    const int filter = blockIdx.x * LANES + threadIdx.x % LANES, all = w.groups * w.results;
    const int lines = w.window[0] * w.window[1], line = blockIdx.y;
    const i64 begin = blockIdx.z * chunk, end = least((i64)w.n * positions(w), begin + chunk);
    const real *from = x + filter / w.results * (i64)w.source_c, *gradient = dy + filter * (i64)w.result_c;
    real own[WIDTH] = {};
    if (filter < all)
        for (i64 number = begin + threadIdx.x / LANES; number < end; number += 256 / LANES) {
            const ConvPlace place(w, number);
            const real value = gradient[place.result(w)];
#pragma unroll
            for (int tap = 0; tap < WIDTH; tap++) {
                ConvTap at;
                at.at[0] = line / w.window[1], at.at[1] = line % w.window[1], at.at[2] = tap;
                const i64 offset = reads(w, place, at);
                own[tap] += offset < 0 ? 0 : value * from[offset];
            }
        }
#pragma unroll
    for (int tap = 0; tap < WIDTH; tap++) {
        sums[threadIdx.x] = own[tap];
        __syncthreads();
        for (int apart = 128; apart >= LANES; apart /= 2) {
            if (threadIdx.x < apart)
                sums[threadIdx.x] += sums[threadIdx.x + apart];
            __syncthreads();
        }
        if (threadIdx.x < LANES && filter < all)
            parts[((blockIdx.z * (i64)all + filter) * lines + line) * WIDTH + tap] = sums[threadIdx.x];
        __syncthreads();
    }
}
