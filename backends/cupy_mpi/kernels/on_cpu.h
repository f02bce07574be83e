/* CUDA's language on a processor: kernels.cu runs as it stands where there is no GPU, to be checked or looked into.

A block's threads are fibers: one runs up to a barrier, then the next, in order or backwards. Blocks come one behind the
other, in the same order. A launch gives NULL, or what is wrong: a barrier that only some threads of a block come to.
Memory on the chip is full of not-a-numbers when a block begins. */

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmath>
#include <utility>

#define __global__
#define __device__ inline
#define __forceinline__
#define __grid_constant__
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __shared__ static __attribute__((section("on_chip")))
#define threadIdx (on_cpu::running->index)
#define blockIdx on_cpu::block
#define blockDim on_cpu::threads
#define gridDim on_cpu::blocks

struct dim3 {
    unsigned x, y, z;
};

extern char __start_on_chip[] __attribute__((weak)), __stop_on_chip[] __attribute__((weak));

namespace on_cpu {

const unsigned WARP = 32, MOST = 1024;
const size_t STACK = 1 << 16;

enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
    jmp_buf at;
    ucontext_t first;
    dim3 index;
    State state;
    bool begun;
    double slot; /* what it shows the other threads of its warp */
};

static Fiber fibers[MOST], *running;
static dim3 block, threads, blocks;
static jmp_buf scheduler, outside;
static const char *wrong;
static void (*body)(void *);
static void *arguments_of_body;

/* Lets others run until all of them are here. */
static void wait(State state)
{
    running->state = state;
    if (!_setjmp(running->at))
        _longjmp(scheduler, 1);
}

static void live()
{
    for (;;) {
        body(arguments_of_body);
        wait(DONE);
    }
}

/* One fiber up to its next barrier, or its end. */
static void resume(Fiber *fiber)
{
    running = fiber;
    if (_setjmp(scheduler))
        return;
    if (fiber->begun)
        _longjmp(fiber->at, 1);
    fiber->begun = true;
    getcontext(&fiber->first);
    fiber->first.uc_stack.ss_sp =
        mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    fiber->first.uc_stack.ss_size = STACK;
    fiber->first.uc_link = 0;
    makecontext(&fiber->first, live, 0);
    setcontext(&fiber->first);
}

[[noreturn]] static void fail(const char *what)
{
    wrong = what;
    for (Fiber &fiber : fibers)
        if (fiber.begun) {
            munmap(fiber.first.uc_stack.ss_sp, STACK);
            fiber.begun = false;
        }
    _longjmp(outside, 1);
}

/* How many of these threads are in a state. */
static unsigned count(unsigned first, unsigned size, State state)
{
    unsigned found = 0;
    for (unsigned i = first; i < first + size; i++)
        found += fibers[i].state == state;
    return found;
}

static void release(unsigned first, unsigned size)
{
    for (unsigned i = first; i < first + size; i++)
        fibers[i].state = READY;
}

/* The threads of a warp up to a barrier of the block, or their end. */
static void run_warp(unsigned first, unsigned size, bool backwards)
{
    for (;;) {
        for (unsigned i = 0; i < size; i++) {
            Fiber *fiber = &fibers[first + (backwards ? size - 1 - i : i)];
            if (fiber->state == READY)
                resume(fiber);
        }
        const unsigned waiting = count(first, size, AT_WARP);
        if (!waiting)
            return;
        if (waiting != size)
            fail("only some threads of a warp come to a shuffle");
        release(first, size);
    }
}

static void run_block(bool backwards)
{
    const unsigned size = threads.x * threads.y * threads.z, warps = (size + WARP - 1) / WARP;
    for (unsigned i = 0; i < size; i++) {
        fibers[i].index = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
        fibers[i].state = READY;
    }
    if (__start_on_chip)
        memset(__start_on_chip, 0xff, __stop_on_chip - __start_on_chip);
    while (count(0, size, DONE) < size) {
        for (unsigned i = 0; i < warps; i++) {
            const unsigned first = (backwards ? warps - 1 - i : i) * WARP;
            run_warp(first, size - first < WARP ? size - first : WARP, backwards);
        }
        const unsigned waiting = count(0, size, AT_BLOCK);
        if (waiting && waiting != size)
            fail("only some threads of a block come to __syncthreads()");
        if (waiting)
            release(0, size);
    }
}

template <typename... A> struct Call {
    void (*kernel)(A...);
    void **arguments;
};

template <typename... A, size_t... I> static void pass(Call<A...> *call, std::index_sequence<I...>)
{
    call->kernel(*(std::remove_const_t<A> *)call->arguments[I]...);
}

template <typename... A> static void start(void *call)
{
    pass((Call<A...> *)call, std::index_sequence_for<A...>());
}

/* shape: blocks and threads along x, y, z. */
template <typename... A>
static const char *launch(void (*kernel)(A...), const unsigned *shape, int backwards, void **arguments)
{
    Call<A...> call = {kernel, arguments};
    blocks = {shape[0], shape[1], shape[2]}, threads = {shape[3], shape[4], shape[5]};
    body = start<A...>, arguments_of_body = &call, wrong = 0;
    if (threads.x * threads.y * threads.z > MOST)
        return "a block has more than 1024 threads";
    const size_t number = (size_t)blocks.x * blocks.y * blocks.z;
    if (!_setjmp(outside))
        for (size_t i = 0; i < number; i++) {
            const size_t at = backwards ? number - 1 - i : i;
            block = {(unsigned)(at % blocks.x), (unsigned)(at / blocks.x % blocks.y),
                     (unsigned)(at / blocks.x / blocks.y)};
            run_block(backwards);
        }
    return wrong;
}

template <typename T> static T shuffled(T value, unsigned from)
{
    Fiber *own = running, *warp = &fibers[(own - fibers) / WARP * WARP];
    memcpy(&own->slot, &value, sizeof(T));
    wait(AT_WARP);
    memcpy(&value, &warp[from % WARP].slot, sizeof(T));
    wait(AT_WARP);
    return value;
}

static unsigned lane() { return (running - fibers) % WARP; }

}  // namespace on_cpu

static inline void __syncthreads() { on_cpu::wait(on_cpu::AT_BLOCK); }
static inline void __syncwarp() { on_cpu::wait(on_cpu::AT_WARP); }

template <typename T> static T __shfl_xor_sync(unsigned, T value, int mask)
{
    return on_cpu::shuffled(value, on_cpu::lane() ^ mask);
}

template <typename T> static T __shfl_down_sync(unsigned, T value, unsigned by)
{
    const unsigned from = on_cpu::lane() + by;
    return on_cpu::shuffled(value, from < on_cpu::WARP ? from : on_cpu::lane());
}

template <typename T> static T __shfl_sync(unsigned, T value, int from) { return on_cpu::shuffled(value, from); }

static inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float __int_as_float(int bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float rsqrt(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
