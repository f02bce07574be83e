"""What the C function that converts layouts is told for a call of `layout.convert`."""

from __future__ import annotations

from .layout import Array, block_of
from .native import Numbers

SUFFIXES = {"float32": "f32", "float64": "f64"}


def convert(x: Array, y: Array, *, source: str, target: str, **_: object) -> Numbers | None:
    """Images of real numbers in two layouts."""
    if x.ndim != 4 or source == target or x.dtype.name not in SUFFIXES:
        return None
    n, c, rows, columns = (x.shape[source.index(axis)] for axis in "NCHW")
    p = rows * columns
    if block := block_of(source) or block_of(target):
        return _in_blocks(n, c // block, p, block, source, target, x.dtype.name)
    turns = {
        ("NCHW", "NHWC"): (n, c, p, c * p, p, c * p, c),
        ("NHWC", "NCHW"): (n, p, c, c * p, c, c * p, p),
        ("NCHW", "CHWN"): (1, n, c * p, 0, c * p, 0, n),
        ("CHWN", "NCHW"): (1, c * p, n, 0, n, 0, c * p),
        ("NHWC", "CHWN"): (p, n, c, c, c * p, n, p * n),
        ("CHWN", "NHWC"): (p, c, n, n, p * n, c, c * p),
    }
    return Numbers(turns[source, target])


def _in_blocks(n: int, blocks: int, pixels: int, block: int, source: str, target: str, dtype: str) -> Numbers | None:
    """Blocks of planes are turned, those of pixels in NHWC change places with the pixels."""
    plane = block * pixels
    turns = {
        ("NCHW", True): (n * blocks, block, pixels, plane, pixels, plane, block),
        ("NCHW", False): (n * blocks, pixels, block, plane, block, plane, pixels),
        ("NHWC", True): (n, pixels, blocks, block),
        ("NHWC", False): (n, blocks, pixels, block),
    }
    found = turns.get((source, True) if block_of(target) else (target, False))
    if found is None or (block_of(source) and block_of(target)):
        return None
    return Numbers(found, name="" if len(found) > 4 else f"convert_runs_{SUFFIXES[dtype]}")
