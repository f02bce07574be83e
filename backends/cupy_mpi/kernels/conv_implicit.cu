// needs conv_parts
/* Tiles of a product of matrices in shared memory, DEPTH of what is summed over at a time, twice: one is filled while the
other is multiplied. Each of 256 threads, 16 by 16, keeps ROWS/16 by COLUMNS/16 sums in registers. The padding keeps
threads that write along the depth out of each other's banks. */
enum { DEPTH = 8, MOST_TAPS = 256 };

template <int ROWS, int COLUMNS> struct ConvTiles {
    real left[2][DEPTH][ROWS + 4], right[2][DEPTH][COLUMNS + 4];
};

template <int ROWS, int COLUMNS>
__device__ void multiply(const ConvTiles<ROWS, COLUMNS> &tiles, int turn, real (*sums)[COLUMNS / 16])
{
    const int line = threadIdx.x / 16, lane = threadIdx.x % 16;
#pragma unroll
    for (int q = 0; q < DEPTH; q++) {
        real left[ROWS / 16], right[COLUMNS / 16];
#pragma unroll
        for (int i = 0; i < ROWS / 16; i++)
            left[i] = tiles.left[turn][q][line * (ROWS / 16) + i];
#pragma unroll
        for (int j = 0; j < COLUMNS / 16; j++)
            right[j] = tiles.right[turn][q][lane + 16 * j];
#pragma unroll
        for (int i = 0; i < ROWS / 16; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS / 16; j++)
                sums[i][j] += left[i] * right[j];
    }
}

/* Goes through what is summed over: taps, and the channels of each. */
struct ConvSummand {
    int tap, channel;

    __device__ ConvSummand(int number, int channels) : tap(number / channels), channel(number % channels) {}

    __device__ void advance(int by, int channels)
    {
        for (channel += by; channel >= channels; channel -= channels)
            tap++;
    }
};

