// needs sums
/* y [batch, heads, seq, width] of x [batch, seq, heads, width]: a thread an element of y. Also of merge_heads_dx. */
extern "C" __global__ void split_heads_forward(const real *x, real *y, i64 size, i64 heads, i64 seq, i64 width,
                                               i64 by_heads, i64 by_seq, i64 by_width)
{
    EACH(i, size) {
        const unsigned row = quotient((unsigned)i, by_width), inner = (unsigned)i - row * (unsigned)width;
        const unsigned above = quotient(row, by_seq), place = row - above * (unsigned)seq;
        const unsigned sample = quotient(above, by_heads), head = above - sample * (unsigned)heads;
        y[i] = x[((sample * seq + place) * heads + head) * width + inner];
    }
}

/* y [batch, seq, heads, width] of x [batch, heads, seq, width]: a thread an element of y. Also of split_heads_dx. */
extern "C" __global__ void merge_heads_forward(const real *x, real *y, i64 size, i64 heads, i64 seq, i64 width,
                                               i64 by_heads, i64 by_seq, i64 by_width)
{
    EACH(i, size) {
        const unsigned row = quotient((unsigned)i, by_width), inner = (unsigned)i - row * (unsigned)width;
        const unsigned above = quotient(row, by_heads), head = row - above * (unsigned)heads;
        const unsigned sample = quotient(above, by_seq), place = above - sample * (unsigned)seq;
        y[i] = x[((sample * heads + head) * seq + place) * width + inner];
    }
}

/* Scores [.., query, key]: those of keys after the query become `hidden`. Also of causal_mask_dx. */
extern "C" __global__ void causal_mask_forward(const real *x, real *y, i64 size, i64 queries, i64 keys, i64 by_queries,
                                               i64 by_keys, i64 ahead, real hidden)
{
    EACH(i, size) {
        const unsigned row = quotient((unsigned)i, by_keys);
        const int key = i - row * keys, query = row - quotient(row, by_queries) * (unsigned)queries;
        y[i] = key > query + ahead ? hidden : x[i];
    }
}

/* Where a number of [sample, place, part, head, inner] belongs in [part, sample, head, place, inner]. */
struct Lie {
    int batch, seq, parts, heads, width;
};

#define LIE Lie lie, i64 by_seq, i64 by_parts, i64 by_heads, i64 by_width
#define BY_HEADS(i) by_heads_of((unsigned)(i), lie, by_seq, by_parts, by_heads, by_width)

__device__ __forceinline__ i64 by_heads_of(unsigned i, LIE)
{
    unsigned rest = quotient(i, by_width);
    const int inner = i - rest * lie.width;
    i = rest, rest = quotient(i, by_heads);
    const int head = i - rest * lie.heads;
    i = rest, rest = quotient(i, by_parts);
    const int part = i - rest * lie.parts;
    const unsigned sample = quotient(rest, by_seq), place = rest - sample * lie.seq;
    return ((((i64)part * lie.batch + sample) * lie.heads + head) * lie.seq + place) * lie.width + inner;
}

/* Values by sample and place with a bias added, which it has where there is one, and copies of them by heads. Also of
attention_dx. */
extern "C" __global__ void attention_forward_split(real *values, const real *bias, real *by_head, i64 size, i64 columns,
                                                   i64 by_columns, LIE)
{
    EACH(i, size) {
        real value = values[i];
        if (bias)
            values[i] = value += bias[i - quotient((unsigned)i, by_columns) * columns];
        by_head[BY_HEADS(i)] = value;
    }
}

/* Back to values by sample and place. Also of attention_dx. */
extern "C" __global__ void attention_forward_merge(const real *by_head, real *values, i64 size, LIE)
{
    EACH(i, size)
        values[i] = by_head[BY_HEADS(i)];
}

/* y with a bias added. */
extern "C" __global__ void attention_forward_bias(const real *bias, real *y, i64 size, i64 columns, i64 by_columns)
{
    EACH(i, size)
        y[i] += bias[i - quotient((unsigned)i, by_columns) * columns];
}

/* Scores times a factor become probabilities, in place: a block a query. With `causal` later keys have none. */
extern "C" __global__ void attention_forward_weigh(real *scores, i64 queries, i64 keys, i64 causal, real factor)
{
    scores += blockIdx.x * keys;
    const i64 seen = causal ? least(keys, blockIdx.x % queries + 1) : keys;
    real largest = -INFINITE, sum = 0;
    for (i64 key = threadIdx.x; key < seen; key += blockDim.x)
        largest = Largest()(largest, scores[key] * factor);
    largest = block_largest(largest);
    for (i64 key = threadIdx.x; key < seen; key += blockDim.x)
        sum += exp(scores[key] * factor - largest);
    sum = block_sum(sum);
    for (i64 key = threadIdx.x; key < keys; key += blockDim.x)
        scores[key] = key < seen ? exp(scores[key] * factor - largest) / sum : 0;
}

/* Gradients of probabilities become those of scores, p (dp - the sum of dp p) times the factor, in place. */
extern "C" __global__ void attention_dx_weigh(real *slopes, const real *probabilities, i64 keys, real factor)
{
    slopes += blockIdx.x * keys, probabilities += blockIdx.x * keys;
    real sum = 0;
    for (i64 key = threadIdx.x; key < keys; key += blockDim.x)
        sum += slopes[key] * probabilities[key];
    sum = block_sum(sum);
    for (i64 key = threadIdx.x; key < keys; key += blockDim.x)
        slopes[key] = probabilities[key] * (slopes[key] - sum) * factor;
}

/* Sums of dy over parts of the rows. */
extern "C" __global__ void attention_dx_bias(const real *dy, Pair *parts, i64 rows, i64 channels)
{
    Pair sums = {0, 0};
    EACH_OF_ROWS(place)
        sums.first += dy[place];
    sums = over_warps(sums);
    if (threadIdx.x < 32 && channel < channels)
        parts[blockIdx.y * channels + channel] = sums;
}

/* The gradient of a bias: a warp a number. */
extern "C" __global__ void attention_dx_bias_finish(const Pair *parts, real *dbias, i64 count)
{
    const Pair sums = all_of(parts, count);
    if (threadIdx.x == 0)
        dbias[blockIdx.x] = sums.first;
}
