"""Products of matrices in half precision by libraries, which sum in f32 and round a result once."""

from __future__ import annotations

from . import cu_matmul
from .cu_linear import by_weights, finished, linear_dx, rows, sums
from .launch import BRAIN, Array, Held, Matrices, Product, Room, Steps, each, of_halves


@of_halves
def linear_halves_forward(x: Array, weight: Array, *rest: Array, transposed: bool = False, **_: object) -> Steps:
    """A product, and the bias: without cuBLASLt in f32, which a kernel adds the bias to."""
    *bias, y = rest
    if not y.size:
        return ()
    left, right, out = rows(x), weight if transposed else weight.T, rows(y)
    if not bias:
        return (Product(left, right, out),)
    room = Room(y.size)
    numbers = (y.shape[-1], int(y.dtype.name == BRAIN))
    added = each(y.size, *bias, room, y, numbers=numbers, kernel="linear_halves_forward")
    own = (Product(left, right, Matrices(room, out.shape)), *added)
    return finished((left, right, out), "bias", own, bias[0])


@of_halves
def linear_halves_dx(dy: Array, weight: Array, dx: Array, *, transposed: bool = False, **_: object) -> Steps:
    """A product."""
    return linear_dx(dy, weight, dx, transposed=transposed)


@of_halves
def linear_halves_dw(
    dy: Array, x: Array, dweight: Array, *dbias: Array, transposed: bool = False, **_: object
) -> Steps | None:
    """A product, and sums over rows, in f32 both."""
    wide = Held(dy.size, dy.shape)
    return by_weights(dy, x, dweight, dbias, transposed, lambda dbias: (*widened(dy, wide), *sums(wide, dbias)))


@of_halves
def matmul_halves_forward(a: Array, b: Array, y: Array, **told: object) -> Steps | None:
    """A product, or one for every index of the axes before the last two."""
    return cu_matmul.matmul_forward(a, b, y, **told)


@of_halves
def matmul_halves_dx(dy: Array, a: Array, b: Array, da: Array, db: Array, **told: object) -> Steps | None:
    """da = dy·bᵀ, db = aᵀ·dy."""
    return cu_matmul.matmul_dx(dy, a, b, da, db, **told)


def narrowed(wide: Held, to: Array) -> Steps:
    """A copy in half precision."""
    return each(to.size, wide, to, numbers=(int(to.dtype.name == BRAIN),), kernel="cast_narrow")


def widened(array: Array, to: Held) -> Steps:
    """A copy in f32."""
    return each(array.size, array, to, numbers=(int(array.dtype.name == BRAIN),), kernel="cast_widen")