/* result[filter, place] = bias[filter] + sum over taps and channels of packed[tap, channel, filter] · source[channel, what
place reads at tap]: a block ROWS filters of a group by 128 places. With ACROSS threads read along the channels, which lie
together, else along the places. */
template <int ROWS, bool ACROSS>
__device__ void correlate(
    const real *source, const real *packed, const real *bias, const real *mask, real *result, const Walk &w)
{
    const int COLUMNS = 128, LEFT = ROWS * DEPTH / 256, RIGHT = COLUMNS * DEPTH / 256;
    __shared__ ConvTiles<ROWS, COLUMNS> tiles;
    __shared__ ConvTap taps[MOST_TAPS];
    __shared__ int weights[MOST_TAPS];
    const int thread = threadIdx.x, group = blockIdx.z, first_row = blockIdx.y * ROWS, number = taps_of(w);
    const int depth = number * w.channels;
    const i64 places = (i64)w.n * positions(w), first_place = blockIdx.x * (i64)COLUMNS;
    for (int tap = thread; tap < number; tap += 256)
        taps[tap] = ConvTap(w, tap), weights[tap] = taps[tap].weight(w);
    source += (i64)group * w.channels * w.source_c;
    packed += (i64)group * window_of(w) * w.channels * w.results;

    ConvPlace own[ACROSS ? RIGHT : 1];
    i64 left_ahead = places - first_place; /* how many places there are */
    if (ACROSS)
        for (int i = 0; i < RIGHT; i++)
            own[i] = ConvPlace(w, least(first_place + thread / DEPTH + i * (256 / DEPTH), places - 1));
    else
        own[0] = ConvPlace(w, least(first_place + thread % COLUMNS, places - 1));
    ConvSummand along(thread / ROWS * LEFT, w.channels);
    ConvSummand across(ACROSS ? thread % DEPTH : thread / COLUMNS * RIGHT, w.channels);
    real sums[ROWS / 16][COLUMNS / 16] = {}, from_left[LEFT], from_right[RIGHT];
    __syncthreads(); /* the taps are there */

    for (int q = 0, turn = 0; q < depth + DEPTH; q += DEPTH, turn ^= 1) {
        if (q < depth) {
            for (int i = 0; i < LEFT; i++) {
                const int row = first_row + thread % ROWS;
                const bool there = along.tap < number && row < w.results;
                from_left[i] =
                    there ? packed[((i64)weights[along.tap] * w.channels + along.channel) * w.results + row] : 0;
                along.advance(i + 1 < LEFT ? 1 : DEPTH - LEFT + 1, w.channels);
            }
            for (int i = 0; i < RIGHT; i++) {
                const int column = ACROSS ? thread / DEPTH + i * (256 / DEPTH) : thread % COLUMNS;
                const bool there = across.tap < number && column < left_ahead;
                const i64 at = there ? reads(w, own[ACROSS ? i : 0], taps[across.tap]) : -1;
                from_right[i] = at < 0 ? 0 : source[at + (i64)across.channel * w.source_c];
                if (!ACROSS)
                    across.advance(i + 1 < RIGHT ? 1 : DEPTH - RIGHT + 1, w.channels);
            }
            if (ACROSS)
                across.advance(DEPTH, w.channels);
        }
        if (q)
            multiply<ROWS, COLUMNS>(tiles, turn ^ 1, sums);
        if (q < depth) {
            for (int i = 0; i < LEFT; i++)
                tiles.left[turn][thread / ROWS * LEFT + i][thread % ROWS] = from_left[i];
            for (int i = 0; i < RIGHT; i++)
                if (ACROSS)
                    tiles.right[turn][thread % DEPTH][thread / DEPTH + i * (256 / DEPTH)] = from_right[i];
                else
                    tiles.right[turn][thread / COLUMNS * RIGHT + i][thread % COLUMNS] = from_right[i];
        }
        __syncthreads();
    }

    for (int j = 0; j < COLUMNS / 16; j++) {
        const int column = thread % 16 + 16 * j;
        if (column >= left_ahead)
            continue;
        const i64 place = ConvPlace(w, first_place + column).result(w);
        for (int i = 0; i < ROWS / 16; i++) {
            const int row = first_row + thread / 16 * (ROWS / 16) + i;
            if (row >= w.results)
                continue;
            const int channel = group * w.results + row;
            const i64 at = place + (i64)channel * w.result_c;
            result[at] = finished(w, sums[i][j] + (bias ? bias[channel] : 0), mask, at);
        }
    }
}

