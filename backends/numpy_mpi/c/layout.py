"""Conversions between the layouts of images, NCHW, NHWC and CHWN: transpositions by squares of vectors."""

from __future__ import annotations

from .source import CFunction, fill
from .target import Target

# Layouts -> the matrices to be turned: how many, their rows and columns; then how far apart in the source matrices
# lie, and rows; and in the result matrices, and what were columns. P counts pixels, C channels, n samples.
TURNS = {
    ("NCHW", "NHWC"): ("n", "$c", "pixels", "$c * pixels", "pixels", "$c * pixels", "$c"),
    ("NHWC", "NCHW"): ("n", "pixels", "$c", "$c * pixels", "$c", "$c * pixels", "pixels"),
    ("NCHW", "CHWN"): ("1", "n", "$c * pixels", "0", "$c * pixels", "0", "n"),
    ("CHWN", "NCHW"): ("1", "$c * pixels", "n", "0", "n", "0", "$c * pixels"),
    ("NHWC", "CHWN"): ("pixels", "n", "$c", "$c", "$c * pixels", "n", "pixels * n"),
    ("CHWN", "NHWC"): ("pixels", "$c", "n", "n", "pixels * n", "$c", "$c * pixels"),
}


def convert(
    channels: int, width: int, source: str, result: str, target: Target, name: str, dtype: str = "f32"
) -> CFunction:
    """x in layout `source` -> y in layout `result`, images of so many channels and columns; rows come at run time."""
    parts = ("matrices", "height", "length", "matrix_apart", "row_apart", "result_apart", "column_apart")
    turn = dict(zip(parts, TURNS[source, result], strict=True))
    text = fill(
        CONVERT,
        name=name,
        dtype=dtype,
        lanes=target.lanes(dtype),
        c=channels,
        w=width,
        source=source,
        result=result,
        **turn,
    )
    return CFunction(name, text, ("x", "y"), ("n", "rows"), lambda n, threads: 0)


CONVERT = """\
/* $source to $result. */
void $name(const $dtype *restrict x, $dtype *restrict y, $dtype *restrict scratch, long n, long rows)
{
    const long pixels = rows * $w, matrices = $matrices, height = $height, length = $length;
    (void)scratch;
    #pragma omp parallel for collapse(2) schedule(static)
    for (long matrix = 0; matrix < matrices; matrix++)
        for (long i = 0; i < height; i += $lanes) {
            const $dtype *from = x + matrix * ($matrix_apart) + i * ($row_apart);
            $dtype *to = y + matrix * ($result_apart) + i;
            $dtype part[$lanes * $lanes];
            for (long j = 0; j < length; j += $lanes) {
                const long columns = least($lanes, length - j);
                ${dtype}_transpose(from + j, $row_apart, least($lanes, height - i), columns, part);
                for (long q = 0; q < columns; q++)
                    ${dtype}_store(to + (j + q) * ($column_apart), *(const ${dtype}u *)(part + q * $lanes), height - i);
            }
        }
}
"""
