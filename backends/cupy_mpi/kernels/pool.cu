// needs images
/* Images lie as [outer, depth, height, width, inner] in every layout, sequences have a height of 1 and both a depth of
1: along each axis the windows of `in` elements. */
struct Axis {
    int in, out, window, stride, pad;
};

#define ALONG(a) i64 a##_in, i64 a##_out, i64 a##_window, i64 a##_stride, i64 a##_pad
#define AXIS(a) Axis{(int)a##_in, (int)a##_out, (int)a##_window, (int)a##_stride, (int)a##_pad}

/* The part of a window that lies inside the input: it begins at input `from`, its taps are first to last - 1. */
struct Inside {
    int from, first, last;
    __device__ Inside(Axis a, int output)
    {
        from = output * a.stride - a.pad;
        first = most(0, -from), last = least(a.window, a.in - from);
    }
};

/* The outputs first to last - 1 whose windows hold an input; that of `output` has it at `tap(output)`. */
struct Holding {
    int first, last, from, stride;
    __device__ Holding(Axis a, int input) : stride(a.stride)
    {
        from = input + a.pad;
        first = from < a.window ? 0 : (from - a.window) / a.stride + 1;
        last = least(a.out, from / a.stride + 1);
    }
    __device__ int tap(int output) const { return from - output * stride; }
};

/* 1/(number of elements that count in the mean of a window): the pads beyond the input count where `pads` says so,
`behind` is how many there are at the end; what hangs over these never counts. */
__device__ __forceinline__ int counted(Axis a, int output, bool pads, int behind)
{
    const int from = output * a.stride - a.pad;
    return least(from + a.window, a.in + (pads ? behind : 0)) - most(from, pads ? -a.pad : 0);
}

/* x -> the largest element of each window and the number of its tap; the first one wins. */
extern "C" __global__ void maxpool_forward(const real *x, real *y, int *indices, i64 size, ALONG(d), ALONG(h), ALONG(w),
                                           i64 inners, DIVISORS)
{
    EACH(i, size) {
        const Place at((unsigned)i, d_out, h_out, w_out, inners, by_depth, by_height, by_width, by_inner);
        const Inside d(AXIS(d), at.depth), h(AXIS(h), at.height), w(AXIS(w), at.width);
        real best = -INFINITE;
        int number = 0;
        for (int p = d.first; p < d.last; p++)
            for (int q = h.first; q < h.last; q++) {
                const i64 row = ((at.outer * d_in + d.from + p) * h_in + h.from + q) * w_in + w.from;
                for (int r = w.first; r < w.last; r++) {
                    const real value = x[(row + r) * inners + at.inner];
                    if (value > best)
                        number = (p * (int)h_window + q) * (int)w_window + r;
                    best = value > best || value != value ? value : best;
                }
            }
        y[i] = best;
        indices[i] = number;
    }
}

/* dy goes to the element that was the largest: each input looks for itself in the windows that hold it. */
extern "C" __global__ void maxpool_dx(const real *dy, const int *indices, real *dx, i64 size, ALONG(d), ALONG(h),
                                      ALONG(w), i64 inners, DIVISORS)
{
    EACH(i, size) {
        const Place at((unsigned)i, d_in, h_in, w_in, inners, by_depth, by_height, by_width, by_inner);
        const Holding d(AXIS(d), at.depth), h(AXIS(h), at.height), w(AXIS(w), at.width);
        real total = 0;
        for (int p = d.first; p < d.last; p++)
            for (int q = h.first; q < h.last; q++)
                for (int r = w.first; r < w.last; r++) {
                    const int tap = (d.tap(p) * (int)h_window + h.tap(q)) * (int)w_window + w.tap(r);
                    const i64 from = (((at.outer * d_out + p) * h_out + q) * w_out + r) * inners + at.inner;
                    if (indices[from] == tap)
                        total += dy[from];
                }
        dx[i] = total;
    }
}

/* x -> the mean of each window. */
extern "C" __global__ void avgpool_forward(const real *x, real *y, i64 size, ALONG(d), ALONG(h), ALONG(w), i64 inners,
                                           DIVISORS, i64 pads, i64 d_behind, i64 h_behind, i64 w_behind)
{
    EACH(i, size) {
        const Place at((unsigned)i, d_out, h_out, w_out, inners, by_depth, by_height, by_width, by_inner);
        const Inside d(AXIS(d), at.depth), h(AXIS(h), at.height), w(AXIS(w), at.width);
        real total = 0;
        for (int p = d.first; p < d.last; p++)
            for (int q = h.first; q < h.last; q++) {
                const i64 row = ((at.outer * d_in + d.from + p) * h_in + h.from + q) * w_in + w.from;
                for (int r = w.first; r < w.last; r++)
                    total += x[(row + r) * inners + at.inner];
            }
        y[i] = total / ((real)counted(AXIS(d), at.depth, pads, d_behind) *
                        counted(AXIS(h), at.height, pads, h_behind) * counted(AXIS(w), at.width, pads, w_behind));
    }
}

