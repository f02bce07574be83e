// needs conv_parts
/* Filters as images of a transform's lengths: [group, channel, filter, height, width] with the weights at their dilated
places, and zeros. Also of conv_fft_forward, conv_fft_dx, conv_fft_tiled_forward, conv_fft_tiled_dx. */
extern "C" __global__ void conv_fft_filters(
    const real *weight, real *values, i64 size, i64 height, i64 width, i64 apart_y, i64 apart_x, const Walk w)
{
    const int rows = w.window[1], columns = w.window[2];
    EACH(i, size) {
        const int x = i % width, y = i / width % height, filter = i / width / height % w.results;
        const i64 channels = i / width / height / w.results; /* of all groups */
        const i64 row = channels / w.channels * w.results + filter, channel = channels % w.channels;
        const bool met = y % apart_y == 0 && x % apart_x == 0 && y / apart_y < rows && x / apart_x < columns;
        values[i] = met ? weight[((row * w.channels + channel) * rows + y / apart_y) * columns + x / apart_x] : 0;
    }
}

/* Tiles of an image, [channel of all groups, n, tile, tile, height, width]: of each axis of the walk, which goes from tile
to tile, the taps are the elements of a tile, and zeros stand behind them. Also of conv_fft_forward, conv_fft_dx,
conv_fft_dw, conv_fft_tiled_forward, conv_fft_tiled_dx, conv_fft_tiled_dw. */
extern "C" __global__ void conv_fft_tiles(
    const real *image, real *values, i64 size, i64 height, i64 width, const Walk w)
{
    const ConvAxis &down = w.axes[1], &along = w.axes[2];
    EACH(i, size) {
        const int x = i % width, y = i / width % height;
        i64 rest = i / width / height;
        const int u = rest % along.results, t = rest / along.results % down.results;
        rest = rest / along.results / down.results;
        const int n = w.sample + rest % w.n;
        const int from_y = down.start + t * down.step + y, from_x = along.start + u * along.step + x;
        const bool met = y < down.taps && x < along.taps && 0 <= from_y && from_y < down.extent && 0 <= from_x &&
                         from_x < along.extent;
        const i64 at = n * (i64)w.source_n + rest / w.n * w.source_c + from_y * (i64)w.source_at[1] +
                       from_x * (i64)w.source_at[2];
        values[i] = met ? image[at] : 0;
    }
}

/* The image that such tiles make, each element its tile's, which begins at (top, left) of a transform; times a scale, and
with a bias. Also of conv_fft_forward, conv_fft_dx, conv_fft_tiled_forward, conv_fft_tiled_dx. */
extern "C" __global__ void conv_fft_image(
    const real *values, const real *bias, real *image, i64 size, i64 height, i64 width, i64 top, i64 left, real scale,
    const Walk w)
{
    const ConvAxis &down = w.axes[1], &along = w.axes[2];
    const int channels = w.groups * w.channels;
    EACH(i, size) {
        i64 rest = i;
        int n = 0, channel = 0;
        if (w.inner == 1)
            channel = rest % channels, rest /= channels;
        if (w.inner == 2)
            n = rest % w.n, rest /= w.n;
        const int x = rest % along.extent, y = rest / along.extent % down.extent;
        rest = rest / along.extent / down.extent;
        if (w.inner == 0)
            channel = rest % channels, rest /= channels;
        if (w.inner == 2)
            channel = rest;
        else
            n = rest;
        const i64 tile = ((channel * (i64)w.n + n) * down.results + y / down.step) * along.results + x / along.step;
        const i64 at = (w.sample + n) * (i64)w.source_n + channel * (i64)w.source_c + y * (i64)w.source_at[1] +
                       x * (i64)w.source_at[2];
        const real value = values[(tile * height + top + y % down.step) * width + left + x % along.step];
        image[at] = value * scale + (bias ? bias[channel] : 0);
    }
}

/* The gradient of the weights, which are at their dilated places in [group, channel, filter, height, width]; times a scale.
Also of conv_fft_dw, conv_fft_tiled_dw. */
extern "C" __global__ void conv_fft_weights(
    const real *values, real *dweight, i64 size, i64 height, i64 width, i64 apart_y, i64 apart_x, real scale,
    const Walk w)
{
    const int rows = w.window[1], columns = w.window[2];
    EACH(i, size) {
        const int x = i % columns, y = i / columns % rows, channel = i / columns / rows % w.channels;
        const i64 filter = i / columns / rows / w.channels, group = filter / w.results;
        const i64 pair = (group * w.channels + channel) * w.results + filter % w.results;
        dweight[i] = values[(pair * height + y * apart_y) * width + x * apart_x] * scale;
    }
}
