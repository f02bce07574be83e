// needs conv_parts
/* Winograd's minimal filtering F(M×M, 3×3): lines of tiles through its matrices, elements `step` and `to` apart. */
template <int M> struct WinogradData;
template <int M> struct WinogradFilter;
template <int M> struct WinogradOutput;
template <int M> struct WinogradGradient;
template <int M> struct WinogradWeights;

template <> struct WinogradData<2> { /* Bᵀ */
    enum { IN = 4, OUT = 4 };
    static __device__ void line(const real *d, int step, real *o, int to)
    {
        o[0] = d[0] - d[2 * step], o[to] = d[step] + d[2 * step];
        o[2 * to] = d[2 * step] - d[step], o[3 * to] = d[3 * step] - d[step];
    }
};

template <> struct WinogradFilter<2> { /* G */
    enum { IN = 3, OUT = 4 };
    static __device__ void line(const real *g, int step, real *o, int to)
    {
        const real half = (real)0.5, ends = half * (g[0] + g[2 * step]), middle = half * g[step];
        o[0] = g[0], o[to] = ends + middle, o[2 * to] = ends - middle, o[3 * to] = g[2 * step];
    }
};

template <> struct WinogradOutput<2> { /* Aᵀ */
    enum { IN = 4, OUT = 2 };
    static __device__ void line(const real *m, int step, real *o, int to)
    {
        o[0] = m[0] + m[step] + m[2 * step], o[to] = m[step] - m[2 * step] + m[3 * step];
    }
};

template <> struct WinogradGradient<2> { /* A */
    enum { IN = 2, OUT = 4 };
    static __device__ void line(const real *y, int step, real *o, int to)
    {
        o[0] = y[0], o[to] = y[0] + y[step], o[2 * to] = y[0] - y[step], o[3 * to] = y[step];
    }
};

template <> struct WinogradWeights<2> { /* Gᵀ */
    enum { IN = 4, OUT = 3 };
    static __device__ void line(const real *u, int step, real *o, int to)
    {
        const real half = (real)0.5, sum = half * (u[step] + u[2 * step]);
        o[0] = u[0] + sum, o[to] = half * (u[step] - u[2 * step]), o[2 * to] = sum + u[3 * step];
    }
};

template <> struct WinogradData<4> {
    enum { IN = 6, OUT = 6 };
    static __device__ void line(const real *d, int step, real *o, int to)
    {
        const real d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
        const real far = d4 - 4 * d2, odd = d3 - 4 * d1, near = d4 - d2, twice = 2 * (d3 - d1);
        o[0] = 4 * d[0] - 5 * d2 + d4, o[to] = far + odd, o[2 * to] = far - odd;
        o[3 * to] = near + twice, o[4 * to] = near - twice, o[5 * to] = 4 * d1 - 5 * d3 + d[5 * step];
    }
};

template <> struct WinogradFilter<4> {
    enum { IN = 3, OUT = 6 };
    static __device__ void line(const real *g, int step, real *o, int to)
    {
        const real a = g[0], b = g[step], c = g[2 * step];
        o[0] = a / 4, o[to] = -(a + b + c) / 6, o[2 * to] = -(a - b + c) / 6;
        o[3 * to] = (a + 2 * b + 4 * c) / 24, o[4 * to] = (a - 2 * b + 4 * c) / 24, o[5 * to] = c;
    }
};

template <> struct WinogradOutput<4> {
    enum { IN = 6, OUT = 4 };
    static __device__ void line(const real *m, int step, real *o, int to)
    {
        const real near = m[step] + m[2 * step], apart = m[step] - m[2 * step];
        const real far = m[3 * step] + m[4 * step], across = m[3 * step] - m[4 * step];
        o[0] = m[0] + near + far, o[to] = apart + 2 * across, o[2 * to] = near + 4 * far;
        o[3 * to] = apart + 8 * across + m[5 * step];
    }
};

template <> struct WinogradGradient<4> {
    enum { IN = 4, OUT = 6 };
    static __device__ void line(const real *y, int step, real *o, int to)
    {
        const real y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
        o[0] = y0, o[to] = (y0 + y2) + (y1 + y3), o[2 * to] = (y0 + y2) - (y1 + y3);
        o[3 * to] = (y0 + 4 * y2) + (2 * y1 + 8 * y3), o[4 * to] = (y0 + 4 * y2) - (2 * y1 + 8 * y3), o[5 * to] = y3;
    }
};

template <> struct WinogradWeights<4> {
    enum { IN = 6, OUT = 3 };
    static __device__ void line(const real *u, int step, real *o, int to)
    {
        const real near = u[step] + u[2 * step], far = u[3 * step] + u[4 * step];
        o[0] = u[0] / 4 - near / 6 + far / 24;
        o[to] = (u[2 * step] - u[step]) / 6 + (u[3 * step] - u[4 * step]) / 12;
        o[2 * to] = (far - near) / 6 + u[5 * step];
    }
};

