/* Numbers of two bytes as they lie in memory: bf16 is the upper half of a float's bits, f16 has 5 bits of exponent. */
typedef unsigned short half_bits;

__device__ unsigned bits_of(float value) { return __float_as_uint(value); }

/* The upper 16 bits, one more where the lower are above half or at half of an odd one; what is no number stays that. */
__device__ half_bits to_bf16(float value)
{
    const unsigned bits = bits_of(value);
    return value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

__device__ float from_bf16(half_bits value) { return __uint_as_float((unsigned)value << 16); }

/* To nearest, ties to even; infinite from 65520 on. */
__device__ half_bits to_f16(float value)
{
    const unsigned bits = bits_of(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000)
        return sign | 0x7e00;
    if (size >= 0x477ff000)
        return sign | 0x7c00;
    if (size < 0x38800000) { /* below 2^-14 f16 counts multiples of 2^-24: adding 0.5 rounds to those of a float there */
        const float rounded = __uint_as_float(size) + 0.5f;
        return sign | (bits_of(rounded) - bits_of(0.5f));
    }
    return sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
}

__device__ float from_f16(half_bits value)
{
    const unsigned sign = (value & 0x8000u) << 16, exponent = value >> 10 & 31, digits = value & 0x3ff;
    if (exponent == 31)
        return __uint_as_float(sign | 0x7f800000 | digits << 13);
    if (exponent == 0)
        return (sign ? -1 : 1) * ((float)digits * 5.9604644775390625e-8f); /* 2^-24 */
    return __uint_as_float(sign | (exponent + 112) << 23 | digits << 13);
}

/* f32 to half precision, to bf16 or f16. */
extern "C" __global__ void cast_narrow(const float *x, half_bits *y, i64 size, i64 brain)
{
    EACH(i, size)
        y[i] = brain ? to_bf16(x[i]) : to_f16(x[i]);
}

/* Half precision to f32. */
extern "C" __global__ void cast_widen(const half_bits *x, float *y, i64 size, i64 brain)
{
    EACH(i, size)
        y[i] = brain ? from_bf16(x[i]) : from_f16(x[i]);
}
