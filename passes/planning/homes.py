"""The forms in which a value may be kept at home, and what keeping it so costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement
from dlc.ir.tensor import DTYPE_BYTES, TensorType
from dlc.ops.blocks import BLOCKED, block_of
from passes.layouts import is_image
from passes.planning.network import HomeKind
from passes.planning.prices import Prices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HomeTable:
    """The forms of a kind of home: option o has form o // layouts.

    `ahead[form, i]` is what inner mesh axis i does to the value: 0 leaves it whole, 2 + a splits its axis
    a, of `names`. `behind` says so of its gradient, which may be partial, 1.
    """

    names: tuple[str, ...]
    ahead: Integers
    behind: Integers
    layouts: tuple[str, ...]
    backward: Array  # seconds to add up the gradients of a microbatch
    bytes: Array  # [form]: of the value on a rank

    @property
    def forms(self) -> tuple[tuple[Placement, Placement], ...]:
        """All forms: where each has the value, and its gradient."""
        entries = (REPLICATED, PARTIAL, *self.names)
        ahead, behind = ([tuple(entries[at] for at in row) for row in d.tolist()] for d in (self.ahead, self.behind))
        return tuple(zip(ahead, behind, strict=True))


def home_table(kind: HomeKind, type_: TensorType, mesh: Mesh, prices: Prices) -> HomeTable:
    """The legal forms of a kind of home on the mesh of a stage; `type_` is its type for one microbatch."""
    import numpy as np

    ahead, behind = _forms(len(type_.axes), len(mesh.axes), kind.gradients > 0)
    fits = (_parts(type_, mesh, ahead) <= np.array(type_.shape, dtype=np.int64)).all(axis=1)
    ahead, behind = ahead[fits], behind[fits]
    layouts = prices.layouts if is_image(kind.type) else ("",)
    size = _local_bytes(type_, mesh, behind)
    adding = 0.0 * size
    if kind.gradients > 1:
        adding = (kind.gradients + 1) * size / prices.device.bandwidth + prices.call()
    adding = np.repeat(adding, len(layouts)).reshape(-1, len(layouts))
    for at, layout in enumerate(layouts):
        if layout in BLOCKED:  # channels have to fill blocks, and nothing is cut but the batch
            whole = ((ahead <= 2) & (behind <= 2)).all(axis=1) & (type_.shape[1] % block_of(layout) == 0)
            adding[~whole, at] = np.inf
    return HomeTable(type_.names, ahead, behind, layouts, adding.reshape(-1), _local_bytes(type_, mesh, ahead))


def _parts(type_: TensorType, mesh: Mesh, digits: Integers) -> Integers:
    """[form, tensor axis]: into how many parts it is cut."""
    import numpy as np

    splits = digits[:, :, None] == 2 + np.arange(len(type_.axes))
    return np.asarray(np.where(splits, np.array(mesh.extents, dtype=np.int64)[:, None], 1).prod(axis=1))


def _local_bytes(type_: TensorType, mesh: Mesh, digits: Integers) -> Array:
    """[form]: what the rank with most of a tensor holds of it."""
    import numpy as np

    local = -(-np.array(type_.shape, dtype=np.int64) // _parts(type_, mesh, digits))
    return np.asarray(local.prod(axis=1) * float(DTYPE_BYTES[type_.dtype]))


@lru_cache(maxsize=64)
def _forms(tensor_axes: int, mesh_axes: int, gradient: bool) -> tuple[Integers, Integers]:
    """All forms of a home, legal or not: what each mesh axis does to the value, and to its gradient if there is one."""
    import numpy as np

    splits = range(2, tensor_axes + 2)
    ahead, behind = [0, *([0] if gradient else []), *splits], [0, *([1] if gradient else []), *splits]
    grid = np.indices((len(ahead),) * mesh_axes).reshape(mesh_axes, len(ahead) ** mesh_axes).T
    return np.array(ahead, dtype=np.int64)[grid], np.array(behind, dtype=np.int64)[grid]
