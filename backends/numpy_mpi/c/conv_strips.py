"""Strips of rows of images in NHWC, copied with the zeros around them, in C."""

from __future__ import annotations

STRIP = """\
/* `count` rows of the source from `first` on, with the zeros around them, to [group][sample][row][column][c]. */
static void ${name}_strip(const $dtype *restrict source, $dtype *restrict strip,
                          long samples, long rows, long first, long count)
{
    #pragma omp for collapse(3) schedule(static)
    for (long g = 0; g < $groups; g++)
        for (long i = 0; i < samples; i++)
            for (long j = 0; j < count; j++) {
                $dtype *to = strip + ((g * samples + i) * count + j) * $pitch;
                const long row = first + j;
                if (row < 0 || row >= rows) {
                    memset(to, 0, $pitch * sizeof($dtype));
                    continue;
                }
                const $dtype *from = source + ((i * rows + row) * $source_width + $crop) * $source_channels + g * $c;
                memset(to, 0, $left * sizeof($dtype));
                $copy
                memset(to + $right, 0, ($pitch - $right) * sizeof($dtype));
            }
}
"""

COPY = "memcpy(to + $left, from, ($right - $left) * sizeof($dtype));"

COPY_PIXELS = """\
for (long q = 0; q < $inner; q++)
                    memcpy(to + $left + q * $pixel, from + q * $source_channels, $c * sizeof($dtype));"""

STRIP_SOURCE = """\
                const long count = (band - 1) * $stride + $span, image = count * $image_pitch;
                $dtype *strip = scratch + $begin_strip;
                ${name}_strip(source + i0 * source_rows * $source_width * $source_channels, strip,
                    samples, source_rows, begin * $stride - above, count);"""

PLAIN_SOURCE = """\
                const long image = source_rows * $image_pitch;
                const $dtype *strip = source + i0 * image + (begin * $stride - above) * $pitch;"""
