// needs conv_parts
/* The number of a place among those of a sample. */
__device__ i64 local_position(const Walk &w, const ConvPlace &place)
{
    return (place.at[0] * (i64)w.axes[1].results + place.at[1]) * w.axes[2].results + place.at[2];
}

/* Where the weight of a position, filter, channel and tap is: each position has weights of its own. */
__device__ i64 local_weight(const Walk &w, i64 position, int filter, int channel, int tap)
{
    return ((position * w.results + filter) * w.channels + channel) * taps_of(w) + tap;
}

/* y: a thread a place and a filter. */
extern "C" __global__ void local_conv_forward(
    const real *x, const real *weight, const real *bias, real *y, i64 size, const Walk w)
{
    const i64 places = w.n * (i64)positions(w);
    EACH(i, size) {
        const ConvPlace place(w, i % places);
        const i64 position = local_position(w, place);
        const int filter = i / places;
        real sum = bias ? bias[filter * (i64)positions(w) + position] : 0;
        for (int tap = 0; tap < taps_of(w); tap++) {
            const i64 at = reads(w, place, ConvTap(w, tap));
            for (int channel = 0; at >= 0 && channel < w.channels; channel++)
                sum += weight[local_weight(w, position, filter, channel, tap)] * x[at + channel * (i64)w.source_c];
        }
        y[place.result(w) + filter * (i64)w.result_c] = sum;
    }
}

/* dx: a thread an element adds up what the places that have read it give back. */
extern "C" __global__ void local_conv_dx(const real *dy, const real *weight, real *dx, i64 size, const Walk w)
{
    EACH(i, size) {
        i64 rest = i, begin = 0;
        int at[3];
        for (int a = 2; a >= 0; a--) {
            at[a] = rest % w.axes[a].extent, rest /= w.axes[a].extent;
            begin += at[a] * (i64)w.source_at[a];
        }
        const int channel = rest % w.channels;
        ConvPlace place;
        place.n = rest / w.channels;
        real sum = 0;
        for (int tap = 0; tap < taps_of(w); tap++) {
            const ConvTap of(w, tap);
            bool met = true;
            for (int a = 0; a < 3; a++) {
                const int from = at[a] - w.axes[a].start - of.at[a] * w.axes[a].apart;
                place.at[a] = from / w.axes[a].step;
                met = met && from >= 0 && from % w.axes[a].step == 0 && place.at[a] < w.axes[a].results;
            }
            if (!met)
                continue;
            const i64 position = local_position(w, place), result = place.result(w);
            for (int filter = 0; filter < w.results; filter++)
                sum += weight[local_weight(w, position, filter, channel, tap)] * dy[result + filter * (i64)w.result_c];
        }
        dx[place.n * (i64)w.source_n + channel * (i64)w.source_c + begin] = sum;
    }
}

/* dweight: a thread a weight adds up the samples. */
extern "C" __global__ void local_conv_dw(const real *dy, const real *x, real *dweight, i64 size, const Walk w)
{
    EACH(i, size) {
        i64 rest = i;
        const int tap = rest % taps_of(w);
        rest /= taps_of(w);
        const int channel = rest % w.channels;
        rest /= w.channels;
        const int filter = rest % w.results;
        rest /= w.results;
        ConvPlace place;
        for (int a = 2; a >= 0; a--)
            place.at[a] = rest % w.axes[a].results, rest /= w.axes[a].results;
        place.n = 0;
        const i64 from = reads(w, place, ConvTap(w, tap)), at = place.result(w) + filter * (i64)w.result_c;
        real sum = 0;
        for (i64 n = 0; from >= 0 && n < w.n; n++)
            sum += dy[at + n * w.result_n] * x[from + channel * (i64)w.source_c + n * w.source_n];
        dweight[i] = sum;
    }
}

/* dbias, one a filter and position: the sum over samples. */
extern "C" __global__ void local_conv_dw_bias(const real *dy, real *dbias, i64 size, const Walk w)
{
    EACH(i, size) {
        i64 rest = i;
        ConvPlace place;
        for (int a = 2; a >= 0; a--)
            place.at[a] = rest % w.axes[a].results, rest /= w.axes[a].results;
        place.n = 0;
        const i64 at = place.result(w) + rest * w.result_c;
        real sum = 0;
        for (i64 n = 0; n < w.n; n++)
            sum += dy[at + n * w.result_n];
        dbias[i] = sum;
    }
}
