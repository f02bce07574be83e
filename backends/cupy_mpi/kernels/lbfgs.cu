/* What one call finds out. Nothing of it goes to the processor: kernels behind look here what is to be done. */
struct Lbfgs {
    real active; /* whether the gradient is not yet as good as zero */
    real sum;    /* of its absolute values */
    real one, two, descent; /* products: of change and step, of the change with itself, of gradient and direction */
    real shares[1]; /* of each pair, the newest first */
};

/* Entries of the state `progress`. */
enum { BEGUN, PAIRS, NEXT, SCALE, LENGTH };

/* The slot of a pair, from the newest on. */
__device__ i64 lbfgs_slot(const real *progress, i64 history, i64 age)
{
    return ((i64)progress[NEXT] - 1 - age + 2 * history) % history;
}

/* The sum of parts, on all threads of a block. */
__device__ real lbfgs_sum(const real *parts, i64 count)
{
    real sum = 0;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x)
        sum += parts[i];
    return block_sum(sum);
}

/* One of the weights' gradients in its place of the vector. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_gather(const real *g, real *gradient, i64 size, i64 begin)
{
    EACH(i, size)
        gradient[begin + i] = g[i];
}

/* The largest and the sum of the absolute values, in parts. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_sizes(const real *gradient, real *parts, i64 size)
{
    real largest = 0, sum = 0;
    EACH(i, size) {
        const real value = fabs(gradient[i]);
        largest = Largest()(largest, value), sum += value;
    }
    largest = block_largest(largest);
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = largest, parts[gridDim.x + blockIdx.x] = sum;
}

/* Whether anything is to be done, by one block. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_begin(const real *parts, real *numbers, i64 count, real least)
{
    Lbfgs *const found = (Lbfgs *)numbers;
    real largest = 0;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x)
        largest = Largest()(largest, parts[i]);
    largest = block_largest(largest);
    const real sum = lbfgs_sum(parts + count, count);
    if (threadIdx.x == 0)
        found->active = !(largest <= least), found->sum = sum;
}

/* The last gradient becomes what has changed, the last direction the step; both products of them, in parts.
Also of lbfgs_update. */
extern "C" __global__ void lbfgs_change(
    const real *gradient, const real *progress, const real *numbers, real *last, real *direction, real *parts, i64 size)
{
    real one = 0, two = 0;
    if (((const Lbfgs *)numbers)->active && progress[BEGUN])
        EACH(i, size) {
            const real change = gradient[i] - last[i], step = direction[i] * progress[LENGTH];
            last[i] = change, direction[i] = step;
            one += change * step, two += change * change;
        }
    one = block_sum(one);
    two = block_sum(two);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = one, parts[gridDim.x + blockIdx.x] = two;
}

/* The pair in the next slot, where its curvature is enough. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_keep(
    const real *parts, const real *change, const real *step, const real *progress, const real *numbers, real *steps,
    real *changes, i64 size, i64 count, real least)
{
    const real curvature = lbfgs_sum(parts, count);
    const i64 at = (i64)progress[NEXT] * size;
    if (((const Lbfgs *)numbers)->active && progress[BEGUN] && curvature > least)
        EACH(i, size)
            steps[at + i] = step[i], changes[at + i] = change[i];
}

/* What is kept of that pair besides, by one block; what the first step begins with. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_kept(
    const real *parts, const real *numbers, real *curvatures, real *progress, i64 count, i64 history, real least)
{
    const real curvature = lbfgs_sum(parts, count), square = lbfgs_sum(parts + count, count);
    if (threadIdx.x || !((const Lbfgs *)numbers)->active)
        return;
    if (!progress[BEGUN])
        progress[SCALE] = 1;
    else if (curvature > least) {
        const i64 slot = (i64)progress[NEXT];
        curvatures[slot] = curvature;
        progress[NEXT] = (slot + 1) % history;
        progress[PAIRS] = ::least(progress[PAIRS] + 1, (real)history);
        progress[SCALE] = curvature / square;
    }
}

/* direction = -gradient. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_turn(const real *gradient, const real *numbers, real *direction, i64 size)
{
    if (((const Lbfgs *)numbers)->active)
        EACH(i, size)
            direction[i] = -gradient[i];
}

/* In parts the product of the direction with one vector of a pair. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_product(
    const real *direction, const real *vectors, const real *progress, const real *numbers, real *parts, i64 size,
    i64 history, i64 age)
{
    real sum = 0;
    if (((const Lbfgs *)numbers)->active && age < progress[PAIRS]) {
        const real *const vector = vectors + lbfgs_slot(progress, history, age) * size;
        EACH(i, size)
            sum += vector[i] * direction[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

/* On the way to the oldest pair (`back` is 0) the direction less its share of the change, and H0 times it behind the last
one; on the way back it and the step. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_bend(
    const real *parts, const real *vectors, const real *curvatures, const real *progress, real *numbers,
    real *direction, i64 size, i64 count, i64 history, i64 age, i64 back)
{
    Lbfgs *const found = (Lbfgs *)numbers;
    const real product = lbfgs_sum(parts, count);
    if (!found->active || !(age < progress[PAIRS]))
        return;
    const i64 slot = lbfgs_slot(progress, history, age);
    const real along = product / curvatures[slot], share = back ? found->shares[age] - along : -along;
    const real scale = !back && age + 1 == progress[PAIRS] ? progress[SCALE] : 1;
    EACH(i, size)
        direction[i] = (direction[i] + share * vectors[slot * size + i]) * scale;
    if (!back && blockIdx.x == 0 && threadIdx.x == 0)
        found->shares[age] = along;
}

/* The gradient is the last one now; its product with the direction, in parts. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_descent(
    const real *gradient, const real *direction, const real *numbers, real *last, real *parts, i64 size)
{
    real sum = 0;
    if (((const Lbfgs *)numbers)->active)
        EACH(i, size)
            sum += gradient[i] * direction[i], last[i] = gradient[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

/* How far it goes, by one block. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_length(const real *parts, real *numbers, real *progress, i64 count, const real *rate)
{
    Lbfgs *const found = (Lbfgs *)numbers;
    const real descent = lbfgs_sum(parts, count);
    if (threadIdx.x || !found->active)
        return;
    found->descent = descent;
    progress[LENGTH] = *rate * (progress[BEGUN] ? 1 : ::least((real)1, 1 / found->sum));
    progress[BEGUN] = 1;
}

/* w += length direction, of one weight, where that descends. Also of lbfgs_update. */
extern "C" __global__ void lbfgs_move(
    const real *direction, const real *numbers, const real *progress, real *w, i64 size, i64 begin, real least)
{
    const Lbfgs *const found = (const Lbfgs *)numbers;
    if (found->active && found->descent <= -least)
        EACH(i, size)
            w[i] += progress[LENGTH] * direction[begin + i];
}
