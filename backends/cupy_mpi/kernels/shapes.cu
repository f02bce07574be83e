/* What is copied: extents, strides of x and y along four axes, and where both begin. */
struct Copied {
    int extents[4], x[4], y[4], x_begin, y_begin;
};

/* Elements of x to y. Also of concat_forward, concat_dx, split_forward, split_dx, slice_forward, slice_dx,
transpose_forward, transpose_dx, pad_forward, pad_dx. */
extern "C" __global__ void shapes_copy(const real *x, real *y, Copied copied, i64 size)
{
    EACH(i, size) {
        int rest = (int)i, from = copied.x_begin, to = copied.y_begin;
        for (int axis = 3; axis >= 0; axis--) {
            const int at = rest % copied.extents[axis];
            rest /= copied.extents[axis];
            from += at * copied.x[axis], to += at * copied.y[axis];
        }
        y[to] = x[from];
    }
}

/* One value everywhere. Also of split_dx, slice_dx, pad_forward. */
extern "C" __global__ void shapes_fill(real *x, i64 size, real value)
{
    EACH(i, size)
        x[i] = value;
}
