/* Four words of Philox4x32-10 for a counter (step, row, column / 4, 0), of which the one for the column is taken. */
__device__ unsigned random_word(unsigned step, unsigned row, unsigned column, unsigned k0, unsigned k1)
{
    unsigned c0 = step, c1 = row, c2 = column / 4, c3 = 0;
    for (int i = 0; i < 10; i++) {
        const unsigned long long p0 = c0 * 0xD2511F53ULL, p1 = c2 * 0xCD9E8D57ULL;
        c0 = (unsigned)(p1 >> 32) ^ c1 ^ k0, c1 = (unsigned)p1;
        c2 = (unsigned)(p0 >> 32) ^ c3 ^ k1, c3 = (unsigned)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return column % 4 == 0 ? c0 : column % 4 == 1 ? c1 : column % 4 == 2 ? c2 : c3;
}

/* y = x mask scale; an element is kept where its number, of 24 bits, is not below the threshold. */
extern "C" __global__ void dropout_forward(
    const real *x, real *y, unsigned char *mask, i64 size, i64 columns, i64 first, const i64 *now, i64 k0, i64 k1,
    i64 threshold, real scale)
{
    const i64 step = *now;
    EACH(i, size) {
        const unsigned word = random_word(step, first + i / columns, i % columns, k0, k1);
        const bool kept = (word >> 8) >= threshold;
        mask[i] = kept;
        y[i] = x[i] * (kept ? 1 : 0) * scale;
    }
}

/* dx = dy mask scale. */
extern "C" __global__ void dropout_dx(const real *dy, const unsigned char *mask, real *dx, i64 size, real scale)
{
    EACH(i, size)
        dx[i] = dy[i] * mask[i] * scale;
}
