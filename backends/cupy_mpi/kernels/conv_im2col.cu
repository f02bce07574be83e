// needs conv_parts
/* An element of the column matrix: a sample and position of the result, a channel of all groups, a tap. Its place in
memory is counted in an order: 0 [group, n, channel, tap, position], 1 [group, n, position, channel, tap], 2 [channel, tap,
position, n], 3 [channel, tap, n, position]. */
struct ConvColumn {
    int n, position, tap, channel;

    __device__ ConvColumn(const Walk &w, int order, unsigned number)
    {
        const unsigned places = positions(w), taps = taps_of(w), samples = w.n, channels = w.channels;
        if (order == 0) {
            position = number % places, tap = number / places % taps;
            const unsigned row = number / places / taps;
            n = row / channels % samples, channel = row % channels + row / channels / samples * channels;
        } else if (order == 1) {
            tap = number % taps, channel = number / taps % channels;
            const unsigned row = number / taps / channels;
            position = row % places, n = row / places % samples, channel += row / places / samples * channels;
        } else {
            const unsigned rest = number / places / samples;
            tap = rest % taps, channel = rest / taps;
            n = order == 2 ? number % samples : number / places % samples;
            position = order == 2 ? number / samples % places : number % places;
        }
    }

    ConvColumn() = default;

    __device__ i64 number(const Walk &w, int order) const
    {
        const i64 places = positions(w), taps = taps_of(w);
        const i64 sample = channel / w.channels * (i64)w.n + n, own = channel % w.channels;
        if (order == 0)
            return ((sample * w.channels + own) * taps + tap) * places + position;
        if (order == 1)
            return ((sample * places + position) * w.channels + own) * taps + tap;
        const i64 row = channel * taps + tap;
        return order == 2 ? (row * places + position) * w.n + n : (row * w.n + n) * places + position;
    }
};

/* The column matrix of some samples: what each result's window reads. */
__device__ void fill_columns(const real *x, real *columns, i64 size, i64 order, const Walk &w)
{
    EACH(i, size) {
        const ConvColumn column(w, order, i);
        ConvPlace place;
        int rest = column.position;
        for (int a = 2; a >= 0; a--)
            place.at[a] = rest % w.axes[a].results, rest /= w.axes[a].results;
        place.n = w.sample + column.n;
        const i64 at = reads(w, place, ConvTap(w, column.tap));
        columns[i] = at < 0 ? 0 : x[at + (i64)column.channel * w.source_c];
    }
}

/* Columns for the product with the weights. */
extern "C" __global__ void conv_im2col_forward_columns(const real *x, real *columns, i64 size, i64 order, const Walk w)
{
    fill_columns(x, columns, size, order, w);
}

/* Columns for the product with dy. */
extern "C" __global__ void conv_im2col_dw_columns(const real *x, real *columns, i64 size, i64 order, const Walk w)
{
    fill_columns(x, columns, size, order, w);
}

/* y += bias, [outer, channel, inner]. */
extern "C" __global__ void conv_im2col_forward_bias(const real *bias, real *y, i64 size, i64 channels, i64 inner)
{
    EACH(i, size)
        y[i] += bias[i / inner % channels];
}

/* dx of some samples: each element the sum of the columns' gradients that have read it. */
extern "C" __global__ void conv_im2col_dx_image(const real *columns, real *dx, i64 size, i64 order, const Walk w)
{
    const unsigned extents = w.axes[0].extent * w.axes[1].extent * w.axes[2].extent, all = w.groups * w.channels;
    EACH(number, size) {
        const unsigned i = number, samples = w.n;
        int position = w.inner == 0 ? i % extents : w.inner == 1 ? i / all % extents : i / samples % extents, at[3];
        ConvColumn column;
        column.channel = w.inner == 0 ? i / extents % all : w.inner == 1 ? i % all : i / samples / extents;
        column.n = w.inner == 2 ? i % samples : i / extents / all;
        for (int a = 2; a >= 0; a--)
            at[a] = position % w.axes[a].extent, position /= w.axes[a].extent;
        real sum = 0;
        for (int tap = 0; tap < taps_of(w); tap++) {
            const ConvTap of(w, tap);
            bool met = true;
            column.tap = tap, column.position = 0;
            for (int a = 0; a < 3; a++) {
                const int from = at[a] - w.axes[a].start - of.at[a] * w.axes[a].apart, result = from / w.axes[a].step;
                met = met && from >= 0 && from % w.axes[a].step == 0 && result < w.axes[a].results;
                column.position = column.position * w.axes[a].results + result;
            }
            if (met)
                sum += columns[column.number(w, order)];
        }
        dx[w.sample * (i64)w.source_n + i] = sum;
    }
}

/* dy of some samples, [n, filter, position], as [filter, n, position]. */
extern "C" __global__ void conv_im2col_dw_gradient(const real *dy, real *turned, i64 size, i64 n, i64 filters, i64 places)
{
    EACH(i, size) {
        const i64 row = i / places, sample = row % n, filter = row / n;
        turned[i] = dy[(sample * filters + filter) * places + i % places];
    }
}
