// needs cast, linear
/* Each row of a product in f32, with the bias added, rounded once. */
extern "C" __global__ void linear_halves_forward(const half_bits *bias, const float *sums, half_bits *y, i64 size,
                                                 i64 columns, i64 brain)
{
    EACH(i, size) {
        const half_bits added = bias[i % columns];
        y[i] = brain ? to_bf16(sums[i] + from_bf16(added)) : to_f16(sums[i] + from_f16(added));
    }
}