/* parts[part, group, filter, tap, channel] = sum over the places of a part of dy[filter, place] · x[channel, what place
reads at tap]: a block ROWS filters by 128 pairs of tap and channel, blockIdx.z parts of all groups. With ACROSS threads
read along the channels, which lie together, else along the places. */
template <int ROWS, bool ACROSS>
__device__ void correlate_weights(const real *dy, const real *x, real *parts, const Walk &w, i64 chunk)
{
    const int COLUMNS = 128, LEFT = ROWS * DEPTH / 256, RIGHT = COLUMNS * DEPTH / 256;
    __shared__ ConvTiles<ROWS, COLUMNS> tiles;
    const int thread = threadIdx.x, group = blockIdx.z % w.groups, part = blockIdx.z / w.groups;
    const int first_row = blockIdx.y * ROWS, first_column = blockIdx.x * COLUMNS, columns = taps_of(w) * w.channels;
    const i64 begin = part * chunk, end = least((i64)w.n * positions(w), begin + chunk);
    dy += (i64)group * w.results * w.result_c, x += (i64)group * w.channels * w.source_c;

    ConvTap taps[ACROSS ? 1 : RIGHT];
    int channels[ACROSS ? 1 : RIGHT];
    for (int i = 0; i < (ACROSS ? 1 : RIGHT); i++) {
        const int column = first_column + (ACROSS ? thread % COLUMNS : thread / DEPTH + i * (256 / DEPTH));
        taps[i] = ConvTap(w, column / w.channels), channels[i] = column % w.channels;
    }
    i64 at_left = begin + (ACROSS ? thread / ROWS * LEFT : thread % DEPTH);
    i64 at_right = begin + (ACROSS ? thread / COLUMNS * RIGHT : thread % DEPTH);
    ConvPlace left(w, at_left), right(w, at_right);
    real sums[ROWS / 16][COLUMNS / 16] = {}, from_left[LEFT], from_right[RIGHT];

    for (i64 q = begin, turn = 0; q < end + DEPTH; q += DEPTH, turn ^= 1) {
        if (q < end) {
            for (int i = 0; i < LEFT; i++) {
                const int row = first_row + (ACROSS ? thread % ROWS : thread / DEPTH + i * (256 / DEPTH));
                const bool there = at_left < end && row < w.results;
                from_left[i] = there ? dy[left.result(w) + (i64)row * w.result_c] : 0;
                const int by = ACROSS ? (i + 1 < LEFT ? 1 : DEPTH - LEFT + 1) : i + 1 < LEFT ? 0 : DEPTH;
                left.advance(w, by), at_left += by;
            }
            for (int i = 0; i < RIGHT; i++) {
                const int column = first_column + (ACROSS ? thread % COLUMNS : thread / DEPTH + i * (256 / DEPTH));
                const bool there = at_right < end && column < columns;
                const i64 at = there ? reads(w, right, taps[ACROSS ? 0 : i]) : -1;
                from_right[i] = at < 0 ? 0 : x[at + (i64)channels[ACROSS ? 0 : i] * w.source_c];
                const int by = ACROSS ? (i + 1 < RIGHT ? 1 : DEPTH - RIGHT + 1) : i + 1 < RIGHT ? 0 : DEPTH;
                right.advance(w, by), at_right += by;
            }
        }
        if (q > begin)
            multiply<ROWS, COLUMNS>(tiles, turn ^ 1, sums);
        if (q < end) {
            for (int i = 0; i < LEFT; i++)
                if (ACROSS)
                    tiles.left[turn][thread / ROWS * LEFT + i][thread % ROWS] = from_left[i];
                else
                    tiles.left[turn][thread % DEPTH][thread / DEPTH + i * (256 / DEPTH)] = from_left[i];
            for (int i = 0; i < RIGHT; i++)
                if (ACROSS)
                    tiles.right[turn][thread / COLUMNS * RIGHT + i][thread % COLUMNS] = from_right[i];
                else
                    tiles.right[turn][thread % DEPTH][thread / DEPTH + i * (256 / DEPTH)] = from_right[i];
        }
        __syncthreads();
    }

    parts += ((i64)part * w.groups + group) * w.results * columns;
    for (int i = 0; i < ROWS / 16; i++)
        for (int j = 0; j < COLUMNS / 16; j++) {
            const int row = first_row + thread / 16 * (ROWS / 16) + i, column = first_column + thread % 16 + 16 * j;
            if (row < w.results && column < columns)
                parts[(i64)row * columns + column] = sums[i][j];
        }
}

/* y = x * weight + bias, the weights packed [group, tap, channel, filter]. */
template <int ROWS, bool ACROSS>
__global__ void __launch_bounds__(256) conv_implicit_gemm_forward(
    const real *x, const real *packed, const real *bias, const real *mask, real *y, const Walk w)
{
    correlate<ROWS, ACROSS>(x, packed, bias, mask, y, w);
}

/* Elements of dx, a stride apart, from dy and weights packed [group, tap, filter, channel]. */
template <int ROWS, bool ACROSS>
__global__ void __launch_bounds__(256) conv_implicit_gemm_dx(
    const real *dy, const real *packed, const real *bias, const real *mask, real *dx, const Walk w)
{
    correlate<ROWS, ACROSS>(dy, packed, bias, mask, dx, w);
}

/* Parts of dweight, each the sum over some samples and positions. */
template <int ROWS, bool ACROSS>
__global__ void __launch_bounds__(256) conv_implicit_gemm_dw(
    const real *dy, const real *x, real *parts, const Walk w, i64 chunk)
{
    correlate_weights<ROWS, ACROSS>(dy, x, parts, w, chunk);
}
