/* a + b, a - b, a b, a/b for the kinds 0 to 3. */
__device__ real combined(int kind, real a, real b)
{
    return kind == 0 ? a + b : kind == 1 ? a - b : kind == 2 ? a * b : a / b;
}

/* The gradient of that by a, or by b. */
__device__ real slope(int kind, bool by_b, real dy, real a, real b)
{
    if (kind < 2)
        return kind == 1 && by_b ? -dy : dy;
    if (kind == 2)
        return dy * (by_b ? a : b);
    return by_b ? dy * (-a / (b * b)) : dy * (1 / b);
}

/* Up to four axes of a result, with the strides of both operands. */
struct Spread {
    int extents[4], a[4], b[4];
};

/* y of a and b, which may be repeated along some axes. Also of add_forward, sub_forward, mul_forward, div_forward. */
extern "C" __global__ void arithmetic_forward(
    const real *a, const real *b, real *y, Spread spread, i64 size, i64 kind)
{
    EACH(i, size) {
        int rest = (int)i, of_a = 0, of_b = 0;
        for (int axis = 3; axis >= 0; axis--) {
            const int at = rest % spread.extents[axis];
            rest /= spread.extents[axis];
            of_a += at * spread.a[axis], of_b += at * spread.b[axis];
        }
        y[i] = combined(kind, a[of_a], b[of_b]);
    }
}

/* y of operands of one shape. Also of add_forward, sub_forward, mul_forward, div_forward. */
extern "C" __global__ void arithmetic_alike(const real *a, const real *b, real *y, i64 size, i64 kind)
{
    EACH(i, size)
        y[i] = combined(kind, a[i], b[i]);
}

/* y of x and a number, which comes first or second. Also of add_forward, sub_forward, mul_forward, div_forward. */
extern "C" __global__ void arithmetic_number(const real *x, real *y, i64 size, i64 kind, i64 first, real number)
{
    EACH(i, size)
        y[i] = first ? combined(kind, number, x[i]) : combined(kind, x[i], number);
}

/* The gradient of that by x. Also of add_dx, sub_dx, mul_dx, div_dx. */
extern "C" __global__ void arithmetic_dx_number(
    const real *dy, const real *x, real *dx, i64 size, i64 kind, i64 first, real number)
{
    EACH(i, size) {
        const real known = kind == 3 && first ? x[i] : number; /* others do not depend on x */
        dx[i] = first ? slope(kind, true, dy[i], number, known) : slope(kind, false, dy[i], 0, number);
    }
}

/* The gradient by an operand that is not repeated. Also of add_dx, sub_dx, mul_dx, div_dx. */
extern "C" __global__ void arithmetic_dx(
    const real *dy, const real *a, const real *b, real *dx, Spread spread, i64 size, i64 kind, i64 by_b)
{
    EACH(i, size) {
        int rest = (int)i, of_a = 0, of_b = 0;
        for (int axis = 3; axis >= 0; axis--) {
            const int at = rest % spread.extents[axis];
            rest /= spread.extents[axis];
            of_a += at * spread.a[axis], of_b += at * spread.b[axis];
        }
        dx[i] = slope(kind, by_b, dy[i], kind < 2 ? 0 : a[of_a], kind < 2 ? 0 : b[of_b]);
    }
}

/* Axes of a gradient, those that it is summed over, and strides of all arrays along both. */
struct Gathered {
    int kept[4], summed[4], dy[4], a[4], b[4], dx[4];
};

/* The gradient by an operand that is repeated: a block for each element adds up those of its repetitions.
Also of add_dx, sub_dx, mul_dx, div_dx. */
extern "C" __global__ void arithmetic_dx_sums(
    const real *dy, const real *a, const real *b, real *dx, Gathered gathered, i64 count, i64 kind, i64 by_b)
{
    int rest = blockIdx.x, of_dy = 0, of_a = 0, of_b = 0, of_dx = 0;
    for (int axis = 3; axis >= 0; axis--) {
        const int at = rest % gathered.kept[axis];
        rest /= gathered.kept[axis];
        of_dy += at * gathered.dy[axis], of_a += at * gathered.a[axis], of_b += at * gathered.b[axis];
        of_dx += at * gathered.dx[axis];
    }
    real sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        int place = i, in_dy = of_dy, in_a = of_a, in_b = of_b;
        for (int axis = 3; axis >= 0; axis--) {
            const int at = place % gathered.summed[axis];
            place /= gathered.summed[axis];
            in_dy += at * gathered.dy[axis], in_a += at * gathered.a[axis], in_b += at * gathered.b[axis];
        }
        sum += slope(kind, by_b, dy[in_dy], kind < 2 ? 0 : a[in_a], kind < 2 ? 0 : b[in_b]);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        dx[of_dx] = sum;
}
