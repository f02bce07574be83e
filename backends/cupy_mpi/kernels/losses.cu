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
perplexity_forward, hinge_forward, kl_forward. */
extern "C" __global__ void losses_total(const real *values, real *total, i64 size, real divisor)
{
    real sum = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x)
        sum += values[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *total = sum / divisor;
}

/* (probabilities - target) dy / divisor, of the classes from `start` on, of so many in the whole. */
extern "C" __global__ void cross_entropy_dx(
    const real *dy, const real *probabilities, const int *label, real *dlogits, i64 size, i64 classes, i64 start,
    i64 whole, real divisor, real smoothing)
{
    const real factor = *dy / divisor, everywhere = smoothing / whole;
    EACH(i, size) {
        const real target = start + i % classes == label[i / classes] ? 1 - smoothing : 0;
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

/* Of a row of the classes at hand: what `value` makes of each, joined from `first` on, by one block. */
template <typename Join, typename Value> __device__ real over_classes(i64 classes, real first, Join join, Value value)
{
    real found = first;
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        found = join(found, value(i));
    return over_block(found, first, join);
}

/* The largest logit of each row; the table may be longer. A block a row of the table. */
extern "C" __global__ void cross_entropy_largest(const real *logits, real *largest, i64 rows, i64 classes)
{
    const i64 row = blockIdx.x;
    real found = 0;
    if (row < rows)
        found = over_classes(classes, -INFINITE, Largest(), [&](i64 i) { return logits[row * classes + i]; });
    if (threadIdx.x == 0)
        largest[row] = found;
}

/* The sums of exponentials of each row, the largest logit of the whole row being taken off. */
extern "C" __global__ void cross_entropy_exponentials(
    const real *logits, const real *largest, real *sums, i64 rows, i64 classes)
{
    const i64 row = blockIdx.x;
    real found = 0;
    if (row < rows)
        found = over_classes(
            classes, 0, Sum(), [&](i64 i) { return exp(logits[row * classes + i] - largest[row]); });
    if (threadIdx.x == 0)
        sums[row] = found;
}

/* Of a row whose classes from `start` on, of so many in the whole, are at hand: their probabilities and their part of the
loss. The first part has the logarithm of the sum. */
extern "C" __global__ void cross_entropy_forward_part(
    const real *logits, const int *label, const real *largest, const real *sums, real *losses, real *probabilities,
    i64 classes, i64 start, i64 whole, real smoothing)
{
    const i64 row = blockIdx.x, at = label[row] - start;
    const real most = largest[row], sum = sums[row];
    logits += row * classes, probabilities += row * classes;
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        probabilities[i] = exp(logits[i] - most) / sum;
    const real shifted =
        smoothing ? over_classes(classes, 0, Sum(), [&](i64 i) { return logits[i] - most; }) : (real)0;
    if (threadIdx.x)
        return;
    real loss = (start == 0 ? log(sum) : 0) - smoothing / whole * shifted;
    if (0 <= at && at < classes)
        loss -= (1 - smoothing) * (logits[at] - most);
    losses[row] = loss;
}

/* max(0, 1 + x[j] - x[label]), what is no number staying that; 0 at the label. */
__device__ real missed_margin(const real *logits, i64 at, i64 i)
{
    return i == at ? 0 : Largest()(1 + logits[i] - logits[at], 0);
}

/* Of a row, by one block: the margins that are missed. */
extern "C" __global__ void hinge_forward_rows(const real *logits, const int *label, real *losses, i64 classes)
{
    const i64 row = blockIdx.x, at = label[row];
    logits += row * classes;
    const real missed = over_classes(classes, 0, Sum(), [&](i64 i) { return missed_margin(logits, at, i); });
    if (threadIdx.x == 0)
        losses[row] = missed;
}

/* dy over a divisor where the margin is missed, and minus their sum at the label. A block a row. */
extern "C" __global__ void hinge_dx(
    const real *dy, const real *logits, const int *label, real *dlogits, i64 classes, real divisor)
{
    const i64 row = blockIdx.x, at = label[row];
    const real factor = *dy / divisor;
    logits += row * classes, dlogits += row * classes;
    const real count = over_classes(classes, 0, Sum(), [&](i64 i) { return (real)(missed_margin(logits, at, i) > 0); });
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x)
        dlogits[i] = factor * (i == at ? -count : (real)(missed_margin(logits, at, i) > 0));
}

/* log softmax(x/T) of a row, which a block finds out about. */
struct Softened {
    const real *x;
    real temperature, largest, logarithm;

    __device__ Softened(const real *row, i64 classes, real temperature) : x(row), temperature(temperature)
    {
        largest = over_classes(classes, -INFINITE, Largest(), [&](i64 i) { return row[i] / temperature; });
        logarithm = log(over_classes(classes, 0, Sum(), [&](i64 i) { return exp(row[i] / temperature - largest); }));
    }

    __device__ real operator()(i64 i) const { return x[i] / temperature - largest - logarithm; }
};

/* Of a row, by one block: the sum of p (log p - log q) with p = softmax(target/T), q = softmax(logits/T); q - p. */
extern "C" __global__ void kl_forward_rows(
    const real *logits, const real *target, real *losses, real *difference, i64 classes, real temperature)
{
    const i64 begin = blockIdx.x * classes;
    const Softened log_q(logits + begin, classes, temperature), log_p(target + begin, classes, temperature);
    const real sum = over_classes(classes, 0, Sum(), [&](i64 i) {
        const real p = exp(log_p(i));
        difference[begin + i] = exp(log_q(i)) - p;
        return p == 0 ? 0 : p * (log_p(i) - log_q(i));
    });
    if (threadIdx.x == 0)
        losses[blockIdx.x] = sum;
}

/* The difference times dy and a factor. */
extern "C" __global__ void kl_dx(const real *dy, const real *difference, real *dlogits, i64 size, real factor)
{
    const real times = *dy * factor;
    EACH(i, size)
        dlogits[i] = difference[i] * times;
}

/* p (log p - log q - their mean under p) times dy and a factor. A block a row. */
extern "C" __global__ void kl_dt(
    const real *dy, const real *logits, const real *target, real *dtarget, i64 classes, real temperature, real factor)
{
    const i64 begin = blockIdx.x * classes;
    const real times = *dy * factor;
    const Softened log_q(logits + begin, classes, temperature), log_p(target + begin, classes, temperature);
    const real mean = over_classes(classes, 0, Sum(), [&](i64 i) {
        const real p = exp(log_p(i));
        return p == 0 ? 0 : p * (log_p(i) - log_q(i));
    });
    for (i64 i = threadIdx.x; i < classes; i += blockDim.x) {
        const real p = exp(log_p(i));
        dtarget[begin + i] = p == 0 ? 0 : p * (log_p(i) - log_q(i) - mean) * times;
    }
}
