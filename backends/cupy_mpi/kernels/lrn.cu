/* base to the power of beta; of the usual 3/4 two roots. */
__device__ __forceinline__ real to_the_power(real base, real beta)
{
    return beta == (real)0.75 ? sqrt(base) * sqrt(sqrt(base)) : pow(base, beta);
}

/* base = k + alpha/size times the sum of x^2 over `size` channels around each, y = x/base^beta. A channel's elements
are `inner` apart: images are [outer, channel, inner] in every layout. */
extern "C" __global__ void lrn_forward(const real *x, real *y, real *base, i64 elements, i64 inner, i64 channels,
                                       i64 by_inner, i64 by_channels, i64 size, real factor, real beta, real k)
{
    EACH(i, elements) {
        const unsigned row = quotient((unsigned)i, by_inner);
        const int channel = row - quotient(row, by_channels) * (unsigned)channels;
        const int first = most(0, channel - (int)size / 2);
        const int last = least((int)channels, channel - (int)size / 2 + (int)size);
        real total = 0;
        for (int c = first; c < last; c++) {
            const real value = x[i + (c - channel) * inner];
            total += value * value;
        }
        total = k + factor * total;
        base[i] = total;
        y[i] = x[i] / to_the_power(total, beta);
    }
}

/* dx = dy/base^beta - 2 beta alpha/size x times the sum of dy x/base^(beta + 1) over the channels whose window holds
this one. */
extern "C" __global__ void lrn_dx(const real *dy, const real *x, const real *base, real *dx, i64 elements, i64 inner,
                                  i64 channels, i64 by_inner, i64 by_channels, i64 size, real factor, real beta)
{
    EACH(i, elements) {
        const unsigned row = quotient((unsigned)i, by_inner);
        const int channel = row - quotient(row, by_channels) * (unsigned)channels;
        const int before = ((int)size - 1) / 2;
        const int first = most(0, channel - before), last = least((int)channels, channel - before + (int)size);
        real total = 0, direct = 0;
        for (int c = first; c < last; c++) {
            const i64 at = i + (c - channel) * inner;
            const real slope = dy[at] / to_the_power(base[at], beta);
            direct = c == channel ? slope : direct;
            total += slope * x[at] / base[at];
        }
        dx[i] = direct + factor * x[i] * total;
    }
}
