/* How the values of a channel lie, where the pixels or samples of it lie together: in `runs` of `length`, one every
`apart`; channels are `between` apart. Otherwise values are rows [row, channel]. */
#define RUNS i64 values, i64 length, i64 apart, i64 between, i64 by_length

/* What is known of some values: how many, their mean and the sum of the squares around it. */
struct Moments {
    real count, mean, squares;
};

/* Of two sets of values together (T. Chan, G. Golub, R. LeVeque, 1979). */
__device__ Moments joined(Moments a, Moments b)
{
    const real count = a.count + b.count, share = count > 0 ? b.count / count : 0, off = b.mean - a.mean;
    return {count, a.mean + off * share, a.squares + b.squares + off * off * a.count * share};
}

__device__ Moments shuffled(Moments a, int apart)
{
    return {__shfl_xor_sync(0xffffffff, a.count, apart), __shfl_xor_sync(0xffffffff, a.mean, apart),
            __shfl_xor_sync(0xffffffff, a.squares, apart)};
}

/* Sums of two kinds. */
struct Pair {
    real first, second;
};

__device__ Pair joined(Pair a, Pair b) { return {a.first + b.first, a.second + b.second}; }

__device__ Pair shuffled(Pair a, int apart)
{
    return {__shfl_xor_sync(0xffffffff, a.first, apart), __shfl_xor_sync(0xffffffff, a.second, apart)};
}

/* Those of a thread's values, taken around the first of them: the error does not grow with the mean. */
struct Counting {
    real count = 0, first = 0, sum = 0, squares = 0;
    __device__ void add(real value)
    {
        first = count == 0 ? value : first;
        const real off = value - first;
        count += 1, sum += off, squares += off * off;
    }
    __device__ Moments found() const
    {
        const real off = count > 0 ? sum / count : 0, around = squares - sum * off;
        return {count, first + off, around < 0 ? 0 : around};
    }
};

/* What all threads of a block know together, on the first one; blocks as those of `over_block`. */
template <typename Known> __device__ Known over_threads(Known known)
{
    __shared__ Known of_warps[32];
    for (int apart = 16; apart; apart /= 2)
        known = joined(known, shuffled(known, apart));
    if (threadIdx.x % 32 == 0)
        of_warps[threadIdx.x / 32] = known;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int warp = 1; warp < blockDim.x / 32; warp++)
            known = joined(known, of_warps[warp]);
    return known;
}

/* What 8 warps know of 32 columns, on the first warp. */
template <typename Known> __device__ Known over_warps(Known known)
{
    __shared__ Known of_warps[8][32];
    of_warps[threadIdx.x / 32][threadIdx.x % 32] = known;
    __syncthreads();
    if (threadIdx.x < 32)
        for (int warp = 1; warp < 8; warp++)
            known = joined(known, of_warps[warp][threadIdx.x]);
    return known;
}

/* The values of a channel that part blockIdx.y of gridDim.y has. */
#define EACH_OF_RUNS(place)                                                                                    \
    const i64 share_ = (values + gridDim.y - 1) / gridDim.y, begin_ = blockIdx.y * share_;                     \
    const i64 end_ = least(values, begin_ + share_);                                                           \
    for (i64 i_ = begin_ + threadIdx.x, place; i_ < end_; i_ += blockDim.x)                                    \
        if (const unsigned run_ = quotient((unsigned)i_, by_length);                                           \
            (place = blockIdx.x * between + run_ * apart + (i_ - run_ * length), true))

/* The rows of a channel that part blockIdx.y has; there are as many channels as threads in a warp, 8 warps. */
#define EACH_OF_ROWS(place)                                                                                    \
    const i64 share_ = (rows + gridDim.y - 1) / gridDim.y, channel = blockIdx.x * 32 + threadIdx.x % 32;       \
    const i64 begin_ = blockIdx.y * share_, end_ = channel < channels ? least(rows, begin_ + share_) : begin_; \
    for (i64 i_ = begin_ + threadIdx.x / 32, place; i_ < end_; i_ += 8)                                        \
        if (place = i_ * channels + channel, true)

/* What all parts know of a channel, on the first thread of a warp; blockIdx.x is the channel. */
template <typename Known> __device__ Known all_of(const Known *parts, i64 count)
{
    Known known = {};
    for (i64 part = threadIdx.x; part < count; part += blockDim.x)
        known = joined(known, parts[part * gridDim.x + blockIdx.x]);
    return over_threads(known);
}