/* A tile through a matrix and, from the other side, through it turned. */
template <typename Matrix> __device__ void two_sided(const real *in, real *out)
{
    real half[Matrix::OUT * Matrix::IN];
#pragma unroll
    for (int i = 0; i < Matrix::IN; i++)
        Matrix::line(in + i, Matrix::IN, half + i, Matrix::IN);
#pragma unroll
    for (int i = 0; i < Matrix::OUT; i++)
        Matrix::line(half + i * Matrix::IN, 1, out + i * Matrix::OUT, 1);
}

/* A tile of an image: which, and of which channel of all groups. In stacks tiles are innermost, or channels as in memory. */
struct WinogradTile {
    int number, channel;

    __device__ WinogradTile(const Walk &w, unsigned i)
    {
        const unsigned tiles = w.n * positions(w);
        number = w.inner == 1 ? i / (unsigned)w.channels % tiles : i % tiles;
        channel = w.inner == 1 ? i % (unsigned)w.channels + i / (unsigned)w.channels / tiles * w.channels : i / tiles;
    }
};

/* u[position, filter, channel] = G g Gᵀ of each filter, turned by 180° for dx. Also of conv_winograd2_forward,
conv_winograd2_dx, conv_winograd4_forward, conv_winograd4_dx. */
template <int M, bool TURNED>
__global__ void __launch_bounds__(256) conv_winograd_filters(const real *weight, real *u, i64 size)
{
    const int POSITIONS = (M + 2) * (M + 2);
    EACH(i, size) {
        real taps[9], found[POSITIONS];
#pragma unroll
        for (int tap = 0; tap < 9; tap++)
            taps[tap] = weight[i * 9 + (TURNED ? 8 - tap : tap)];
        two_sided<WinogradFilter<M>>(taps, found);
#pragma unroll
        for (int position = 0; position < POSITIONS; position++)
            u[position * size + i] = found[position];
    }
}

/* v[position, tile and channel] = Bᵀ d B of each tile of an image, or with GRADIENT A d Aᵀ of each tile of dy.
Also of conv_winograd2_forward, conv_winograd2_dx, conv_winograd2_dw, conv_winograd4_forward, conv_winograd4_dx,
conv_winograd4_dw. */
template <int M, bool GRADIENT>
__global__ void __launch_bounds__(256) conv_winograd_data(const real *image, real *v, i64 size, const Walk w)
{
    const int POSITIONS = (M + 2) * (M + 2), SIDE = GRADIENT ? M : M + 2;
    EACH(i, size) {
        const WinogradTile tile(w, i);
        const ConvPlace place(w, tile.number);
        const real *from = image + tile.channel * (i64)w.source_c;
        real taps[SIDE * SIDE], found[POSITIONS];
#pragma unroll
        for (int tap = 0; tap < SIDE * SIDE; tap++) {
            ConvTap at;
            at.at[0] = 0, at.at[1] = tap / SIDE, at.at[2] = tap % SIDE;
            const i64 offset = reads(w, place, at);
            taps[tap] = offset < 0 ? 0 : from[offset];
        }
        if (GRADIENT)
            two_sided<WinogradGradient<M>>(taps, found);
        else
            two_sided<WinogradData<M>>(taps, found);
#pragma unroll
        for (int position = 0; position < POSITIONS; position++)
            v[position * size + i] = found[position];
    }
}

/* Tiles of the result, Aᵀ m A + bias, in their places. Also of conv_winograd2_forward, conv_winograd2_dx,
conv_winograd4_forward, conv_winograd4_dx. */
template <int M>
__global__ void __launch_bounds__(256) conv_winograd_output(
    const real *m, const real *bias, const real *mask, real *result, i64 size, const Walk w)
{
    const int POSITIONS = (M + 2) * (M + 2);
    EACH(i, size) {
        const WinogradTile tile(w, i);
        const ConvPlace place(w, tile.number);
        const real added = bias ? bias[tile.channel] : 0;
        real values[POSITIONS], found[M * M];
#pragma unroll
        for (int position = 0; position < POSITIONS; position++)
            values[position] = m[position * size + i];
        two_sided<WinogradOutput<M>>(values, found);
#pragma unroll
        for (int tap = 0; tap < M * M; tap++) {
            ConvTap at;
            at.at[0] = 0, at.at[1] = tap / M, at.at[2] = tap % M;
            i64 offset = reads(w, place, at);
            if (offset >= 0) {
                offset += tile.channel * (i64)w.source_c;
                result[offset] = finished(w, found[tap] + added, mask, offset);
            }
        }
    }
}

/* dweight = Gᵀ u G of the sum u of so many parts [position, filter, channel]. Also of conv_winograd2_dw,
conv_winograd4_dw. */
template <int M>
__global__ void __launch_bounds__(256) conv_winograd_weights(const real *parts, real *dweight, i64 size, i64 number)
{
    const int POSITIONS = (M + 2) * (M + 2);
    EACH(i, size) {
        real values[POSITIONS], found[9];
#pragma unroll
        for (int position = 0; position < POSITIONS; position++) {
            values[position] = 0;
            for (i64 part = 0; part < number; part++)
                values[position] += parts[(part * POSITIONS + position) * size + i];
        }
        two_sided<WinogradWeights<M>>(values, found);
#pragma unroll
        for (int tap = 0; tap < 9; tap++)
            dweight[i * 9 + tap] = found[tap];
    }
}
