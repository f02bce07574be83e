/* w -= lr (g + decay w). What changes from step to step, such as the rate, is read from memory. */
extern "C" __global__ void sgd_update_plain(real *w, const real *g, i64 size, const real *rate, real decay)
{
    const real lr = *rate;
    EACH(i, size)
        w[i] -= lr * (g[i] + decay * w[i]);
}

/* v = momentum v + g; w -= lr v, or with Nesterov's momentum lr (g + momentum v); g has the decay. */
extern "C" __global__ void sgd_update(
    real *w, const real *g, real *v, i64 size, const real *rate, real momentum, i64 nesterov, real decay)
{
    const real lr = *rate;
    EACH(i, size) {
        const real slope = g[i] + decay * w[i], speed = momentum * v[i] + slope;
        v[i] = speed;
        w[i] -= lr * (nesterov ? slope + momentum * speed : speed);
    }
}

/* a += g^2; w -= lr g / (sqrt(a) + eps). */
extern "C" __global__ void adagrad_update(
    real *w, const real *g, real *a, i64 size, const real *rate, real eps, real decay)
{
    const real lr = *rate;
    EACH(i, size) {
        const real slope = g[i] + decay * w[i];
        a[i] += slope * slope;
        w[i] -= lr * slope / (sqrt(a[i]) + eps);
    }
}

/* a = alpha a + (1 - alpha) g^2; u = g / (sqrt(a) + eps). */
__device__ real rms_step(real slope, real *a, real alpha, real rest, real eps)
{
    *a = alpha * *a + rest * (slope * slope);
    return slope / (sqrt(*a) + eps);
}

/* w -= lr u. */
extern "C" __global__ void rmsprop_update_plain(
    real *w, const real *g, real *a, i64 size, const real *rate, real alpha, real rest, real eps, real decay)
{
    const real lr = *rate;
    EACH(i, size)
        w[i] -= lr * rms_step(g[i] + decay * w[i], a + i, alpha, rest, eps);
}

/* v = momentum v + u; w -= lr v. */
extern "C" __global__ void rmsprop_update(
    real *w, const real *g, real *a, real *v, i64 size, const real *rate, real alpha, real rest, real eps, real decay,
    real momentum)
{
    const real lr = *rate;
    EACH(i, size) {
        v[i] = momentum * v[i] + rms_step(g[i] + decay * w[i], a + i, alpha, rest, eps);
        w[i] -= lr * v[i];
    }
}

/* m1 = beta1 m1 + (1 - beta1) g; m2 = beta2 m2 + (1 - beta2) g^2; w = kept w - rate m1 / (root sqrt(m2) + eps). The
numbers rate and root correct for the averages' beginning at zero, kept is what AdamW leaves of the weight: these are
the three of `now`. Also of adamw_update. */
extern "C" __global__ void adam_update(
    real *w, const real *g, real *m1, real *m2, i64 size, const real *now, real beta1, real rest1, real beta2, real rest2,
    real eps, real decay)
{
    const real rate = now[0], root = now[1], kept = now[2];
    EACH(i, size) {
        const real slope = g[i] + decay * w[i];
        m1[i] = beta1 * m1[i] + rest1 * slope;
        m2[i] = beta2 * m2[i] + rest2 * (slope * slope);
        w[i] = kept * w[i] - rate * m1[i] / (sqrt(m2[i]) * root + eps);
    }
}
