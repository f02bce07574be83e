// needs elementwise
/* Behind a product: y = max(y + bias, 0), not-a-numbers stay. Without a bias it is NULL, here and below. */
extern "C" __global__ void linear_relu_forward(const real *bias, real *y, i64 size, i64 columns)
{
    EACH(i, size) {
        const real sum = bias ? y[i] + bias[i % columns] : y[i];
        y[i] = sum < 0 ? 0 : sum;
    }
}

/* Behind a product: z = y + bias, where z is wanted, and y = z P(z). Also of linear_gelu_kept_forward. */
extern "C" __global__ void linear_gelu_forward(const real *bias, real *y, real *z, i64 size, i64 columns, i64 about)
{
    EACH(i, size) {
        const real sum = bias ? y[i] + bias[i % columns] : y[i];
        if (z)
            z[i] = sum;
        y[i] = (about ? about_normal(sum) : normal(sum)) * sum;
    }
}

/* Behind a product: dz times the slope of z P(z), P about the normal distribution. */
extern "C" __global__ void linear_gelu_dx(const real *z, real *dz, i64 size)
{
    EACH(i, size) {
        const real below = about_normal(z[i]);
        const real steep = (real)1.5957691216057308 * (1 + (real)0.134145 * z[i] * z[i]);
        dz[i] *= below + z[i] * (below * (1 - below) * steep);
    }
}
