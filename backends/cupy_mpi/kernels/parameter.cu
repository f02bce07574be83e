/* A weight that is a value by itself, or its gradient. Also of parameter_dw. */
extern "C" __global__ void parameter_forward(const real *x, real *y, i64 size)
{
    EACH(i, size)
        y[i] = x[i];
}
