"""The exponential function in C and what is made of it, in forms that compilers turn into vector code.

eˣ = 2ⁿ·eʳ with |r| <= ln 2/2 and the Taylor series of eʳ, long enough for the precision. ln 2 is subtracted in two
parts, the first so short that its multiples are exact (W. J. Cody, W. Waite, "Software Manual for the Elementary
Functions", 1980). 2ⁿ is applied in two factors, so that results that are denormal are rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, log
from string import Template


@dataclass(frozen=True, slots=True)
class Format:
    """A precision: its integers, bits of the fraction, bias of the exponent, and how far the series goes.

    Beyond `lowest` and `highest` the exponential is 0 and infinite; `ln2` is the short first part of ln 2.
    """

    integer: str
    bits: int
    bias: int
    terms: int
    lowest: int
    highest: int
    ln2: tuple[str, str]
    suffix: str


FORMATS = {
    "f32": Format("unsigned", 23, 127, 7, -104, 89, ("0x1.62e4p-1f", "0x1.7f7d1cp-20f"), "f"),
    "f64": Format("unsigned long long", 52, 1023, 13, -746, 710, ("0x1.62e42feep-1", "0x1.a39ef35793c76p-33"), ""),
}


def exponentials(dtype: str) -> str:
    """`DTYPE_exp`, `_expm1`, `_tanh`, `_sigmoid` and `_erf`: static functions of one element."""
    form = FORMATS[dtype]
    series = "1"
    for term in range(form.terms, 1, -1):
        factor = f"{1 / factorial(term)!r}{form.suffix}"
        series = factor if term == form.terms else f"{factor} + r * ({series})"
    single = dtype == "f32"
    text = TEXT.substitute(
        near=NEAR_TANH if single else "",
        found="__builtin_fabsf(x) < 0.625f ? near : m / (m + 2)" if single else "m / (m + 2)",
        dtype=dtype,
        integer=form.integer,
        bits=form.bits,
        bias=form.bias,
        lowest=form.lowest,
        highest=form.highest,
        high=form.ln2[0],
        low=form.ln2[1],
        f=form.suffix,
        per=f"{1 / log(2)!r}{form.suffix}",
        series=series,
    )
    return text + (ERF_OF_F32 if single else _erf_of_f64())


def _erf_of_f64() -> str:
    from backends.numpy_mpi.kernels import erf  # it has the coefficients; NumPy, which it imports, takes long to load

    return ERF_OF_F64.substitute(
        near_above=_polynomial(erf.NEAR_ABOVE, "z"),
        near_below=_polynomial(erf.NEAR_BELOW, "z"),
        far_above=_polynomial(erf.FAR_ABOVE, "t"),
        far_below=_polynomial(erf.FAR_BELOW, "t"),
    )


def _polynomial(coefficients: tuple[float, ...], x: str) -> str:
    """By Horner's rule; the coefficient of the highest power stands first."""
    text = repr(coefficients[0])
    for coefficient in coefficients[1:]:
        text = f"{coefficient!r} + {x} * ({text})"
    return text


ERF_OF_F32 = """
/* Near 0 an odd polynomial, beyond 1 - e^-p(|x|), both fitted for the least relative error, 3e-9; from 3.93 on 1. */
static inline f32 f32_erf(f32 x)
{
    const f32 size = __builtin_fabsf(x), t = size > 3.93f ? 3.93f : size, z = x * x;
    const f32 slope = 0.12837917f + z * (-0.37612626f + z * (0.112836f + z * (-0.026854444f
        + z * (0.0051895357f + z * (-0.0008020842f + z * 7.889123e-5f)))));
    const f32 power = 0.00035371716f + t * (1.12704f + t * (0.6382257f + t * (0.10303738f
        + t * (-0.021805324f + t * (0.0029396086f - t * 0.00018557414f)))));
    return size < 1 ? x + x * slope : __builtin_copysignf(1 - f32_exp(-power), x);
}
"""

ERF_OF_F64 = Template("""
/* Near 0 x times a rational function of x^2, beyond 1 - erfc (W. J. Cody, Mathematics of Computation 23, 1969). */
static inline f64 f64_erf(f64 x)
{
    const f64 size = __builtin_fabs(x), t = size > 6 ? 6 : size, z = x * x;
    const f64 near = x * ($near_above) / ($near_below);
    const f64 far = 1 - f64_exp(-t * t) * ($far_above) / ($far_below);
    return size <= 0.5 ? near : __builtin_copysign(far, x);
}
""")

NEAR_TANH = """\
    const f32 z = x * x, slope =
        -0.33333328f + z * (0.13332795f + z * (-0.05385407f + z * (0.021010082f - z * 0.006113193f)));
    const f32 near = x + x * z * slope;
"""
"""Of float32 near 0: an odd polynomial, fitted for the least relative error, 2e-8; the quotient's is 2.5 ulp there."""

TEXT = Template("""
static inline $integer ${dtype}_bits($dtype value)
{
    $integer bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* 2^(n - $bias), n the exponent as it is stored. */
static inline $dtype ${dtype}_power_of_2($integer n)
{
    const $integer bits = n << $bits;
    $dtype value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

/* x = n ln 2 + r; returns e^r - 1. The sum with 1.5 * 2^$bits has n in its last bits. */
static inline $dtype ${dtype}_reduced($dtype x, $integer *n)
{
    const $dtype rounder = 0x1.8p$bits$f, shifted = x * $per + rounder, whole = shifted - rounder;
    const $dtype r = x - whole * $high - whole * $low;
    *n = ${dtype}_bits(shifted) - ${dtype}_bits(rounder);
    return r + r * r * ($series);
}

/* e^x: infinite above $highest, 0 below $lowest; 2^n in two factors, of which neither is beyond the range. */
static inline $dtype ${dtype}_exp($dtype x)
{
    $integer n;
    const $dtype limited = x < $lowest ? $lowest : x > $highest ? $highest : x;
    const $dtype value = 1 + ${dtype}_reduced(limited, &n);
    const $integer stored = n + 2 * $bias, half = stored >> 1;
    return value * ${dtype}_power_of_2(half) * ${dtype}_power_of_2(stored - half);
}

/* e^x - 1 for x <= 64, to full relative precision; -1 below -64. */
static inline $dtype ${dtype}_expm1($dtype x)
{
    $integer n;
    const $dtype value = ${dtype}_reduced(x < -64 ? -64 : x, &n);
    const $dtype power = ${dtype}_power_of_2(n + $bias);
    return power * value + (power - 1);
}

/* m/(m + 2) with m = e^(2|x|) - 1, and the sign of x; 1 from |x| = 32 on. */
static inline $dtype ${dtype}_tanh($dtype x)
{
    const $dtype twice = 2 * __builtin_fabs$f(x), m = ${dtype}_expm1(twice > 64 ? 64 : twice);
$near    return __builtin_copysign$f($found, x);
}

/* 1/(1 + e^-x), to full relative precision: where e^-x overflows it is 0, as it should be. */
static inline $dtype ${dtype}_sigmoid($dtype x)
{
    return 1 / (1 + ${dtype}_exp(-x));
}
""")