/* dy is shared out evenly over its window: each input adds up its shares. */
extern "C" __global__ void avgpool_dx(const real *dy, real *dx, i64 size, ALONG(d), ALONG(h), ALONG(w), i64 inners,
                                      DIVISORS, i64 pads, i64 d_behind, i64 h_behind, i64 w_behind)
{
    EACH(i, size) {
        const Place at((unsigned)i, d_in, h_in, w_in, inners, by_depth, by_height, by_width, by_inner);
        const Holding d(AXIS(d), at.depth), h(AXIS(h), at.height), w(AXIS(w), at.width);
        real total = 0;
        for (int p = d.first; p < d.last; p++)
            for (int q = h.first; q < h.last; q++)
                for (int r = w.first; r < w.last; r++)
                    total += dy[(((at.outer * d_out + p) * h_out + q) * w_out + r) * inners + at.inner] /
                             ((real)counted(AXIS(d), p, pads, d_behind) * counted(AXIS(h), q, pads, h_behind) *
                              counted(AXIS(w), r, pads, w_behind));
        dx[i] = total;
    }
}

/* x [rows, pixels] -> the mean of each row: a warp a row. */
extern "C" __global__ void global_avgpool_forward(const real *x, real *y, i64 rows, i64 pixels)
{
    const i64 row = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    real total = 0;
    for (i64 p = threadIdx.x % 32; row < rows && p < pixels; p += 32)
        total += x[row * pixels + p];
    for (int apart = 16; apart; apart /= 2)
        total += __shfl_xor_sync(0xffffffff, total, apart);
    if (row < rows && threadIdx.x % 32 == 0)
        y[row] = total / pixels;
}

/* x [rows, pixels, columns] -> the mean of each column of a row. */
extern "C" __global__ void global_avgpool_forward_columns(const real *x, real *y, i64 size, i64 pixels, i64 columns)
{
    EACH(i, size) {
        const i64 row = i / columns;
        const real *const column = x + row * (pixels - 1) * columns + i;
        real total = 0;
        for (i64 p = 0; p < pixels; p++)
            total += column[p * columns];
        y[i] = total / pixels;
    }
}

/* dx [rows, pixels, columns] = dy/pixels. */
extern "C" __global__ void global_avgpool_dx(const real *dy, real *dx, i64 size, i64 pixels, i64 columns, i64 by_row,
                                             i64 by_columns)
{
    const real share = (real)1 / pixels;
    EACH(i, size) {
        const unsigned place = (unsigned)i, column = place - quotient(place, by_columns) * (unsigned)columns;
        dx[i] = dy[quotient(place, by_row) * columns + column] * share;
    }
}

/* Of two elements the larger one, where they are equal the first; one that is no number is larger than all others. */
struct Largest_at {
    real value;
    i64 at;
    __device__ void meet(real other, i64 other_at)
    {
        const bool none = value != value, other_none = other != other;
        const bool same = none == other_none && (none || value == other);
        if (same ? other_at < at : other_none || (!none && other > value))
            value = other, at = other_at;
    }
};

/* x [rows, pixels, columns] -> the largest element of each column of a row and its number: a warp each. */
extern "C" __global__ void global_maxpool_forward(const real *x, real *y, int *indices, i64 size, i64 pixels,
                                                  i64 columns)
{
    const i64 i = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32, row = i / columns;
    Largest_at best = {-INFINITE, pixels};
    for (i64 p = threadIdx.x % 32; i < size && p < pixels; p += 32)
        best.meet(x[row * (pixels - 1) * columns + i + p * columns], p);
    for (int apart = 16; apart; apart /= 2) {
        const real other = __shfl_xor_sync(0xffffffff, best.value, apart);
        best.meet(other, __shfl_xor_sync(0xffffffff, best.at, apart));
    }
    if (i < size && threadIdx.x % 32 == 0) {
        y[i] = best.value;
        indices[i] = (int)best.at;
    }
}

/* dx [rows, pixels, columns] = dy at the pixel that was the largest, else 0. */
extern "C" __global__ void global_maxpool_dx(const real *dy, const int *indices, real *dx, i64 size, i64 pixels,
                                             i64 columns)
{
    EACH(i, size) {
        const i64 row = i / (pixels * columns), from = row * columns + i % columns;
        dx[i] = indices[from] == i / columns % pixels ? dy[from] : 0;
    }
}
