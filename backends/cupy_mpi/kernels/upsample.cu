// needs images
/* An output along an axis: a share of element `at`, the rest of the one `beside` it; beyond the edges stands the edge's
own element. Output f q + r lies at q + (2 r + 1 - f)/(2 f). */
struct Mix {
    int at, beside;
    real rest;
    __device__ Mix(int output, int factor, int in, bool linear)
    {
        at = output / factor;
        const int place = 2 * (output - at * factor) + 1 - factor;
        beside = least(most(at + (place > 0) - (place < 0), 0), in - 1);
        rest = linear ? (real)(place < 0 ? -place : place) / (2 * factor) : 0;
    }
    __device__ real share(int input) const { return (input == at ? 1 - rest : 0) + (input == beside ? rest : 0); }
};

#define FACTORS i64 d_in, i64 h_in, i64 w_in, i64 d_factor, i64 h_factor, i64 w_factor, i64 inners

/* x -> y: a thread an output. */
extern "C" __global__ void upsample_forward(const real *x, real *y, i64 size, FACTORS, DIVISORS, i64 linear)
{
    EACH(i, size) {
        const Place at((unsigned)i, d_in * d_factor, h_in * h_factor, w_in * w_factor, inners, by_depth, by_height,
                       by_width, by_inner);
        const Mix d(at.depth, d_factor, d_in, linear), h(at.height, h_factor, h_in, linear);
        const Mix w(at.width, w_factor, w_in, linear);
        real total = 0;
        for (int p = 0; p < (d.rest > 0 ? 2 : 1); p++)
            for (int q = 0; q < (h.rest > 0 ? 2 : 1); q++) {
                const real share = (p ? d.rest : 1 - d.rest) * (q ? h.rest : 1 - h.rest);
                const i64 row = ((at.outer * d_in + (p ? d.beside : d.at)) * h_in + (q ? h.beside : h.at)) * w_in;
                real mixed = x[(row + w.at) * inners + at.inner] * (1 - w.rest);
                if (w.rest > 0)
                    mixed += x[(row + w.beside) * inners + at.inner] * w.rest;
                total += share * mixed;
            }
        y[i] = total;
    }
}

/* dy -> dx: each input looks for itself in the outputs around it. */
extern "C" __global__ void upsample_dx(const real *dy, real *dx, i64 size, FACTORS, DIVISORS, i64 linear)
{
    EACH(i, size) {
        const Place at((unsigned)i, d_in, h_in, w_in, inners, by_depth, by_height, by_width, by_inner);
        const int wide = linear ? 1 : 0, depth = at.depth, height = at.height, width = at.width;
        const int d_end = least((int)d_in, depth + 1 + wide) * (int)d_factor;
        const int h_end = least((int)h_in, height + 1 + wide) * (int)h_factor;
        const int w_end = least((int)w_in, width + 1 + wide) * (int)w_factor;
        real total = 0;
        for (int p = most(0, depth - wide) * (int)d_factor; p < d_end; p++) {
            const real in_depth = Mix(p, d_factor, d_in, linear).share(depth);
            for (int q = most(0, height - wide) * (int)h_factor; q < h_end; q++) {
                const real share = in_depth * Mix(q, h_factor, h_in, linear).share(height);
                const i64 row = ((at.outer * d_in * d_factor + p) * h_in * h_factor + q) * w_in * w_factor;
                for (int r = most(0, width - wide) * (int)w_factor; r < w_end; r++)
                    total += share * Mix(r, w_factor, w_in, linear).share(width) * dy[(row + r) * inners + at.inner];
            }
        }
        dx[i] = total;
    }
}
