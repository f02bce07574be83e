/* ---- what all kernels share ---- */

typedef long long i64;

#define INFINITE ((real)__int_as_float(0x7f800000))

/* i goes through 0 to size - 1, shared among all threads. */
#define EACH(i, size)                                                               \
    for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x, stride = gridDim.x * (i64)blockDim.x; i < (size); i += stride)

/* n/d without a division, for n < 2^31: `reciprocal` is that of d in launch.py. */
__device__ __forceinline__ unsigned quotient(unsigned n, i64 reciprocal)
{
    return (unsigned)((n * (unsigned long long)(reciprocal & 0xffffffff)) >> (reciprocal >> 32));
}

template <typename T> __device__ T least(T a, T b) { return a < b ? a : b; }
template <typename T> __device__ T most(T a, T b) { return a > b ? a : b; }

/* What `join` makes of the values of all threads of a block, on all of them; blocks have 32 to 1024 threads in warps
of 32, along x. The order is the same each time. */
template <typename Join> __device__ real over_block(real value, real neutral, Join join)
{
    __shared__ real of_warps[32];
    for (int apart = 16; apart; apart /= 2)
        value = join(value, __shfl_xor_sync(0xffffffff, value, apart));
    if (threadIdx.x % 32 == 0)
        of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < blockDim.x / 32 ? of_warps[threadIdx.x % 32] : neutral;
    for (int apart = 16; apart; apart /= 2)
        value = join(value, __shfl_xor_sync(0xffffffff, value, apart));
    __syncthreads(); /* of_warps may be written again */
    return value;
}

struct Sum {
    __device__ real operator()(real a, real b) const { return a + b; }
};

struct Largest {
    __device__ real operator()(real a, real b) const { return a > b || a != a ? a : b; }
};

__device__ real block_sum(real value) { return over_block(value, 0, Sum()); }
__device__ real block_largest(real value) { return over_block(value, -INFINITE, Largest()); }
