/* Of a row of logits, by one block: its probabilities, and its loss, which is -log of that at the label; with smoothing s
of C classes the target is (1 - s) there and s/C everywhere. */
extern "C" __global__ void cross_entropy_forward_rows(
    const real *logits, const int *label, real *losses, real *probabilities, i64 classes, real smoothing)
{
    const i64 row = blockIdx.x;
    logits += row * classes, probabilities += row * classes;
    real largest = -INFINITE;
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        largest = Largest()(largest, logits[i]);
    largest = block_largest(largest);
    real total = 0, shifted = 0;
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x) {
        const real x = logits[i] - largest;
        probabilities[i] = exp(x);
        total += probabilities[i];
        shifted += x;
    }
    total = block_sum(total);
    if (smoothing)
        shifted = block_sum(shifted);
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        probabilities[i] /= total;
    if (threadIdx.x == 0) {
        const real mean = smoothing ? shifted / classes : 0;
        losses[row] = log(total) - (1 - smoothing) * (logits[label[row]] - largest) - smoothing * mean;
    }
}

/* The sum of all values over a divisor, by one block in a fixed order. Also of cross_entropy_forward, accuracy_forward,
perplexity_forward. */
extern "C" __global__ void losses_total(const real *values, real *total, i64 size, real divisor)
{
    real sum = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x)
        sum += values[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *total = sum / divisor;
}

/* (probabilities - target) dy / divisor. */
extern "C" __global__ void cross_entropy_dx(
    const real *dy, const real *probabilities, const int *label, real *dlogits, i64 size, i64 classes, real divisor,
    real smoothing)
{
    const real factor = *dy / divisor, everywhere = smoothing / classes;
    EACH(i, size) {
        const real target = i % classes == label[i / classes] ? 1 - smoothing : 0;
        dlogits[i] = (probabilities[i] - everywhere - target) * factor;
    }
}

/* Of a row, by one block: 1 where the label is among the `top` largest logits, else 0; equal ones in order of class. */
extern "C" __global__ void accuracy_forward_rows(
    const real *logits, const int *label, real *correct, i64 classes, i64 top)
{
    const i64 row = blockIdx.x, at = label[row];
    logits += row * classes;
    const real known = logits[at];
    real before = 0;
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        before += !(logits[i] <= known) || (logits[i] == known && i < at);
    before = block_sum(before);
    if (threadIdx.x == 0)
        correct[row] = before < top;
}

/* Of a row, by one block: -log of the probability of the label. */
extern "C" __global__ void perplexity_forward_rows(const real *logits, const int *label, real *losses, i64 classes)
{
    const i64 row = blockIdx.x;
    logits += row * classes;
    real largest = -INFINITE, total = 0;
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        largest = Largest()(largest, logits[i]);
    largest = block_largest(largest);
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        total += exp(logits[i] - largest);
    total = block_sum(total);
    if (threadIdx.x == 0)
        losses[row] = log(total) - (logits[label[row]] - largest);
}
