"""Windows in C along the axes of images [outer][row][column][inner]."""

from __future__ import annotations

from collections.abc import Callable

from .source import CFunction, fill
from .target import Target

Make = Callable[[Target, str], CFunction]

EXTENTS = ("outer", "inner", "height", "width", "out_height", "out_width", "r", "s", "down", "right", "top", "left")
"""Numbers: images and elements that lie together, rows and columns of x and y, of the window, strides, pads before."""

EXTENT_PARAMETERS = "long outer, long inner, long height, long width, long out_height, long out_width, long r, long s, \
long down, long right, long top, long left"

SMALL = 16384
"""Elements below which one thread does all."""

TAPS = """\
/* Which taps `from` to `to` of a window along one axis lie inside x, for the output number `at`. */
struct taps { long from, to; };

static inline struct taps taps(long at, long stride, long pad, long window, long extent)
{
    const long start = at * stride - pad;
    return (struct taps){most(0, -start), least(window, extent - start)};
}

/* The windows along one axis that cover element number `at` of x: taps `tap`, `tap` + stride, …, so many, of the
   outputs `out`, `out` - 1, … */
struct windows { long tap, out, count; };

static inline struct windows windows(long at, long stride, long pad, long window, long outputs)
{
    const long first = most(0, raised(at + pad - window + 1, stride));
    const long last = least(lowered(at + pad, stride), outputs - 1);
    return (struct windows){at + pad - last * stride, last, last - first + 1};
}

/* The outputs `from` to `to` along one axis whose tap lies inside x. */
static inline struct taps inside(long tap, long stride, long pad, long extent, long outputs)
{
    const long last = lowered(extent - 1 + pad - tap, stride);
    return (struct taps){most(0, raised(pad - tap, stride)), least(outputs, last + 1)};
}
"""

Names = tuple[str, ...]


def function(name: str, text: str, arguments: Names, numbers: Names, *shared: str) -> Make:
    """`NAME_DTYPE` of a template."""

    def make(target: Target, real: str) -> CFunction:
        filled = fill(
            text, name=f"{name}_{real}", real=real, lanes=target.lanes(real), small=SMALL, extents=EXTENT_PARAMETERS
        )
        return CFunction(f"{name}_{real}", filled, arguments, numbers, shared=shared)

    return make
