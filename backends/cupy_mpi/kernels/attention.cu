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
