/* y = max(x, 0). */
extern "C" __global__ void relu_forward(const real *x, real *y, i64 size)
{
    EACH(i, size)
        y[i] = x[i] < 0 ? 0 : x[i];
}

/* dx = dy where y > 0, else 0. */
extern "C" __global__ void relu_dx(const real *dy, const real *y, real *dx, i64 size)
{
    EACH(i, size)
        dx[i] = dy[i] * (y[i] > 0 ? 1 : 0);
}

/* y = x where x > 0, else slope x. */
extern "C" __global__ void leaky_relu_forward(const real *x, real *y, i64 size, real slope)
{
    EACH(i, size)
        y[i] = x[i] > 0 ? x[i] : slope * x[i];
}

/* dx = dy where y > 0, else slope dy. */
extern "C" __global__ void leaky_relu_dx(const real *dy, const real *y, real *dx, i64 size, real slope)
{
    EACH(i, size)
        dx[i] = dy[i] * (y[i] > 0 ? 1 : slope);
}

/* y = x where x > 0, else alpha (e^x - 1). */
extern "C" __global__ void elu_forward(const real *x, real *y, i64 size, real alpha)
{
    EACH(i, size)
        y[i] = x[i] > 0 ? x[i] : alpha * expm1(x[i]);
}

/* dx = dy where y > 0, else dy (y + alpha). */
extern "C" __global__ void elu_dx(const real *dy, const real *y, real *dx, i64 size, real alpha)
{
    EACH(i, size)
        dx[i] = dy[i] * (y[i] > 0 ? 1 : y[i] + alpha);
}

/* y = tanh x. */
extern "C" __global__ void tanh_forward(const real *x, real *y, i64 size)
{
    EACH(i, size)
        y[i] = tanh(x[i]);
}

/* dx = dy (1 - y^2). */
extern "C" __global__ void tanh_dx(const real *dy, const real *y, real *dx, i64 size)
{
    EACH(i, size)
        dx[i] = dy[i] * (1 - y[i] * y[i]);
}

/* 1/(1 + e^-x): where e^-x overflows it is 0, as it should be. */
__device__ real sigmoid(real x) { return 1 / (1 + exp(-x)); }

/* y = 1/(1 + e^-x). */
extern "C" __global__ void sigmoid_forward(const real *x, real *y, i64 size)
{
    EACH(i, size)
        y[i] = sigmoid(x[i]);
}

/* dx = dy y (1 - y). */
extern "C" __global__ void sigmoid_dx(const real *dy, const real *y, real *dx, i64 size)
{
    EACH(i, size)
        dx[i] = dy[i] * ((1 - y[i]) * y[i]);
}

/* y = x/(1 + e^-x). */
extern "C" __global__ void silu_forward(const real *x, real *y, i64 size)
{
    EACH(i, size)
        y[i] = sigmoid(x[i]) * x[i];
}

/* dx = dy s (1 + x (1 - s)), s the sigmoid of x. */
extern "C" __global__ void silu_dx(const real *dy, const real *x, real *dx, i64 size)
{
    EACH(i, size) {
        const real s = sigmoid(x[i]);
        dx[i] = dy[i] * (s * (1 + x[i] * (1 - s)));
    }
}

/* y = x min(max(x + 3, 0), 6)/6. */
extern "C" __global__ void hard_swish_forward(const real *x, real *y, i64 size)
{
    EACH(i, size) {
        const real moved = x[i] + 3, lifted = moved < 0 ? 0 : moved;
        y[i] = (lifted > 6 ? 6 : lifted) * x[i] / 6;
    }
}

/* dx = 0 where x <= -3, dy where x >= 3, else dy (2x + 3)/6. */
extern "C" __global__ void hard_swish_dx(const real *dy, const real *x, real *dx, i64 size)
{
    EACH(i, size) {
        const real slope = (2 * x[i] + 3) / 6;
        dx[i] = dy[i] * (x[i] <= -3 ? 0 : x[i] >= 3 ? 1 : slope);
    }
}

/* P(x), the distribution function of the normal distribution. */
__device__ real normal(real x) { return (real)0.5 * (1 + erf((real)0.7071067811865476 * x)); }

/* About P(x): (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))/2. */
__device__ real about_normal(real x)
{
    return (real)0.5 * (1 + tanh((real)0.7978845608028654 * x * (1 + (real)0.044715 * x * x)));
}

/* y = x P(x), P the normal distribution. */
extern "C" __global__ void gelu_forward(const real *x, real *y, i64 size)
{
    EACH(i, size)
        y[i] = normal(x[i]) * x[i];
}

/* y = x P(x), P about the normal distribution. */
extern "C" __global__ void gelu_forward_tanh(const real *x, real *y, i64 size)
{
    EACH(i, size)
        y[i] = about_normal(x[i]) * x[i];
}

/* dx = dy (P(x) + x P'(x)), P the normal distribution. */
extern "C" __global__ void gelu_dx(const real *dy, const real *x, real *dx, i64 size)
{
    EACH(i, size) {
        const real density = (real)0.3989422804014327 * exp((real)-0.5 * x[i] * x[i]);
        dx[i] = dy[i] * (normal(x[i]) + x[i] * density);
    }
}

/* dx = dy (P(x) + x P'(x)), P about the normal distribution. */
extern "C" __global__ void gelu_dx_tanh(const real *dy, const real *x, real *dx, i64 size)
{
    EACH(i, size) {
        const real below = about_normal(x[i]);
        const real steep = (real)1.5957691216057308 * (1 + (real)0.134145 * x[i] * x[i]);
        dx[i] = dy[i] * (below + x[i] * (below * (1 - below) * steep));
    }
}
