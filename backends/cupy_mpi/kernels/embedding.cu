/* Each token's row of the table, which begins at row `begin` of the whole one: others give zeros where it is a part of
it, and are taken for the outermost rows where it is all. */
extern "C" __global__ void embedding_forward(const int *tokens, const real *weight, real *y, i64 size, i64 width,
                                             i64 rows, i64 begin, i64 is_part, i64 by_width)
{
    EACH(i, size) {
        const unsigned place = quotient((unsigned)i, by_width);
        const i64 row = tokens[place] - begin, near = least(most(row, (i64)0), rows - 1);
        y[i] = is_part && row != near ? 0 : weight[near * width + (i - place * width)];
    }
}

#define SORTED 2048

/* Pieces of `extent` places, a power of two, sorted by token and then by place: a block each. The last piece is filled
up with tokens that are larger than all. Sorting network: K. Batcher, 1968. */
extern "C" __global__ void embedding_dw_sort(const int *tokens, int *sorted, int *places, i64 count, i64 extent,
                                             i64 begin)
{
    __shared__ i64 keys[SORTED];
    const i64 first = blockIdx.x * extent;
    for (i64 i = threadIdx.x; i < extent; i += blockDim.x) {
        const i64 row = first + i < count ? tokens[first + i] - begin : 0x7fffffff;
        keys[i] = row * 0x100000000 + first + i;
    }
    for (int size = 2; size <= extent; size *= 2)
        for (int apart = size / 2; apart; apart /= 2) {
            __syncthreads();
            for (int pair = threadIdx.x; pair < extent / 2; pair += blockDim.x) {
                const int one = 2 * pair - (pair & (apart - 1)), two = one + apart;
                const i64 a = keys[one], b = keys[two];
                if ((a > b) == !(one & size))
                    keys[one] = b, keys[two] = a;
            }
        }
    __syncthreads();
    for (i64 i = threadIdx.x; i < extent; i += blockDim.x) {
        sorted[first + i] = (int)(keys[i] >> 32);
        places[first + i] = (int)(keys[i] & 0xffffffff);
    }
}

/* Where the first token that is not below a row stands in a sorted piece. */
__device__ int first_of(const int *sorted, int extent, i64 row)
{
    int low = 0, high = extent;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (sorted[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* dweight: for each row of the table a block adds up dy of the places of its token, in their order, a thread a column.
It looks through as many pieces at a time as it has threads. */
extern "C" __global__ void embedding_dw_rows(const real *dy, const int *sorted, const int *places, real *dweight,
                                             i64 width, i64 pieces, i64 extent)
{
    __shared__ int from[256], to[256];
    const i64 row = blockIdx.x;
    for (i64 piece = 0; piece < pieces; piece += blockDim.x) {
        if (piece + threadIdx.x < pieces) {
            const int *const own = sorted + (piece + threadIdx.x) * extent;
            from[threadIdx.x] = first_of(own, extent, row);
            to[threadIdx.x] = first_of(own, extent, row + 1);
        }
        __syncthreads();
        for (i64 column = threadIdx.x; column < width; column += blockDim.x) {
            real total = piece ? dweight[row * width + column] : 0;
            for (i64 p = 0; p < blockDim.x && piece + p < pieces; p++)
                for (int i = from[p]; i < to[p]; i++)
                    total += dy[places[(piece + p) * extent + i] * width + column];
            dweight[row * width + column] = total;
        }
        __syncthreads();
    }
}

/* y = the whole table, for each of the samples. */
extern "C" __global__ void position_embedding_forward(const real *weight, real *y, i64 size, i64 table, i64 by_table)
{
    EACH(i, size)
        y[i] = weight[i - quotient((unsigned)i, by_table) * table];
}

/* dweight = the sum of dy over the samples: a thread an element. */
extern "C" __global__ void position_embedding_dw(const real *dy, real *dweight, i64 size, i64 samples)
{
    EACH(i, size) {
        real total = 0;
        for (i64 sample = 0; sample < samples; sample++)
            total += dy[sample * size + i];
        dweight[i] = total;
    }
}
