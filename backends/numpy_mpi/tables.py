"""The tables of arrays at the head of train.py."""

from __future__ import annotations

from collections.abc import Mapping

from backends.numpy_mpi.names import identifier, namespace
from backends.numpy_mpi.text import literal, table
from dlc.ir.plan import Plan
from dlc.ir.program import Buffer, Compute, Role
from dlc.ir.tensor import BATCH

NUMPY_TYPES = {
    "f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8", "bool": "bool_",
    "c64": "complex64", "c128": "complex128",
}  # fmt: skip
TABLES = {"w": "weights", "s": "states", "g": "gradients", "a": "activations"}


def array_tables(role: Role, names: Mapping[str, str], dtype: str, plan: Plan) -> dict[str, str]:
    """The four tables by the name of their field in the template; buckets are allocated by the world."""
    given = {bucket.name for bucket in plan.buckets}
    rows: dict[str, list[tuple[str, str]]] = {space: [] for space in TABLES}
    for buffer in role.buffers:
        if buffer.name not in given and not (buffer.kind == "workspace" and buffer.view_of):
            rows[namespace(buffer)].append((names[buffer.name], _array(role, buffer, names, dtype)))
    rows["a"].extend(_scratches(role, dtype))
    return {field: table(rows[space]) for space, field in TABLES.items()}


def scratch_name(compute: Compute) -> str:
    """The attribute that holds the workspaces of an instruction."""
    return identifier(f"{compute.address}.scratch")


def _scratches(role: Role, dtype: str) -> list[tuple[str, str]]:
    """A row for each instruction that has workspaces; the same op may stand in several segments."""
    found: dict[str, str] = {}
    for segment in role.segments:
        for instruction in segment.instructions:
            if isinstance(instruction, Compute) and instruction.workspaces:
                types = [role.buffer(name).type for name in instruction.workspaces]
                arguments = [literal(tuple(type_.elements for type_ in types))]
                if any(type_.dtype != dtype for type_ in types):
                    dtypes = [f"np.{NUMPY_TYPES[type_.dtype]}" for type_ in types]
                    arguments.append(f"({', '.join(dtypes)}{',' * (len(dtypes) == 1)})")
                found[scratch_name(instruction)] = f"Scratch({', '.join(arguments)})"
    return list(found.items())


def bucket_table(plan: Plan, names: Mapping[str, str], role: Role) -> str:
    """Name -> (elements, algorithm) of each bucket."""
    return table(
        (names[bucket.name], literal((role.buffer(bucket.name).type.elements, bucket.algorithm)))
        for bucket in plan.buckets
    )


def _array(role: Role, buffer: Buffer, names: Mapping[str, str], dtype: str) -> str:
    """`Array((N, 6, 28, 28))`, or a `View` of another array."""
    arguments = [_shape(buffer)]
    if buffer.view_of is not None:
        arguments.insert(0, literal(names[buffer.view_of]))
        if buffer.offset:
            arguments.append(literal(buffer.offset))
    elif buffer.type.dtype != dtype:
        arguments.append(f"dtype=np.{NUMPY_TYPES[buffer.type.dtype]}")
    return f"{'View' if buffer.view_of is not None else 'Array'}({', '.join(arguments)})"


def _shape(buffer: Buffer) -> str:
    """Extents as they lie in memory, N for the local samples."""
    extents = ["N" if axis.name == BATCH else str(axis.extent) for axis in buffer.type.axes]
    if buffer.layout:
        extents = [dict(zip("NCHW", extents, strict=True))[letter] for letter in buffer.layout]
    return f"({', '.join(extents)}{',' if len(extents) == 1 else ''})"
